"""Groups features into concepts, so that one cause is one reason, however many features show it.

A concept is what a marketer would call the reason: silence, rhythm, orders, spend, ... Which one a
feature belongs to is fixed, with one exception. That nothing was ordered in a window follows from
the silence when the silence is as long as the window; such features then belong to it, or a
reason would come twice: "no order for 41 days" and "no orders in the last 30 days".
"""

from __future__ import annotations

import re
from typing import Final

import numpy as np
from numpy.typing import NDArray

from schemas.features import FEATURE_NAMES

__all__ = [
    "CLICK_CONCEPTS",
    "CONCEPTS",
    "CONCEPT_OF",
    "SILENCE",
    "concept_of",
    "concepts_of_rows",
]

SILENCE: Final = "silence"
_WINDOW: Final = re.compile(r"_(\d+[hd]|decayed_\d+d)$")
_CONCEPT_OF_BASE: Final = {
    "days_since_order": SILENCE,
    "silence_over_gap": SILENCE,
    "gap_lifetime_mean_days": "rhythm",
    "gap_mean_days": "rhythm",
    "gap_std_days": "rhythm",
    "gap_last_days": "rhythm",
    "silence_over_typical": SILENCE,
    "silence_over_max": SILENCE,
    "longer_gap_share": SILENCE,
    **dict.fromkeys(("day_gap_mean", "day_gap_std", "day_gap_max", "day_gap_typical"), "rhythm"),
    "silent_share": "rhythm",
    "order_days": "orders",
    "orders_per_day": "orders",
    "orders_trend": "orders",
    "orders_fading": "orders",
    "revenue_per_day": "spend",
    "revenue_trend": "spend",
    "revenue_fading": "spend",
    "lines_per_order": "basket",
    "revenue_per_order_day": "basket",
    "first_order": "tenure",
    "lifetime_orders": "orders",
    "order_lines": "orders",
    "revenue": "spend",
    "lifetime_revenue": "spend",
    "mean_order_value": "basket",
    "coupon_orders": "discounts",
    "discount_share": "discounts",
    "cancellations": "returns",
    "refunds": "returns",
    "cancellation": "returns",
    "return": "returns",
    "cart_add": "cart",
    "cart_remove": "cart",
    "distinct_items": "variety",
    "distinct_categories": "variety",
    "sessions": "visits",
    "activity": "visits",
    "tenure_days": "tenure",
    "rating_mean": "reviews",
    "review": "reviews",
    "day_of_year": "season",
}
CLICK_CONCEPTS: Final = frozenset(
    ("view", "search", "cart", "wishlist", "reviews", "share", "support", "visits", "variety")
)
"""Concepts that clicks fill, alone or with orders."""
_ORDER_MEASURES: Final = ("orders", "order_lines", "coupon_orders", "revenue", "discount_share")


def concept_of(name: str) -> str:
    """The concept of a feature by name; a feature that is not listed above is itself a concept.

    >>> concept_of("orders_30d"), concept_of("days_since_review"), concept_of("view_24h")
    ('orders', 'reviews', 'view')
    """
    if name in _CONCEPT_OF_BASE:
        return _CONCEPT_OF_BASE[name]
    base = _WINDOW.sub("", name).removeprefix("days_since_")
    return _CONCEPT_OF_BASE.get(base, base)


CONCEPT_OF: Final[tuple[str, ...]] = tuple(concept_of(name) for name in FEATURE_NAMES)
"""The concept of each feature, in the order of `schemas.features.FEATURES`."""
CONCEPTS: Final[tuple[str, ...]] = tuple(dict.fromkeys(CONCEPT_OF))
"""All concepts, in the order of their first feature."""

_NUMBER: Final = np.array([CONCEPTS.index(concept) for concept in CONCEPT_OF])
# For every feature that orders fill within a window: the feature that counts that window's orders.
_ORDERS_OF: Final = np.array(
    [
        FEATURE_NAMES.index(f"orders_{match[1]}")
        if (match := re.fullmatch(rf"(?:{'|'.join(_ORDER_MEASURES)})_(\d+[hd])", name))
        else -1
        for name in FEATURE_NAMES
    ]
)
_SILENT: Final = CONCEPTS.index(SILENCE)


def concepts_of_rows(x: NDArray[np.float32]) -> NDArray[np.intp]:
    """The concept of each feature in each row: x float32 [k, F] -> indices into CONCEPTS [k, F]."""
    nothing_ordered = (x[:, _ORDERS_OF] == 0) & (_ORDERS_OF >= 0)
    return np.where(nothing_ordered, _SILENT, _NUMBER)
