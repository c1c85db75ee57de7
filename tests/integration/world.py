"""One Tideline in a test: its topics and database, and processes to start, stop and kill."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

from click.testing import CliRunner, Result
from clickhouse_driver import Client
from clickhouse_driver.errors import NetworkError, SocketTimeoutError

from models.registry import ScorerStore, artifact_place
from schemas.definitions import Definitions
from schemas.errors import BrokerUnavailable, FatalError, TidelineError
from schemas.features import FEATURE_NAMES
from streams import stopping
from streams.campaigns.published import publish
from streams.cli import tideline
from streams.clickhouse import migrations
from streams.clickhouse.client import ClickHouseTarget, clickhouse_target, connect
from streams.core.state import snapshot
from streams.kafka.access import kafka_access
from streams.kafka.admin import connect as connect_admin
from streams.kafka.log import KafkaLog
from streams.kafka.topics import create_missing
from streams.lag import monitor
from streams.local.process import LOOPBACK, ChildProcess, free_port, tail, wait_until
from streams.replay.producer import ProduceSummary, produce
from streams.replay.target import InputTopics
from streams.settings import Settings, as_environ, load, override
from streams.shard.checkpoints import CheckpointStore
from streams.shard.config import core_config
from tests.awaiting import awaited
from tests.integration.forking import ForkedProcess
from tests.integration.verdict import Verdict, compare_rows, compare_views
from tests.one_broker import numbers
from tests.shard.oracle import Oracle, assert_same_state, replay_journal

__all__ = ["Load", "Worker", "World"]

_NUMBERS = numbers()
SESSION_SECONDS = 3.0
WAIT_SECONDS = 120.0  # for what takes a few on a machine that has nothing else to do
COMMAND = ("-m", "streams", "worker")
FORKED = ("streams", "tests.faults.worker")  # modules whose programs can be forked
STOP_SECONDS = 30.0  # a worker that is asked to stop has stopped by then, on a busy machine


class Worker:
    """`tideline worker` in a separate process."""

    def __init__(self, world: World, name: str, program: Sequence[str], **own: Any) -> None:
        """`own`: settings that only this worker has."""
        self.metrics_port = free_port()
        environ = {
            **as_environ(override(world.settings, **own)),
            "TIDELINE_WEB_METRICS_PORT": str(self.metrics_port),
        }
        self.name = name
        self.log_path = world.directory / f"{name}.log"
        if world.forked and program[0] == "-m" and program[1] in FORKED:
            _, module, *words = program
            self._child: ChildProcess = ForkedProcess(name, words, self.log_path, environ, module)
        else:
            argv = [sys.executable, *program]
            self._child = ChildProcess(name, argv, self.log_path, env=environ)

    def start(self) -> Worker:
        self._child.start()
        return self

    @property
    def running(self) -> bool:
        return self._child.running

    @property
    def pid(self) -> int | None:
        return self._child.pid

    @property
    def shards(self) -> set[int]:
        """The shards that run here, as its metrics tell; none before they answer."""
        return {
            int(labels.split('shard="')[1].split('"')[0])
            for labels, value in self.metrics("tideline_shard_state")
            if 'state="running"' in labels and value
        }

    def metrics(self, name: str) -> list[tuple[str, float]]:
        """(labels, value) of every sample of a metric; none before the worker answers."""
        try:
            url = f"http://{LOOPBACK}:{self.metrics_port}/metrics"
            with urllib.request.urlopen(url, timeout=2) as answer:
                lines = answer.read().decode().splitlines()
        except OSError:
            return []
        samples = (
            line.rsplit(" ", 1) for line in lines if line.startswith((f"{name}{{", f"{name} "))
        )
        return [(labels, float(value)) for labels, value in samples]

    def ledger_metric(self) -> dict[str, float]:
        """What this process took in, and the sum of what became of it; replays count, too."""
        return {
            "accepted": sum(value for _, value in self.metrics("tideline_records_accepted_total")),
            "outcomes": sum(value for _, value in self.metrics("tideline_events_total")),
        }

    def kill(self) -> None:
        """SIGKILL."""
        self._child.kill()

    @property
    def exit_status(self) -> int | None:
        """None while it runs."""
        return None if self._child._popen is None else self._child._popen.poll()

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
    """A producer on a separate thread."""

    thread: threading.Thread
    result: list[ProduceSummary]
    errors: list[BaseException]

    def join(self, timeout_seconds: float = WAIT_SECONDS) -> ProduceSummary:
        self.thread.join(timeout_seconds)
        assert not self.thread.is_alive()
        if self.errors:
            raise self.errors[0]
        return self.result[0]


class World:
    """Everything one test needs. `settings` are those of every process of it."""

    def __init__(
        self,
        bootstrap: str,
        clickhouse: Any,
        directory: Path,
        *,
        database: str = "",
        prepare: Callable[[ClickHouseTarget], object] = migrations.migrate,
        without_views: Sequence[str] = (),
        milliseconds: bool = True,
        direct_port: int = 0,
        definitions: Definitions | None = None,
        forked: bool = False,
        **changes: Any,
    ) -> None:
        """`clickhouse` is where the workers are sent: a server, or a proxy before one that listens
        on `direct_port`. `database`: one that has the tables (`tests.databases`), else one is
        made. A server that is not the usual one comes with its own `prepare`, and with what it
        lacks. `forked`: workers and learner need not import anything (`tests.integration.forking`),
        which is not how long they take to start for users."""
        n = next(_NUMBERS)
        self._prepare = None if database else prepare
        self._definitions = definitions
        self.without_views = without_views
        self._milliseconds = milliseconds
        self.directory = directory
        self.forked = forked
        given: dict[str, Any] = {
            "kafka_broker_url": bootstrap,
            "kafka_app_id": f"it{n}",
            "kafka_clickstream_topic": f"it{n}-clicks",
            "kafka_orders_topic": f"it{n}-orders",
            "kafka_partitions": 4,
            "kafka_session_timeout_seconds": SESSION_SECONDS,
            "clickhouse_host": clickhouse.host,
            "clickhouse_port": clickhouse.port,
            "clickhouse_database": database or f"it{n}",
            "stream_clock": "event",
            "stream_checkpoint_interval_seconds": 2.0,
            "model_learner_publish_interval_seconds": 0.2,
            "alerts_enter": 0.3,
            "alerts_leave": 0.2,
            "alerts_cooldown_days": 1,
            "stream_max_batch_records": 2_000,
            "model_shop_min_days": 0,  # these streams last for days
            "model_score_sample_share": 0.02,
            "clickhouse_keep_events_days": 30,
            "clickhouse_keep_features_days": 30,
        } | changes
        environ = {f"TIDELINE_{name.upper()}": str(value) for name, value in given.items()}
        self.settings: Settings = load(environ)
        self.target = replace(clickhouse_target(self.settings), port=direct_port or clickhouse.port)
        """The server itself, without a proxy before it."""
        self.client: Client = connect(self.target)
        self._workers: list[Worker] = []
        self._others: list[ChildProcess] = []

    def __enter__(self) -> World:
        self._create_topics()
        if self._prepare is not None:
            self._prepare(self.target)
        if self._definitions is not None:
            awaited(self._publish(self._definitions))
        return self

    async def _publish(self, definitions: Definitions) -> None:
        log = KafkaLog(kafka_access(self.settings))
        await log.start()
        try:
            await publish(log, self.settings.topic_names.definitions, definitions)
        finally:
            await log.stop()

    def _create_topics(self) -> None:
        """Again until it works: a broker that gets no processor answers late, and for a while its
        own controller takes it for dead."""
        errors: list[TidelineError] = []

        def created() -> bool:
            try:
                create_missing(self.settings)
            except (BrokerUnavailable, FatalError) as error:
                errors.append(error)
                return False
            return True

        if not wait_until(created, WAIT_SECONDS, 1.0):
            raise errors[-1]

    def recreate(self, topics: Sequence[str]) -> None:
        """Delete topics, and create them again, empty."""
        with connect_admin(self.settings.kafka.brokers) as admin:
            admin.delete_topics(list(topics))
            self.wait("the topics are gone", lambda: not set(topics) & set(admin.list_topics()))
        create_missing(self.settings)

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.clean_up()
        for other in self._others:
            other.stop()
        self.client.disconnect()

    # -- processes

    def worker(self, name: str = "worker", program: Sequence[str] = COMMAND, **own: Any) -> Worker:
        """Start `tideline worker`, or a `program` around it (arguments of Python), with settings
        of its `own`."""
        worker = Worker(self, name, program, **own)
        self._workers.append(worker)
        return worker.start()

    def learner(self) -> ChildProcess:
        log = self.directory / "learner.log"
        environ = as_environ(self.settings)
        learner = (
            ForkedProcess("learner", ["learner"], log, environ)
            if self.forked
            else ChildProcess("learner", [sys.executable, "-m", "streams", "learner"], log, environ)
        )
        self._others.append(learner)
        learner.start()
        return learner

    def own(self, *expected: Worker, timeout_seconds: float = WAIT_SECONDS) -> None:
        """Wait until these workers share all shards, each with some, none with two owners."""
        every = sorted(range(self.settings.kafka.partitions))

        def shared() -> bool:
            owned = [worker.shards for worker in expected]
            return all(owned) and sorted(n for shards in owned for n in shards) == every

        if not wait_until(shared, timeout_seconds, 0.3):
            held = [f"{w.name}: {w.shards}\n{tail(w.log_path, 15)}" for w in expected]
            raise AssertionError("the shards are not shared:\n" + "\n".join(held))

    def command(self, *words: str) -> Result:
        """Run `tideline WORDS` here, with the settings of all its processes."""
        environ = as_environ(self.settings)
        try:
            return CliRunner().invoke(tideline, words, env=environ, prog_name="tideline")
        finally:
            stopping.release()  # a command that can be stopped holds the signals of its process

    # -- input

    @property
    def inputs(self) -> InputTopics:
        kafka = self.settings.kafka
        return InputTopics(kafka.clickstream_topic, kafka.orders_topic)

    def produce(self, source: Any, **options: Any) -> ProduceSummary:
        """Send all of `source`."""
        return asyncio.run(produce(source, kafka_access(self.settings), self.inputs, **options))

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
        """Raises OSError while the server is away."""
        try:
            rows: list[tuple[Any, ...]] = self.client.execute(statement)
        except (EOFError, NetworkError, SocketTimeoutError) as error:
            self.client.disconnect()
            raise ConnectionError(str(error)) from error
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
        timeout_seconds: float = WAIT_SECONDS,
        interval_seconds: float = 0.3,
    ) -> None:
        """Wait until `probe` holds; the logs' ends are shown if it never does."""
        if not wait_until(probe, timeout_seconds, interval_seconds):
            self._fail(f"not within {timeout_seconds} s: {what}")

    def _fail(self, what: str) -> NoReturn:
        """Raise AssertionError, with the books and the logs' ends."""
        logs = "\n".join(f"--- {w.name}\n{tail(w.log_path, 20)}" for w in self._workers)
        books = "batches" if "ledger" in self.without_views else "ledger"
        ledger = "\n".join(map(str, self.sql(f"SELECT * FROM {books} LIMIT 20")))
        raise AssertionError(f"{what}\n{ledger}\n{logs}")

    def wait_accepted(self, records: int, timeout_seconds: float = WAIT_SECONDS) -> None:
        """Wait until so many records are in, however long that takes while more keep coming;
        gives up when none has come for `timeout_seconds`."""
        accepted = -1
        while accepted != records:
            before = accepted

            def more(before: int = before) -> bool:
                nonlocal accepted
                accepted = self.accepted
                return accepted != before

            if not wait_until(more, timeout_seconds, 0.3):
                self._fail(f"{before} of {records} accepted, and no more in {timeout_seconds} s")
            assert accepted <= records, f"{accepted} accepted of {records} sent"

    def ledger(self) -> dict[str, int]:
        """The ledger's sums; raises if a shard's books don't balance."""
        rows = self.sql("SELECT * FROM ledger WHERE NOT balanced")
        assert rows == [], f"unbalanced: {rows}"
        names = ("accepted", "scored", "duplicates", "late", "dead_letters")
        sums = self.sql(f"SELECT {', '.join(f'sum({n})' for n in names)} FROM ledger")[0]
        return dict(zip(names, map(int, sums), strict=True))

    @property
    def uncommitted_offsets(self) -> int:
        """How many offsets of the inputs the workers have yet to commit, markers included; raises
        OSError while the broker doesn't say."""
        report = monitor.poll_once(self.settings)
        group = report.groups[0]
        if group.status == "unknown":
            raise ConnectionError("; ".join(report.problems))
        return sum((p.log_end or 0) - (p.committed or 0) for p in group.partitions)

    def wait_committed(self) -> None:
        """Wait until the workers have committed all that the inputs hold."""
        self.wait("all offsets committed", lambda: self.uncommitted_offsets == 0)

    def check_views(self) -> None:
        """One row each in every view that people read."""
        verdict = Verdict()
        compare_views(self.sql, verdict, self.without_views)
        verdict.check()

    def check_oracle(self, erased: Collection[str] = ()) -> dict[int, Oracle]:
        """ClickHouse holds what the journal's replay gives, no more and no less; and the state that
        the next owner would load is the replay's, bit for bit. No worker may run.

        Rows of `erased` users may be missing.
        """
        oracles = awaited(self.replayed())
        self.compare(oracles, erased).check()
        return oracles

    def compare(self, oracles: dict[int, Oracle], erased: Collection[str] = ()) -> Verdict:
        """Which rows ClickHouse lacks, and which are too many."""
        every = oracles.values()
        return compare_rows(self.sql, every, milliseconds=self._milliseconds, erased=erased)

    async def replayed(self) -> dict[int, Oracle]:
        """Each shard's journal replayed; its checkpoint must be the replay's state."""
        settings, names = self.settings, self.settings.topic_names
        config = core_config(settings)
        scorers = ScorerStore(artifact_place(settings.model.artifact), settings.stream.currency)
        log = KafkaLog(kafka_access(settings))
        await log.start()
        oracles = {}
        try:
            for shard in range(settings.kafka.partitions):
                oracles[shard] = await replay_journal(log, names, shard, config, scorers.get)
                await self._check_checkpoint(log, shard, oracles[shard])
        finally:
            await log.stop()
        return oracles

    async def _check_checkpoint(self, log: KafkaLog, shard: int, oracle: Oracle) -> None:
        """A worker that stopped in order leaves a checkpoint of everything."""
        store = CheckpointStore(log, self.settings.topic_names.checkpoints, shard, "reader")
        stored = await store.load()
        assert stored is not None
        state = snapshot.load(stored.meta, stored.arrays, len(FEATURE_NAMES))
        assert state.meta.seq == oracle.state.meta.seq, "the last worker left no checkpoint"
        assert_same_state(state, oracle.state)
