"""When rows are due: `streams.clickhouse.buffer.RowBuffer` with a clock that the test moves."""

from __future__ import annotations

from concurrent.futures import Future

import pytest

from schemas.tables import TABLES
from streams.clickhouse.buffer import URGENT, Blocks, RowBuffer


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
