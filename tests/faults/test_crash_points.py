"""A worker is killed at each named point of the commit protocol; another takes over."""

from __future__ import annotations

import pytest

from streams.local.process import wait_until
from tests.faults.drill import Drill
from tests.faults.worker import POINTS
from tests.integration.world import WAIT_SECONDS

pytestmark = [pytest.mark.kafka, pytest.mark.clickhouse, pytest.mark.timeout(600)]

QUICK = ("mid-checkpoint",)
NTH = {
    "after takeover": (1, 4), "before messages": (3, 20),
    "between inserts": (2, 7), "after insert": (2, 7),
    "mid-checkpoint": (5, 9), "after manifest": (5, 9),
    "before commit": (5, 9), "after commit": (5, 9),
}  # fmt: skip
"""At which passing, at the earliest and the latest. Every start makes four checkpoints."""


@pytest.mark.fault("SIGKILL {point}")
@pytest.mark.parametrize(
    "point",
    [pytest.param(p, marks=() if p in QUICK else pytest.mark.full) for p in POINTS],
)
def test_a_worker_that_dies_at_a_point_of_the_protocol_loses_and_doubles_nothing(
    fault: Drill, point: str
) -> None:
    fault.build(stream_checkpoint_interval_seconds=1.0)
    first, last = NTH.get(point, (8, 40))
    nth = first + fault.seed % (last - first + 1)
    doomed = fault.worker("doomed", die=point, nth=nth)
    fault.load(6_000, rate=1_500)
    died = fault.loaded(lambda: not doomed.running)  # a flush may take much of the load at once
    assert wait_until(died, WAIT_SECONDS), f"never came to it: {nth}"
    assert f"dies {point}" in doomed.log
    with fault.recovery():
        successor = fault.worker("successor")
    fault.finish(successor)
