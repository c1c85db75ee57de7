"""What the local servers have in common: one program on loopback that is started and stopped here.

A server is a child process with a log file and a port. `start` returns once it answers; `stop` ends
that very process, by the id that its start gave.
"""

from __future__ import annotations

import contextlib
import socket
import tempfile
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from schemas.errors import LocalStackError
from streams.local.process import LOOPBACK, ChildProcess, free_port

__all__ = ["LocalServer"]


class LocalServer(ABC):
    """A server in a child process. A subclass gives the program, and says when it answers."""

    name: ClassVar[str]
    ready_seconds: ClassVar[float]
    """How long a start may take until the server answers."""
    stop_seconds: ClassVar[float] = 5.0
    """How long it may take to stop in order, before it is killed."""
    host: ClassVar[str] = LOOPBACK

    def __init__(self, directory: Path | None = None, port: int = 0) -> None:
        """
        Args:
            directory: the server's data; None: a temporary one, which goes with `stop`.
            port: TCP port; 0: a free one.
        """
        self._directory = directory
        self._scratch: tempfile.TemporaryDirectory[str] | None = None
        self._child: ChildProcess | None = None
        self.port = port
        """The TCP port; 0 until `start` has picked one. It stays the same over restarts."""

    @property
    def bootstrap(self) -> str:
        """`host:port`, as Kafka clients take it."""
        return f"{self.host}:{self.port}"

    @property
    def pid(self) -> int | None:
        """The server's process id; None when stopped."""
        return self._child.pid if self._child else None

    @property
    def process(self) -> ChildProcess | None:
        """The server's process; None when stopped."""
        return self._child

    def start(self) -> Self:
        """Start and wait until it answers.

        Raises LocalStackError, with nothing left running, if it runs already or does not answer.
        """
        if self._child is not None:
            raise LocalStackError(f"{self.name} is already started; stop it first.")
        self.port = self.port or free_port()
        try:
            self._child = self._program(self._directory or self._new_scratch())
            self._child.start()
            self._child.wait_ready(self._answers, self.ready_seconds)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Stop in order (SIGTERM). Safe to call twice."""
        child, self._child = self._child, None
        if child is not None:
            child.stop(self.stop_seconds)
        scratch, self._scratch = self._scratch, None
        if scratch is not None:
            scratch.cleanup()

    def kill(self) -> None:
        """Crash (SIGKILL), for fault tests. `start` again finds what is on disk."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @abstractmethod
    def _program(self, directory: Path) -> ChildProcess:
        """The program with its arguments and its log file, not started. `port` is set by now."""

    def _answers(self) -> bool:
        """Whether it is ready for clients. An OSError is a no."""
        with contextlib.closing(socket.create_connection((self.host, self.port), timeout=1.0)):
            return True

    def _new_scratch(self) -> Path:
        if self._scratch is None:  # it is there already after a `kill`
            self._scratch = tempfile.TemporaryDirectory(prefix="tideline-")
        return Path(self._scratch.name) / "data"
