"""One Tideline in a test: topics and a database of its own, processes to start, stop and kill."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import sys
import threading
import time
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from clickhouse_driver import Client

from schemas.features import FEATURE_NAMES
from streams import migrate, topics_admin
from streams.artifacts import ScorerStore
from streams.checkpoints import CheckpointStore
from streams.clickhouse import connect
from streams.core import snapshot
from streams.core_config import core_config
from streams.local.clickhouse import ChdbServer
from streams.local.process import LOOPBACK, ChildProcess, free_port, tail, wait_until
from streams.log import KafkaLog
from streams.replay.producer import ProduceSummary, produce
from streams.replay.target import InputTopics
from streams.settings import Settings, as_environ, load
from streams.targets import artifact_directory, clickhouse_target
from tests.shell_core.oracle import Oracle, assert_same_state, replay_journal

__all__ = ["Load", "Worker", "World"]

_NUMBERS = itertools.count(1)
SESSION_SECONDS = 3.0
STOP_SECONDS = 10.0  # a worker that is asked to stop has stopped by then


class Worker:
    """`tideline worker` in a process of its own."""

    def __init__(self, world: World, name: str) -> None:
        self.metrics_port = free_port()
        environ = {
            **as_environ(world.settings),
            "TIDELINE_METRICS_PORT": str(self.metrics_port),
        }
        self.name = name
        self.log_path = world.directory / f"{name}.log"
        argv = [sys.executable, "-m", "streams.cli", "worker"]
        self._child = ChildProcess(name, argv, self.log_path, env=environ)

    def start(self) -> Worker:
        self._child.start()
        return self

    @property
    def running(self) -> bool:
        return self._child.running

    @property
    def shards(self) -> set[int]:
        """The shards that run here, as its metrics tell; none before they answer."""
        try:
            url = f"http://{LOOPBACK}:{self.metrics_port}/metrics"
            with urllib.request.urlopen(url, timeout=2) as answer:
                text = answer.read().decode()
        except OSError:
            return set()
        found = set()
        for line in text.splitlines():
            if line.startswith("tideline_shard_state{") and 'state="running"' in line:
                labels, value = line.rsplit(" ", 1)
                if float(value):
                    found.add(int(labels.split('shard="')[1].split('"')[0]))
        return found

    def kill(self) -> None:
        """SIGKILL."""
        self._child.kill()

    def send(self, which: signal.Signals) -> None:
        assert self._child.pid is not None
        os.kill(self._child.pid, which)

    def stop(self, timeout_seconds: float = STOP_SECONDS) -> tuple[int, float]:
        """SIGTERM; returns the exit status and the seconds it took."""
        popen = self._child._popen
        assert popen is not None
        started = time.monotonic()
        popen.send_signal(signal.SIGTERM)
        ended = wait_until(lambda: popen.poll() is not None, timeout_seconds)
        seconds = time.monotonic() - started
        assert ended, f"{self.name} runs {seconds:.1f} s after SIGTERM:\n{tail(self.log_path, 40)}"
        return popen.returncode, seconds

    @property
    def log(self) -> str:
        return self.log_path.read_text() if self.log_path.exists() else ""

    def clean_up(self) -> None:
        if self._child.running:
            self.send(signal.SIGCONT)
        self._child.kill()


@dataclass
class Load:
    """A producer on a thread of its own."""

    thread: threading.Thread
    result: list[ProduceSummary]
    errors: list[BaseException]

    def join(self, timeout_seconds: float = 60) -> ProduceSummary:
        self.thread.join(timeout_seconds)
        assert not self.thread.is_alive()
        if self.errors:
            raise self.errors[0]
        return self.result[0]


class World:
    """Everything one test needs. `settings` are those of every process of it."""

    def __init__(
        self, bootstrap: str, clickhouse: ChdbServer, directory: Path, **changes: Any
    ) -> None:
        n = next(_NUMBERS)
        self.directory = directory
        given: dict[str, Any] = {
            "broker_url": bootstrap,
            "app_id": f"it{n}",
            "clickstream_topic": f"it{n}-clicks",
            "orders_topic": f"it{n}-orders",
            "partitions": 4,
            "session_timeout_seconds": SESSION_SECONDS,
            "clickhouse_host": clickhouse.host,
            "clickhouse_port": clickhouse.port,
            "clickhouse_database": f"it{n}",
            "clock": "event",
            "checkpoint_interval_seconds": 2.0,
            "learner_publish_seconds": 0.2,
            "alert_enter": 0.3,
            "alert_leave": 0.2,
            "alert_cooldown_days": 1,
            "max_batch_records": 2_000,
        } | changes
        environ = {f"TIDELINE_{name.upper()}": str(value) for name, value in given.items()}
        self.settings: Settings = load(environ)
        self.client: Client = connect(clickhouse_target(self.settings))
        self._workers: list[Worker] = []
        self._others: list[ChildProcess] = []

    def __enter__(self) -> World:
        topics_admin.create_missing(self.settings)
        migrate.migrate(clickhouse_target(self.settings))
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.clean_up()
        for other in self._others:
            other.stop()
        self.client.disconnect()

    # -- processes

    def worker(self, name: str = "worker") -> Worker:
        worker = Worker(self, name)
        self._workers.append(worker)
        return worker.start()

    def learner(self) -> ChildProcess:
        argv = [sys.executable, "-m", "streams.cli", "learner"]
        log = self.directory / "learner.log"
        child = ChildProcess("learner", argv, log, env=as_environ(self.settings))
        self._others.append(child)
        child.start()
        return child

    def own(self, *expected: Worker, timeout_seconds: float = 40) -> None:
        """Wait until these workers share all shards, each with some, none with two owners."""
        every = sorted(range(self.settings.kafka.partitions))

        def shared() -> bool:
            owned = [worker.shards for worker in expected]
            return all(owned) and sorted(n for shards in owned for n in shards) == every

        if not wait_until(shared, timeout_seconds, 0.3):
            told = [f"{w.name}: {w.shards}\n{tail(w.log_path, 15)}" for w in expected]
            raise AssertionError("the shards are not shared:\n" + "\n".join(told))

    # -- input

    @property
    def inputs(self) -> InputTopics:
        kafka = self.settings.kafka
        return InputTopics(kafka.clickstream_topic, kafka.orders_topic)

    def produce(self, source: Any, **options: Any) -> ProduceSummary:
        """Send all of `source`."""
        return asyncio.run(produce(source, self.settings.kafka.broker_url, self.inputs, **options))

    def load(self, source: Any, rate: float) -> Load:
        """Send `source` at so many records a second, beside the test."""
        result: list[ProduceSummary] = []
        errors: list[BaseException] = []

        def run() -> None:
            try:
                result.append(self.produce(source, rate=rate))
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        return Load(thread, result, errors)

    # -- results

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        rows: list[tuple[Any, ...]] = self.client.execute(statement)
        return rows

    def one(self, statement: str) -> Any:
        return self.sql(statement)[0][0]

    @property
    def accepted(self) -> int:
        """Records that ClickHouse knows as taken in."""
        return int(self.one("SELECT sum(accepted) FROM batches FINAL"))

    def wait(
        self,
        what: str,
        probe: Callable[[], bool],
        timeout_seconds: float = 40,
        interval_seconds: float = 0.3,
    ) -> None:
        """Wait until `probe` holds; the logs' ends are shown if it never does."""
        if wait_until(probe, timeout_seconds, interval_seconds):
            return
        logs = "\n".join(f"--- {w.name}\n{tail(w.log_path, 20)}" for w in self._workers)
        ledger = "\n".join(map(str, self.sql("SELECT * FROM ledger")))
        raise AssertionError(f"not within {timeout_seconds} s: {what}\n{ledger}\n{logs}")

    def wait_accepted(self, records: int, timeout_seconds: float = 40) -> None:
        def there() -> bool:
            accepted = self.accepted
            assert accepted <= records, f"{accepted} accepted of {records} sent"
            return accepted == records

        self.wait(f"{records} records accepted", there, timeout_seconds)

    def ledger(self) -> dict[str, int]:
        """The ledger's sums; raises if a shard's books don't balance."""
        rows = self.sql("SELECT * FROM ledger WHERE NOT balanced")
        assert rows == [], f"unbalanced: {rows}"
        names = ("accepted", "scored", "duplicates", "late", "dead_letters")
        sums = self.sql(f"SELECT {', '.join(f'sum({n})' for n in names)} FROM ledger")[0]
        return dict(zip(names, map(int, sums), strict=True))

    def check_views(self) -> None:
        """One row each in every view that people read."""
        for view, key in (
            ("churn_alerts_live", "alert_id"),
            ("alert_history", "alert_id"),
            ("scores_live", "user_id"),
            ("segment_members", "(dimension, user_id)"),
            ("ledger", "shard"),
        ):
            rows, different = self.sql(f"SELECT count(), uniqExact({key}) FROM {view}")[0]
            assert rows == different, f"{view}: {rows} rows, {different} different"

    def check_oracle(self) -> dict[int, Oracle]:
        """ClickHouse holds what the journal's replay gives, no more and no less; and the state that
        the next owner would load is the replay's, bit for bit. No worker may run."""
        return asyncio.run(self._check_oracle())

    async def _check_oracle(self) -> dict[int, Oracle]:
        settings, names = self.settings, self.settings.topic_names
        config = core_config(settings)
        scorers = ScorerStore(artifact_directory(settings))
        log = KafkaLog(settings.kafka.brokers)
        await log.start()
        oracles = {}
        wanted: dict[str, set[tuple[Any, ...]]] = defaultdict(set)
        try:
            for shard in range(settings.kafka.partitions):
                oracle = await replay_journal(log, names, shard, config, scorers.get)
                oracles[shard] = oracle
                for table, rows in oracle.rows.items():
                    wanted[table] |= {_compared(table, row) for row in rows.values()}
                await self._check_checkpoint(log, shard, oracle)
        finally:
            await log.stop()
        for table, columns in _COMPARED.items():
            found = self.sql(f"SELECT {', '.join(columns.values())} FROM {table} FINAL")
            assert len(found) == len(set(found)), table
            missing, extra = wanted[table] - set(found), set(found) - wanted[table]
            assert not missing, f"{table}: {len(missing)} rows are missing, as {missing.pop()}"
            assert not extra, f"{table}: {len(extra)} rows too many, as {extra.pop()}"
        return oracles

    async def _check_checkpoint(self, log: KafkaLog, shard: int, oracle: Oracle) -> None:
        """A worker that stopped in order leaves a checkpoint of everything."""
        store = CheckpointStore(log, self.settings.topic_names.checkpoints, shard, "reader")
        stored = await store.load()
        assert stored is not None
        state = snapshot.load(stored.meta, stored.arrays, len(FEATURE_NAMES))
        assert state.meta.seq == oracle.state.meta.seq, "the last worker left no checkpoint"
        assert_same_state(state, oracle.state)


# What is compared of each table, oracle column -> SQL: keys, and what a reader acts on.
_COMPARED: dict[str, dict[str, str]] = {
    "batches": {
        name: name
        for name in (
            "shard", "seq", "clickstream_from", "clickstream_to", "orders_from", "orders_to",
            "accepted", "scored", "duplicates", "late", "dead_letters", "users_scored",
        )
    },
    "score_history": {
        "user_id": "user_id", "seq": "seq", "shard": "shard",
        "scored_at": "toUnixTimestamp64Milli(scored_at)",
        "p_churn": "if(isNaN(p_churn), 'nan', toString(reinterpretAsUInt32(p_churn)))",
        "value_tier": "value_tier", "lifecycle": "lifecycle", "at_risk": "at_risk",
        "learner_version": "learner_version",
    },
    "segment_changes": {
        "change_id": "change_id", "user_id": "user_id", "dimension": "dimension",
        "to_segment": "to_segment", "changed_at": "toUnixTimestamp64Milli(changed_at)",
    },
    "alerts": {
        "alert_id": "alert_id", "version": "version", "user_id": "user_id", "arm": "arm",
        "raised_at": "toUnixTimestamp64Milli(raised_at)", "closed_why": "closed_why",
    },
    "matured_predictions": {
        "shard": "shard", "ordinal": "ordinal", "user_id": "user_id", "churned": "churned",
    },
    "dead_letters": {
        "topic": "topic", "partition": "partition", "offset": "offset", "reason": "reason",
    },
}  # fmt: skip


def _compared(table: str, row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(_plain(row[name]) for name in _COMPARED[table])


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):  # a float's bits, see `rows_of`
        number = np.frombuffer(value, np.float32)[0]
        return "nan" if np.isnan(number) else str(int(np.frombuffer(value, np.uint32)[0]))
    return value


def in_turn(sources: Iterable[Iterable[Any]]) -> Iterable[Any]:
    """Several sources, one after the other."""
    return itertools.chain.from_iterable(sources)
