"""Definitions as a shop has them in the end: 20 segments of many kinds, and an audience."""

from __future__ import annotations

from schemas.definitions import Audience, Definitions, SegmentDefinition

__all__ = ["DEFINITIONS"]

_KINDS = (
    ('p_churn > {share}% and value_tier == "high"', "p_churn < 10%", 0),
    ("days_since_order > {days}d and orders >= 2", "", 0),
    ("view_24h >= {count} and cart_add_24h > 0", "", 60_000),
    ("rank(lifetime_revenue) >= {share}%", "", 0),
    ("expected_spend > {days} USD and p_buy_30d < {share}% or coupon_affinity > 40%", "", 0),
)
_OF_EACH = 4

DEFINITIONS = Definitions(
    number=1,
    version="bench",
    segments=tuple(
        SegmentDefinition(
            f"s{kind}_{i}",
            when.format(share=40 + 10 * i, days=10 + 7 * i, count=2 + i),
            leave,
            hold_ms,
        )
        for kind, (when, leave, hold_ms) in enumerate(_KINDS)
        for i in range(_OF_EACH)
    ),
    audiences=(Audience("calls", "s0_0", "calls/1", 0.1),),
    applied_at_ms=1,
)
