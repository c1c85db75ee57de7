"""Every name that an expression may use: kind, meaning, and how it moves by time alone."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from schemas.features import FEATURES, WINDOWS, Feature
from schemas.segments import LIFECYCLE, RFM_CELLS, VALUE_TIERS

__all__ = ["CATALOGUE", "LEFT_OUT", "Kind", "Quantity"]


class Kind(StrEnum):
    """What may be compared with what: a kind with itself only."""

    COUNT = "count"
    """How many; computes and compares as a number."""
    NUMBER = "number"
    MONEY = "money"
    """In the shop's currency."""
    DURATION = "duration"
    """In days."""
    SHARE = "share"
    """From 0 to 1."""
    FLAG = "flag"
    """True or false."""
    CHOICE = "choice"
    """One of a few names."""


@dataclass(frozen=True)
class Quantity:
    """One name of the catalogue."""

    name: str
    kind: Kind
    words: str
    slope_per_day: int = 0
    """1: elapsed time, which grows by a day per day; -1: falls so; 0: moves with events only."""
    decays: bool = False
    """Changes with time in steps that no timer foresees; a sweep notices them."""
    values: tuple[str, ...] = ()
    """Of a choice, in the order of their codes."""
    formula: str = ""
    """An expression over other names, from which this one is computed."""


LEFT_OUT: Final[dict[str, str]] = {
    "day_of_year": "it is the same for everybody, so it tells no customer from another",
}
"""Features that no expression may use, and why."""

_UNITS: Final = {
    "count": Kind.COUNT,
    "currency": Kind.MONEY,
    "days": Kind.DURATION,
    "ratio": Kind.NUMBER,
    "stars": Kind.NUMBER,
}
_WINDOW_ENDS: Final = tuple(f"_{w.name}" for w in WINDOWS)
_DECAYING: Final = (
    "silence_over_", "longer_gap_", "silent_share_", "order_days_", "revenue_per_",
    "orders_per_", "revenue_trend_", "orders_trend_", "lines_per_", "revenue_fading",
    "orders_fading",
)  # fmt: skip


def _of_feature(feature: Feature) -> Quantity:
    name = feature.name
    share = feature.unit == "ratio" and "_share" in name  # other ratios may exceed 1
    kind = Kind.SHARE if share else _UNITS[feature.unit]
    elapsed = name == "tenure_days" or name.startswith("days_since_")
    decays = name.endswith(_WINDOW_ENDS) or name.startswith(_DECAYING) or "_decayed_" in name
    return Quantity(name, kind, feature.words, int(elapsed), decays)


def _chance(name: str, of: str) -> Quantity:
    return Quantity(name, Kind.SHARE, f"probability of {of}", decays=True)


_OTHERS: Final = (
    _chance("p_churn", "no order within the model's horizon"),
    _chance("p_buy_7d", "an order within 7 days"),
    _chance("p_buy_30d", "an order within 30 days"),
    Quantity("expected_spend", Kind.MONEY, "expected spend within the horizon", decays=True),
    Quantity("value_365d", Kind.MONEY, "expected spend within 365 days", decays=True),
    Quantity("time_to_next_order", Kind.DURATION, "time until the predicted next order", -1),
    Quantity("orders", Kind.COUNT, "orders ever, without cancelled ones"),
    Quantity("value_tier", Kind.CHOICE, "value tier", values=VALUE_TIERS),
    Quantity("rfm", Kind.CHOICE, "RFM cell, with `rfm: on` in the file", values=RFM_CELLS),
    Quantity("lifecycle", Kind.CHOICE, "lifecycle stage", values=LIFECYCLE),
    Quantity("alert_open", Kind.FLAG, "in an open churn alert"),
    Quantity("order_age", Kind.DURATION, "time since the last order that was not cancelled", 1),
    Quantity("alert_age", Kind.DURATION, "time since the open churn alert began", 1),
    Quantity(
        "value_at_stake",
        Kind.MONEY,
        "expected spend times the probability of leaving",
        decays=True,
        formula="p_churn * expected_spend",
    ),
    # A share of few orders says little, so it is drawn to what is usual as if that had been seen
    # before: the posterior mean of a share with a beta prior (Gelman et al., Bayesian Data
    # Analysis, 2.1). What is usual (5 % of revenue, 20 % of orders) is assumed, not measured.
    Quantity(
        "return_risk",
        Kind.SHARE,
        "share of revenue returned or cancelled in the last 90 days, as if two average orders"
        " with 5 % returned had come before",
        decays=True,
        formula="(refunds_90d + 2 * 5% * mean_order_value)"
        " / (revenue_90d + refunds_90d + 2 * mean_order_value)",  # revenue is net of refunds
    ),
    Quantity(
        "coupon_affinity",
        Kind.SHARE,
        "share of the last 90 days' orders with a coupon, as if five orders, one with a coupon,"
        " had come before",
        decays=True,
        formula="(coupon_orders_90d + 1) / (orders_90d + 5)",
    ),
)

CATALOGUE: Final[dict[str, Quantity]] = {
    quantity.name: quantity
    for quantity in (
        *(_of_feature(feature) for feature in FEATURES if feature.name not in LEFT_OUT),
        *_OTHERS,
    )
}
"""Besides these there are `segment.NAME` (flags) and `value.NAME` of the shop's own file."""
