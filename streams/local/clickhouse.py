"""Start and stop a local ClickHouse: chDB behind `chdb_server`, in a process of its own."""

from __future__ import annotations

import os
import socket
import sys
import tempfile
from pathlib import Path
from types import TracebackType

from streams.local.process import LOOPBACK, ChildProcess, free_port

__all__ = ["ChdbServer"]

_READY_TIMEOUT_SECONDS = 120.0  # a first start reads half a gigabyte of library


class ChdbServer:
    """A chDB server in a process of its own.

    `path` holds the database and `server.log` beside it as `<path>.log`; None uses a temporary
    directory that goes with `stop`. `port` 0 picks a free one.
    """

    host = LOOPBACK

    def __init__(self, path: Path | None = None, port: int = 0) -> None:
        self._path = path
        self._scratch: tempfile.TemporaryDirectory[str] | None = None
        self._child: ChildProcess | None = None
        self.port = port
        """The TCP port; 0 until `start` has picked one. It stays the same over restarts."""

    @property
    def pid(self) -> int | None:
        """The server's process id, None when stopped."""
        return self._child.pid if self._child else None

    @property
    def process(self) -> ChildProcess | None:
        """The server's process, None when stopped."""
        return self._child

    def start(self) -> ChdbServer:
        """Start and wait until it answers. Raises LocalStackError if it does not."""
        self.port = self.port or free_port()
        path = self._path
        if path is None:
            self._scratch = tempfile.TemporaryDirectory(prefix="tideline-chdb-")
            path = Path(self._scratch.name) / "data"
        self._child = ChildProcess(
            "chDB server",
            [sys.executable, "-m", "streams.local.chdb_server",
             "--port", str(self.port), "--path", str(path.resolve())],
            path.with_name(path.name + ".log"),
            env={"TZ": "UTC", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        )  # fmt: skip
        self._child.start()
        self._child.wait_ready(self._answers, _READY_TIMEOUT_SECONDS)
        return self

    def stop(self) -> None:
        """Stop the server. Safe to call twice."""
        if self._child is not None:
            self._child.stop()
            self._child = None
        if self._scratch is not None:
            self._scratch.cleanup()
            self._scratch = None

    def kill(self) -> None:
        """Crash (SIGKILL), for fault tests; `start` again serves what was committed."""
        if self._child is not None:
            self._child.kill()
            self._child = None

    def __enter__(self) -> ChdbServer:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _answers(self) -> bool:
        with socket.create_connection((LOOPBACK, self.port), timeout=1.0):
            return True
