"""Runs one program as a child process: it logs to a file and never outlives its parent.

Three ways a child ends, from polite to certain:

1. `stop()`: SIGTERM to our own child's pid, a wait, then SIGKILL.
2. The interpreter exits or the object is collected: the same, by a finalizer.
3. The parent is killed: the kernel kills the child (Linux `PR_SET_PDEATHSIG`). A tiny launcher
   sets this up before it becomes the server, because Python's `preexec_fn` is unsafe with threads.

The kernel ties `PR_SET_PDEATHSIG` to the *thread* that forked, not to the process: a child started
from a short-lived worker thread would die with that thread. So one thread per process, which lives
as long as the process does, starts all children.
"""

from __future__ import annotations

import contextlib
import os
import queue
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path

from schemas.errors import LocalStackError

__all__ = ["LOOPBACK", "ChildProcess", "free_port", "tail", "wait_until"]

LOOPBACK = "127.0.0.1"

_STOP_TIMEOUT_SECONDS = 5.0
_LAUNCHER = """
import os, sys
parent, program = int(sys.argv[1]), sys.argv[2:]
if sys.platform == "linux":
    import ctypes
    ctypes.CDLL(None, use_errno=True).prctl(1, 9, 0, 0, 0)  # PR_SET_PDEATHSIG, SIGKILL
    if os.getppid() != parent:  # it died before the kernel knew about us
        os._exit(1)
os.execvp(program[0], program)
"""


def free_port() -> int:
    """A TCP port on loopback that was free a moment ago.

    Another process may take it before the caller binds it. The kernel hands ephemeral ports out in
    a varying order, so that is rare; a server that loses the race fails its ready check.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until(
    probe: Callable[[], bool], timeout_seconds: float, interval_seconds: float = 0.02
) -> bool:
    """Call `probe` until it returns True or the time is up; returns whether it did.

    An `OSError` from the probe (connection refused, reset) counts as "not yet".
    """
    deadline = time.monotonic() + timeout_seconds
    while True:
        with contextlib.suppress(OSError):
            if probe():
                return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(interval_seconds)


def tail(path: Path, lines: int = 25) -> str:
    """The last `lines` lines of a text file; empty if there is none yet."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 64 * 1024))
            text = file.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


class ChildProcess:
    """One server process, started and stopped by this object.

    `argv` is the program with its arguments, `log_path` gets its stdout and stderr (appended, so a
    restart keeps the earlier log), `env` is added to the parent's environment.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        log_path: Path,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.log_path = log_path
        self._argv = list(argv)
        self._env = dict(env or {})
        self._popen: subprocess.Popen[bytes] | None = None
        self._finalizer: weakref.finalize[[subprocess.Popen[bytes]], ChildProcess] | None = None

    @property
    def pid(self) -> int | None:
        """The child's process id; None before `start` and after `stop` or `kill`."""
        return self._popen.pid if self._popen else None

    @property
    def running(self) -> bool:
        """Whether the child exists and has not exited."""
        return self._popen is not None and self._popen.poll() is None

    def start(self) -> None:
        """Start the program. Returns at once; follow with `wait_ready`.

        Raises LocalStackError if it runs already or can't be started.
        """
        if self._popen is not None:
            raise LocalStackError(f"{self.name} is already started; stop it first.")
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        try:
            popen = _Spawner.of(os.getpid()).run(self._spawn)
        except OSError as error:
            raise LocalStackError(
                f"{self.name} can't be started: {error}. Check that {self._argv[0]} is executable."
            ) from error
        except BaseException:  # Ctrl-C: nobody knows of the child yet
            self.kill()
            raise
        self._finalizer = weakref.finalize(self, _end, popen)

    def wait_ready(self, probe: Callable[[], bool], timeout_seconds: float) -> None:
        """Return once `probe` is True.

        Raises LocalStackError, with the end of the log, if the child exits first or the time is
        up; the child is stopped then.
        """
        ready = False

        def ready_or_gone() -> bool:
            nonlocal ready
            if not self.running:
                return True
            ready = probe()
            return ready

        wait_until(ready_or_gone, timeout_seconds)
        if ready:
            return
        why = (
            f"is not ready after {timeout_seconds:.0f} s"
            if self.running
            else f"exited with status {self._popen.returncode if self._popen else None}"
        )
        self.stop()
        raise LocalStackError(
            f"{self.name} {why}. The end of its log, {self.log_path}:\n{tail(self.log_path)}\n"
            "Fix what the log names and start it again."
        )

    def stop(self, timeout_seconds: float = _STOP_TIMEOUT_SECONDS) -> None:
        """SIGTERM, wait up to `timeout_seconds`, then SIGKILL. Safe to call twice."""
        self._finish(timeout_seconds)

    def kill(self) -> None:
        """SIGKILL now: a crash, for fault tests."""
        if self._popen is not None:
            self._popen.kill()
        self._finish(_STOP_TIMEOUT_SECONDS)

    def _finish(self, timeout_seconds: float) -> None:
        if self._popen is None:
            return
        if self._finalizer is not None:
            self._finalizer.detach()
        _end(self._popen, timeout_seconds)
        self._popen = None

    def _spawn(self) -> subprocess.Popen[bytes]:
        launcher = [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid()), *self._argv]
        with self.log_path.open("ab") as log:
            self._popen = subprocess.Popen(
                launcher,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self._env},
                process_group=0,  # Ctrl-C reaches the parent, which stops us in order
            )
            return self._popen


def _end(popen: subprocess.Popen[bytes], timeout_seconds: float = _STOP_TIMEOUT_SECONDS) -> None:
    popen.terminate()
    try:
        popen.wait(timeout_seconds)
    except subprocess.TimeoutExpired:
        popen.kill()
        popen.wait()


class _Job:
    """One child to be started by the spawner.

    An interrupt may come between any two instructions of the caller. So what it waits for stays
    true, and can be waited for twice: an answer in a queue could be taken and lost.
    """

    def __init__(self, spawn: Callable[[], subprocess.Popen[bytes]]) -> None:
        self.ended = threading.Event()
        self._spawn = spawn
        self._lock = threading.Lock()
        self._begun = self._given_up = False
        self._popen: subprocess.Popen[bytes] | None = None
        self._error: Exception | None = None

    def run(self) -> None:
        """On the spawner's thread."""
        with self._lock:
            if self._given_up:
                return
            self._begun = True
        try:
            self._popen = self._spawn()
        except Exception as error:
            self._error = error
        finally:
            self.ended.set()

    def give_up(self) -> None:
        """Let it not begin; if it has, wait until it has ended."""
        with self._lock:
            self._given_up = True
        if self._begun:
            self.ended.wait()

    def result(self) -> subprocess.Popen[bytes]:
        """What it made, or raises what it failed with; once it has ended."""
        if self._error is not None:
            raise self._error
        assert self._popen is not None  # noqa: S101  (it ended without an error)
        return self._popen


class _Spawner:
    """The thread that starts all children of one process, and lives as long as it does."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        threading.Thread(target=self._work, name="spawner", daemon=True).start()

    @staticmethod
    @cache
    def of(pid: int) -> _Spawner:
        """The spawner of process `pid`, the caller's own: a fork does not inherit threads."""
        del pid
        return _Spawner()

    def run(self, spawn: Callable[[], subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
        """Returns or raises once `spawn` has ended, also if the caller is interrupted meanwhile. If
        that is before it has begun, it never begins."""
        job = _Job(spawn)
        try:
            self._jobs.put(job.run)
            job.ended.wait()
        except BaseException:
            job.give_up()
            raise
        return job.result()

    def _work(self) -> None:
        while True:
            self._jobs.get()()
