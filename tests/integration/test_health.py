"""Whether a running worker is alive and ready, what it says, and how fresh its results are."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from streams.local.clickhouse import ChdbServer
from streams.local.process import LOOPBACK, free_port
from tests.integration.test_pipeline import shop
from tests.integration.world import Worker, World

# tests/telemetry/test_health.py, tests/test_watch.py and tests/test_worker.py are the short forms.
pytestmark = [
    pytest.mark.full, pytest.mark.kafka, pytest.mark.clickhouse, pytest.mark.timeout(600),
]  # fmt: skip

Worlds = Callable[..., World]
STUCK_SECONDS = 6.0

_SILENT = """
from pathlib import Path
from streams.kafka.transport import ConsumerThread
fetch = ConsumerThread._fetch_records
async def silent(self, *args, **options):
    return {{}} if Path({flag!r}).exists() else await fetch(self, *args, **options)
ConsumerThread._fetch_records = silent
from streams.__main__ import main
main()
"""
"""A worker whose consumer falls silent, as Faust's do, once a file is there."""


def page(worker: Worker, path: str) -> tuple[int, dict[str, Any]]:
    """Status and body; (0, {}) while nobody answers."""
    try:
        with urllib.request.urlopen(
            f"http://{LOOPBACK}:{worker.metrics_port}{path}", timeout=5
        ) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)
    except OSError:
        return 0, {}


def now_shop(events: int, seed: int = 11) -> Any:
    """Events that end about now, for the wall clock."""
    start_ms = time.time_ns() // 1_000_000 - 60_000
    return shop(events, start_ms=start_ms, span_days=30 / 86_400, seed=seed, late_share=0.0)


def test_a_worker_is_ready_once_it_has_its_shards_and_its_records_times_are_counted(
    world: Worlds,
) -> None:
    here = world(stream_clock="wall")
    worker = here.worker()
    here.wait("ready", lambda: page(worker, "/readyz")[0] == 200)
    assert page(worker, "/readyz") == (200, {"ok": True, "reasons": [], "recovery": {}})
    assert page(worker, "/healthz") == (200, {"ok": True, "reasons": []})
    sent = here.produce(now_shop(2_000)).records
    here.wait_accepted(sent)

    def visible() -> float:
        name = "tideline_record_visible_seconds_count"
        return sum(value for _, value in worker.metrics(name))

    here.wait("the times of all records", lambda: visible() == sent)
    replayed = worker.metrics("tideline_record_visible_seconds_count")
    assert {labels: value for labels, value in replayed if "replayed" in labels}.popitem()[1] == 0
    assert worker.metrics("tideline_ready") == [("tideline_ready", 1.0)]


def test_a_worker_whose_consumer_fell_silent_is_not_alive(world: Worlds, tmp_path: Path) -> None:
    """It sweeps on, answers /metrics, holds its partitions, and reads nothing."""
    flag = tmp_path / "silent"
    here = world(stream_clock="wall", health_stuck_seconds=STUCK_SECONDS)
    worker = here.worker(program=("-c", _SILENT.format(flag=str(flag)), "worker"))
    sent = here.produce(now_shop(500)).records
    here.wait_accepted(sent)
    here.wait("ready", lambda: page(worker, "/readyz")[0] == 200)
    flag.touch()
    time.sleep(2 * STUCK_SECONDS)
    assert page(worker, "/healthz")[0] == 200  # there is nothing to read
    here.produce(now_shop(500, seed=12))
    here.wait("not alive", lambda: page(worker, "/healthz")[0] == 503)
    (reason, *_) = page(worker, "/healthz")[1]["reasons"]
    assert "records behind and has not moved for" in reason
    stuck = [value for _, value in worker.metrics("tideline_shard_stuck_seconds")]
    assert max(stuck) > STUCK_SECONDS
    assert worker.metrics("tideline_live") == [("tideline_live", 0.0)]


@pytest.fixture
def private_server(tmp_path: Path) -> Iterator[ChdbServer]:
    """A server of the test's own, to stop."""
    with ChdbServer(tmp_path / "data") as running:
        yield running


def test_a_worker_without_clickhouse_is_not_ready_but_alive(
    world: Worlds, private_server: ChdbServer
) -> None:
    here = world(server=private_server, stream_clock="wall", health_stuck_seconds=STUCK_SECONDS)
    worker = here.worker()
    sent = here.produce(now_shop(500)).records
    here.wait_accepted(sent)
    here.wait("ready", lambda: page(worker, "/readyz")[0] == 200)
    private_server.stop()
    sent += here.produce(now_shop(500, seed=12)).records
    here.wait("not ready", lambda: page(worker, "/readyz")[0] == 503)
    assert "ClickHouse does not take rows" in str(page(worker, "/readyz")[1]["reasons"])
    deadline = time.monotonic() + 3 * STUCK_SECONDS
    while time.monotonic() < deadline:
        assert page(worker, "/healthz")[0] == 200
        time.sleep(0.5)
    private_server.start()
    here.wait_accepted(sent)
    here.wait("ready again", lambda: page(worker, "/readyz")[0] == 200)


def test_records_of_a_crash_count_once_as_first_or_as_replayed_and_alerts_are_explained(
    world: Worlds,
) -> None:
    here = world(stream_clock="wall", stream_checkpoint_interval_seconds=600, alerts_enter=0.05,
                 alerts_leave=0.01, alerts_overdue_ratio=1.0)  # fmt: skip
    # Orders of the last 60 days, so that some customers are overdue by now.
    start_ms = time.time_ns() // 1_000_000 - 61 * 86_400_000
    worker = here.worker("first")
    sent = here.produce(shop(3_000, start_ms=start_ms, span_days=60.0, late_share=0.0)).records
    here.wait_accepted(sent)
    worker.kill()
    second = here.worker("second")
    here.wait("ready", lambda: page(second, "/readyz")[0] == 200)

    def counted(step: str) -> float:
        samples = second.metrics("tideline_record_visible_seconds_count")
        return sum(value for labels, value in samples if f'step="{step}"' in labels)

    here.wait("the replayed records", lambda: counted("replayed") > 0)
    assert counted("first") == 0
    alert_id = here.one("SELECT min(alert_id) FROM alerts FINAL WHERE version = 1")
    assert alert_id
    explained = here.command("alert", "explain", str(alert_id), "--json")
    assert explained.exit_code == 0, explained.output
    body = json.loads(explained.output)
    assert body["batch"]["step"] > 0
    assert body["journal"]["offset"] > 0
    assert body["records"]
    assert {record["partition"] for record in body["records"]} == {body["batch"]["shard"]}
    text = here.command("alert", "explain", str(alert_id))
    assert f"  journal    offset {body['journal']['offset']}" in text.output


def test_a_learner_says_whether_it_is_alive_and_ready(world: Worlds) -> None:
    port = free_port()
    here = world(web_metrics_port=port)
    here.learner()

    def status(path: str) -> int:
        try:
            with urllib.request.urlopen(f"http://{LOOPBACK}:{port}{path}", timeout=5) as answer:
                return int(answer.status)
        except OSError:
            return 0

    here.wait("ready", lambda: (status("/readyz"), status("/healthz")) == (200, 200))
