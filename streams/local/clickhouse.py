"""A local ClickHouse: chDB behind `chdb_server`, in a child process."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from streams.local.process import ChildProcess
from streams.local.server import LocalServer

__all__ = ["ChdbServer"]


class ChdbServer(LocalServer):
    """A chDB server. Its directory is the database; the log is beside it, as `<directory>.log`."""

    name = "chDB server"
    ready_seconds = 120.0  # a first start reads half a gigabyte of library

    def _program(self, directory: Path) -> ChildProcess:
        return ChildProcess(
            self.name,
            [sys.executable, "-m", "streams.local.chdb_server",
             "--port", str(self.port), "--path", str(directory.resolve())],
            directory.with_name(directory.name + ".log"),
            env={"TZ": "UTC", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        )  # fmt: skip
