"""The file of tokens: who may come in, by the hash of a secret, and in which roles.

    [tokens.anna]
    sha256 = "…"             # `tideline console token anna --role marketing` prints an entry
    roles = ["marketing"]
    expires = 2027-06-30     # optional

    [tokens.our_site]        # a program: it opens no page, and asks /v1 within its scopes
    sha256 = "…"
    scopes = ["users", "ids"]

The file is read again when it has changed, so that a token can be taken away at once.
"""

from __future__ import annotations

import logging
import re
import tomllib
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final

from schemas.errors import SettingsError
from streams.console.access import ROLES, SCOPES, Token

__all__ = ["Tokens", "read_tokens"]

_log = logging.getLogger(__name__)
_HASH: Final = re.compile(r"[0-9a-f]{64}")
_NAME: Final = re.compile(r"[^\x00-\x1f\x7f]{1,200}")


class Tokens:
    """The entries of a file as it is now."""

    def __init__(self, path: Path) -> None:
        """Raises SettingsError if the file can't be used."""
        self._path = path
        self._entries = read_tokens(path)
        self._seen = self._stamp()

    def entries(self) -> tuple[Token, ...]:
        """A file that has become unreadable lets nobody in, until it is mended."""
        stamp = self._stamp()
        if stamp != self._seen:
            self._seen = stamp
            try:
                self._entries = read_tokens(self._path)
                _log.info("the file of tokens has changed: %d entries", len(self._entries))
            except SettingsError as error:
                self._entries = ()
                _log.error("nobody is let in: %s", error)
        return self._entries

    def _stamp(self) -> tuple[int, int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino


def read_tokens(path: Path) -> tuple[Token, ...]:
    """All entries. Raises SettingsError with every mistake."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise _wrong(path, [f"can't be read: {error.strerror}"]) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise _wrong(path, [f"is not valid TOML: {error}"]) from None
    problems = [
        f"{key}: no such table; there is [tokens.NAME]" for key in document if key != "tokens"
    ]
    entries = document.get("tokens", {})
    found = []
    if not isinstance(entries, dict) or not entries:
        problems.append("has no [tokens.NAME]: nobody could come in")
        entries = {}
    for name, entry in entries.items():
        token = _token(name, entry, problems)
        if token is not None:
            found.append(token)
    if problems:
        raise _wrong(path, problems)
    return tuple(found)


def _token(name: str, entry: Any, problems: list[str]) -> Token | None:
    where = f"[tokens.{name}]"
    before = len(problems)
    if not isinstance(entry, dict) or not _NAME.fullmatch(name):
        problems.append(f"{where}: expected a table of a printable name")
        return None
    if "token" in entry:
        problems.append(
            f"{where}: holds a token itself; put its hash in sha256, and make a new one"
        )
    unknown = sorted(entry.keys() - {"sha256", "roles", "scopes", "expires", "token"})
    if unknown:
        problems.append(f"{where}: no such key: {', '.join(unknown)}")
    digest, expires = entry.get("sha256"), entry.get("expires")
    if not isinstance(digest, str) or not _HASH.fullmatch(digest):
        problems.append(
            f"{where} sha256: expected 64 hex digits; `tideline console token` makes them"
        )
    roles = _names(where, entry, "roles", ROLES, problems)
    scopes = _names(where, entry, "scopes", SCOPES, problems)
    if not {"roles", "scopes"} & entry.keys():
        problems.append(f"{where}: has neither roles, for a person, nor scopes, for a program")
    if expires is not None and not isinstance(expires, date):
        problems.append(f"{where} expires: expected a date, such as 2027-06-30")
    if len(problems) > before:
        return None
    return Token(name, str(digest), roles, _end_ms(expires), scopes)


def _names(
    where: str, entry: dict[str, Any], key: str, known: tuple[str, ...], problems: list[str]
) -> frozenset[str]:
    found = entry.get(key)
    if found is None:
        return frozenset()
    if not isinstance(found, list) or not found or not set(map(str, found)) <= set(known):
        problems.append(f"{where} {key}: expected a list of {', '.join(known)}")
        return frozenset()
    return frozenset(map(str, found))


def _end_ms(expires: date | None) -> int:
    """A date ends with its day, UTC; 0: never."""
    if expires is None:
        return 0
    if isinstance(expires, datetime):
        at = expires if expires.tzinfo else expires.replace(tzinfo=UTC)
        return int(at.timestamp() * 1000)
    day = datetime(expires.year, expires.month, expires.day, tzinfo=UTC)
    return int(day.timestamp() * 1000) + 86_400_000


def _wrong(path: Path, problems: list[str]) -> SettingsError:
    lines = "\n".join(f"  {problem}" for problem in problems)
    return SettingsError(f"TIDELINE_CONSOLE_TOKENS_FILE: {path}:\n{lines}\nCorrect it.")
