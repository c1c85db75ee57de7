"""Processes of `tideline` that need not import it again: forks of one that has it imported.

A worker's start takes 1.9 s of processor time, 1.4 of them for imports and for loading kernels; a
fork takes 0.1. What follows is the same: the command's first line, its settings from its own
environment, signals, exit status. Processes that are stopped or killed while they start, and those
of the demo, are started as users do it, by `streams.local.process` alone.

    server, a child of the tests' process: has everything imported, has no thread and no connection
      for each request: forks a child, which forks the process and ends
    the process, an orphan then, becomes a child of the tests' process, which for this moment asks
      the kernel for orphans (`PR_SET_CHILD_SUBREAPER`); it begins when it has been handed over
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

from streams import stopping
from streams.__main__ import main
from streams.core.warm import compile_kernels
from streams.local.process import ChildProcess

__all__ = ["ForkServer", "Forked", "ForkedProcess", "fork_server", "run_forked"]

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36
_ROOT: Final = Path(__file__).parents[2]
_MOST_BYTES: Final = 1 << 20  # of a request: arguments and an environment


def _prctl(option: int, value: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0):
        raise OSError(ctypes.get_errno(), f"prctl {option}")


class Forked:
    """A process that `ForkServer` made: what tests use of `subprocess.Popen`."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._lock = threading.Lock()

    def poll(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        with self._lock:
            if self.returncode is None:
                ended, status = os.waitpid(self.pid, os.WNOHANG)
                if ended:
                    self.returncode = os.waitstatus_to_exitcode(status)
            return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The exit status, once it has ended. Raises subprocess.TimeoutExpired."""
        started = time.monotonic()
        while (status := self.poll()) is None:
            if timeout is not None and time.monotonic() - started > timeout:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout)
            time.sleep(0.01)
        return status

    def send_signal(self, which: int) -> None:
        """Does nothing if it has ended: its number may be another's by then."""
        with self._lock:
            if self.returncode is None:
                os.kill(self.pid, which)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class ForkedProcess(ChildProcess):
    """`tideline WORDS`, as `ChildProcess` has it, by a fork; or what another module does with them
    in its `main`."""

    def __init__(
        self,
        name: str,
        words: Sequence[str],
        log_path: Path,
        env: Mapping[str, str],
        module: str = "streams",
    ) -> None:
        super().__init__(name, words, log_path, env)
        self._module = module

    def _spawn(self) -> subprocess.Popen[bytes]:
        with self.log_path.open("ab") as log:
            forked = fork_server(os.getpid()).start(
                self._argv, {**os.environ, **self._env}, log, log, self._module
            )
        self._popen = cast("subprocess.Popen[bytes]", forked)
        return self._popen


class ForkServer:
    """The process that has everything imported. One caller at a time."""

    def __init__(self) -> None:
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with its:
            self._popen = subprocess.Popen(
                [sys.executable, "-m", __name__, str(its.fileno())],
                cwd=_ROOT, pass_fds=[its.fileno()],
            )  # fmt: skip
        self._socket = ours
        self._lock = threading.Lock()

    def start(
        self,
        words: Sequence[str],
        env: Mapping[str, str],
        out: BinaryIO,
        errors: BinaryIO,
        module: str = "streams",
    ) -> Forked:
        """`tideline WORDS` with this environment, in a process group of its own; or another
        `module`'s `main(WORDS)`."""
        asked = {"words": list(words), "env": dict(env), "cwd": os.getcwd(), "parent": os.getpid(),
                 "module": module}  # fmt: skip
        with self._lock:
            _prctl(_PR_SET_CHILD_SUBREAPER, 1)
            try:
                socket.send_fds(
                    self._socket, [json.dumps(asked).encode()], [out.fileno(), errors.fileno()]
                )
                answer = self._socket.recv(100)
            finally:
                _prctl(_PR_SET_CHILD_SUBREAPER, 0)
        if not answer:
            raise ConnectionError(f"the fork server ended with status {self._popen.wait()}")
        return Forked(int(answer))

    def stop(self) -> None:
        self._socket.close()
        self._popen.wait()


@cache
def fork_server(pid: int) -> ForkServer:
    """The server of process `pid`, the caller's own. It ends with it."""
    del pid
    server = ForkServer()
    atexit.register(server.stop)
    return server


def run_forked(
    words: Sequence[str], env: Mapping[str, str], timeout_seconds: float
) -> subprocess.CompletedProcess[str]:
    """`tideline WORDS` to its end, as `subprocess.run` has it. Raises subprocess.TimeoutExpired."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
        process = fork_server(os.getpid()).start(words, env, out, errors)
        try:
            status = process.wait(timeout_seconds)
        except BaseException:
            process.kill()
            process.wait()
            raise
        said = []
        for file in (out, errors):
            file.seek(0)
            said.append(file.read().decode())
        return subprocess.CompletedProcess(list(words), status, *said)


def _serve(connection: socket.socket) -> Callable[[], Any] | None:
    """Fork for each request. Returns, in a process that was asked for, what it has to do; and None
    in the server, when the tests have ended."""
    while True:
        request, fds, _, _ = socket.recv_fds(connection, _MOST_BYTES, 2)
        if not request:
            return None
        answers, answer = os.pipe()
        middle = os.fork()
        if not middle:
            middle = os.getpid()
            pid = os.fork()
            if pid:
                os.write(answer, str(pid).encode())
                os._exit(0)
            for fd in (connection.detach(), answers, answer):
                os.close(fd)
            return _prepared(json.loads(request), fds, middle)
        os.waitpid(middle, 0)  # from now on the process is the tests'
        connection.send(os.read(answers, 100))
        for fd in (*fds, answers, answer):
            os.close(fd)


def _prepared(asked: dict[str, Any], fds: list[int], middle: int) -> Callable[[], Any]:
    while os.getppid() == middle:
        time.sleep(0.001)
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != asked["parent"]:
        os._exit(1)
    os.setpgid(0, 0)
    for fd, its in zip(fds, (1, 2), strict=True):
        os.dup2(fd, its)
        os.close(fd)
    with open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), 0)
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["env"])
    if asked["module"] != "streams":
        stopping.hold()  # as the command does, before an import that starts a thread
        other: Callable[[list[str]], Any] = importlib.import_module(asked["module"]).main
        return partial(other, asked["words"])
    sys.argv[:] = ["tideline", *asked["words"]]
    return main


def _import_all() -> None:
    """What `worker`, `learner` and `erase` import once they run, but for ONNX Runtime."""
    for module in (
        "agents", "campaigns.published", "clickhouse.sink", "commands.erase", "commands.run",
        "faust_app", "kafka.growth", "privacy.erase", "privacy.erase_verify", "shard.engine",
        "shard.worker_clock", "telemetry.batch_tracer", "telemetry.endpoint",
        "telemetry.shard_metrics",
    ):  # fmt: skip
        importlib.import_module(f"streams.{module}")
    compile_kernels()


def _wait_for_work(fd: int) -> Callable[[], Any] | None:
    connection = socket.socket(fileno=fd)
    with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C is for the tests, which end us
        _import_all()
        # A fork has this one thread alone. OpenBLAS knows, and makes new ones; ONNX Runtime, which
        # starts one when it is imported, aborts at the end for want of it.
        assert threading.active_count() == 1
        assert "onnxruntime" not in sys.modules
        # All of this would be looked at, and its pages copied, in each fork's collections, the one
        # at its end at the latest: 0.35 s of processor time of the 0.45 of a command.
        gc.collect()
        gc.freeze()
        return _serve(connection)
    return None


if __name__ == "__main__":
    command = _wait_for_work(int(sys.argv[1]))
    if command is not None:
        command()
