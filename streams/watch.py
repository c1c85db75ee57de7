"""Watches whether a process goes on: asks Kafka now and then where the logs end, and notes whether
the process gets nearer. `streams.telemetry.health` decides what follows.

The questions go over another connection: a consumer that has fallen silent, which is how Faust
workers die, would not notice that there is more to read.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from streams.telemetry.health import Facts, Health, Place, Recovery, Sink, judge

__all__ = ["Group", "Standing", "Watch"]

_log = logging.getLogger(__name__)

BEAT_SECONDS: Final = 1.0
LOOKS_PER_LIMIT: Final = 6
ASK_SECONDS: Final = 10.0


@dataclass(frozen=True)
class Standing:
    """Where one partition, with what belongs to it, stands; see `Place`."""

    name: str
    state: str
    offsets: tuple[tuple[str, int, int], ...] = ()
    """(topic, partition, next offset to process) of each of its logs."""
    recovery: Recovery | None = None


@dataclass(frozen=True)
class Group:
    """What the consumer group has given us. `unassigned_seconds`: 0 if it has said so."""

    unassigned_seconds: float = 0.0
    was_assigned: bool = True


@dataclass
class _Track:
    offsets: tuple[int, ...] = ()
    looked: float = 0.0
    still_seconds: float = 0.0
    behind_records: int = 0
    was_well: bool = False

    def look(self, now: float, offsets: tuple[int, ...], behind: int, longest: float) -> None:
        """A look at a partition that nothing outside keeps from moving. Between two looks no more
        than `longest` counts: the process may have been stopped in between."""
        moved = bool(self.offsets) and offsets != self.offsets
        if moved or not behind:
            self.was_well, self.still_seconds = True, 0.0
        elif self.looked:
            self.still_seconds += min(now - self.looked, longest)
        self.offsets, self.looked, self.behind_records = offsets, now, behind

    def excuse(self, now: float) -> None:
        """It can't move, and that is not its fault: this time does not count."""
        self.looked = now


class Watch:
    """The watch over one process. `run` is its task; `health` may be asked on any thread.

    Args:
        ends: the next offsets of logs, each (topic, partition); may raise.
        standings: where the partitions stand that are ours.
        asked: a log to ask for when there are none: (topic, partition).
        stuck_seconds: as of `judge`.
        group: what the consumer group has given us.
        sink: the rows on their way to ClickHouse; None: there are none.
    """

    def __init__(
        self,
        ends: Callable[[Collection[tuple[str, int]]], Awaitable[Mapping[tuple[str, int], int]]],
        standings: Callable[[], Iterable[Standing]],
        asked: tuple[str, int],
        stuck_seconds: float,
        *,
        group: Callable[[], Group] = Group,
        sink: Callable[[], Sink | None] = lambda: None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ends, self._standings, self._asked = ends, standings, asked
        self._stuck_seconds = stuck_seconds
        self._group, self._sink, self._monotonic = group, sink, monotonic
        self._tracks: dict[str, _Track] = {}
        self._trouble = ""
        self._answered = monotonic()
        self.beat()

    async def run(self) -> None:
        """Beat and look until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._repeat(BEAT_SECONDS, self._beats))
            tasks.create_task(self._repeat(self._interval_seconds, self.look))

    @property
    def _interval_seconds(self) -> float:
        return self._stuck_seconds / LOOKS_PER_LIMIT if self._stuck_seconds else 60.0

    async def _repeat(self, seconds: float, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            await work()
            await asyncio.sleep(seconds)

    async def _beats(self) -> None:
        self.beat()

    def beat(self) -> None:
        """Gather the facts: on the loop that does the work, so that they show that it runs."""
        now = self._monotonic()
        group = self._group()
        self._facts = Facts(
            looked_seconds=0.0,
            kafka_seconds=now - self._answered,
            unassigned_seconds=group.unassigned_seconds,
            was_assigned=group.was_assigned,
            places=tuple(self._place(standing) for standing in self._standings()),
            sink=self._sink(),
        )
        self._beat = now

    def _place(self, standing: Standing) -> Place:
        track = self._tracks.get(standing.name, _Track())
        return Place(
            standing.name, standing.state, track.behind_records, track.still_seconds,
            track.was_well, standing.recovery,
        )  # fmt: skip

    async def look(self) -> None:
        """Ask Kafka for the ends of our logs, and note what moved. Without an answer all are
        excused."""
        standings = list(self._standings())
        places = [(topic, part) for each in standings for topic, part, _ in each.offsets]
        try:
            async with asyncio.timeout(ASK_SECONDS):
                ends = await self._ends(places or [self._asked])
        except Exception as error:  # whatever it is, the work goes on without an answer
            if not self._trouble:  # said once
                self._trouble = str(error) or f"no answer within {ASK_SECONDS:.0f} s"
                _log.warning("Kafka can't be asked how far behind we are: %s", self._trouble)
            ends = {}
        else:
            self._answered, self._trouble = self._monotonic(), ""
        for standing in standings:
            self._note(standing, ends)

    def _note(self, standing: Standing, ends: Mapping[tuple[str, int], int]) -> None:
        track, now = self._tracks.setdefault(standing.name, _Track()), self._monotonic()
        sink = self._sink()
        waits = sink is not None and (sink.is_full or sink.state != "ok")
        if not ends or waits or standing.state != "running":
            track.excuse(now)
            return
        offsets = tuple(offset for _, _, offset in standing.offsets)
        behind = sum(max(0, ends[topic, part] - at) for topic, part, at in standing.offsets)
        track.look(now, offsets, behind, 2 * self._interval_seconds)

    def health(self) -> Health:
        """What follows from the newest facts."""
        return judge(self._present(), self._stuck_seconds)

    def _present(self) -> Facts:
        """The facts, as old as they are: they are gathered only as long as the loop runs."""
        facts = self._facts
        return replace(facts, looked_seconds=self._monotonic() - self._beat)

    def still_seconds(self) -> Sequence[tuple[str, float]]:
        """(name, seconds for which it has not moved though there is something to read)."""
        return [(place.name, place.still_seconds) for place in self._facts.places]
