"""Runs cases about traffic: the records of real producers, through a worker on Apache Kafka.

A case's scripts run as they were handed in. They print records, which are sent here; or they send
them to 127.0.0.1:29092, where this starts a broker. Topics are named after the case's application.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from schemas.errors import LocalStackError
from streams.local import kafka
from streams.local.stack import LocalStack
from streams.settings import Settings
from tests.integration.producers import Record, send
from tests.integration.world import Worker, World

__all__ = ["LiveCase", "NotRun", "Shop", "run_live", "servers"]

KAFKA_PORT, CLICKHOUSE_PORT = 29092, 29000  # where the scripts expect them


class NotRun(Exception):
    """A case that can't run here, with the reason."""


@dataclass(frozen=True)
class LiveCase:
    """What is done with an application, and the right answer in words.

    app: the first part of the topics' names in its scripts.
    needs: a module that its scripts import, and that is no dependency of ours.
    note: what is different from how it was handed in.
    """

    name: str
    app: str
    expected: str
    got: Callable[[Shop], str]
    settings: Mapping[str, Any] = field(default_factory=dict)
    needs: str = ""
    note: str = ""


class Shop:
    """A case's application, and the folder with its files."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world = world
        self.folder = folder

    def work(self, **own: Any) -> Worker:
        """A worker with settings of its `own`, which has all shards."""
        worker = self.world.worker(**own)
        self.world.own(worker)
        return worker

    def run(self, script: str, *words: str) -> str:
        """Run one of its scripts; what it prints."""
        done = subprocess.run(
            [sys.executable, script, *words],
            cwd=self.folder, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    def send(self, lines: str) -> int:
        """Send records, a JSON object {topic, key, value, ts?, partition?} in each line; how many
        there were. Without a partition it is the key's, by murmur2."""
        found = [json.loads(line) for line in lines.splitlines()]
        send(self.world, (
            Record(each["topic"], each["key"], each["value"], each.get("ts"), each.get("partition"))
            for each in found
        ))  # fmt: skip
        return len(found)

    def figures(self, *names: str) -> str:
        """Sums of the ledger's columns, and whether it is balanced."""
        columns = ", ".join(f"sum({name})" for name in names)
        *sums, balanced = self.world.sql(f"SELECT {columns}, min(balanced) FROM ledger")[0]
        sums_by_name = ", ".join(f"{n} {name}" for name, n in zip(names, sums, strict=True))
        return f"{sums_by_name}, {'balanced' if balanced else 'not balanced'}"


@contextmanager
def servers(folder: Path) -> Iterator[LocalStack]:
    """A Kafka and a ClickHouse on loopback, at the ports of the scripts. Raises NotRun."""
    missing = kafka.available()
    if missing is not None:
        raise NotRun(f"it needs Apache Kafka: {missing}")
    stack = LocalStack("kafka", folder, KAFKA_PORT, CLICKHOUSE_PORT)
    try:
        stack.start()
    except LocalStackError as error:
        raise NotRun(str(error)) from error
    try:
        yield stack
    finally:
        stack.stop()


def run_live(case: LiveCase, folder: Path, cases: Path, stack: LocalStack) -> str:
    """Run a case on a copy of its files in `folder`; what came of it. Raises NotRun."""
    if case.needs and importlib.util.find_spec(case.needs) is None:
        raise NotRun(f"its scripts import {case.needs}, which is not installed in {sys.prefix}")
    for file in (cases / case.name).iterdir():
        shutil.copy(file, folder)
    alerts = Settings().alerts
    settings: dict[str, Any] = {
        "kafka_app_id": case.app,
        "kafka_clickstream_topic": f"{case.app}-clicks",
        "kafka_orders_topic": f"{case.app}-orders",
        "clickhouse_database": case.app,
        "kafka_session_timeout_seconds": 20.0,  # nothing here waits for a lost worker
        "stream_clock": "wall",
        # as a shop has them; other tests want many alerts
        "alerts_enter": alerts.enter,
        "alerts_leave": alerts.leave,
        "alerts_cooldown_days": alerts.cooldown_days,
        **case.settings,
    }
    with World(stack.bootstrap, stack.clickhouse, folder, **settings) as world:
        try:
            return case.got(Shop(world, folder))
        except AssertionError as error:
            return str(error)
