"""`make lag-drill`: breaks consumers on real Kafka, and says who notices within how many seconds.

For each fault: the lag monitor's status, the metric in a real Prometheus, the alert rule with it,
and the first look that the alert's runbook names. They agree, or the drill fails.
"""

from __future__ import annotations

import contextlib
import json
import logging
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import click
from kafka.errors import NoError
from kafka.structs import OffsetAndMetadata, TopicPartition
from rich.console import Console
from rich.table import Table

from streams.kafka.admin import connect
from streams.local import kafka
from streams.local.clickhouse import ChdbServer
from streams.local.kafka import ApacheKafka
from streams.local.process import LOOPBACK, ChildProcess, free_port, wait_until
from streams.replay.synthetic import Synthetic
from streams.settings import as_environ
from tests.deploy.files import ROOT, Alert, alerts
from tests.deploy.prometheus import Prometheus, missing
from tests.integration.world import Worker, World

__all__ = ["DRILLS", "INCOMPLETE", "Drill", "Noticed", "Stage", "staged"]

INCOMPLETE: Final = "incomplete"
_PATIENCE_SECONDS: Final = 240.0
_FIRES_WITHIN_SECONDS: Final = 60.0  # an alert that waits longer is only seen to begin
_DISK_MIB: Final = 512


@dataclass
class Stage:
    """All that one drill plays on."""

    world: World
    worker: Worker
    prometheus: Prometheus
    monitor: str
    """URL of the lag monitor."""
    disk: Path | None = None

    @property
    def group(self) -> str:
        return self.world.settings.kafka.app_id

    def statuses(self) -> set[str]:
        """Of the group's partitions, as the monitor's JSON has them, with `INCOMPLETE` if it lacks
        an answer; none while it is blind."""
        try:
            partitions = self._ask(f"/v1/groups/{self.group}")["partitions"]
            is_complete = self._ask("/v1/groups")["up"]
        except OSError:
            return set()
        return {each["status"] for each in partitions} | (set() if is_complete else {INCOMPLETE})

    def alerts(self) -> set[str]:
        """Those whose rule holds, whether they fire yet or wait."""
        return self.prometheus.alerts() | self.prometheus.alerts("pending")

    def _ask(self, path: str) -> Any:
        with urllib.request.urlopen(f"{self.monitor}{path}", timeout=5) as answer:  # noqa: S310
            return json.load(answer)

    def first_look(self, words: str) -> str:
        """What a command of a runbook prints here."""
        named = words.replace(" tideline", f" {self.group}").split()
        extra = ["--monitor", self.monitor] if named[0] == "lag" else []
        done = self.world.command(*named, *extra)
        return f"{done.stdout}{done.stderr}"


@dataclass(frozen=True)
class Drill:
    """name: what is done. break_it: does it. status: what a partition then has, or `INCOMPLETE`.
    metric: an expression that has a sample then; GROUP stands for the group's name. alert: the
    rule. look: a command of its runbook's first look, or a metric; shows: what the command then
    prints."""

    name: str
    break_it: Callable[[Stage], object]
    status: str
    metric: str
    alert: str
    look: str
    shows: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    on_small_disk: bool = False

    @property
    def rule(self) -> Alert:
        return next(each for each in alerts() if each.name == self.alert)


@dataclass
class Noticed:
    """Seconds from the fault to each of them; None: not within `_PATIENCE_SECONDS`."""

    status: float | None = None
    metric: float | None = None
    rule: float | None = None
    fires: float | None = None
    first_look: float | None = None

    def complete(self, drill: Drill) -> bool:
        fires = self.fires is not None or drill.rule.for_seconds > _FIRES_WITHIN_SECONDS
        return fires and None not in (self.status, self.metric, self.rule, self.first_look)


def _freeze(stage: Stage) -> None:
    stage.worker.send(signal.SIGSTOP)


def _kill(stage: Stage) -> None:
    stage.worker.kill()


def _drown(stage: Stage) -> None:
    """Far more than comes through in batches of 20."""
    stage.world.load(Synthetic(users=300, events=2_000_000, span_days=30.0, seed=8), rate=20_000)


def _rewind(stage: Stage) -> None:
    """To the beginning, as somebody might with Kafka's own tool: it takes an empty group."""
    stage.worker.stop()
    kafka_settings = stage.world.settings.kafka
    offsets = {
        TopicPartition(topic, number): OffsetAndMetadata(0, "", -1)
        for topic in (kafka_settings.clickstream_topic, kafka_settings.orders_topic)
        for number in range(kafka_settings.partitions)
    }
    with connect(kafka_settings.brokers) as admin:

        def is_done() -> bool:
            answers = admin.alter_group_offsets(stage.group, offsets)
            return all(error is NoError for error in answers.values())

        stage.world.wait("the group has no member, and lets its offsets be set", is_done)


def _delete_topic(stage: Stage) -> None:
    kafka_settings = stage.world.settings.kafka
    with connect(kafka_settings.brokers) as admin:
        admin.delete_topics([kafka_settings.orders_topic])


def _fill_disk(stage: Stage) -> None:
    assert stage.disk is not None
    chunk = b"x" * 65_536
    with contextlib.suppress(OSError), (stage.disk / "filler").open("wb", buffering=0) as file:
        while True:
            file.write(chunk)


_HAS: Final = 'tideline_consumer_status{consumer_group="GROUP",status="%s"}'
_EXPLAIN: Final = "lag explain tideline"
DRILLS: Final = (
    Drill(
        "stop a worker (SIGSTOP)", _freeze, "stall", _HAS % "stall", "TidelineConsumerStalled",
        _EXPLAIN, "stall", {"kafka_session_timeout_seconds": 300.0},
    ),
    Drill(
        "kill a worker (SIGKILL)", _kill, "stop", _HAS % "stop", "TidelineConsumerStopped",
        _EXPLAIN, "stop",
    ),
    Drill(
        "drown a worker", _drown, "warn", _HAS % "warn", "TidelineLagGrows", _EXPLAIN, "warn",
        {"kafka_partitions": 1, "stream_max_batch_records": 20},
    ),
    Drill(
        "rewind a group", _rewind, "rewind", _HAS % "rewind", "TidelineConsumerRewound",
        _EXPLAIN, "rewind", {"lag_window_commits": 10},
    ),
    Drill(
        "delete a topic", _delete_topic, INCOMPLETE,
        'tideline_lag_monitor_up{job="tideline-lag"} == 0',
        "TidelineMonitorBlind", "lag status", "could not tell",
    ),
    Drill(
        "fill ClickHouse's disk", _fill_disk, "stall", "tideline_sink_retries_total > 0",
        "TidelineSinkHoldsBack", "tideline_sink_pending_rows", "", on_small_disk=True,
        settings={"stream_max_batch_records": 500, "kafka_session_timeout_seconds": 30.0},
    ),
)  # fmt: skip


@contextlib.contextmanager
def small_disk(directory: Path) -> Iterator[Path]:
    """Raises click.ClickException without the right to mount."""
    directory.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={_DISK_MIB}m", "tmpfs", str(directory)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise click.ClickException(f"a small disk can't be mounted: {done.stderr.strip()}")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


@contextlib.contextmanager
def staged(drill: Drill, broker: ApacheKafka, directory: Path) -> Iterator[Stage]:
    """A worker under load that is well, watched by a lag monitor and a Prometheus."""
    with ExitStack() as stack:
        directory.mkdir()
        disk = stack.enter_context(small_disk(directory / "disk")) if drill.on_small_disk else None
        server = stack.enter_context(ChdbServer((disk or directory) / "clickhouse"))
        options: dict[str, Any] = {
            "stream_checkpoint_interval_seconds": 1.0,
            "lag_window_commits": 4,
        }
        world = stack.enter_context(
            World(broker.bootstrap, server, directory, **(options | dict(drill.settings)))
        )
        worker = world.worker()
        port = free_port()
        monitor = ChildProcess(
            "lag monitor",
            [sys.executable, "-m", "streams", "lag", "--serve", "--interval", "1"],
            directory / "lag.log",
            env=as_environ(world.settings) | {"TIDELINE_WEB_METRICS_PORT": str(port)},
        )
        stack.callback(monitor.stop)
        monitor.start()
        prometheus = stack.enter_context(
            Prometheus(directory / "prometheus", {"worker": worker.metrics_port, "lag": port})
        )
        world.own(worker)
        world.load(Synthetic(users=300, events=200_000, span_days=20.0, seed=5), rate=200)
        stage = Stage(world, worker, prometheus, f"http://{LOOPBACK}:{port}", disk)
        world.wait("the group is well", lambda: stage.statuses() == {"ok"})
        world.wait("the metrics are there", lambda: prometheus.value("sum(up)") == 2)
        # Before that a status is pending, whatever is done.
        full = f'tideline_consumer_group_window_ratio{{consumer_group="{stage.group}"}}'
        world.wait("the window of commits is full", lambda: prometheus.value(full) == 1)
        world.wait("its alert is silent", lambda: drill.alert not in stage.alerts())
        yield stage


def measured(drill: Drill, stage: Stage) -> Noticed:
    """Break it, and look again and again."""
    noticed, started = Noticed(), time.monotonic()
    drill.break_it(stage)
    asks: dict[str, Callable[[], bool]] = {
        "status": lambda: drill.status in stage.statuses(),
        "metric": lambda: bool(
            stage.prometheus.query(drill.metric.replace("GROUP", stage.group))
        ),
        "rule": lambda: drill.alert in stage.alerts(),
        "fires": lambda: drill.alert in stage.prometheus.alerts(),
        "first_look": lambda: _looks(drill, stage),
    }  # fmt: skip

    def all_seen() -> bool:
        for name, ask in asks.items():
            if getattr(noticed, name) is None and ask():
                setattr(noticed, name, time.monotonic() - started)
        return noticed.complete(drill)

    wait_until(all_seen, _PATIENCE_SECONDS, 0.5)
    return noticed


def _looks(drill: Drill, stage: Stage) -> bool:
    """Whether what the runbook names first shows the fault. Raises AssertionError if it does not
    name it."""
    runbook = (ROOT / drill.rule.runbook).read_text()
    first_look = runbook.split("## First look")[1].split("## Fix")[0]
    assert drill.look in first_look, f"{drill.rule.runbook} does not name {drill.look}"
    if not drill.shows:
        return bool(stage.prometheus.query(f"{drill.look} > 0"))
    return drill.shows in stage.first_look(drill.look)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--only", default="", help="Only drills whose name has this in it.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def main(only: str, as_json: bool) -> None:
    """Break consumers on real Kafka, and say who notices within how many seconds. Exits with 1 if
    somebody does not."""
    why = kafka.available() or missing()
    if why is not None:
        raise click.ClickException(why)
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # loads outlive their broker
    found: dict[str, Noticed] = {}
    failed = False
    with tempfile.TemporaryDirectory(prefix="tideline-lag-drill-") as scratch:
        directory = Path(scratch)
        with ApacheKafka(directory / "kafka") as broker:
            for number, drill in enumerate(DRILLS):
                if only not in drill.name:
                    continue
                click.echo(f"{drill.name} ...", err=True)
                with staged(drill, broker, directory / f"drill-{number}") as stage:
                    found[drill.name] = measured(drill, stage)
                failed |= not found[drill.name].complete(drill)
    if as_json:
        click.echo(json.dumps({name: vars(each) for name, each in found.items()}, indent=2))
    else:
        Console(width=120).print(_table(found))
    sys.exit(failed)


def _table(found: Mapping[str, Noticed]) -> Table:
    table = Table("fault", title="Seconds until they notice", title_justify="left")
    for heading in ("status", "metric", "rule holds", "alert fires", "first look", "alert"):
        table.add_column(heading, justify="right")
    for drill in DRILLS:
        if drill.name not in found:
            continue
        seen = found[drill.name]
        later = f"+{drill.rule.for_seconds:.0f}"
        table.add_row(
            drill.name,
            *(_shown(each) for each in (seen.status, seen.metric, seen.rule)),
            later if seen.fires is None and seen.rule is not None else _shown(seen.fires),
            _shown(seen.first_look),
            drill.alert.removeprefix("Tideline"),
        )
    return table


def _shown(seconds: float | None) -> str:
    return "never" if seconds is None else f"{seconds:.1f}"


if __name__ == "__main__":
    main()
