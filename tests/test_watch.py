"""Whether a process gets on: what counts as moving, and what excuses standing still."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection

import pytest

from schemas.errors import BrokerUnavailable
from streams.telemetry.health import Sink
from streams.watch import Group, Standing, Watch
from tests.awaiting import turns

LIMIT = 60.0
STEP = LIMIT / 6


class _World:
    """One shard of two logs, and what surrounds it."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.at = [5, 5]
        self.ends = [5, 5]
        self.state = "running"
        self.error: Exception | None = None
        self.sink = Sink("ok", is_full=False, oldest_seconds=0.0)
        self.group = Group()
        self.asked: list[tuple[str, int]] = []
        self.ours = True
        self.watch = Watch(
            self._ends, self._standings, ("clicks", 0), LIMIT, group=lambda: self.group,
            sink=lambda: self.sink, monotonic=lambda: self.now,
        )  # fmt: skip

    async def _ends(self, places: Collection[tuple[str, int]]) -> dict[tuple[str, int], int]:
        self.asked += places
        if self.error is not None:
            raise self.error
        return {place: self.ends[("clicks", "orders").index(place[0])] for place in places}

    def _standings(self) -> list[Standing]:
        offsets = ("clicks", 3, self.at[0]), ("orders", 3, self.at[1])
        return [Standing("shard 3", self.state, offsets)] if self.ours else []

    def looks(self, times: int = 1, seconds: float = STEP) -> None:
        for _ in range(times):
            self.now += seconds
            asyncio.run(self.watch.look())
            self.watch.beat()

    def dead(self) -> tuple[str, ...]:
        return self.watch.health().dead

    @property
    def still_seconds(self) -> float:
        ((_, seconds),) = self.watch.still_seconds()
        return seconds


def stuck() -> _World:
    """It has moved once, and then no more for just as long as is allowed."""
    world = _World()
    world.looks()
    world.ends[1] = 25
    world.looks(6)
    assert world.still_seconds == LIMIT
    assert world.dead() == ()
    return world


def test_a_shard_that_had_read_all_and_then_does_not_move_is_dead_and_lives_once_it_moves() -> None:
    world = stuck()
    world.looks()
    assert world.dead() == ("shard 3 is 20 records behind and has not moved for 70 s",)
    world.at[1] += 1
    world.looks()
    assert world.dead() == ()
    assert world.still_seconds == 0


def test_one_that_has_never_moved_is_not_restarted_over_and_over() -> None:
    world = _World()
    world.ends[0] = 100
    world.looks(20)
    assert world.dead() == ()
    assert "a restart has not helped" in world.watch.health().unready[0]


def test_steps_without_records_are_no_progress() -> None:
    """A worker whose consumer fell silent still sweeps; its offsets don't move."""
    world = stuck()
    world.looks(2)
    assert world.dead()


@pytest.mark.parametrize("cause", ["full", "retrying", "kafka", "recovering"])
def test_time_in_which_it_can_not_move_does_not_count_then_or_later(cause: str) -> None:
    world = stuck()
    well = world.sink
    if cause == "full":
        world.sink = Sink("ok", is_full=True, oldest_seconds=9.0)
    elif cause == "retrying":
        world.sink = Sink("retrying", is_full=False, oldest_seconds=9.0)
    elif cause == "kafka":
        world.error = BrokerUnavailable("no broker answers")
    else:
        world.state = "recovering"
    world.looks(50)
    assert world.dead() == ()
    world.sink, world.error, world.state = well, None, "running"
    world.now += 1
    world.looks(1, seconds=0)
    assert world.still_seconds == LIMIT + 1  # only since it could move again
    assert world.dead()


def test_a_process_that_was_stopped_itself_is_not_dead_when_it_goes_on() -> None:
    world = stuck()
    world.at[1] += 1
    world.looks()
    world.now += 10_000  # SIGSTOP
    assert "event loop has not run" in world.dead()[0]
    world.looks(seconds=0)
    assert world.dead() == ()
    assert world.still_seconds <= 2 * STEP


def test_without_partitions_kafka_is_asked_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    world = _World()
    world.ours = False
    world.looks()
    assert world.asked == [("clicks", 0)]
    world.error = OSError("refused")
    world.looks(7)
    assert world.watch.health().unready == ("Kafka has not answered for 70 s",)
    assert caplog.text.count("refused") == 1
    assert caplog.records[0].levelno == logging.WARNING
    world.error = None
    world.looks()
    assert world.watch.health().unready == ()


def test_a_question_that_hangs_does_not_keep_the_watch_from_beating() -> None:
    async def go() -> None:
        world, go_on = _World(), asyncio.Event()

        async def hang(_: object) -> dict[tuple[str, int], int]:
            await go_on.wait()
            return {}

        watch = Watch(hang, lambda: [], ("clicks", 0), LIMIT, monotonic=lambda: world.now)
        task = asyncio.create_task(watch.run())
        await turns(5)
        world.now += 1
        watch.beat()
        assert watch.health().dead == ()
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(go())
