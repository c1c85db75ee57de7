"""`tideline demo` as people run it: a process, its exit status, its output, and nothing left over.

Every process of one run is known by a variable in its environment.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from streams.local.kafka import available
from streams.local.process import wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.kafka,
    pytest.mark.clickhouse,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks at /proc"),
]

PATIENCE_SECONDS = 120.0  # for a machine with more to do than this


class Run:
    """One `tideline demo` in a separate process."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        self.directory = directory / "demo"
        self._mark = f"DEMO_TEST={uuid.uuid4().hex}".encode()
        name, _, value = self._mark.decode().partition("=")
        environ = {k: v for k, v in os.environ.items() if not k.startswith("TIDELINE_")}
        # As on a machine that is set up for a cluster, with a secret in a file.
        secret = directory / "secret"
        secret.write_text("sesame")
        environ["TIDELINE_KAFKA_CLIENT_KEY_PASSWORD_FILE"] = str(secret)
        self._out, self._err = directory / "out", directory / "err"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "streams", "demo", "--dir", str(self.directory),
                 *arguments],
                stdout=out, stderr=err, env={**environ, name: value},
            )  # fmt: skip

    @property
    def out(self) -> str:
        return self._out.read_text()

    @property
    def err(self) -> str:
        return self._err.read_text()

    def left(self) -> dict[int, str]:
        """The living processes of this run: pid -> command line."""
        found = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    if self._mark in (entry / "environ").read_bytes().split(b"\0"):
                        command = (entry / "cmdline").read_bytes().replace(b"\0", b" ")
                        found[int(entry.name)] = command.decode()
        return found

    def wait_for(self, seen: Callable[[], bool]) -> None:
        assert wait_until(
            lambda: seen() or self.process.poll() is not None, PATIENCE_SECONDS, 0.1
        ), self.err
        assert seen(), self.err

    def ends(self, within_seconds: float = PATIENCE_SECONDS) -> int:
        return self.process.wait(within_seconds)


Start = Callable[..., Run]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    runs: list[Run] = []

    def begin(*arguments: str) -> Run:
        runs.append(Run(tmp_path, *arguments))
        return runs[-1]

    yield begin
    for run in runs:
        run.process.kill()
        run.process.wait()


@pytest.mark.parametrize("broker", ["tansu", pytest.param("kafka", marks=pytest.mark.full)])
def test_until_done_prints_a_balanced_summary_and_leaves_nothing(start: Start, broker: str) -> None:
    if broker == "kafka" and (reason := available()):
        pytest.skip(reason)
    run = start("--until-done", "--json", "--days", "0-12", "--broker", broker)
    assert run.ends() == 0, run.err
    summary = json.loads(run.out)
    assert summary["ledger_balanced"] is True
    assert summary["events_in"] == summary["scored"] > 10_000
    assert summary["duplicates"] == summary["late"] == summary["dead_letters"] == 0
    assert summary["users"] == sum(summary["segments"]["lifecycle"].values()) > 1_000
    assert summary["segments"]["lifecycle"]["visitor"] > 0
    # After 12 days there is not enough data on the shop: nobody is scored, so nobody has a tier.
    assert summary["segments"]["value_tier"]["none"] == summary["users"]
    assert summary["broker"] == {"tansu": "Tansu", "kafka": "Apache Kafka"}[broker]
    assert "SIMULATED" in run.err
    assert "sent" in run.err
    assert run.left() == {}
    assert not run.directory.exists()


def test_it_stays_up_to_look_around_until_ctrl_c(start: Start) -> None:
    run = start("--days", "0-6")
    run.wait_for(lambda: "Ctrl-C" in run.err)
    lines = [line.strip() for line in run.err.splitlines()]
    pasted = [line for line in lines if line.startswith(("tideline ", "python -c", ". "))]
    assert len(pasted) == 4
    looked = subprocess.run(
        ["bash", "-ec", "\n".join(pasted)], capture_output=True, text=True, check=False
    )
    assert looked.returncode == 0, looked.stderr
    assert "0 records behind in all" in looked.stdout
    assert "No dead letters." in looked.stdout
    run.process.send_signal(signal.SIGINT)
    assert run.ends() == 0
    assert "Traceback" not in run.err
    assert run.left() == {}
    assert not run.directory.exists()


@pytest.mark.parametrize("when", ["Starting", pytest.param("sent", marks=pytest.mark.full)])
def test_ctrl_c_stops_everything_at_any_moment(start: Start, when: str) -> None:
    run = start("--days", "0-60")
    run.wait_for(lambda: when in run.err)
    run.process.send_signal(signal.SIGINT)
    assert run.ends() == 130
    assert "Traceback" not in run.err
    assert run.left() == {}
    assert not run.directory.exists()


def test_nothing_outlives_a_killed_demo(start: Start) -> None:
    run = start("--days", "0-60")
    run.wait_for(lambda: "sent" in run.err)
    # itself, broker, ClickHouse, worker, learner, lag monitor, trainer
    assert len(run.left()) == 8
    run.process.kill()
    run.ends()
    assert wait_until(lambda: run.left() == {}, PATIENCE_SECONDS), run.left()


def test_a_part_that_dies_is_named_and_ends_the_demo(start: Start) -> None:
    run = start("--days", "0-60", "--json")
    run.wait_for(lambda: "sent" in run.err)
    (learner,) = [pid for pid, command in run.left().items() if "streams learner" in command]
    os.kill(learner, signal.SIGKILL)
    assert run.ends() == 1
    assert "The learner has stopped. The end of its log" in run.err
    assert "Traceback" not in run.err
    assert run.out == ""
    assert run.left() == {}
    assert (run.directory / "learner.log").exists()


def test_it_gives_up_at_the_deadline(start: Start) -> None:
    run = start("--days", "0-60", "--until-done", "--deadline", "2")
    assert run.ends() == 1
    assert "did not finish in 2 s" in run.err
    assert run.left() == {}
