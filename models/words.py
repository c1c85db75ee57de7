"""Says one feature of one customer in words a marketer reads."""

from __future__ import annotations

import math
import re
from typing import Final

from schemas.features import FEATURES, Feature

__all__ = ["words"]

_NOUNS: Final = {
    "view": ("product view", "product views"),
    "search": ("search", "searches"),
    "cart_add": ("cart addition", "cart additions"),
    "cart_remove": ("cart removal", "cart removals"),
    "wishlist": ("wishlist addition", "wishlist additions"),
    "review": ("review", "reviews"),
    "share": ("share", "shares"),
    "support": ("support contact", "support contacts"),
    "orders": ("order", "orders"),
    "cancellations": ("cancellation", "cancellations"),
    "returns": ("return", "returns"),
    "order_lines": ("order line", "order lines"),
    "coupon_orders": ("order with a coupon", "orders with a coupon"),
    "sessions": ("session", "sessions"),
    "distinct_items": ("different item", "different items"),
    "distinct_categories": ("different category", "different categories"),
    "lifetime_orders": ("order", "orders"),
}
_ORDER_KINDS: Final = {"order": "order", "cancellation": "cancellation", "return": "return"}
_WINDOW: Final = re.compile(r"(?P<base>.+)_(?P<window>\d+[hd])")


def words(feature: int, value: float, typical: float) -> str:
    """What `value` of feature number `feature` means, beside its typical value; NaN is unknown.

    >>> from schemas.features import FEATURE_NAMES
    >>> at = FEATURE_NAMES.index
    >>> words(at("days_since_order"), 41.2, 9.4)
    'no order for 41 days (typically 9)'
    >>> words(at("orders_30d"), 0.0, 3.0)
    '0 orders in the last 30d (typically 3)'
    >>> words(at("view_24h"), 1.0, 12.0)
    '1 product view in the last 24h (typically 12)'
    >>> words(at("revenue_30d"), 12.5, 40.0)
    'spend in the last 30d 12.50 (typically 40.00)'
    >>> words(at("silence_over_gap"), 3.14, 0.8)
    'silent for 3.1 times the usual gap (typically 0.8)'
    >>> words(at("days_since_return"), 0.4, float("nan"))
    'last return less than a day ago (typically never)'
    """
    spec = FEATURES[feature]
    if spec.name.startswith("days_since_"):
        return _silence(spec.name.removeprefix("days_since_"), value, typical)
    usual = f"(typically {_say(spec, typical)})"
    if spec.name == "silence_over_gap" and not math.isnan(value):
        return f"silent for {_say(spec, value)} times the usual gap {usual}"
    noun = _noun(spec)
    if noun is not None and not math.isnan(value):
        said = _say(spec, value)
        singular, plural, where = noun
        return f"{said} {singular if said == '1' else plural} {where} {usual}"
    return f"{spec.words} {_say(spec, value)} {usual}"


def _noun(spec: Feature) -> tuple[str, str, str] | None:
    if spec.name == "lifetime_orders":
        return (*_NOUNS[spec.name], "ever")
    match = _WINDOW.fullmatch(spec.name)
    if match is None or match["base"] not in _NOUNS:
        return None
    return (*_NOUNS[match["base"]], f"in the last {match['window']}")


def _silence(kind: str, value: float, typical: float) -> str:
    what = {"activity": "activity"} | _ORDER_KINDS
    name = what.get(kind) or _NOUNS[kind][0]
    usual = "never" if math.isnan(typical) else f"{typical:.0f}"
    if math.isnan(value):
        return f"no {name} yet (typically {usual}{'' if usual == 'never' else ' days ago'})"
    if value < 1:
        days = "" if usual == "never" else " days"
        return f"last {name} less than a day ago (typically {usual}{days})"
    days = f"{value:.0f}"
    return f"no {name} for {days} {'day' if days == '1' else 'days'} (typically {usual})"


def _say(spec: Feature, value: float) -> str:
    if math.isnan(value):
        return "unknown"
    if spec.unit == "currency":
        return f"{value:,.2f}"
    if spec.name.startswith("discount_share"):
        return f"{value:.0%}"
    if spec.unit in ("ratio", "stars") or not float(value).is_integer():
        return f"{value:,.1f}"
    return f"{value:,.0f}"
