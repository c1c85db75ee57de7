"""The worker's clock against the broker's stamps and against the monotonic clock."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import ClockWrong, RetryableError
from streams.shard.worker_clock import LEAST_TOLERANCE_MS, WorkerClock, clock_lead_ms
from tests.core.driving import bounded
from tests.shard.rig import SHARD, TOPICS, Rig, quick_shards, script

__all__ = ["quick_shards"]

TOLERANCE_MS = 300_000
T0 = 1_700_000_000_000


class Clocks:
    """A machine's two clocks, moved by hand."""

    def __init__(self) -> None:
        self.wall_ms, self.monotonic_ms = T0, 5_000
        self.worker = WorkerClock(TOLERANCE_MS, lambda: self.wall_ms, lambda: self.monotonic_ms)

    def run(self, ms: int) -> None:
        self.wall_ms += ms
        self.monotonic_ms += ms


@bounded
@given(st.integers(-(10**9), 10**9), st.integers(0, 10**6), st.integers(0, 10**6))
def test_the_lead_is_never_more_than_the_truth_and_misses_no_more_than_the_round_trip(
    true_lead_ms: int, out_ms: int, back_ms: int
) -> None:
    sent = T0
    stamped = sent + out_ms - true_lead_ms
    found = clock_lead_ms(sent, sent + out_ms + back_ms, stamped)
    assert abs(found) <= abs(true_lead_ms)
    assert abs(true_lead_ms - found) <= out_ms + back_ms
    assert found * true_lead_ms >= 0


def test_a_clock_that_agrees_gives_the_time() -> None:
    clocks = Clocks()
    clocks.worker.compare(T0 - 30, T0 - 10, T0 - 20)
    for _ in range(3):
        assert clocks.worker.trusted_ms() == clocks.wall_ms
        clocks.run(3_600_000)


@pytest.mark.parametrize(
    ("lead_ms", "words"),
    [(400 * 86_400_000, "34,560,000 s ahead of the Kafka broker's"), (-900_000, "900 s behind")],
)
def test_a_clock_that_differs_from_the_broker_s_is_not_used_until_they_agree(
    lead_ms: int, words: str
) -> None:
    clocks = Clocks()
    clocks.worker.compare(T0, T0, T0 - lead_ms)
    for _ in range(2):
        with pytest.raises(ClockWrong, match=words) as raised:
            clocks.worker.trusted_ms()
        assert isinstance(raised.value, RetryableError)
        assert "NTP" in str(raised.value)
    clocks.worker.compare(T0, T0, T0 - TOLERANCE_MS)
    assert clocks.worker.trusted_ms() == T0


@pytest.mark.parametrize("jump_ms", [TOLERANCE_MS + 1, -(TOLERANCE_MS + 1), 3 * 86_400_000])
def test_a_jump_is_refused_once_so_that_the_broker_is_asked_before_the_next_step(
    jump_ms: int,
) -> None:
    clocks = Clocks()
    clocks.worker.trusted_ms()
    clocks.run(1_000)
    clocks.wall_ms += jump_ms
    with pytest.raises(ClockWrong, match="jumped"):
        clocks.worker.trusted_ms()
    assert clocks.worker.trusted_ms() == clocks.wall_ms  # where no broker says otherwise
    clocks.worker.compare(clocks.wall_ms, clocks.wall_ms, clocks.wall_ms - jump_ms)
    with pytest.raises(ClockWrong, match="broker"):
        clocks.worker.trusted_ms()


def test_after_a_jump_no_shard_takes_a_step_until_the_broker_was_asked() -> None:
    """One worker has several shards: that one of them has heard of the jump is not enough."""
    clocks = Clocks()
    clocks.worker.compare(T0, T0, T0)
    clocks.worker.trusted_ms()
    clocks.wall_ms += 3 * 86_400_000
    now = clocks.wall_ms
    for _ in range(4):
        with pytest.raises(ClockWrong, match="jumped"):
            clocks.worker.trusted_ms()
    clocks.worker.compare(T0, now, T0 + 5)  # under way when it jumped
    with pytest.raises(ClockWrong, match="jumped"):
        clocks.worker.trusted_ms()
    clocks.worker.compare(now, now, now)  # the machine had slept
    assert clocks.worker.trusted_ms() == now


def test_small_corrections_are_no_jump_however_many() -> None:
    clocks = Clocks()
    for _ in range(50):
        clocks.run(1_000)
        clocks.wall_ms += TOLERANCE_MS
        assert clocks.worker.trusted_ms() == clocks.wall_ms


def test_a_shop_that_allows_no_event_ahead_still_lets_clocks_differ_by_seconds() -> None:
    clocks = Clocks()
    worker = WorkerClock(0, lambda: clocks.wall_ms, lambda: clocks.monotonic_ms)
    worker.compare(T0, T0, T0 - LEAST_TOLERANCE_MS)
    for _ in range(3):
        clocks.run(1_000)
        clocks.wall_ms += 900
        assert worker.trusted_ms() == clocks.wall_ms


@pytest.mark.usefixtures("quick_shards")
def test_a_shard_takes_no_step_by_a_clock_that_is_wrong_and_goes_on_once_it_is_right() -> None:
    async def go() -> None:
        rig = Rig()
        rig.load(script())
        clocks = Clocks()
        clocks.worker.compare(T0, T0, T0 - 2 * TOLERANCE_MS)
        process = rig.process("first")
        process.shard._s = replace(process.shard._s, wall_ms=clocks.worker.trusted_ms)
        with pytest.raises(ClockWrong, match="ahead of the Kafka broker's"):
            await process.run()
        assert process.shard.position == (0, 0)
        assert rig.log.ends_now(TOPICS.journal, SHARD)[1] == 1  # its takeover alone
        clocks.worker.compare(T0, T0, T0)
        second = rig.process("second")
        second.shard._s = replace(second.shard._s, wall_ms=clocks.worker.trusted_ms)
        await second.run()
        await rig.check(second.shard)

    asyncio.run(go())
