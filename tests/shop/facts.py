"""Facts of the made-up shop: orders and clicks, each once, however many files and topics have them.

Times are ms since 1970 UTC, money is in cents of the shop's currency. The same fact from different
files and topics is equal, so all facts together are a set.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Cancelled", "Click", "Fact", "Line", "Placed", "Returned"]


@dataclass(frozen=True)
class Line:
    """A line of an order; `cents` is what the customer pays for all of it."""

    item: str
    quantity: int
    cents: int
    category: str | None = None


@dataclass(frozen=True)
class Placed:
    """An order, or a later version of it: the same `order` with another time and amount."""

    event_id: str
    user: str
    ts_ms: int
    order: str
    cents: int
    lines: tuple[Line, ...]
    discount_cents: int = 0
    coupon: str | None = None


@dataclass(frozen=True)
class Cancelled:
    """An order was cancelled, and `cents` were paid back."""

    event_id: str
    user: str
    ts_ms: int
    order: str
    cents: int


@dataclass(frozen=True)
class Returned:
    """A part of an order came back, for `cents`."""

    event_id: str
    user: str
    ts_ms: int
    order: str
    cents: int


@dataclass(frozen=True)
class Click:
    """Anything that a visitor does; `rating_tenths` is 0 but for reviews."""

    event_id: str
    user: str
    ts_ms: int
    type: str
    session: str | None = None
    item: str | None = None
    category: str | None = None
    rating_tenths: int = 0


Fact = Placed | Cancelled | Returned | Click
