"""Reads the file of destinations: who gets which audiences, in which format, with which secret.

The file is TOML and reviewed like code: a secret is never in it, but the name of the environment
variable or file that holds it. All problems are reported together.
"""

from __future__ import annotations

import ipaddress
import re
import ssl
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from schemas.errors import SettingsError
from streams.settings import Secret

__all__ = ["FORMATS", "Destination", "load_destinations", "read_destinations"]

FORMATS: Final = ("webhook", "klaviyo", "braze")
_NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,39}")
_AUDIENCE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,99}")
_LONGEST_FILE_BYTES: Final = 256 * 1024
_MOST: Final = 50
_KLAVIYO: Final = "https://a.klaviyo.com"
_REVISION: Final = "2026-10-15"
_SHORTEST_SECRET: Final = 16


@dataclass(frozen=True)
class Destination:
    """One system that gets changes of audiences.

    secrets: what signs (webhook; the present one first), or the API key alone.
    audiences: which it gets; None: all.
    lists: Klaviyo: audience -> id of the list that follows it.
    attribute: Braze: the array attribute that holds the names of a person's audiences.
    """

    name: str
    format: str
    url: str
    secrets: tuple[Secret, ...]
    audiences: frozenset[str] | None = None
    lists: Mapping[str, str] = field(default_factory=dict)
    attribute: str = "tideline_audiences"
    revision: str = _REVISION
    create_profiles: bool = False
    timeout_seconds: float = 10.0
    batch: int = 100
    ca_file: str = ""
    """CA bundle (PEM) that signs its certificate; '': the system's."""

    def takes(self, audience: str) -> bool:
        return self.audiences is None or audience in self.audiences


# key -> type, and the formats that have it
_KEYS: Final[dict[str, tuple[type | tuple[type, ...], tuple[str, ...]]]] = {
    "format": (str, FORMATS),
    "url": (str, FORMATS),
    "secret_env": (str, FORMATS),
    "secret_file": (str, FORMATS),
    "previous_secret_env": (str, ("webhook",)),
    "previous_secret_file": (str, ("webhook",)),
    "audiences": (list, FORMATS),
    "timeout_seconds": ((int, float), FORMATS),
    "batch": (int, ("webhook",)),
    "allow_http": (bool, FORMATS),
    "ca_file": (str, FORMATS),
    "lists": (dict, ("klaviyo",)),
    "revision": (str, ("klaviyo",)),
    "create_profiles": (bool, ("klaviyo", "braze")),
    "attribute": (str, ("braze",)),
}


def load_destinations(path: str, environ: Mapping[str, str]) -> tuple[Destination, ...]:
    """The destinations of a file. Raises SettingsError with every problem at once."""
    if not path:
        raise SettingsError(
            "TIDELINE_DELIVER_DESTINATIONS_FILE is not set: name the file that says where changes "
            "of audiences go; docs/audiences.md has an example."
        )
    try:
        raw = Path(path).read_bytes()
    except OSError as error:
        raise SettingsError(
            f"{path} (TIDELINE_DELIVER_DESTINATIONS_FILE) can't be read: {error.strerror}. Name a "
            "file that this user may read."
        ) from None
    return read_destinations(raw, path, environ)


def read_destinations(raw: bytes, path: str, environ: Mapping[str, str]) -> tuple[Destination, ...]:
    """The destinations in a file's bytes; `path` is for messages. Secrets are read here."""
    try:
        if len(raw) > _LONGEST_FILE_BYTES:
            raise ValueError(f"it has more than {_LONGEST_FILE_BYTES:,} bytes")
        document = tomllib.loads(raw.decode())
    except ValueError as error:  # tomllib's and a decoder's are some
        raise SettingsError(f"{path} is no TOML that can be used: {error}. Correct it.") from None
    problems = [
        f"{key}: expected only tables such as [destinations.crm]"
        for key in sorted(set(document) - {"destinations"})
    ]
    tables = document.get("destinations")
    if not isinstance(tables, dict) or not tables:
        problems.append("there is no table such as [destinations.crm]")
        tables = {}
    if len(tables) > _MOST:
        problems.append(f"{len(tables)} destinations; at most {_MOST} fit into one process")
    found = [_Reader(name, table, environ, problems).read() for name, table in tables.items()]
    if problems:
        lines = "\n".join(f"  {problem}" for problem in problems)
        raise SettingsError(
            f"{path} can't be used:\n{lines}\nCorrect it and start again; docs/audiences.md says "
            "what each line means."
        )
    return tuple(each for each in found if each is not None)


class _Reader:
    """One table. Its problems are added to a list, each with the table and key."""

    def __init__(
        self, name: str, table: Any, environ: Mapping[str, str], problems: list[str]
    ) -> None:
        self._name, self._environ, self._problems = name, environ, problems
        self._table: dict[str, Any] = table if isinstance(table, dict) else {}
        if not _NAME.fullmatch(name):
            self._wrong("", "a name is a small letter, then at most 39 small letters, digits, _ -")
        if not isinstance(table, dict):
            self._wrong("", "expected a table")

    def _wrong(self, key: str, problem: str) -> None:
        self._problems.append(f"[destinations.{self._name}]{f' {key}' if key else ''}: {problem}")

    def read(self) -> Destination | None:
        before = len(self._problems)
        kind = self._table.get("format")
        if kind not in FORMATS:
            self._wrong("format", f"expected one of {', '.join(FORMATS)}")
            return None
        for key, value in self._table.items():
            self._check(key, value, kind)
        secrets = self._secrets(kind)
        url = self._url(kind)
        timeout, batch = self._table.get("timeout_seconds", 10.0), self._table.get("batch", 100)
        if isinstance(timeout, int | float) and not 0.1 <= timeout <= 300:
            self._wrong("timeout_seconds", "expected a number from 0.1 to 300")
        if isinstance(batch, int) and not 1 <= batch <= 1_000:
            self._wrong("batch", "expected a whole number from 1 to 1,000")
        audiences, lists = self._audiences(), self._lists()
        attribute = self._table.get("attribute", "tideline_audiences")
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_ ]{0,99}", str(attribute)):
            self._wrong("attribute", "expected letters, digits and _, not starting with a digit")
        revision = str(self._table.get("revision", _REVISION))
        if not re.fullmatch(r"\d{4}-\d\d-\d\d(\.\w+)?", revision):
            self._wrong("revision", f"expected a date such as {_REVISION}")
        ca_file = self._ca_file()
        if len(self._problems) > before:
            return None
        return Destination(
            self._name, kind, url, secrets, audiences, lists, attribute, revision,
            bool(self._table.get("create_profiles", False)), float(timeout), int(batch),
            ca_file,
        )  # fmt: skip

    def _check(self, key: str, value: Any, kind: str) -> None:
        if key not in _KEYS:
            hint = ""
            if key in ("secret", "key", "api_key", "token", "password"):
                hint = "; a secret is not in this file: name it by secret_env or secret_file"
            self._wrong(key, f"there is no such key{hint or '; see docs/audiences.md'}")
            return
        types, formats = _KEYS[key]
        if kind not in formats:
            self._wrong(key, f"format {kind} does not have it; {' and '.join(formats)} do")
        is_number = types in (int, (int, float))
        if not isinstance(value, types) or (is_number and isinstance(value, bool)):
            wanted = types[-1] if isinstance(types, tuple) else types
            words = {str: "text", list: "a list", int: "a whole number", float: "a number",
                     bool: "true or false", dict: "a table"}  # fmt: skip
            self._wrong(key, f"expected {words[wanted]}")

    def _secrets(self, kind: str) -> tuple[Secret, ...]:
        first = self._secret("secret")
        if first is None and not {"secret_env", "secret_file"} & set(self._table):
            what = "what signs the requests" if kind == "webhook" else "the API key"
            self._wrong("secret_env", f"missing: name the environment variable with {what}")
        return tuple(s for s in (first, self._secret("previous_secret")) if s is not None)

    def _secret(self, which: str) -> Secret | None:
        variable, file = self._table.get(f"{which}_env"), self._table.get(f"{which}_file")
        if variable is not None and file is not None:
            self._wrong(f"{which}_env", f"set together with {which}_file; set only one of them")
            return None
        if isinstance(variable, str):
            return self._from_environment(f"{which}_env", variable)
        if isinstance(file, str):
            try:
                text = Path(file).read_text(encoding="utf-8").rstrip("\r\n")
            except (OSError, UnicodeDecodeError) as error:
                why = getattr(error, "strerror", None) or "not UTF-8 text"
                self._wrong(f"{which}_file", f"{file} can't be read: {why}")
                return None
            return self._usable(f"{which}_file", text)
        return None

    def _from_environment(self, key: str, variable: str) -> Secret | None:
        if variable.startswith("TIDELINE_"):
            self._wrong(key, f"{variable}: names with TIDELINE_ are settings; choose another one")
            return None
        if variable not in self._environ:
            self._wrong(key, f"the environment variable {variable} is not set")
            return None
        return self._usable(key, self._environ[variable])

    def _usable(self, key: str, text: str) -> Secret | None:
        if len(text) < _SHORTEST_SECRET or not text.isprintable() or " " in text:
            self._wrong(
                key, f"the secret needs at least {_SHORTEST_SECRET} characters, all printable and "
                "none of them blank",
            )  # fmt: skip
            return None
        return Secret(text)

    def _url(self, kind: str) -> str:
        url = self._table.get("url", _KLAVIYO if kind == "klaviyo" else "")
        if not isinstance(url, str):
            return ""
        if not url:
            self._wrong("url", "missing")
            return ""
        try:
            parts = urlsplit(url)
            host, _ = parts.hostname, parts.port
        except ValueError:
            host = None
        is_plain = url.isascii() and url.isprintable() and " " not in url
        if not host or parts.scheme not in ("http", "https") or not is_plain:
            self._wrong("url", "expected https://host/path")
            return ""
        if parts.username or parts.password or parts.fragment:
            self._wrong("url", "a login or a fragment is not allowed in it")
        if kind != "webhook" and (parts.path.strip("/") or parts.query):
            self._wrong("url", "expected only https://host: the API's paths are known")
        if parts.scheme == "http" and not _is_loopback(host) and not self._table.get("allow_http"):
            self._wrong(
                "url", "http would show people and keys to the network: use https, or say "
                "allow_http = true",
            )  # fmt: skip
        return url if kind == "webhook" else url.rstrip("/")

    def _ca_file(self) -> str:
        path = self._table.get("ca_file", "")
        if path and isinstance(path, str):
            try:
                ssl.create_default_context(cafile=path)
            except (OSError, ValueError) as error:  # of OpenSSL, too
                why = getattr(error, "strerror", None) or error
                self._wrong("ca_file", f"{path} can't be used: {why}; name a PEM file")
        return str(path)

    def _audiences(self) -> frozenset[str] | None:
        given = self._table.get("audiences")
        if given is None:
            self._wrong("audiences", 'missing: a list of names, or ["*"] for all')
            return frozenset()
        if not isinstance(given, list):
            return frozenset()
        if given == ["*"]:
            return None
        if not given or not all(isinstance(a, str) and _AUDIENCE.fullmatch(a) for a in given):
            self._wrong("audiences", 'expected a list of names, or ["*"] for all')
        return frozenset(str(each) for each in given)

    def _lists(self) -> dict[str, str]:
        given = self._table.get("lists", {})
        if not isinstance(given, dict):
            return {}
        for audience, number in given.items():
            if not isinstance(number, str) or not re.fullmatch(r"[A-Za-z0-9]{1,40}", number):
                self._wrong(f"lists.{audience}", "expected the id of a list, such as VRgFBd")
        return {str(audience): str(number) for audience, number in given.items()}


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
