"""Describes one feature of one customer in words that a marketer reads, with the usual value.

"usually" is this customer's own habit, "typically" the typical customer's value.
"""

from __future__ import annotations

import calendar
import math
import re
from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from schemas.features import FEATURE_NAMES, FEATURES, SILENCE_DAYS, YEAR_DAYS, Feature

__all__ = ["money", "words"]

_NOUNS: Final = {
    "view": ("product view", "product views"),
    "search": ("search", "searches"),
    "cart_add": ("item put into the cart", "items put into the cart"),
    "cart_remove": ("item taken out of the cart", "items taken out of the cart"),
    "wishlist": ("item put on the wishlist", "items put on the wishlist"),
    "review": ("review", "reviews"),
    "share": ("item shared", "items shared"),
    "support": ("support contact", "support contacts"),
    "order": ("order", "orders"),
    "orders": ("order", "orders"),
    "cancellation": ("cancellation", "cancellations"),
    "cancellations": ("cancellation", "cancellations"),
    "return": ("return", "returns"),
    "returns": ("return", "returns"),
    "order_days": ("day with an order", "days with an order"),
    "order_lines": ("article bought", "articles bought"),
    "coupon_orders": ("order with a coupon", "orders with a coupon"),
    "sessions": ("visit", "visits"),
    "distinct_items": ("different item looked at or bought", "different items looked at or bought"),
    "distinct_categories": (
        "different category looked at or bought",
        "different categories looked at or bought",
    ),
    "activity": ("event of any kind", "events of any kind"),
}
_LAST: Final = {  # the last time something happened, where the noun alone reads badly
    "cart_add": "item put into the cart",
    "cart_remove": "item taken out of the cart",
    "wishlist": "item put on the wishlist",
    "share": "item shared",
    "activity": "activity",
}
_SPANS: Final = {"h": ("hour", "hours"), "d": ("day", "days")}
_WINDOW: Final = re.compile(r"(?P<base>.+?)_(?P<length>\d+)(?P<unit>[hd])")
_DECAYED: Final = re.compile(r"(?P<what>\w+)_decayed_(?P<days>\d+)d")
_NO_CENTS: Final = frozenset({"CLP", "ISK", "JPY", "KRW", "PYG", "UGX", "VND", "XAF", "XOF"})
_AT: Final = FEATURE_NAMES.index

Row = NDArray[np.float32]


def words(feature: int, row: Row, typical: Row, currency: str) -> str:
    """Describes feature number `feature` of a customer.

    `row` and `typical` float32 [F]: the customer's and the typical customer's features (NaN =
    unknown). `currency`: an ISO 4217 code.

    >>> row, typical = (np.zeros(len(FEATURES), np.float32) for _ in range(2))
    >>> row[[_AT("days_since_order"), _AT("gap_mean_days")]] = 41.2, 11.8
    >>> words(_AT("days_since_order"), row, typical, "USD")
    'no order for 41 days; usually every 12'
    >>> row[_AT("revenue_30d")], typical[_AT("revenue_30d")] = 12.5, 40
    >>> words(_AT("revenue_30d"), row, typical, "USD")
    'spent 12.50 USD in the last 30 days; typically 40.00 USD'
    """
    spec = FEATURES[feature]
    value, usual = float(row[feature]), float(typical[feature])
    if spec.name in ("days_since_order", "silence_over_gap"):
        return _silence(row, typical)
    if spec.name in _SAYINGS:
        return _SAYINGS[spec.name](value, usual, currency)
    if spec.name.startswith("days_since_"):
        return _last_time(spec.name.removeprefix("days_since_"), value, usual)
    if match := _DECAYED.fullmatch(spec.name):
        return _pace(match["what"], int(match["days"]), value, usual, currency)
    if match := _WINDOW.fullmatch(spec.name):
        length = int(match["length"])
        one, many = _SPANS[match["unit"]]
        span = f"in the last {one}" if length == 1 else f"in the last {length} {many}"
        return _in_window(match["base"], span, spec, value, usual, currency)
    return _beside(f"{spec.words}: {_number(value)}", usual, _number(usual))


def money(amount: float, currency: str) -> str:
    """An amount with its ISO 4217 currency code.

    >>> money(1234.5, "EUR"), money(1234.5, "JPY")
    ('1,234.50 EUR', '1,234 JPY')
    """
    return f"{amount:,.{0 if currency in _NO_CENTS else 2}f} {currency}"


def _number(value: float) -> str:
    """To one decimal where there is one, and never in powers of ten."""
    if math.isnan(value):
        return "unknown"
    return f"{value:,.1f}".removesuffix(".0") if value < 1000 else f"{value:,.0f}"


def _days(value: float) -> str:
    """
    >>> _days(0.4), _days(1.2), _days(41.2)
    ('less than a day', '1 day', '41 days')
    """
    if value < 1:
        return "less than a day"
    text = f"{value:,.0f}"
    return f"{text} day" if text == "1" else f"{text} days"


def _counted(value: float, one: str, many: str) -> str:
    text = _number(value)
    return f"no {many}" if text == "0" else f"{text} {one if text == '1' else many}"


def _beside(text: str, usual: float, typically: str) -> str:
    """`text` with the typical value behind it, unless most customers have none (`usual` is NaN)."""
    return text if math.isnan(usual) else f"{text}; typically {typically}"


def _in_window(  # noqa: PLR0911  (one per kind)
    base: str, span: str, spec: Feature, value: float, usual: float, currency: str
) -> str:
    if base == "revenue":
        spent = "nothing spent" if value == 0 else f"spent {money(value, currency)}"
        return _beside(f"{spent} {span}", usual, _or_none(usual, currency, "nothing"))
    if base == "refunds":
        back = "no refunds" if value == 0 else f"refunds of {money(value, currency)}"
        return _beside(f"{back} {span}", usual, _or_none(usual, currency, "none"))
    if base == "discount_share":
        if math.isnan(value):
            return f"nothing bought, so no discounts {span}"
        off = (
            "no discounts" if value == 0
            else "less than 1% discount" if value < 0.01
            else f"{value:.0%} discount"
        )  # fmt: skip
        return _beside(f"{off} on what was bought {span}", usual, f"{usual:.0%}")
    if base == "rating_mean":
        if math.isnan(value):
            return f"gave no rating {span}"
        return _beside(f"rated {_number(value)} of 5 stars {span}", usual, _number(usual))
    one, many = _NOUNS.get(base, (spec.words, spec.words))
    if math.isnan(value):
        return f"number of {many} {span} is unknown"
    typically = "none" if _number(usual) == "0" else _number(usual)
    return _beside(f"{_counted(value, one, many)} {span}", usual, typically)


def _or_none(amount: float, currency: str, none: str) -> str:
    return none if amount == 0 else money(amount, currency)


def _silence(row: Row, typical: Row) -> str:
    """How long ago the last order was, beside the customer's own rhythm if there is one."""
    silence = float(row[_AT("days_since_order")])
    if math.isnan(silence):
        return "no order yet"
    recent, ever = float(row[_AT("gap_mean_days")]), float(row[_AT("gap_lifetime_mean_days")])
    gap = ever if math.isnan(recent) else recent
    if math.isnan(gap):
        usual = float(typical[_AT("days_since_order")])
        beside = "" if math.isnan(usual) else f"; typically {_days(usual)} ago"
    elif gap < 0.75:
        beside = "; usually more than one a day"
    else:
        beside = "; usually every day" if f"{gap:.0f}" == "1" else f"; usually every {gap:,.0f}"
    if silence < 1:
        days = " days" if beside.startswith("; usually every ") and beside[-1].isdigit() else ""
        return f"last order less than a day ago{beside}{days}"
    late = math.isnan(gap) or silence > gap
    if late:
        beside = beside.removesuffix(" ago")
    text = f"no order for {_days(silence)}" if late else f"last order {_days(silence)} ago"
    if _days(silence) == "1 day" and beside[-1:].isdigit():
        beside += " days"  # the one day before it can't lend it the unit
    return text + beside


def _last_time(kind: str, value: float, usual: float) -> str:
    noun = _LAST.get(kind) or _NOUNS.get(kind, (kind, kind))[0]
    if math.isnan(value):
        return f"no {noun} yet" if math.isnan(usual) else (
            f"no {noun} yet; typically {_days(usual)} ago"
        )  # fmt: skip
    if math.isnan(usual):
        return f"last {noun} {_days(value)} ago; most customers have none"
    if value > usual and value >= 1:
        return f"no {noun} for {_days(value)}; typically {_days(usual)}"
    return f"last {noun} {_days(value)} ago; typically {_days(usual)}"


def _pace(what: str, half_life: int, value: float, usual: float, currency: str) -> str:
    """A sum that halves every `half_life` days, as the steady pace that would give it.

    A pace of r per day keeps the sum at r * half_life / ln 2.
    """
    per, days = ("week", 7) if half_life <= 7 else ("month", 30)
    rate, typically = (v * math.log(2) / half_life * days for v in (value, usual))
    if what == "revenue":
        if money(rate, currency) == money(0.0, currency):
            return _beside("hardly anything spent lately", typically, (
                f"{money(typically, currency)} a {per}"
            ))  # fmt: skip
        text = f"lately spends about {money(rate, currency)} a {per}"
        return _beside(text, typically, money(typically, currency))
    one, many = _NOUNS.get(what, (what, what))
    beside = "none" if _number(typically) == "0" else _number(typically)
    if _number(rate) == "0":
        return _beside(f"hardly any {many} lately", typically, f"{beside} a {per}")
    return _beside(f"lately about {_counted(rate, one, many)} a {per}", typically, beside)


def _tenure(value: float, usual: float, _: str) -> str:
    if math.isnan(value):
        return "not seen before"
    return _beside(f"known for {_days(value)}", usual, _days(usual))


def _lifetime_orders(value: float, usual: float, _: str) -> str:
    return _beside(f"{_counted(value, 'order', 'orders')} so far", usual, _number(usual))


def _lifetime_revenue(value: float, usual: float, currency: str) -> str:
    return _beside(f"spent {money(value, currency)} so far", usual, money(usual, currency))


def _mean_order_value(value: float, usual: float, currency: str) -> str:
    if math.isnan(value):
        return "no order yet, so no average order"
    return _beside(f"average order of {money(value, currency)}", usual, money(usual, currency))


def _customer_for(value: float, usual: float, _: str) -> str:
    if math.isnan(value):
        return "no order yet"
    return _beside(f"a customer for {_days(value)}", usual, _days(usual))


def _amount(text: str) -> Callable[[float, float, str], str]:
    """An amount that says nothing before an order; `text` has {} for the money."""

    def describe(value: float, usual: float, currency: str) -> str:
        if math.isnan(value):
            return _beside("nothing ordered to average over", usual, money(usual, currency))
        return _beside(text.format(money(value, currency)), usual, money(usual, currency))

    return describe


def _share(text: str) -> Callable[[float, float, str], str]:
    """A part of something; `text` has {} for the per cent."""

    def describe(value: float, usual: float, _: str) -> str:
        if math.isnan(value):
            return "all orders on one day, so no pauses yet"
        return _beside(text.format(f"{value:.0%}"), usual, f"{usual:.0%}")

    return describe


_ONE_DAY: Final = "all orders on one day"


def _gap(text: str, unknown: str = "fewer than two orders") -> Callable[[float, float, str], str]:
    """How far apart orders are; `text` has {} for the days, `unknown` says why there is no gap."""

    def describe(value: float, usual: float, _: str) -> str:
        if math.isnan(value):
            return f"{unknown}, so no rhythm yet"
        return _beside(text.format(_days(value)), usual, _days(usual))

    return describe


def _time_of_year(value: float, _usual: float, _currency: str) -> str:
    if math.isnan(value):
        return "time of the year unknown"
    return f"time of the year: {calendar.month_name[1 + int(value / YEAR_DAYS * 12) % 12]}"


_SAYINGS: Final[dict[str, Callable[[float, float, str], str]]] = {
    "tenure_days": _tenure,
    "lifetime_orders": _lifetime_orders,
    "lifetime_revenue": _lifetime_revenue,
    "mean_order_value": _mean_order_value,
    "gap_lifetime_mean_days": _gap("since the first order, {} between orders"),
    "gap_mean_days": _gap("recently {} between orders"),
    "gap_std_days": _gap("time between orders varies by {}"),
    "gap_last_days": _gap("{} between the last two orders"),
    "days_since_first_order": _customer_for,
    "day_gap_mean": _gap("{} between days with an order", _ONE_DAY),
    "day_gap_std": _gap("pauses between orders vary by {}", _ONE_DAY),
    "day_gap_max": _gap("longest pause so far {}", _ONE_DAY),
    "day_gap_typical": _gap("a typical pause lasts {}", _ONE_DAY),
    "longer_gap_share": _share("{} of the pauses so far were longer than this one"),
    **{
        f"silent_share_{w}d": _share(f"{{}} of the time was silence beyond {w} days")
        for w in SILENCE_DAYS
    },
    "revenue_per_day": _amount("since the first order {} spent a day"),
    "revenue_per_order_day_30d": _amount("{} spent per day with an order, lately"),
    "revenue_per_order_day_90d": _amount("{} spent per day with an order"),
    "day_of_year": _time_of_year,
}
