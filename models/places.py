"""Where artifacts are: a directory of this machine, or one in an object store.

Loading, promoting and training use only a `Place`, so they are the same for both. An artifact is
never seen incomplete: its manifest appears last or together with its files, and `CURRENT` names a
version only when that is complete.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final, Protocol
from urllib.parse import unquote, urlsplit

from schemas.errors import SettingsError

__all__ = ["LocalPlace", "Place", "at", "place"]

_STAGING: Final = ".new-"  # begins the names of what is not complete; readers skip such names
_ABANDONED_SECONDS: Final = 3_600


class Place(Protocol):
    """A directory of artifacts, or the directory of one artifact.

    Every method may raise `ModelsUnavailable` if an object store doesn't answer or refuses.
    """

    poll_seconds: ClassVar[float]
    """How often to look for another `CURRENT`."""

    @property
    def name(self) -> str:
        """The last part of the path."""

    @property
    def parent(self) -> Place:
        """The directory that this one is in."""

    def __truediv__(self, name: str) -> Place:
        """A directory in this one."""

    def read(self, name: str) -> bytes:
        """The content of a file, read once. Raises OSError if there is no such file."""

    def holds(self, name: str) -> bool:
        """Whether there is such a file."""

    def stamp(self, names: Iterable[str]) -> Hashable:
        """Something that changes with these files, and when one comes or goes."""

    def directories(self, holding: str) -> list[str]:
        """The names of the directories here that hold the file `holding`, sorted."""

    def put(self, name: str, files: Mapping[str, bytes], *, last: str) -> None:
        """Write a directory of files. A reader that finds the file `last` finds all the others."""

    def replace(self, name: str, content: bytes) -> None:
        """Write a file so that a reader finds the old content or the new."""

    def create(self, name: str, content: bytes) -> bool:
        """Write a file if there is none of that name, whole or not at all. Of several writers one
        gets True; for the others nothing has changed."""

    def files(self) -> list[str]:
        """The names of the files here, sorted; none if there is no such directory."""

    def remove(self, name: str, *, first: str) -> None:
        """Remove a directory of files, the file `first` before all others: who finds it finds
        the others too. Does nothing if there is none."""


def place(named: str) -> Place:
    """The place at a path or URL; nothing is read yet.

    Raises `SettingsError` if the URL can't be one, or the library for its store is not installed.

    >>> str(place("file:///srv/models"))
    '/srv/models'
    """
    if "://" not in named:
        return LocalPlace(Path(named))
    url = urlsplit(named)
    if url.scheme == "file":
        if url.netloc not in {"", "localhost"}:
            raise SettingsError(
                f"{named} names a machine, {url.netloc}. Write three slashes: file:///directory."
            )
        return LocalPlace(Path(unquote(url.path)))
    from models.objects import object_place  # noqa: PLC0415  (needs the extra `objects`)

    return object_place(named)


def at(where: Path | Place) -> Place:
    """The place of a path; a place as it is."""
    return LocalPlace(where) if isinstance(where, Path) else where


@dataclass(frozen=True)
class LocalPlace:
    """A directory of this machine, or a shared one that is mounted."""

    path: Path
    poll_seconds: ClassVar[float] = 1.0  # a stat and a read of one line: cheap on any disk

    def __str__(self) -> str:
        return str(self.path)

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def parent(self) -> LocalPlace:
        return LocalPlace(self.path.parent)

    def __truediv__(self, name: str) -> LocalPlace:
        return LocalPlace(self.path / name)

    def read(self, name: str) -> bytes:
        return (self.path / name).read_bytes()

    def holds(self, name: str) -> bool:
        return (self.path / name).exists()

    def stamp(self, names: Iterable[str]) -> Hashable:
        """Size and time of each file."""
        found: list[tuple[int, int] | None] = []
        for name in names:
            try:
                status = (self.path / name).stat()
            except OSError:
                found.append(None)
            else:
                found.append((status.st_size, status.st_mtime_ns))
        return tuple(found)

    def directories(self, holding: str) -> list[str]:
        found = (path.parent.name for path in self.path.glob(f"*/{holding}"))
        return sorted(name for name in found if not name.startswith("."))

    def put(self, name: str, files: Mapping[str, bytes], *, last: str) -> None:
        """The directory appears at once and complete; an older one is replaced."""
        self.path.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=_STAGING, dir=self.path))
        self._clear_abandoned(staging)
        try:
            for file, content in files.items():
                (staging / file).write_bytes(content)
            staging.chmod(0o755)
            target = self.path / name
            if target.exists():
                shutil.rmtree(target)
            staging.rename(target)
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def replace(self, name: str, content: bytes) -> None:
        with self._written(content) as fresh:
            os.replace(fresh, self.path / name)

    def create(self, name: str, content: bytes) -> bool:
        with self._written(content) as fresh:
            try:
                os.link(fresh, self.path / name)  # unlike a rename, it replaces nothing
            except FileExistsError:
                return False
        return True

    def files(self) -> list[str]:
        if not self.path.is_dir():
            return []
        found = (path.name for path in self.path.iterdir() if path.is_file())
        return sorted(name for name in found if not name.startswith("."))

    def remove(self, name: str, *, first: str) -> None:
        (self.path / name / first).unlink(missing_ok=True)
        shutil.rmtree(self.path / name, ignore_errors=True)

    def _clear_abandoned(self, fresh: Path) -> None:
        """Remove what writers left here that were killed an hour or more before `fresh` was made.
        Another process may be writing now, but none takes an hour; both times are the disk's."""
        limit = fresh.stat().st_mtime - _ABANDONED_SECONDS
        for path in self.path.glob(f"{_STAGING}*"):
            with contextlib.suppress(OSError):  # gone meanwhile, or not ours to remove
                if path.lstat().st_mtime >= limit:
                    continue
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink()

    @contextlib.contextmanager
    def _written(self, content: bytes) -> Iterator[Path]:
        """A file with this content beside those that are read, for as long as the block takes."""
        self.path.mkdir(parents=True, exist_ok=True)
        handle, path = tempfile.mkstemp(prefix=_STAGING, dir=self.path)
        fresh = Path(path)
        self._clear_abandoned(fresh)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            fresh.chmod(0o644)
            yield fresh
        finally:
            fresh.unlink(missing_ok=True)
