"""A worker, learner, trainer or lag monitor that is asked to stop at any moment of its start ends
in order: with status 0, without a traceback.

Two ways to choose the moments: at named points of the code (`stopped_at`), and spread over the
time that a start takes here and now, beginning right after the program's first line.
"""

from __future__ import annotations

import signal
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest

from streams.local.clickhouse import ChdbServer
from streams.local.kafka import ApacheKafka
from streams.local.process import LOOPBACK, ChildProcess, free_port, wait_until
from streams.local.tansu import TansuBroker
from streams.replay.synthetic import Synthetic
from streams.settings import as_environ, override
from streams.stopping import SIGNALS
from tests.databases import Databases
from tests.integration.models import models
from tests.integration.world import STOP_SECONDS, WAIT_SECONDS, World

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.clickhouse,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(sys.platform != "linux", reason="it reads signal masks from /proc"),
]

FAUST_CONSUMER = "faust.transport.drivers.aiokafka:AIOKafkaConsumerThread"
# In the order in which they are passed; those of `QUICK` in every run, all of them with --faults.
POINTS = {
    "worker": (
        "streams.worker:require_reachable",
        "streams.worker:compile_kernels",
        "streams.worker:create_app",
        "streams.worker:execute",
        "streams.faust_app:Worker.execute_from_commandline",
        "streams.faust_app:Worker.on_first_start",
        "faust:App.on_start",
        "streams.kafka.log:KafkaLog.start",
        "streams.worker:ClickHouseSink.start",
        "streams.worker:SnapshotFollower.run",
        f"{FAUST_CONSUMER}.on_start",
        f"{FAUST_CONSUMER}.subscribe",
        "faust:App.on_started",
        "streams.faust_app:Worker.on_startup_finished",
        "streams.shard.engine:Engine.revoked",
        "streams.shard.engine:Engine.assigned",
        "streams.shard.shard:Shard.start",
        "streams.shard.checkpoints:CheckpointStore.load",
    ),
    "learner": (
        "streams.learner.app:create_app",
        "streams.faust_app:Worker.on_first_start",
        "streams.kafka.log:KafkaLog.start",
        "streams.learner.service:LearnerService.restore",
        "streams.learner.service:newest_snapshot",
        "streams.learner.app:watch",
        f"{FAUST_CONSUMER}.on_start",
        "faust:App.on_started",
        "streams.learner.service:LearnerService.publish",
    ),
    "lag --serve": (
        "streams.lag.service:Metrics",
        "streams.lag.monitor:connect",
        "streams.lag.monitor:poll",
        "streams.lag.service:table_columns",
        "streams.lag.service:insert_block",
    ),
    "trainer": (
        "streams.trainer.app:Metrics",
        "streams.trainer.app:create",
        "streams.trainer.app:ModelStore",
        "streams.telemetry.endpoint:serve",
        "streams.trainer.service:Trainer.turn",
        "streams.trainer.store:ModelStore.look",
        "streams.trainer.training:LiveLabels.counts",
    ),
}
QUICK = {
    "streams.faust_app:Worker.execute_from_commandline",
    f"{FAUST_CONSUMER}.on_start",
    "streams.shard.checkpoints:CheckpointStore.load",
    "streams.learner.service:LearnerService.restore",
    "streams.lag.monitor:poll",
    "streams.trainer.service:Trainer.turn",
}


class Process:
    """One of our processes, and what it says."""

    def __init__(self, world: World, log: Path, *program: str) -> None:
        self.port = free_port()
        settings = override(world.settings, web_metrics_port=self.port)
        if program[-1] == "trainer":
            settings = override(settings, model_artifact=str(models(world)))
        self._log = log
        self._child = ChildProcess(
            program[-1], [sys.executable, "-m", *program], log, env=as_environ(settings)
        )
        self._child.start()

    @property
    def said(self) -> str:
        return self._log.read_text()

    def wait(self, what: str, seen: Callable[[], bool]) -> None:
        ended = not wait_until(lambda: seen() or not self._child.running, WAIT_SECONDS, 0.002)
        assert not ended, f"not within {WAIT_SECONDS} s: {what}\n{self.said[-3000:]}"

    def holds(self) -> bool:
        """Whether its first line has run: signals are blocked."""
        status = Path(f"/proc/{self._child.pid}/status").read_text()
        (mask,) = (line.split()[1] for line in status.splitlines() if line.startswith("SigBlk:"))
        return all(int(mask, 16) >> (number - 1) & 1 for number in SIGNALS)

    def serves(self) -> bool:
        """Whether its metrics can be read."""
        with urllib.request.urlopen(f"http://{LOOPBACK}:{self.port}/metrics", timeout=5):
            return True

    def ask(self, number: int) -> None:
        popen = self._child._popen
        assert popen is not None
        popen.send_signal(number)

    def check_end(self, moment: str) -> None:
        """It ends within `STOP_SECONDS`, with status 0 and without a traceback."""
        popen = self._child._popen
        assert popen is not None
        ended = wait_until(lambda: popen.poll() is not None, STOP_SECONDS)
        assert ended, f"{moment}: still there after {STOP_SECONDS} s\n{self.said[-3000:]}"
        assert popen.returncode == 0, f"{moment}: {popen.returncode}\n{self.said[-3000:]}"
        # "Error: " is how a command that failed begins its last line. A library may log one within
        # a line, of a connection that is closed while it waits for an answer.
        for word in ("Traceback", "\nError: ", "never awaited", "was destroyed"):
            assert word not in f"\n{self.said}", f"{moment}:\n{self.said[-3000:]}"

    def clean_up(self) -> None:
        self._child.kill()


Start = Callable[..., Process]


@pytest.fixture(scope="module")
def here(
    kafka_broker: ApacheKafka | TansuBroker,
    clickhouse: ChdbServer,
    databases: Databases,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[World]:
    """A Tideline that has been running, so that there is something to recover."""
    directory = tmp_path_factory.mktemp("stopping")
    with (
        databases.lent() as lent,
        World(
            kafka_broker.bootstrap, clickhouse, directory, database=lent.database, forked=True,
            kafka_partitions=2,
        ) as made,
    ):  # fmt: skip
        before = made.worker("before")
        made.own(before)
        made.produce(Synthetic(events=500, users=50, seed=1))
        made.wait_accepted(500)
        assert before.stop()[0] == 0
        yield made


@pytest.fixture
def start(here: World, tmp_path: Path) -> Iterator[Start]:
    started: list[Process] = []

    def begin_process(*program: str) -> Process:
        started.append(Process(here, tmp_path / f"process-{len(started)}.log", *program))
        return started[-1]

    yield begin_process
    for process in started:
        process.clean_up()


def _goes_on(here: World) -> None:
    """Nothing is in the way of the next worker, and nothing was lost or written twice."""
    after = here.worker("after")
    here.own(after)
    assert after.stop()[0] == 0
    here.check_oracle()


def _points(command: str) -> list[object]:
    return [
        pytest.param(command, [p for p in POINTS[command] if p in QUICK], id=command),
        pytest.param(
            command,
            [p for p in POINTS[command] if p not in QUICK],
            id=f"{command}, the rest",
            marks=pytest.mark.full,
        ),
    ]


def _stopped_here(process: Process) -> bool:
    return "stopped here" in process.said


@pytest.mark.parametrize(("command", "points"), [p for c in POINTS for p in _points(c)])
def test_stopped_at_a_point_of_its_start_it_ends_in_order(
    start: Start, here: World, command: str, points: Sequence[str]
) -> None:
    for point in points:
        process = start("tests.integration.stopped_at", point, "1", *command.split())
        process.wait(point, partial(_stopped_here, process))
        process.check_end(point)
    if command == "worker":
        _goes_on(here)


@pytest.mark.parametrize(
    "moments", [pytest.param(2, id="few"), pytest.param(24, id="many", marks=pytest.mark.full)]
)
@pytest.mark.parametrize("command", POINTS)
def test_stopped_after_a_part_of_its_start_it_ends_in_order(
    start: Start, here: World, command: str, moments: int
) -> None:
    whole = start("streams", *command.split())
    whole.wait("its first line", whole.holds)
    began = time.monotonic()
    whole.wait("its metrics", whole.serves)
    seconds = time.monotonic() - began
    whole.ask(signal.SIGTERM)
    whole.check_end("serving")
    for moment in range(moments):
        share = 1.25 * moment / moments  # beyond the metrics: joining the group, recovering
        process = start("streams", *command.split())
        process.wait("its first line", process.holds)
        time.sleep(share * seconds)
        process.ask(sorted(SIGNALS)[moment % 2])
        process.check_end(f"{share:.0%} of {seconds:.2f} s")
    if command == "worker":
        _goes_on(here)
