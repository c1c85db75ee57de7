"""The demo's directory: empty at the start, locked while it runs, gone afterwards.

Only a directory that is empty, or that a demo made (it holds our lock file), is ever cleared.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from shlex import quote
from types import TracebackType
from typing import Final

from schemas.errors import SettingsError

__all__ = ["DemoDirectory", "environment_file"]

_LOCK: Final = "demo.lock"


class DemoDirectory:
    """`path` for the time of one demo. What is in it afterwards is removed unless `keep`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.keep = False
        self._lock: int | None = None

    def __enter__(self) -> DemoDirectory:
        """Take and clear it. Raises SettingsError if it is not ours to clear, or in use."""
        lock = self.path / _LOCK
        if self.path.exists():
            if not self.path.is_dir():
                raise SettingsError(f"--dir {self.path} is not a directory; name another.")
            if any(self.path.iterdir()) and not lock.is_file():
                raise SettingsError(
                    f"--dir {self.path} holds files that no demo made, and the demo clears its "
                    "directory. Name another, or a new one."
                )
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            raise SettingsError(
                f"Another demo runs in {self.path}. Stop it, or name another directory with --dir."
            ) from error
        self._clear()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self.keep:
            self._clear()
            (self.path / _LOCK).unlink(missing_ok=True)
            self.path.rmdir()
        if self._lock is not None:
            os.close(self._lock)

    def _clear(self) -> None:
        for entry in self.path.iterdir():
            if entry.name == _LOCK:
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()


def environment_file(directory: Path, variables: Mapping[str, str]) -> Path:
    """Write a file to `source` in another shell: these variables, and this `tideline` on PATH."""
    path = directory / "env"
    lines = [f"export {name}={quote(value)}" for name, value in variables.items()]
    lines.append(f'export PATH={quote(str(Path(sys.executable).parent))}:"$PATH"')
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
