"""What every source yields and the producer sends: input records, in blocks, in time order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, Final, Literal, NamedTuple, Protocol, TypeAlias

import msgspec

from schemas.events import OrderEvent

__all__ = [
    "CLICKSTREAM",
    "ORDERS",
    "Block",
    "InputRecord",
    "Source",
    "TopicKind",
    "order_records",
    "records",
]

TopicKind: TypeAlias = Literal["clickstream", "orders"]
CLICKSTREAM: Final[TopicKind] = "clickstream"
ORDERS: Final[TopicKind] = "orders"


class InputRecord(NamedTuple):
    """One record for one of the two input topics."""

    topic_kind: TopicKind
    key: bytes | None
    """The user id; None only in records that are malformed on purpose."""
    value: bytes
    """The JSON of a `schemas.events` struct."""
    timestamp_ms: int
    """When it is sent, in event time: the event's own `ts`, except for late or malformed ones."""


Block: TypeAlias = list[InputRecord]
"""Never empty; `timestamp_ms` does not decrease, within a block or from one to the next."""


class Source(Protocol):
    """Anything that can be replayed. Iterating twice yields the same blocks twice."""

    @property
    def expected_records(self) -> int | None:
        """How many records there will be, near enough for a progress bar; None when endless."""

    def __iter__(self) -> Iterator[Block]: ...

    def summary(self) -> dict[str, Any]:
        """What the source holds, as label -> value, for people and for `--json`."""


# NamedTuple's own constructor is a Python function; tuple's is not, and a load generator notices.
_new_record: Final = partial(tuple.__new__, InputRecord)
_encode: Final = msgspec.json.Encoder().encode


def records(
    kinds: Iterable[TopicKind],
    keys: Iterable[bytes | None],
    values: Iterable[bytes],
    timestamps_ms: Iterable[int],
) -> Block:
    """A block from four columns of the same length."""
    return list(map(_new_record, zip(kinds, keys, values, timestamps_ms, strict=False)))


def order_records(orders: Iterable[OrderEvent]) -> Block:
    """Encode orders, already in time order, each keyed by its user and sent at its own time."""
    return [InputRecord(ORDERS, o.user_id.encode(), _encode(o), o.ts) for o in orders]
