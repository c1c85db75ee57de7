"""When rows are due, how many there may be and what becomes of them:
`streams.clickhouse.buffer.RowBuffer` with a clock that the test moves."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future

import pytest

from schemas.errors import SinkRefused, SinkUnavailable
from schemas.tables import TABLES
from streams.clickhouse.buffer import URGENT, Abandoned, Blocks, RowBuffer, checked_rows
from tests.awaiting import turns


class _Clock:
    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> _Clock:
    return _Clock()


@pytest.fixture
def buffer(clock: _Clock) -> RowBuffer:
    return RowBuffer(
        max_rows=1000,
        linger_seconds=0.5,
        urgent_interval_seconds=0.05,
        max_pending_rows=1000,
        clock=clock,
    )


def _alerts() -> Blocks:
    return {URGENT: {column: [b""] for column in TABLES[URGENT].columns}}


def _done(buffer: RowBuffer) -> list[Future[None]]:
    return [submitted.done for submitted in buffer.take_urgent(only_due=True)]


def test_the_first_alert_is_due_at_once_and_alone(buffer: RowBuffer) -> None:
    first = buffer.put(_alerts())
    assert buffer.take() == []  # returns, so that `take_urgent` is called: the flush is not due
    assert _done(buffer) == [first]
    assert _done(buffer) == []


def test_alerts_that_follow_are_due_together_an_interval_later(
    buffer: RowBuffer, clock: _Clock
) -> None:
    buffer.put(_alerts())
    _done(buffer)
    clock.seconds += 0.01
    behind = [buffer.put(_alerts()), buffer.put(_alerts())]
    clock.seconds += 0.039
    assert _done(buffer) == []
    clock.seconds += 0.002
    assert buffer.take() == []
    assert _done(buffer) == behind


def test_a_flush_takes_all_alerts_due_or_not_and_restarts_the_interval(
    buffer: RowBuffer, clock: _Clock
) -> None:
    """What is taken is settled at the flush's end, so none of its alerts may stay behind."""
    first = buffer.put(_alerts())
    _done(buffer)
    clock.seconds += 0.5
    second = buffer.put(_alerts())
    taken = buffer.take()
    assert taken is not None
    assert [submitted.done for submitted in taken] == [first, second]
    assert [submitted.done for submitted in buffer.take_urgent()] == [second]
    third = buffer.put(_alerts())
    assert _done(buffer) == []
    buffer.settle(taken)
    assert (first.done(), second.done(), third.done()) == (True, True, False)


def test_taking_nothing_leaves_the_interval_alone(buffer: RowBuffer) -> None:
    assert buffer.take_urgent() == []
    first = buffer.put(_alerts())
    assert _done(buffer) == [first]


def _rows(n: int, table: str = "dead_letters") -> Blocks:
    return {table: {column: [b""] * n for column in TABLES[table].columns}}


def _taken(buffer: RowBuffer) -> list[Future[None]]:
    found = buffer.take()
    assert found is not None
    return [submitted.done for submitted in found]


def test_rows_are_due_when_the_oldest_have_waited_long_enough(
    buffer: RowBuffer, clock: _Clock
) -> None:
    first = buffer.put(_rows(1))
    clock.seconds += 0.25
    second = buffer.put(_rows(1))
    assert buffer._seconds_until_due() == 0.25
    clock.seconds += 0.25
    assert _taken(buffer) == [first, second]
    assert buffer._seconds_until_due() is None


def test_a_flush_is_due_at_the_rows_of_one_table_and_takes_no_more_than_reach_them(
    clock: _Clock,
) -> None:
    buffer = RowBuffer(10, 600.0, 600.0, 1_000, clock)
    buffer.put({**_rows(9), **_rows(9, "batches")})
    assert buffer._seconds_until_due() == 600.0, "they don't add up over tables"
    puts = [buffer.put(_rows(1)), buffer.put(_rows(10)), buffer.put(_rows(9))]
    assert _taken(buffer)[1:] == puts[:1]
    buffer.settle([])
    assert _taken(buffer) == puts[1:2]
    buffer.settle([])
    assert buffer._seconds_until_due() == 600.0
    buffer.put(_rows(1))
    assert len(_taken(buffer)) == 2


def test_take_wakes_up_for_what_is_put_and_when_the_buffer_closes(clock: _Clock) -> None:
    buffer = RowBuffer(1, 600.0, 600.0, 1_000, clock)
    taken: list[object] = []

    def take_all() -> None:
        while (found := buffer.take()) is not None:
            taken.append([submitted.done for submitted in found])
            buffer.settle(found)
        taken.append(None)

    thread = threading.Thread(target=take_all)
    thread.start()
    first = buffer.put(_rows(1))
    assert first.result(60) is None
    second = buffer.put({})
    buffer.close()
    thread.join(60)
    assert not thread.is_alive()
    assert second.result(0) is None, "what is left is taken, due or not"
    assert taken == [[first], [second], None]


@pytest.mark.parametrize("when", ["before", "while it waits"])
def test_an_abandoned_buffer_gives_nothing_and_waits_for_nothing(
    buffer: RowBuffer, when: str
) -> None:
    buffer.put(_rows(1))
    ended = threading.Event()

    def pause() -> None:
        with pytest.raises(Abandoned):
            buffer.pause(600.0)
        ended.set()

    thread = threading.Thread(target=pause)
    if when == "while it waits":
        thread.start()
    buffer.abandon()
    if when == "before":
        thread.start()
    assert ended.wait(60)
    thread.join(60)
    with pytest.raises(Abandoned):
        buffer.take()


def test_a_pause_ends_by_itself(buffer: RowBuffer) -> None:
    buffer.pause(0.0)
    buffer.pause(0.001)


def test_what_waits_never_exceeds_the_limit_or_one_micro_batch(clock: _Clock) -> None:
    buffer = RowBuffer(1, 600.0, 600.0, 10, clock)
    buffer.put(_rows(4))
    buffer.put(_rows(6))
    assert buffer.pending_rows == 10
    with pytest.raises(SinkUnavailable, match=r"10 rows wait.*1 more would exceed 10"):
        buffer.put(_rows(1))
    buffer.put({})
    for left in (6, 0):
        taken = buffer.take()
        assert taken is not None
        assert buffer.pending_rows == left + sum(sum(t.rows.values()) for t in taken), "in flight"
        buffer.settle(taken)
        assert buffer.pending_rows == left
    buffer.put(_rows(11))
    assert buffer.pending_rows == 11


def test_there_is_room_until_more_than_half_is_taken_and_again_after_it(clock: _Clock) -> None:
    async def test() -> None:
        buffer = RowBuffer(1, 600.0, 600.0, 10, clock)
        buffer.put(_rows(5))
        await asyncio.wait_for(buffer.wait_for_room(), 60)
        assert not buffer.overloaded
        for n in (4, 1):
            buffer.put(_rows(n))
            assert buffer.overloaded
        first, cancelled, second = (asyncio.ensure_future(buffer.wait_for_room()) for _ in "abc")
        await turns(5)
        cancelled.cancel()
        taken = buffer.take()
        assert taken is not None
        await turns(10)
        assert buffer.pending_rows == 10, "what is in flight takes room"
        assert [first.done(), second.done()] == [False, False]
        buffer.settle(taken)
        assert buffer.pending_rows == 5
        await asyncio.wait_for(asyncio.gather(first, second), 60)

    asyncio.run(test())


def test_those_that_wait_for_room_go_on_waiting_while_there_is_none(clock: _Clock) -> None:
    async def test() -> None:
        buffer = RowBuffer(1, 600.0, 600.0, 10, clock)
        for n in (1, 6):
            buffer.put(_rows(n))
        waiting = asyncio.ensure_future(buffer.wait_for_room())
        for pending in (6, 0):
            await turns(10)
            assert not waiting.done()
            taken = buffer.take()
            assert taken is not None
            buffer.settle(taken)
            assert buffer.pending_rows == pending
        await asyncio.wait_for(waiting, 60)

    asyncio.run(test())


def test_what_stops_the_buffer_fails_everything_that_waits_and_comes_later(clock: _Clock) -> None:
    async def test() -> None:
        buffer = RowBuffer(1, 600.0, 600.0, 10, clock)
        in_flight, queued = buffer.put({**_rows(4), **_alerts()}), buffer.put(_rows(4))
        waiting = asyncio.ensure_future(buffer.wait_for_room())
        await turns(3)
        assert _taken(buffer) == [in_flight]
        why = SinkRefused("no such table")
        buffer.stop(why)
        buffer.stop(SinkUnavailable("too late to say more"))
        for future in (in_flight, queued):
            assert future.exception(0) is why
        with pytest.raises(SinkRefused, match="no such table"):
            await asyncio.wait_for(waiting, 60)
        with pytest.raises(SinkRefused, match="no such table"):
            await buffer.wait_for_room()
        with pytest.raises(SinkRefused, match="no such table"):
            buffer.put({})
        assert (buffer.pending_rows, buffer.overloaded) == (0, False)
        assert buffer.take_urgent() == []
        buffer.close()
        assert buffer.take() is None

    asyncio.run(test())


def test_a_stop_leaves_what_was_acknowledged_alone(buffer: RowBuffer, clock: _Clock) -> None:
    done = buffer.put(_rows(1))
    clock.seconds += 1
    taken = buffer.take()
    assert taken is not None
    buffer.settle(taken)
    buffer.stop(SinkUnavailable("closed"))
    assert done.result(0) is None


def test_a_closed_buffer_takes_no_more(buffer: RowBuffer) -> None:
    buffer.close()
    with pytest.raises(SinkUnavailable, match="closed"):
        buffer.put({})
    with pytest.raises(SinkUnavailable, match="closed"):
        asyncio.run(buffer.wait_for_room())


def test_submitted_rows_cannot_be_cancelled(buffer: RowBuffer) -> None:
    assert not buffer.put(_rows(1)).cancel()


def test_rows_are_counted_by_column_and_what_fits_no_table_is_named() -> None:
    columns = dict(_rows(3)["dead_letters"])
    assert checked_rows("dead_letters", columns) == 3
    with pytest.raises(SinkRefused, match="no table 'scores'"):
        checked_rows("scores", columns)
    with pytest.raises(SinkRefused, match=r"dead_letters, or too many: extra, topic\."):
        checked_rows("dead_letters", {
            **{name: values for name, values in columns.items() if name != "topic"}, "extra": [],
        })  # fmt: skip
    with pytest.raises(SinkRefused, match="differ in length"):
        checked_rows("dead_letters", {**columns, "topic": [b""]})


def test_the_oldest_rows_age_until_they_are_settled(buffer: RowBuffer, clock: _Clock) -> None:
    assert buffer.oldest_seconds == 0
    buffer.put(_alerts())
    clock.seconds += 1
    taken = buffer.take()
    assert taken
    buffer.put(_alerts())
    clock.seconds += 1
    assert buffer.oldest_seconds == 2  # in flight
    buffer.settle(taken)
    assert buffer.oldest_seconds == 1  # in the queue
