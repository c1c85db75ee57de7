"""The journal: one log partition per shard that records what the shard did, in order.

Three kinds of record. `Takeover(owner)`: from here on this owner decides. `Step(owner, plan)`: this
is the next step. `Rewritten(owner)`: a command changed the state, so no replay can lead past here;
a checkpoint behind it has the state. A step counts if its owner is the one of the last takeover
before it; a reader skips all others, which a worker wrote after it had lost the shard. A takeover
says which release the owner runs, for earlier ones can't read what follows (`schemas.releases`).

The writer is fenced by the log itself: it knows the offset its next record must get. Another one
means that another worker has written, so the shard has a new owner; `Fenced` is raised before any
effect of that step leaves. No clocks, no group generations.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from schemas.errors import StateError, TidelineError
from schemas.features import FEATURE_NAMES
from schemas.releases import LEVEL, RELEASE, refuse_later
from streams.core.plan import Plan
from streams.kafka.log import Log

__all__ = ["Entry", "Fenced", "Journal", "Rewritten", "Step", "Takeover", "valid_steps"]


class Takeover(msgspec.Struct, frozen=True, tag="takeover"):
    """`owner` owns the shard from this record on."""

    owner: str
    release: str = ""
    level: int = 0


class Step(msgspec.Struct, frozen=True, tag="step"):
    """`owner` took this step."""

    owner: str
    plan: Plan


class Rewritten(msgspec.Struct, frozen=True, tag="rewritten"):
    """`owner`, a command, changed the state between two steps (`streams.shard.offline`)."""

    owner: str


Entry = Takeover | Step | Rewritten


class Fenced(TidelineError):
    """Another worker owns the shard now. Drop its state; nothing of the last step was sent."""


_decoder = msgspec.msgpack.Decoder(Entry)


def valid_steps(entries: Iterable[Entry], owner: str | None = None) -> list[Plan]:
    """The plans that count, in order. `owner` is who owned the shard before the first entry.

    Without a known owner, the first step's owner is taken to be right: the journal may begin in
    the middle of an owner's term, but no other owner's step can come before a takeover.

    A step number comes once: a record that a producer sent twice because the first answer got lost
    is a repeat. (Its writer finds the second at an offset it did not expect, and is `Fenced`.)
    """
    plans: list[Plan] = []
    for entry in entries:
        if isinstance(entry, Takeover):
            owner = entry.owner
            continue
        if isinstance(entry, Rewritten):
            continue
        if owner is None:
            owner = entry.owner
        if entry.owner == owner and not (plans and entry.plan.seq <= plans[-1].seq):
            plans.append(entry.plan)
    return plans


class Journal:
    """Reads and writes one shard's journal partition on behalf of one owner."""

    def __init__(self, log: Log, topic: str, shard: int, owner: str) -> None:
        self._log = log
        self._topic = topic
        self._shard = shard
        self.owner = owner
        self.next_offset = 0
        """Where the next record must land for us still to be the owner."""

    async def take_over(self) -> int:
        """Become the owner; returns the offset of the takeover, where earlier owners end."""
        (offset,) = await self._append(Takeover(self.owner, RELEASE, LEVEL))
        self.next_offset = offset + 1
        return offset

    async def read(self, start: int, stop: int, owner: str | None) -> list[Plan]:
        """The steps that count in [start, stop). Raises StateError for a record it can't read."""
        return valid_steps((e for _, e in await self.entries(start, stop)), owner)

    async def entries(self, start: int, stop: int) -> list[tuple[int, Entry]]:
        """Every record in [start, stop) with its offset, also those of writers who had lost the
        shard. Learner snapshots are converted to this build's features. Raises as `read`, and
        StateError if a release of a higher level has taken over."""
        records = await self._log.read(self._topic, self._shard, start, stop)
        entries: list[tuple[int, Entry]] = []
        for offset, value in zip(records.offsets, records.values, strict=True):
            try:
                entry = _decoder.decode(value or b"")
            except msgspec.DecodeError as exc:
                raise StateError(
                    f"{self._topic}/{self._shard} offset {offset} is not a journal record of this "
                    f"version: {exc}. Run the version that wrote it."
                ) from exc
            if isinstance(entry, Takeover):
                refuse_later(f"{self._topic}/{self._shard}", entry.release, entry.level)
            elif isinstance(entry, Step) and (learner := entry.plan.learner) is not None:
                plan = msgspec.structs.replace(entry.plan, learner=learner.by_name(FEATURE_NAMES))
                entry = msgspec.structs.replace(entry, plan=plan)
            entries.append((int(offset), entry))
        return entries

    async def append(self, plan: Plan) -> None:
        """Write one step. Raises Fenced if the record did not land where it must."""
        await self._append_next(Step(self.owner, plan))

    async def rewritten(self) -> None:
        """Say that the state is not what the steps give. Raises Fenced as `append` does."""
        await self._append_next(Rewritten(self.owner))

    async def _append_next(self, entry: Entry) -> None:
        (offset,) = await self._append(entry)
        if offset != self.next_offset:
            raise Fenced(
                f"shard {self._shard}: wrote journal offset {offset}, expected {self.next_offset}; "
                "another worker has taken over"
            )
        self.next_offset = offset + 1

    async def still_ours(self) -> bool:
        """Whether nobody has written since our last record."""
        _, end = await self._log.ends(self._topic, self._shard)
        return end == self.next_offset

    async def ours_since(self, offset: int) -> bool:
        """Whether nobody has taken over from `offset` on, a later release neither."""
        _, end = await self._log.ends(self._topic, self._shard)
        records = await self._log.read(self._topic, self._shard, offset, end)
        for value in records.values:
            try:
                if isinstance(_decoder.decode(value or b""), Takeover):
                    return False
            except msgspec.DecodeError:  # a later release's
                return False
        return True

    async def first_offset(self) -> int:
        first, _ = await self._log.ends(self._topic, self._shard)
        return first

    async def _append(self, entry: Entry) -> list[int]:
        return await self._log.append(
            self._topic, self._shard, [(None, msgspec.msgpack.encode(entry))]
        )
