"""The whole job is measured from Kafka to ClickHouse, and not to the step."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tests.bench.whole_job import Reading, measure

STEP, WAY = 1_000, 3
"""Records a second through the step, and the seconds from there into ClickHouse."""


@dataclass
class Job:
    """A job by a clock that only `look` moves. Costs go with time."""

    now: float = 100.0

    def _reading(self, at: float, accepted: float) -> Reading:
        return Reading(at, accepted, accepted, self.now, 2 * self.now, 3 * self.now)

    def stepped(self) -> Reading:
        return self._reading(self.now, min((self.now - 100) * STEP, 10_000))

    def stored(self) -> Reading:
        return self._reading(min(self.now, 110 + WAY), min((self.now - 100 - WAY) * STEP, 10_000))

    def look(self) -> None:
        self.now += 0.25


def test_the_whole_job_ends_when_clickhouse_has_the_last_row() -> None:
    job = Job()
    start, stop = measure(job, 2_000, 10_000, job.look)
    assert (start.at, start.accepted) == (102, 2_000)
    assert (stop.at, stop.accepted) == (110 + WAY, 10_000)
    assert job.now == 110 + WAY  # not a look longer
    assert stop.worker_cpu - start.worker_cpu == 8 + WAY


def test_the_end_is_when_the_last_row_came_and_not_when_it_was_seen() -> None:
    job = Job()
    start, stop = measure(job, 2_000, 10_000, lambda: setattr(job, "now", job.now + 7))
    assert job.now > 110 + WAY
    assert (start.at, stop.at) == (107, 110 + WAY)


def test_a_job_that_gets_nowhere_is_given_up() -> None:
    def give_up() -> None:
        raise TimeoutError

    for warm, total in ((11_000, 11_000), (0, 11_000)):
        with pytest.raises(TimeoutError):
            measure(Job(), warm, total, give_up)
