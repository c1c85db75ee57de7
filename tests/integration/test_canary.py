"""Canaries on Apache Kafka: without traffic they say that a worker works, and when it does not."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from streams.local.process import LOOPBACK, free_port
from streams.settings import as_environ
from tests.integration.forking import ForkedProcess
from tests.integration.world import World

pytestmark = [
    pytest.mark.full, pytest.mark.kafka, pytest.mark.clickhouse, pytest.mark.timeout(600),
]  # fmt: skip

OF_EVENTS = (
    "score_history", "users_now", "user_points", "segment_changes", "alerts", "matured_predictions",
    "examples", "score_samples", "dead_letters", "audience_changes",
    "contacts", "events", "user_features",
)  # fmt: skip


@dataclass
class Monitor:
    port: int

    def get(self, path: str) -> str:
        with urllib.request.urlopen(f"http://{LOOPBACK}:{self.port}{path}", timeout=5) as answer:
            text: str = answer.read().decode()
            return text

    def ages(self) -> list[float]:
        """By the metric; none before it answers."""
        try:
            lines = self.get("/metrics").splitlines()
        except OSError:
            return []
        return [
            float(line.split()[-1])
            for line in lines
            if line.startswith("tideline_canary_age_seconds{")
        ]

    def page(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.get("/v1/canary"))
        return found


@contextmanager
def monitor(here: World, name: str = "lag") -> Iterator[Monitor]:
    port = free_port()
    child = ForkedProcess(
        name, ["lag", "--serve", "--interval", "1"],
        here.directory / f"{name}.log",
        env=as_environ(here.settings) | {"TIDELINE_WEB_METRICS_PORT": str(port)},
    )  # fmt: skip
    child.start()
    try:
        yield Monitor(port)
    finally:
        child.stop()


def test_without_traffic_canaries_arrive_and_a_dead_worker_is_seen_by_their_age(
    world: Callable[..., World],
) -> None:
    here = world(stream_clock="wall", lag_canary_interval_seconds=1.0)
    partitions = here.settings.kafka.partitions
    worker = here.worker()
    here.own(worker)
    with monitor(here) as watching:

        def readable() -> bool:
            places = watching.page()["partitions"]
            return len(places) == partitions and all(
                each["newest_readable_sent_at_ms"] for each in places
            )

        here.wait("the monitor answers", lambda: bool(watching.ages()))
        here.wait("canaries of all partitions are readable", readable)
        assert watching.page()["troubles"] == {}
        assert here.one("SELECT uniqExact(shard) FROM canaries") == partitions
        assert (
            here.one("SELECT countIf(isNaN(p_churn) OR champion_version = '') FROM canaries") == 0
        )

        worker.kill()
        here.wait("all are old", lambda: min(watching.ages()) > 15)
        assert "tideline_canary_seconds_count" in watching.get("/metrics")
        here.own(here.worker())
        here.wait("the next worker lets them through", lambda: max(watching.ages()) < 15)
    with monitor(here, "after") as after:
        here.wait("a new monitor sees them too", lambda: len(after.ages()) == partitions)

    # They are in the ledger, which balances, and nowhere else; a replay has doubled none.
    counts = "sum(accepted), sum(canaries), min(balanced), sum(dead_letters), sum(late)"
    ((accepted, canaries, *rest),) = here.sql(f"SELECT {counts} FROM ledger")
    assert accepted == canaries > 2 * partitions
    assert rest == [True, 0, 0]
    for table in OF_EVENTS:
        assert here.one(f"SELECT count() FROM {table}") == 0, table
    assert here.one("SELECT count() - uniqExact(shard, offset) FROM canaries FINAL") == 0
    gaps = "SELECT shard FROM canaries GROUP BY shard HAVING uniqExact(offset) != max(offset) + 1"
    assert here.sql(gaps) == [], "those that waited for the next worker have come, too"
    findings = json.loads(here.command("doctor", "--json").stdout)
    states = {finding["check"]: finding["state"] for finding in findings}
    assert (states["ledger"], states["shares"], states["offsets"]) == ("ok", "ok", "ok")
