"""Three brokers, replication 3 and 2 in sync: they die one after the other, under load."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.kafka.topics import check
from streams.local import kafka
from streams.local.kafka import ApacheKafka
from tests.faults.cluster import Cluster
from tests.faults.drill import Drill
from tests.integration.world import WAIT_SECONDS

pytestmark = [
    pytest.mark.kafka, pytest.mark.clickhouse, pytest.mark.full, pytest.mark.timeout(900),
]  # fmt: skip


@pytest.fixture
def cluster(tmp_path: Path, apache_kafka: ApacheKafka) -> Iterator[Cluster]:
    """Three brokers of the test's own. (`apache_kafka` skips where they can't run.)"""
    assert kafka.available() is None
    with Cluster(tmp_path / "cluster") as running:
        yield running


@pytest.mark.fault("three brokers, {how} one after the other")
@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_brokers_that_die_one_after_the_other_lose_and_double_nothing(
    fault: Drill, cluster: Cluster, how: str
) -> None:
    here = fault.build(
        broker=cluster,
        kafka_replication_factor=3,
        kafka_min_insync_replicas=2,
        stream_checkpoint_interval_seconds=1.0,
    )
    assert {report.topic.config["min.insync.replicas"] for report in check(here.settings)} == {"2"}
    worker, other = fault.worker("worker"), fault.worker("other")
    here.own(worker, other)
    fault.load(30_000, rate=400)
    fault.under_load(500)
    for node in cluster.nodes:
        with fault.recovery():
            if how == "killed":
                node.kill()
            else:
                node.stop()
        before = here.accepted
        here.wait(
            "two brokers suffice",
            fault.loaded(lambda before=before: here.accepted >= before + 500),  # type: ignore[misc]
        )
        node.start()
        here.wait("all three have everything", lambda: not cluster.lacking(), WAIT_SECONDS)
    assert worker.running
    assert other.running
    fault.finish(worker, other)
