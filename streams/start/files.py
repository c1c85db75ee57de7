"""The files that a start leaves: written whole or not at all, and secrets for their user alone."""

from __future__ import annotations

import contextlib
import os
import tempfile
import tomllib
from pathlib import Path
from typing import Final

from schemas.errors import SettingsError
from streams.start.document import document
from streams.start.questions import Value

__all__ = ["draft_of", "read_draft", "secret_file", "write_draft", "write_whole"]

_DRAFT: Final = (
    "Answers given to `tideline start` so far. The next `tideline start` continues from here, and\n"
    "removes this file at the end. Delete it to begin again."
)


def draft_of(target: Path) -> Path:
    """Where the answers are kept until `target` is written."""
    return target.with_name(f"{target.name}.draft")


def secret_file(target: Path, key: str) -> Path:
    """Where a password is kept beside `target`: `tideline.clickhouse-password`."""
    return target.with_name(f"{target.stem}.{key.replace('.', '-')}")


def read_draft(target: Path) -> dict[str, Value]:
    """The answers of an earlier start; none if there is no draft. Raises SettingsError."""
    draft = draft_of(target)
    try:
        tables = tomllib.loads(draft.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise SettingsError(f"{draft} can't be read: {error}. Delete it to begin again.") from error
    return {
        f"{table}.{name}": value
        for table, entries in tables.items()
        if isinstance(entries, dict)
        for name, value in entries.items()
        if isinstance(value, str | int | float)
    }


def write_draft(target: Path, values: dict[str, Value]) -> None:
    """Keep these answers. Raises OSError."""
    write_whole(draft_of(target), document(values, _DRAFT))


def write_whole(path: Path, text: str, *, private: bool = False) -> None:
    """Write a file so that it is there whole or as it was before, also after a crash.

    `private`: for this user only (0600); else as the umask says, or as the file was. Raises
    OSError, which names `path`.
    """
    path = path.resolve()  # a link stays one
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        mode = 0o600 if private else _mode(path)
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}.", delete=False
        ) as fresh:
            try:
                os.fchmod(fresh.fileno(), mode)
                fresh.write(text)
                fresh.flush()
                os.fsync(fresh.fileno())
                os.replace(fresh.name, path)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(fresh.name)
                raise
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def _mode(path: Path) -> int:
    with contextlib.suppress(FileNotFoundError):
        return path.stat().st_mode & 0o777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask
