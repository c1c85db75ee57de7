"""The broker is killed and comes back on the same data; the stream stalls, then goes on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.local import kafka
from streams.local.kafka import ApacheKafka
from tests.faults.drill import Drill

pytestmark = [
    pytest.mark.kafka, pytest.mark.clickhouse, pytest.mark.full, pytest.mark.timeout(600),
]  # fmt: skip


@pytest.fixture
def own_kafka(tmp_path: Path, apache_kafka: ApacheKafka) -> Iterator[ApacheKafka]:
    """A broker of the test's own, to kill. (`apache_kafka` skips where it can't run.)"""
    assert kafka.available() is None
    with ApacheKafka(tmp_path / "own-kafka") as broker:
        yield broker


@pytest.mark.fault("broker {how}, {away_seconds} s away")
@pytest.mark.parametrize(("how", "away_seconds"), [("killed", 0), ("killed", 12), ("stopped", 3)])
def test_a_broker_that_goes_and_comes_back_loses_and_doubles_nothing(
    fault: Drill, own_kafka: ApacheKafka, how: str, away_seconds: int
) -> None:
    here = fault.build(broker=own_kafka, stream_checkpoint_interval_seconds=1.0)
    worker = fault.worker("worker")
    here.own(worker)
    # Half of the load waits in the topics, so that the worker is busy when the broker goes; the
    # other half comes after. (A producer of a test need not outlive its broker.)
    fault.load(8_000, rate=4_000).join()
    fault.under_load(500)
    if how == "killed":
        own_kafka.kill()
    else:
        own_kafka.stop()
    time.sleep(away_seconds)  # so long it is away
    with fault.recovery():
        own_kafka.start()
        fault.load(2_000, rate=2_000).join()
    assert worker.running
    fault.finish(worker)
