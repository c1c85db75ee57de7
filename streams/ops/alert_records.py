"""What Kafka still has of an alert: the plan in the journal, and the customer's records in the
batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from schemas.topics import TopicNames
from streams.core.events.records import SOURCES, Records
from streams.core.plan import Plan
from streams.kafka.log import Log
from streams.ops.alert_story import Batch
from streams.shard.journal import Journal, Step

__all__ = ["Found", "Record", "find"]

NEIGHBOURS = 200
"""Records of the journal that are read at once. Owners that had lost the shard wrote among them."""


@dataclass(frozen=True)
class Record:
    """One record of the customer. `type` is what it says of itself, '' if it can't be read."""

    topic: str
    partition: int
    offset: int
    written_at: datetime
    type: str


@dataclass(frozen=True)
class Found:
    """What was found. `plan`: None if the journal has it no more."""

    plan: Plan | None
    journal_offset: int | None
    records: list[Record]
    notes: list[str]


class _Event(msgspec.Struct):
    type: str = ""


_decoder = msgspec.json.Decoder(_Event)


async def find(
    log: Log, names: TopicNames, batch: Batch, user_id: str, name_of: Callable[[str], str]
) -> Found:
    """Look for them. `name_of`: what results call a user of the topics, for `user_id` is such a
    name. Raises BrokerUnavailable, StateError."""
    notes: list[str] = []
    place = await _plan(log, names.journal, batch)
    if place is None:
        notes.append("Its step is no longer in the journal, which Kafka keeps for a week.")
    topics = names.clickstream, names.orders
    ranges = (
        (batch.clickstream_from, batch.clickstream_to), (batch.orders_from, batch.orders_to),
    )  # fmt: skip
    records: list[Record] = []
    for topic, (start, stop) in zip(topics, ranges, strict=True):
        if start == stop:
            continue
        first, end = await log.ends(topic, batch.shard)
        if start < first or stop > end:
            notes.append(
                f"{topic}/{batch.shard} has offsets {first} to {end} now: the batch's, {start} to "
                f"{stop}, are gone, or were in another topic."
            )
            continue
        read = await log.read(topic, batch.shard, start, stop)
        records += _of(read, topic, batch.shard, user_id, name_of)
    if not records and len(notes) < 1 + len(SOURCES):
        notes.append(
            "No record of the customer is in the batch: it was raised by the daily sweep, or their "
            "records are no longer in Kafka."
        )
    offset, plan = place or (None, None)
    return Found(plan, offset, records, notes)


def _of(
    records: Records, topic: str, partition: int, user_id: str, name_of: Callable[[str], str]
) -> list[Record]:
    found = []
    for i, key in enumerate(records.keys):
        if key is None or name_of(key.decode(errors="replace")) != user_id:
            continue
        one = records[i : i + 1]
        written_at = datetime.fromtimestamp(int(one.timestamps_ms[0]) / 1000, UTC)
        found.append(
            Record(topic, partition, int(one.offsets[0]), written_at, _type(one.values[0]))
        )
    return found


def _type(value: bytes | None) -> str:
    try:
        return _decoder.decode(value or b"").type
    except msgspec.DecodeError:
        return ""


async def _plan(log: Log, topic: str, batch: Batch) -> tuple[int, Plan] | None:
    """The batch's step by bisection: steps stand in their order. Where two owners wrote one of that
    number, it is the one whose ranges are the batch's."""
    journal = Journal(log, topic, batch.shard, "")
    first, end = await log.ends(topic, batch.shard)
    low, high = first, end
    while high - low > NEIGHBOURS:
        middle = (low + high) // 2
        seqs = _seqs(await journal.entries(middle, min(middle + NEIGHBOURS, high)))
        if not seqs or seqs[0] > batch.seq:
            high = middle
        else:
            low = middle
    start, stop = max(first, low - NEIGHBOURS), min(end, high + 2 * NEIGHBOURS)
    for offset, entry in await journal.entries(start, stop):
        if isinstance(entry, Step) and entry.plan.seq == batch.seq and _is_of(entry.plan, batch):
            return offset, entry.plan
    return None


def _seqs(entries: Sequence[tuple[int, object]]) -> list[int]:
    return [entry.plan.seq for _, entry in entries if isinstance(entry, Step)]


def _is_of(plan: Plan, batch: Batch) -> bool:
    return (plan.start, plan.stop) == (
        (batch.clickstream_from, batch.orders_from),
        (batch.clickstream_to, batch.orders_to),
    )
