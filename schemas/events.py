"""The two event types a shop sends: clickstream and orders, both keyed by user. And contacts, which
are records of the clickstream's topic but no events.

These structs are the contract. `json/*.schema.json` is generated from them by
`python -m schemas.publish` and a test compares the two. Unknown fields are ignored, so a
producer may send more than we read; a field we read must be right.

Units: `ts` is event time in milliseconds since 1970-01-01 UTC; `amount` and `discount` are in
units of `currency` (12.34 is twelve euros and 34 cents).
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

__all__ = [
    "CLICK_TYPES",
    "CONTACTED",
    "EVENT_VERSION",
    "MAX_AMOUNT",
    "MAX_EVENT_BYTES",
    "ORDER_TYPES",
    "ClickEvent",
    "Contact",
    "OrderEvent",
    "OrderLine",
]

EVENT_VERSION: Final = 1
MAX_EVENT_BYTES: Final = 256 * 1024  # a basket of 1,000 lines is about 120 KB
MAX_AMOUNT: Final = 1e9  # keeps cents, summed over any window, well inside int64

CLICK_TYPES: Final = (
    "view",
    "search",
    "cart_add",
    "cart_remove",
    "wishlist",
    "review",
    "share",
    "support",
)
CONTACTED: Final = "contacted"
ORDER_TYPES: Final = ("placed", "cancelled", "returned")

Id = Annotated[str, Meta(min_length=1, max_length=128)]
Text = Annotated[str, Meta(max_length=10_000)]
Money = Annotated[float, Meta(ge=0, le=MAX_AMOUNT)]


class ClickEvent(msgspec.Struct, frozen=True, gc=False):
    """One action of one visitor.

    A review carries `rating` (1 to 5) and perhaps `text`. Without a `session_id`, each half hour
    with activity counts as one session.
    """

    event_id: Id
    user_id: Id
    type: Literal[
        "view", "search", "cart_add", "cart_remove", "wishlist", "review", "share", "support"
    ]
    ts: int
    v: int = EVENT_VERSION
    session_id: Id | None = None
    item_id: Id | None = None
    category: Id | None = None
    query: Text | None = None
    rating: Annotated[float, Meta(ge=1, le=5)] | None = None
    text: Text | None = None
    simulated: bool = False
    """True for browsing that `tideline replay` made up around real orders."""


class Contact(msgspec.Struct, frozen=True, gc=False):
    """Somebody was contacted: by a call, a message, or whatever the shop does. No act of theirs.

    Send it to the clickstream's topic, keyed by user as events are. `alert_id` is the alert that
    was the reason; without it, the user's open alert is.
    """

    event_id: Id
    user_id: Id
    type: Literal["contacted"]
    ts: int
    v: int = EVENT_VERSION
    campaign: Id | None = None
    channel: Id | None = None
    alert_id: Annotated[str, Meta(pattern="^[0-9a-f]{32}$")] | None = None


class OrderLine(msgspec.Struct, frozen=True, gc=False):
    """One line of an order; `amount` is what the customer pays for the whole line."""

    item_id: Id
    amount: Money
    quantity: Annotated[float, Meta(ge=0, le=MAX_AMOUNT)] = 1.0
    category: Id | None = None
    discount: Money = 0.0


class OrderEvent(msgspec.Struct, frozen=True, gc=False):
    """An order placed, cancelled or returned.

    An order is (`user_id`, `order_id`), whatever the event ids: a second `placed` of it is a
    repeat, or amends it if it says something else; `cancelled` undoes it, and `returned` lowers its
    revenue, in any order of arrival. `amount` is what the customer pays (placed) or gets back
    (cancelled, returned); `discount` is what was taken off before.
    """

    event_id: Id
    user_id: Id
    type: Literal["placed", "cancelled", "returned"]
    ts: int
    order_id: Id
    amount: Money
    v: int = EVENT_VERSION
    currency: Annotated[str, Meta(pattern="^[A-Z]{3}$")] | None = None
    discount: Money = 0.0
    coupon: Id | None = None
    lines: Annotated[list[OrderLine], Meta(max_length=5_000)] = msgspec.field(default_factory=list)
