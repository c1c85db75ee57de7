"""The ordered feature list: what a user looks like to a model.

Names are the contract between training and serving, and between releases: models, checkpoints and
learner snapshots carry the names of their features, and are read by name. So a name has one meaning
for ever: a feature that is computed in another way gets another name. (`tests/upgrades` compares
every release's features with this build's.) The same is true of measures and windows.

Windows roll in event time at tile resolution ("sawtooth", as in Chronon): a window of length W
with hop h at clock `now` covers the tiles `t` with `now // h - W // h < t`, that is the running
tile and the `W / h - 1` before it, so its real length is between `W - h` and `W`. Events
ahead of the clock (within the allowed skew) count at once.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from schemas.events import CLICK_TYPES

__all__ = [
    "COUNT_MEASURES",
    "DECAY_HALF_LIVES_DAYS",
    "FEATURES",
    "FEATURES_HASH",
    "FEATURE_NAMES",
    "GAP_ORDERS",
    "LISTED_FEATURE_NAMES",
    "MONEY_MEASURES",
    "NEAR_ORDERS",
    "PACKED_FEATURE_NAMES",
    "RECENCY_KINDS",
    "RHYTHM_DAYS",
    "SILENCE_DAYS",
    "WINDOWS",
    "WINDOW_FEATURES",
    "YEAR_DAYS",
    "Feature",
    "Window",
    "columns_by_name",
    "listed_names",
    "unpacked_names",
]


@dataclass(frozen=True)
class Window:
    """One rolling window: its name, length and tile width, both in seconds."""

    name: str
    length_seconds: int
    hop_seconds: int


WINDOWS: Final = (
    Window("1h", 3_600, 300),
    Window("24h", 86_400, 3_600),
    Window("7d", 7 * 86_400, 86_400),
    Window("30d", 30 * 86_400, 86_400),
    Window("90d", 90 * 86_400, 86_400),
)

COUNT_MEASURES: Final = (
    *CLICK_TYPES,
    "orders",
    "cancellations",
    "returns",
    "order_lines",
    "coupon_orders",
    "rating_tenths",  # sum of ratings in tenths of a star, so that it stays an integer
    "ratings",
    "sessions",
    "distinct_items",
    "distinct_categories",
)
"""Integer measures kept per window (int32)."""

MONEY_MEASURES: Final = ("revenue_cents", "discount_cents", "refund_cents")
"""Money measures kept per window (int64, hundredths of the shop's currency)."""

WINDOW_FEATURES: Final[dict[str, tuple[str, ...]]] = {
    **{name: (name,) for name in COUNT_MEASURES if name not in ("rating_tenths", "ratings")},
    "rating_mean": ("rating_tenths", "ratings"),
    "revenue": ("revenue_cents",),
    "refunds": ("refund_cents",),
    "discount_share": ("revenue_cents", "discount_cents"),
}
"""Feature, without its window's name -> the measures from which it is computed."""

RECENCY_KINDS: Final = (*CLICK_TYPES, "order", "cancellation", "return")
"""Kinds whose last time is remembered, in the order of their columns."""

DECAY_HALF_LIVES_DAYS: Final = (7.0, 30.0, 90.0)
GAP_ORDERS: Final = 24
"""How many of the most recent order times are kept, for inter-purchase gaps."""
NEAR_ORDERS: Final = 8
"""How many of them tell the present rhythm."""
RHYTHM_DAYS: Final = (14, 30, 60, 90)
"""Order days are counted over so many days."""
SILENCE_DAYS: Final = (7, 14, 28)
"""Silence counts from so many days on."""
YEAR_DAYS: Final = 365.2425


@dataclass(frozen=True)
class Feature:
    """One model input: its name, unit, and how to say it to a marketer."""

    name: str
    unit: str
    words: str


def _window_features() -> list[Feature]:
    features = []
    for w in WINDOWS:
        for name in COUNT_MEASURES:
            if name in ("rating_tenths", "ratings"):
                continue
            words = f"{name.replace('_', ' ')} in the last {w.name}"
            features.append(Feature(f"{name}_{w.name}", "count", words))
        features += [
            Feature(f"rating_mean_{w.name}", "stars", f"average rating in the last {w.name}"),
            Feature(f"revenue_{w.name}", "currency", f"spend in the last {w.name}"),
            Feature(f"refunds_{w.name}", "currency", f"refunds in the last {w.name}"),
            Feature(f"discount_share_{w.name}", "ratio", f"discount share in the last {w.name}"),
        ]
    return features


FEATURES: Final[tuple[Feature, ...]] = (
    *_window_features(),
    *(
        Feature(f"days_since_{kind}", "days", f"days since the last {kind.replace('_', ' ')}")
        for kind in RECENCY_KINDS
    ),
    Feature("days_since_activity", "days", "days since anything happened"),
    Feature("tenure_days", "days", "days since first seen"),
    Feature("lifetime_orders", "count", "orders ever"),
    Feature("lifetime_revenue", "currency", "spend ever"),
    Feature("mean_order_value", "currency", "average order value"),
    Feature("gap_lifetime_mean_days", "days", "usual days between orders"),
    Feature("gap_mean_days", "days", f"days between the last {NEAR_ORDERS} orders"),
    Feature("gap_std_days", "days", f"spread of the gaps between the last {NEAR_ORDERS} orders"),
    Feature("gap_last_days", "days", "days between the last two orders"),
    Feature("silence_over_gap", "ratio", "silence compared with the usual gap"),
    # The long rhythm: from the days (UTC) of the last GAP_ORDERS orders, each day counted once.
    Feature("days_since_first_order", "days", "days since the first order"),
    *(
        Feature(f"order_days_{w}d", "count", f"days with an order in the last {w} days")
        for w in RHYTHM_DAYS
    ),
    Feature("day_gap_mean", "days", "days between days with an order"),
    Feature("day_gap_std", "days", "spread of the days between days with an order"),
    Feature("day_gap_max", "days", "longest pause between orders"),
    # sum of squares over sum: how long the pause is that a random day falls into
    Feature("day_gap_typical", "days", "pause that a typical day falls into"),
    Feature("silence_over_typical", "ratio", "silence compared with a typical pause"),
    Feature("silence_over_max", "ratio", "silence compared with the longest pause"),
    Feature("longer_gap_share", "ratio", "share of pauses that were longer than this silence"),
    *(
        Feature(f"silent_share_{w}d", "ratio", f"share of days spent silent for over {w} days")
        for w in SILENCE_DAYS
    ),
    # How the present compares with the customer's own past.
    Feature("revenue_per_day", "currency", "spend per day since the first order"),
    Feature("orders_per_day", "count", "orders per day since the first order"),
    Feature("revenue_trend_90d", "ratio", "spend of the last 90 days compared with all before"),
    Feature("revenue_trend_30d", "ratio", "spend of the last 30 days compared with the last 90"),
    Feature("orders_trend_30d", "ratio", "orders of the last 30 days compared with the last 90"),
    Feature("revenue_trend_7d", "ratio", "spend of the last 7 days compared with the last 30"),
    Feature("lines_per_order_90d", "count", "lines per order in the last 90 days"),
    Feature("revenue_per_order_day_30d", "currency", "spend per day with an order, last 30 days"),
    Feature("revenue_per_order_day_90d", "currency", "spend per day with an order, last 90 days"),
    Feature("revenue_fading", "ratio", "spend decayed over 30 days compared with over 90"),
    Feature("orders_fading", "ratio", "orders decayed over 30 days compared with over 90"),
    *(
        Feature(f"{what}_decayed_{int(h)}d", unit, f"recent {what} (half-life {int(h)} days)")
        for h in DECAY_HALF_LIVES_DAYS
        for what, unit in (("orders", "count"), ("revenue", "currency"), ("activity", "count"))
    ),
    # Days since 1970 modulo a mean year, so at most a day off the calendar's. For a shop's season
    # (models/season.py) only: to anything else it is a number that is new every day.
    Feature("day_of_year", "days", "day of the year"),
)

FEATURE_NAMES: Final[tuple[str, ...]] = tuple(f.name for f in FEATURES)
FEATURES_HASH: Final = hashlib.sha256(
    "\n".join(f"{f.name} {f.unit}" for f in FEATURES).encode()
    + repr((WINDOWS, DECAY_HALF_LIVES_DAYS, GAP_ORDERS, NEAR_ORDERS)).encode()
).hexdigest()
"""Unknown values (no order yet, fewer than two orders, no rating) are NaN in the matrix."""

PACKED_FEATURE_NAMES: Final = zlib.compress("\n".join(FEATURE_NAMES).encode(), 9)
"""`FEATURE_NAMES`, compressed: sent with each row that another release may read."""

LISTED_FEATURE_NAMES: Final = ",".join(FEATURE_NAMES)
"""The same as text, for a table that people read too."""


def listed_names(listed: str) -> tuple[str, ...]:
    """The names in what a release has as `LISTED_FEATURE_NAMES`.

    >>> listed_names(LISTED_FEATURE_NAMES) == FEATURE_NAMES
    True
    """
    return tuple(listed.split(","))


@lru_cache(maxsize=16)
def unpacked_names(packed: bytes) -> tuple[str, ...]:
    """The names in a release's `PACKED_FEATURE_NAMES`. Raises ValueError.

    >>> unpacked_names(PACKED_FEATURE_NAMES) == FEATURE_NAMES
    True
    """
    try:
        return tuple(zlib.decompress(packed).decode().split("\n"))
    except (zlib.error, UnicodeDecodeError) as exc:
        raise ValueError(f"not a list of features: {exc}") from exc


def columns_by_name(found: Sequence[str], wanted: Sequence[str]) -> list[int]:
    """The position of each wanted name in `found`; -1 for a name that is not there.

    >>> columns_by_name(["a", "b"], ["b", "c"])
    [1, -1]
    """
    places = {name: place for place, name in enumerate(found)}
    return [places.get(name, -1) for name in wanted]
