"""Children start, report failure with their log, and never outlive their parent."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from schemas.errors import LocalStackError
from streams.local.process import ChildProcess, _Job, wait_until
from streams.local.stack import LocalStack

WAIT_SECONDS = 60.0  # for what takes a moment on a machine that has nothing else to do


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def _sleeper(log: Path) -> ChildProcess:
    return ChildProcess("sleeper", [sys.executable, "-c", "import time; time.sleep(600)"], log)


def test_a_child_that_exits_is_reported_with_the_end_of_its_log(tmp_path: Path) -> None:
    child = ChildProcess(
        "broken", [sys.executable, "-c", "raise SystemExit('no such disk')"], tmp_path / "log"
    )
    child.start()
    with pytest.raises(LocalStackError, match=r"(?s)broken exited with status 1.*no such disk"):
        child.wait_ready(lambda: False, timeout_seconds=WAIT_SECONDS)


def test_a_child_that_never_gets_ready_is_stopped(tmp_path: Path) -> None:
    child = _sleeper(tmp_path / "log")
    child.start()
    pid = child.pid
    assert pid is not None
    with pytest.raises(LocalStackError, match="not ready after 0 s"):
        child.wait_ready(lambda: False, timeout_seconds=0.1)
    assert not _alive(pid)


def test_stop_ends_a_child_that_ignores_sigterm(tmp_path: Path) -> None:
    code = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "print('deaf', flush=True); time.sleep(600)"
    )
    log = tmp_path / "log"
    child = ChildProcess("deaf", [sys.executable, "-c", code], log)
    child.start()
    child.wait_ready(lambda: "deaf" in log.read_text(), timeout_seconds=WAIT_SECONDS)
    pid = child.pid
    assert pid is not None
    child.stop(timeout_seconds=0.2)
    child.stop()
    assert not _alive(pid)


def test_a_child_outlives_the_thread_that_started_it(tmp_path: Path) -> None:
    child = _sleeper(tmp_path / "log")
    thread = threading.Thread(target=child.start)
    thread.start()
    thread.join()
    assert not wait_until(lambda: not child.running, timeout_seconds=0.3)
    child.stop()


def test_a_killed_parent_takes_broker_and_database_with_it(tmp_path: Path) -> None:
    code = (
        "import pathlib, sys, time\n"
        "from streams.local.stack import LocalStack\n"
        "stack = LocalStack('tansu', pathlib.Path(sys.argv[1])).start()\n"
        "print(stack.broker.pid, stack.clickhouse.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        parent.kill()
    assert len(pids) == 2
    assert wait_until(lambda: not any(map(_alive, pids)), timeout_seconds=WAIT_SECONDS)


def test_the_stack_stops_its_broker_when_the_database_fails(tmp_path: Path) -> None:
    (tmp_path / "clickhouse").write_text("a file where the database's directory should be")
    stack = LocalStack("tansu", tmp_path)
    with pytest.raises(LocalStackError, match="chDB server exited"):
        stack.start()
    assert stack.broker.pid is None
    assert stack.clickhouse.pid is None


class _Interrupted(BaseException):
    pass


@pytest.mark.parametrize("moment", ["before it is there", "once it is there"])
def test_a_child_that_is_being_started_does_not_survive_an_interrupt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Ctrl-C reaches the main thread while it waits for the one that spawns. The child once lived
    on, and made files in a directory that the demo had just removed."""
    spawned = threading.Event()

    class Ended(threading.Event):
        interrupted = False

        def wait(self, timeout: float | None = None) -> bool:
            if threading.current_thread() is threading.main_thread() and not Ended.interrupted:
                Ended.interrupted = True
                if moment == "once it is there":
                    spawned.wait(60)
                raise _Interrupted
            return super().wait(timeout)

    class Job(_Job):
        def __init__(self, spawn: Any) -> None:
            super().__init__(spawn)
            self.ended = Ended()

    class Spawned(subprocess.Popen[bytes]):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            made.append(self)
            spawned.set()

    made: list[subprocess.Popen[bytes]] = []
    monkeypatch.setattr("streams.local.process._Job", Job)
    monkeypatch.setattr("streams.local.process.subprocess.Popen", Spawned)
    child = ChildProcess(
        "sleeper", [sys.executable, "-c", "import time; time.sleep(600)"], tmp_path / "log"
    )
    with pytest.raises(_Interrupted):
        child.start()
    assert len(made) == 1 or moment == "before it is there"
    assert all(process.poll() is not None for process in made)
    assert child.pid is None
