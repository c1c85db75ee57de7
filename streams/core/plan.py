"""Decides what the next step takes: which records, at what clock, and which rows to sweep.

The two input topics are read side by side but arrive at their own pace. A step takes records of
both only up to a time that both have reached (or have nothing beyond), so that after a backlog
orders are not weeks behind clicks. Record timestamps decide, as the log has them.

Clocks. `event`: the clock is the newest event time; a step never crosses a sweep boundary, and
when every record before it is in, the sweep runs at exactly that time. `wall`: the clock is given;
a sweep is spread evenly over its interval.

Timers. Users for whom a condition on elapsed time changes are looked at when that time has come, by
either clock, and not only when the sweep comes to them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from schemas.definitions import Definitions
from schemas.lives import first_of, life_beginning
from schemas.messages import Erasure, JournalledSnapshot, LearnerSnapshot
from streams.core.state.shard_state import Meta
from streams.core.state.slots import enough_room

__all__ = ["SWEEP_SLICE_ROWS", "Clock", "Pending", "Plan", "in_runs", "next_plan"]

Clock = Literal["event", "wall"]

SWEEP_SLICE_ROWS: Final = 4_000
"""Rows swept per step at most: no batch waits for it longer than the 6 to 18 ms that they take."""


class Plan(msgspec.Struct, frozen=True):
    """One step, fully determined: with the log and the state before, it gives the state after.

    This is what the journal holds.
    """

    seq: int
    """Number of the step, with the life of the shard (`schemas.lives`)."""
    start: tuple[int, int]
    """First offset of clickstream and orders."""
    stop: tuple[int, int]
    """One past the last offset."""
    clock_ms: int
    """0: the newest event time in the batch."""
    sweep_rows: int
    """How many rows to sweep from the shard's sweep cursor."""
    champion: str = ""
    """Version of the model artifact that scores this step."""
    learner: JournalledSnapshot | None = None
    """A learner snapshot that takes effect with this step; None: no change."""
    erase: tuple[Erasure, ...] = ()
    """People who are forgotten before this step's records are looked at."""
    records: tuple[int, int] | None = None
    """How many records the ranges have; None in plans of builds that did not say."""
    skipped: tuple[int, int] = (0, 0)
    """How many of the ranges' offsets transaction markers and aborted transactions take."""
    wake_rows: int = 0
    """How many users at most are looked at because a time of theirs has come."""
    definitions: Definitions | None = None
    """Definitions that take effect with this step; None: no change."""


@dataclass(frozen=True)
class Pending:
    """Records of one topic that wait for a step, without gaps from the shard's next offset on.

    offsets and timestamps_ms are int64 [n]; `caught_up` says that the topic has nothing more.
    `stop` is the next offset to come: transaction markers may lie between it and the last record
    (None: none do). `skipped` are the ranges [first, last + 1) of offsets without a record.
    """

    offsets: NDArray[np.int64]
    timestamps_ms: NDArray[np.int64]
    caught_up: bool
    stop: int | None = None
    skipped: tuple[tuple[int, int], ...] = ()

    def behind(self, taken: int, start: int) -> int:
        """The next offset once the first `taken` records are, from `start` on."""
        if taken == len(self.offsets) and self.stop is not None:
            return self.stop
        return int(self.offsets[taken - 1]) + 1 if taken else start

    def skipped_before(self, stop: int) -> int:
        """How many skipped offsets lie before `stop`."""
        return sum(max(0, min(end, stop) - first) for first, end in self.skipped)


def next_plan(
    meta: Meta,
    pending: tuple[Pending, Pending],
    *,
    clock: Clock,
    wall_ms: int,
    sweep_interval_ms: int,
    max_records: int,
    users: int,
    champion: str = "",
    learner: LearnerSnapshot | None = None,
    definitions: Definitions | None = None,
    erase: tuple[Erasure, ...] = (),
) -> Plan | None:
    """The next step, or None when there is nothing to do yet. Pure; `wall_ms` is given.

    A shard without a state begins a life, at `wall_ms` whatever the clock is. A shard that was
    moved to other topics takes a step at once, so that the ledger has its new offsets.

    `champion` is the version in use, `learner` the newest snapshot: it is part of the plan if the
    shard has an older one, or none. People to `erase` get a step even if no record waits, and so do
    newer `definitions` than the shard's, once it has a state.
    """
    wall_ms = max(wall_ms, meta.clock_ms)  # a clock that was set back stands still for us
    reached = _reached(pending)
    sweep_due = clock == "event" and 0 < meta.next_sweep_ms <= reached
    bound = meta.next_sweep_ms - 1 if sweep_due else reached
    if clock == "event" and not meta.next_sweep_ms:
        bound = min(bound, _first_sweep(pending, sweep_interval_ms) - 1)
    counts = _cut(pending, bound, max_records)
    sweep_rows = _wall_sweep(meta, wall_ms, sweep_interval_ms, users) if clock == "wall" else 0
    clock_ms = wall_ms if clock == "wall" else 0
    until_ms = wall_ms if clock == "wall" else reached
    wake_rows = SWEEP_SLICE_ROWS if 0 < meta.rules_due_ms <= until_ms else 0
    taken = _takeable(definitions, meta)
    start = (meta.offsets[0], meta.offsets[1])
    stop = tuple(p.behind(n, first) for p, n, first in zip(pending, counts, start, strict=True))
    if not any(counts):
        if sweep_due:
            clock_ms = meta.next_sweep_ms
            sweep_rows = min(SWEEP_SLICE_ROWS, users - meta.sweep_row)
        elif (
            not sweep_rows
            and not (clock == "wall" and wake_rows)
            and not erase
            and (taken is None or not meta.seq)
            and stop == start
            and not _moved(meta)
        ):
            return None
    skipped = [p.skipped_before(end) for p, end in zip(pending, stop, strict=True)]
    return Plan(
        seq=meta.seq + 1 if meta.seq else first_of(life_beginning(wall_ms)),
        start=start,
        stop=(stop[0], stop[1]),
        clock_ms=clock_ms,
        sweep_rows=sweep_rows,
        champion=champion,
        learner=_newer(learner, meta.learner),
        erase=erase,
        records=counts,
        skipped=(skipped[0], skipped[1]),
        wake_rows=wake_rows,
        definitions=taken,
    )


def _moved(meta: Meta) -> bool:
    """Whether the shard has taken steps on earlier input topics, and none on the present ones."""
    return 0 < meta.inputs_since == meta.seq


def in_runs(plans: Sequence[Plan], max_records: int) -> Iterator[Sequence[Plan]]:
    """`plans`, which follow one another, cut into runs whose ranges together have no more than
    `max_records` offsets (or one plan), so that the records of a run can be read in one go."""
    first = 0
    for i in range(1, len(plans) + 1):
        begins = plans[first].start
        if i == len(plans) or sum(plans[i].stop) - sum(begins) > max_records:
            yield plans[first:i]
            first = i


def _newer(
    learner: LearnerSnapshot | None, current: LearnerSnapshot | None
) -> JournalledSnapshot | None:
    """The snapshot, unless the shard has it or a newer one already."""
    if learner is None or (current is not None and current.version >= learner.version):
        return None
    return JournalledSnapshot.of(learner)


def _takeable(newest: Definitions | None, meta: Meta) -> Definitions | None:
    """The newest definitions, unless the shard has them or later ones already, or must first free
    bits of what has ended."""
    current = meta.definitions
    if newest is None or not enough_room(meta.segment_slots, meta.audience_slots, newest):
        return None
    if current is None:
        return newest
    later = (newest.number, newest.applied_at_ms) > (current.number, current.applied_at_ms)
    return newest if later else None


_FOREVER: Final = 2**62


def _first_sweep(pending: tuple[Pending, Pending], interval_ms: int) -> int:
    """A new shard's first sweep: at the end of the interval that its first record lies in."""
    first = min((int(p.timestamps_ms[0]) for p in pending if len(p.timestamps_ms)), default=0)
    return (first // interval_ms + 1) * interval_ms


def _reached(pending: tuple[Pending, Pending]) -> int:
    """The record time up to which both topics are known; all that is there, when both are
    caught up; -1 when a topic that has more has delivered nothing yet."""
    bound = _FOREVER
    newest = -1
    for p in pending:
        last = int(p.timestamps_ms.max()) if len(p.timestamps_ms) else -1
        newest = max(newest, last)
        if not p.caught_up:
            bound = min(bound, last)
    return newest if bound == _FOREVER else bound


def _cut(pending: tuple[Pending, Pending], bound: int, max_records: int) -> tuple[int, int]:
    """How many records of each topic go in: those before the first that is newer than `bound`."""

    def upto(p: Pending, limit: int) -> int:
        newer = np.flatnonzero(p.timestamps_ms[: max_records + 1] > limit)
        return int(newer[0]) if len(newer) else min(len(p.timestamps_ms), max_records)

    counts = [upto(p, bound) for p in pending]
    if sum(counts) > max_records:
        # Both have plenty: stop at the earlier of the times that half a batch of each reaches.
        half = max_records // 2
        times = [
            int(p.timestamps_ms[max(1, min(n, half)) - 1])
            for p, n in zip(pending, counts, strict=True)
        ]
        limit = min(t for t, n in zip(times, counts, strict=True) if n > half)
        counts = [min(upto(p, limit), half) for p in pending]
        if not any(counts):
            counts = [min(upto(p, bound), half) for p in pending]
        if not half:  # one record a step: the earlier one
            counts = [1, 0] if times[0] <= times[1] else [0, 1]
    return counts[0], counts[1]


def _wall_sweep(meta: Meta, wall_ms: int, interval_ms: int, users: int) -> int:
    """Rows due so that a sweep takes one interval, evenly spread."""
    elapsed = wall_ms - meta.sweep_started_ms
    target = users if elapsed >= interval_ms else users * elapsed // interval_ms
    return max(0, min(SWEEP_SLICE_ROWS, target - meta.sweep_row))
