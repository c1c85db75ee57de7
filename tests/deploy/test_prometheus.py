"""A real Prometheus with the rules, beside all of Tideline's processes."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from streams.local.process import ChildProcess, free_port
from streams.replay.synthetic import Synthetic
from streams.settings import as_environ
from tests.deploy.dashboards import queries
from tests.deploy.prometheus import Prometheus, missing
from tests.integration.world import World

pytestmark = [
    pytest.mark.full, pytest.mark.kafka, pytest.mark.clickhouse, pytest.mark.timeout(600),
    pytest.mark.skipif(missing() is not None, reason=missing() or ""),
]  # fmt: skip

# What is only there once something was wrong, or after hours.
MAY_BE_EMPTY = {
    "Unread share of the log",
    "Time of an insert",
    "Recovery: batches left",
    "Log loss, about the last 2,000 labels",
}


@contextmanager
def process(here: World, *words: str) -> Iterator[int]:
    """`tideline WORDS`; gives the port of its metrics."""
    port = free_port()
    child = ChildProcess(
        words[0],
        [sys.executable, "-m", "streams", *words],
        here.directory / f"{words[0]}.log",
        env=as_environ(here.settings) | {"TIDELINE_WEB_METRICS_PORT": str(port)},
    )
    child.start()
    try:
        yield port
    finally:
        child.stop()


def live_load(here: World, seconds: int, rate: int) -> None:
    """Events that are made as they are sent, so that their age is that of the pipeline."""
    source = Synthetic(
        users=300, events=seconds * rate, start_ms=time.time_ns() // 1_000_000,
        span_days=seconds / 86_400, seed=5, malformed_share=0.01,
    )  # fmt: skip
    here.load(source, rate)


def test_rules_and_panels_work_on_what_processes_export_and_a_dead_worker_wakes_somebody(
    world: Callable[..., World], tmp_path: Path
) -> None:
    here = world(
        stream_clock="wall",
        stream_checkpoint_interval_seconds=1.0,
        lag_window_commits=3,
        lag_canary_interval_seconds=1.0,
        model_artifact=str(tmp_path / "models"),
    )
    assert here.command("models", "init").exit_code == 0
    worker = here.worker()
    here.own(worker)
    with (
        process(here, "lag", "--serve", "--interval", "1") as lag,
        process(here, "learner") as learner,
        process(here, "trainer") as trainer,
        Prometheus(
            tmp_path / "prometheus",
            {"worker": worker.metrics_port, "lag": lag, "learner": learner, "trainer": trainer},
        ) as prometheus,
    ):  # fmt: skip
        live_load(here, seconds=300, rate=100)
        here.wait("all is seen", lambda: prometheus.value("tideline:lag_ok:bool") == 1)
        visible = "tideline:records_visible:increase5m"
        here.wait("records are counted", lambda: (prometheus.value(visible) or 0) > 500)
        here.wait("all answer", lambda: prometheus.value('sum(up{job=~"tideline-.*"})') == 4)
        assert prometheus.broken_rules() == []
        error = prometheus.value("tideline:freshness_error:ratio5m")
        assert error is not None
        assert 0 <= error <= 1
        assert "TidelineWatchdog" in prometheus.alerts()
        seen = prometheus.alerts() | prometheus.alerts("pending")
        quiet = {
            "TidelineConsumerStopped",
            "TidelineCanaryLost",
            "TidelineTrainerBlind",
            "TidelineProcessMissing",
        }
        assert not quiet & seen

        panels = [query for query in queries("prometheus") if query.panel not in MAY_BE_EMPTY]
        for query in panels:
            here.wait(str(query), lambda query=query: bool(prometheus.query(query.text)))  # type: ignore[misc]

        worker.kill()
        here.wait("somebody is woken", lambda: "TidelineConsumerStopped" in prometheus.alerts())
        here.wait(
            "its canaries are missed",
            lambda: "TidelineCanaryLost" in prometheus.alerts() | prometheus.alerts("pending"),
        )
        assert prometheus.value("tideline:lag_ok:bool") == 0
