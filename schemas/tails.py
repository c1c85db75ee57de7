"""The last events of a user as a table: what a model of sequences looks at.

A tail is float32 [TAIL_EVENTS, channels], the oldest event first, and zeros after the newest. It is
made by the same code in training and, once something serves it, in the shards
(`streams.core.state.tails`).
"""

from __future__ import annotations

from typing import Final

from schemas.events import CLICK_TYPES, ORDER_TYPES

__all__ = ["CATEGORIES", "EVENT_KINDS", "TAIL_CHANNELS", "TAIL_EVENTS"]

TAIL_EVENTS: Final = 64
"""How many events are kept; a power of two."""

EVENT_KINDS: Final = (*CLICK_TYPES, *ORDER_TYPES)
"""What an event can be; in a tail it is its position here plus 1, and 0 is no event."""

CATEGORIES: Final = 255
"""Categories are told apart by a hash of so many values: 1 to 255, and 0 is none."""

TAIL_CHANNELS: Final = (
    "kind",
    "gap_days",  # since the event before; NaN: there is none, or it is not kept any more
    "age_days",  # from the event until now, at least 0
    "amount",  # of an order event, in the shop's currency; stars of a rated review; else NaN
    "category",  # of the first line that has one
    "same_category",  # 1 or 0: as that of the newest event before with a category; NaN: unknown
)
