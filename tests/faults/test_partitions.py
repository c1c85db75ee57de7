"""The number of partitions grows under load."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import pytest

from streams.kafka.access import kafka_access
from streams.kafka.admin import connect as connect_admin
from streams.kafka.end_offsets import EndOffsets
from streams.local.process import ChildProcess
from streams.settings import Settings, as_environ, override
from tests.faults.drill import Drill
from tests.faults.moved import judge_moved

pytestmark = [pytest.mark.full, pytest.mark.kafka, pytest.mark.clickhouse, pytest.mark.timeout(600)]

TIMES = 3


class Repartition:
    """`tideline repartition` in a separate process: from the drill's partitions to three times as
    many."""

    def __init__(self, fault: Drill, *options: str, die: str = "", nth: int = 1) -> None:
        here = fault.world
        self.before = here.settings
        kafka = self.before.kafka
        self.after = override(
            self.before,
            kafka_partitions=TIMES * kafka.partitions,
            kafka_clickstream_topic=f"{kafka.clickstream_topic}-2",
            kafka_orders_topic=f"{kafka.orders_topic}-2",
        )
        arguments = [
            "--partitions", str(self.after.kafka.partitions),
            "--clickstream-topic", self.after.kafka.clickstream_topic,
            "--orders-topic", self.after.kafka.orders_topic, *options,
        ]  # fmt: skip
        program = ["-m", "tests.faults.repartition", json.dumps({"die": die, "nth": nth})]
        self._world = here
        self._path: Path = here.directory / f"repartition-{die.replace(' ', '-')}.log"
        environ = as_environ(self.before)
        argv = [sys.executable, *program, *arguments]
        self._child = ChildProcess("repartition", argv, self._path, env=environ)
        self._child.start()
        here._others.append(self._child)

    @property
    def said(self) -> str:
        return self._path.read_text() if self._path.exists() else ""

    def wait_for(self, text: str) -> None:
        def there() -> bool:
            assert self._child.running or text in self.said, self.said
            return text in self.said

        self._world.wait(f"repartition says: {text}", there)

    def interrupt(self) -> None:
        assert self._child.pid is not None
        os.kill(self._child.pid, signal.SIGINT)

    def ended(self) -> int:
        """The exit status, once it has ended."""
        popen = self._child._popen
        assert popen is not None
        self._world.wait("repartition ends", lambda: popen.poll() is not None)
        return int(popen.returncode)


@pytest.mark.fault("4 partitions become 12 under load")
def test_repartition_under_load_loses_and_doubles_nothing(fault: Drill) -> None:
    here = fault.build()
    a, b = fault.worker("a"), fault.worker("b")
    here.own(a, b)
    fault.load(9_000, rate=300)
    fault.under_load(1_500)
    move = Repartition(fault, "--follow", "--json")
    move.wait_for("Stop the workers")
    for worker in (a, b):
        assert worker.stop()[0] == 0
    move.wait_for("Start the workers")
    here.settings = move.after
    with fault.recovery():
        c, d = fault.worker("c"), fault.worker("d")
    here.own(c, d)
    fault.loads[-1].join()  # the next one is of the days after it
    here.settings = move.before
    fault.load(2_000, rate=1_000)  # producers that nobody has moved yet
    fault.loads[-1].join()
    here.wait_accepted(fault.total)
    here.settings = move.after
    fault.load(3_000, rate=1_000)
    fault.loads[-1].join()
    here.wait_accepted(fault.total)
    move.interrupt()
    assert move.ended() == 0, move.said
    for worker in (c, d):
        assert worker.stop()[0] == 0
    assert judge_moved(fault, move.before) == 0


@pytest.mark.fault("4 partitions become 12, killed {die}")
@pytest.mark.parametrize(
    ("die", "nth", "split_before"),
    # Of each of the 4 shards, 2 others are checkpointed first, and then itself.
    [
        ("before checkpoint", 3, 0),
        ("after checkpoint", 2, 0),
        ("after checkpoint", 7, 2),
        ("before commit", 2, 4),
    ],
)
def test_killed_repartition_is_finished_by_a_second_run(
    fault: Drill, die: str, nth: int, split_before: int
) -> None:
    here = fault.build(stream_checkpoint_interval_seconds=600)  # so that steps are replayed
    a = fault.worker("a")
    here.own(a)
    fault.load(7_000, rate=1_000)
    fault.under_load(2_000)
    a.kill()
    fault.loads[-1].join()
    first = Repartition(fault, die=die, nth=nth)
    assert first.ended() == -9
    assert f"dies {die}" in first.said
    again = Repartition(fault)
    assert again.ended() == 0, again.said
    done = again.said.count("was split by an earlier run")
    assert (4 if "shards were split by an earlier run" in again.said else done) == split_before
    unread = fault.total - here.accepted
    here.settings = again.after
    repeats = records_in(here.settings) - unread
    assert (repeats > 0) == (die == "before commit")
    with fault.recovery():
        b = fault.worker("b")
    fault.load(2_000, rate=1_000)
    fault.loads[-1].join()
    here.wait_accepted(fault.total + repeats)
    assert b.stop()[0] == 0
    assert judge_moved(fault, again.before) == repeats


def records_in(settings: Settings) -> int:
    """How many records the input topics hold."""
    kafka = settings.kafka
    places = [
        (topic, p)
        for topic in (kafka.clickstream_topic, kafka.orders_topic)
        for p in range(kafka.partitions)
    ]
    with EndOffsets(kafka_access(settings)) as offsets:
        return sum(offsets.of(places).values())


@pytest.mark.fault("somebody added partitions to the inputs")
def test_repartition_reads_partitions_that_somebody_added_to_their_end(fault: Drill) -> None:
    here = fault.build()
    a = fault.worker("a")
    here.own(a)
    fault.load(3_000, rate=1_000)
    fault.loads[-1].join()
    here.wait_accepted(fault.total)
    with connect_admin(here.settings.kafka.brokers) as admin:
        admin.create_partitions(dict.fromkeys((here.inputs.clickstream, here.inputs.orders), 6))
    fault.load(3_000, rate=1_000)
    fault.gave_up(a, "`tideline repartition`")
    fault.loads[-1].join()
    move = Repartition(fault)
    assert move.ended() == 0, move.said
    here.settings = move.after
    with fault.recovery():
        b = fault.worker("b")
    here.wait_accepted(fault.total)
    assert b.stop()[0] == 0
    assert judge_moved(fault, move.before) == 0
