"""Decoded events as columns, the rules for decoding, and what a bad record becomes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from schemas.events import CLICK_TYPES, ORDER_TYPES, Contact
from streams.core.texts import Texts

__all__ = [
    "CANARY",
    "CONTACT",
    "EARLIEST_MS",
    "KIND_OF_CLICK",
    "KIND_OF_ORDER",
    "KIND_PLACED",
    "LATEST_MS",
    "SESSION_SLOT_MS",
    "DecodeRules",
    "Events",
    "Lines",
    "Reject",
    "merged",
]

CANARY: Final = "canary"
"""The reason of a reject that is a canary (`schemas.canary`) and no dead letter: the step sets it
apart."""
CONTACT: Final = "contact"
"""The reason of a reject that is a contact (`schemas.events.Contact`) and no dead letter."""
EARLIEST_MS: Final = 631_152_000_000
"""1990-01-01. Old order histories are trained on and judged; seconds or 0 taken for milliseconds
are 1970, and are caught."""
LATEST_MS: Final = 4_102_444_800_000  # 2100-01-01: a producer that sends microseconds is refused
SESSION_SLOT_MS: Final = 30 * 60_000  # a visitor's half hour, when the shop sends no session ids
KIND_PLACED: Final = len(CLICK_TYPES)
KIND_OF_CLICK: Final = {name: i for i, name in enumerate(CLICK_TYPES)}
KIND_OF_ORDER: Final = {name: KIND_PLACED + i for i, name in enumerate(ORDER_TYPES)}


@dataclass(frozen=True)
class DecodeRules:
    """What decides, besides the schema: `rates` maps a currency to the value of one unit in the
    shop's own currency (which must be in it, at 1.0); a missing currency means the shop's own."""

    max_future_ms: int
    currency: str
    rates: Mapping[str, float]


def latest_ms(
    timestamps_ms: NDArray[np.int64], rules: DecodeRules, clock_ms: int
) -> NDArray[np.int64]:
    """The latest time that each record's event may have, int64 [n].

    An event may be ahead by `rules.max_future_ms`, of its record's own time and of the worker's
    clock `clock_ms` (0: there is none, time comes from the events). A producer whose clock is fast
    stamps its records with the same clock, so the record's time alone would prove nothing.
    """
    bound = timestamps_ms
    if clock_ms:
        timed = timestamps_ms >= 0  # formats before v1 have no time, and are given as -1
        bound = np.where(timed, np.minimum(timestamps_ms, clock_ms), clock_ms)
    return np.minimum(bound + rules.max_future_ms, LATEST_MS - 1)


@dataclass(frozen=True)
class Reject:
    """A record that can't be used: its position in the run, a reason code and the details.
    `ahead_ms`: how far the event is ahead of the clock that refused it; 0: that is not the reason.
    """

    position: int
    reason: str
    detail: str
    ahead_ms: int = 0
    contact: Contact | None = None
    """What the record says, if it is a contact."""


@dataclass(frozen=True)
class Lines:
    """What an order or a click touched: event int32 [m] indexes the events; hashes uint64 [m]."""

    event: NDArray[np.int32]
    item: NDArray[np.uint64]
    category: NDArray[np.uint64]
    """0 means there is none."""


@dataclass(frozen=True)
class Events:
    """Decoded events as columns of length n. Kinds 0 to 7 are `CLICK_TYPES`, 8 to 10 orders."""

    users: Texts
    kind: NDArray[np.int8]
    ts_ms: NDArray[np.int64]
    id_hash: NDArray[np.uint64]
    order: NDArray[np.uint64]
    """Hash of the order id; 0 for clicks."""
    session: NDArray[np.uint64]
    """0 for orders."""
    rating_tenths: NDArray[np.int32]
    """0 when not rated."""
    amount_cents: NDArray[np.int64]
    discount_cents: NDArray[np.int64]
    coupon: NDArray[np.bool_]
    order_lines: NDArray[np.int32]
    lines: Lines
    positions: NDArray[np.int64]
    """Where each event stood in its run of records."""
    rejects: list[Reject] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.users)

    def at(self, chosen: NDArray[np.int64]) -> Events:
        """The events at these positions, ascending int64 [k], with what they touched."""
        index = np.full(len(self), -1, np.int32)
        index[chosen] = np.arange(len(chosen), dtype=np.int32)
        owner = index[self.lines.event]
        kept = owner >= 0
        columns = {name: getattr(self, name)[chosen] for name in _COLUMNS}
        return Events(
            users=self.users[chosen],
            lines=Lines(owner[kept], self.lines.item[kept], self.lines.category[kept]),
            rejects=self.rejects,
            **columns,
        )

    def taken_from(self, chosen: NDArray[np.int64]) -> Events:
        """The same, decoded from `run[chosen]`, with positions in that run. chosen: int64 [n]."""
        rejects = [replace(r, position=int(chosen[r.position])) for r in self.rejects]
        return replace(self, positions=chosen[self.positions], rejects=rejects)

    def _sorted(self) -> Events:
        """By position, lines by their event."""
        order = np.argsort(self.positions, kind="stable")
        rank = np.empty(len(order), np.int32)
        rank[order] = np.arange(len(order), dtype=np.int32)
        owner = rank[self.lines.event]
        by_event = np.argsort(owner, kind="stable")
        columns = {name: getattr(self, name)[order] for name in _COLUMNS}
        return Events(
            users=self.users[order],
            lines=Lines(owner[by_event], self.lines.item[by_event], self.lines.category[by_event]),
            rejects=self.rejects,
            **columns,
        )


_COLUMNS: Final = (
    "kind", "ts_ms", "id_hash", "order", "session", "rating_tenths", "amount_cents",
    "discount_cents", "coupon", "order_lines", "positions",
)  # fmt: skip


def merged(one: Events, other: Events) -> Events:
    """The events of two runs of the same records, in the order of the records."""
    n = len(one)
    columns = {
        name: np.concatenate([getattr(one, name), getattr(other, name)]) for name in _COLUMNS
    }
    both = Events(
        users=Texts.concat(one.users, other.users),
        lines=Lines(
            np.concatenate([one.lines.event, other.lines.event + np.int32(n)]),
            np.concatenate([one.lines.item, other.lines.item]),
            np.concatenate([one.lines.category, other.lines.category]),
        ),
        rejects=one.rejects + other.rejects,
        **columns,
    )
    return both._sorted()  # noqa: SLF001
