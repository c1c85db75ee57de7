"""Runs `tideline backfill` in a separate process, which can be killed, and reads its report."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from streams.local.process import ChildProcess, tail, wait_until
from streams.settings import as_environ
from tests.integration.world import World

__all__ = ["Backfill"]

WAIT_SECONDS = 600.0


class Backfill:
    """One run of the command, started at once."""

    def __init__(self, world: World, name: str, files: Sequence[Path], work: Path) -> None:
        self.log_path = world.directory / f"{name}.log"
        argv = [
            sys.executable, "-m", "streams", "backfill", *map(str, files),
            "--wait", f"{WAIT_SECONDS:g}", "--work-dir", str(work), "--json",
        ]  # fmt: skip
        environ = as_environ(world.settings)
        self._child = ChildProcess(name, argv, self.log_path, env=environ)
        self._child.start()

    @property
    def running(self) -> bool:
        return self._child.running

    def kill(self) -> None:
        """SIGKILL."""
        self._child.kill()

    def finish(self) -> dict[str, Any]:
        """Wait until it is through; its report. Raises AssertionError, with the end of its log."""
        wait_until(lambda: not self._child.running, WAIT_SECONDS, 0.05)
        popen = self._child._popen
        status = None if popen is None else popen.poll()
        assert status == 0, f"backfill ended with {status}:\n{tail(self.log_path, 40)}"
        # the document is the last thing that it prints, after what goes to stderr
        lines = self.log_path.read_text().splitlines()
        begin = len(lines) - 1 - lines[::-1].index("{")
        report: dict[str, Any] = json.loads("\n".join(lines[begin:]))
        return report
