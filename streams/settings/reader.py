"""Reads frozen dataclasses from the environment and a TOML file, and reports all problems at once.

A section is a dataclass whose fields are made with `setting()`; field `broker_url` of the section
read from TOML table `[kafka]` is also `TIDELINE_KAFKA_BROKER_URL`. The environment wins over the
file, the file over the default. `streams.settings` says which settings there are.
"""

from __future__ import annotations

import difflib
import math
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_origin, get_type_hints

from schemas.errors import SettingsError

__all__ = [
    "ENV_PREFIX",
    "Rule",
    "Secret",
    "allowed",
    "env_name",
    "read",
    "secret_file_names",
    "setting",
    "settings_error",
]

ENV_PREFIX: Final = "TIDELINE_"
CONFIG_ENV: Final = "TIDELINE_CONFIG"
CACHE_ENV: Final = "TIDELINE_CACHE"  # where the local stack keeps downloads
TEST_PREFIX: Final = "TIDELINE_TEST_"  # for the test suite's own switches; never a setting
DEFAULT: Final = "default"
ENVIRONMENT: Final = "environment"


class Secret:
    """A value that never shows itself: `repr`, `str` and format are masked; `reveal()` is not."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __str__(self) -> str:
        return "********" if self._value else ""

    def __repr__(self) -> str:
        return f"Secret('{self}')"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self._value)


@dataclass(frozen=True)
class Rule:
    """Which values are allowed: `test` decides, `allowed` says it to people."""

    allowed: str
    test: Callable[[Any], bool]


def setting(default: Any, help: str, rule: Rule | None = None) -> Any:
    """A dataclass field that is a setting. `help` is one line and names the unit."""
    return field(default=default, metadata={"help": help, "rule": rule})


def env_name(*words: str) -> str:
    """The environment variable of a setting, from its table and field, joined or not.

    >>> env_name("kafka", "broker_url")
    'TIDELINE_KAFKA_BROKER_URL'
    >>> env_name("kafka_broker_url")
    'TIDELINE_KAFKA_BROKER_URL'
    """
    return ENV_PREFIX + "_".join(words).upper()


def settings_error(problems: list[str]) -> SettingsError:
    """One error for all problems, one per line."""
    count = "1 setting is wrong" if len(problems) == 1 else f"{len(problems)} settings are wrong"
    lines = "\n".join(f"  {problem}" for problem in problems)
    fix = "Correct them and start again; `tideline settings --help` says how they are read."
    return SettingsError(f"{count}:\n{lines}\n{fix}")


def read(
    sections: Mapping[str, type[Any]], environ: Mapping[str, str], file: Path | None
) -> tuple[dict[str, Any], dict[str, str], list[str]]:
    """All sections (by table name), the origin of each value (by environment name), the problems.

    A setting with a problem keeps its default, so that checks across settings can still run.
    """
    problems: list[str] = []
    tables = _read_toml(file, problems) if file else {}
    problems += _unknown_in_environment(sections, environ)
    problems += _unknown_in_file(sections, tables, file)
    origins: dict[str, str] = {}
    values: dict[str, Any] = {}
    for table, section in sections.items():
        found: dict[str, object] = {}
        kinds = get_type_hints(section)
        in_file = tables.get(table)
        for item in fields(section):
            name = env_name(table, item.name)
            try:
                value, origin = _value(
                    name,
                    item,
                    kinds[item.name],
                    environ,
                    in_file if isinstance(in_file, dict) else {},
                    file,
                )
            except ValueError as problem:
                problems.append(f"{name}: {problem}")
                value, origin = item.default, DEFAULT
            found[item.name], origins[name] = value, origin
        values[table] = section(**found)
    return values, origins, problems


def _value(
    name: str,
    item: Field[Any],
    kind: Any,
    environ: Mapping[str, str],
    in_file: Mapping[str, object],
    file: Path | None,
) -> tuple[object, str]:
    """The value of one setting and where it came from; ValueError says what is wrong with it."""
    path_name = f"{name}_FILE"
    if kind is Secret and path_name in environ:
        if name in environ:
            raise ValueError(f"set together with {path_name}; set only one of them")
        path = Path(environ[path_name])
        try:
            return Secret(path.read_text(encoding="utf-8").rstrip("\r\n")), f"file {path}"
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "not UTF-8 text"
            raise ValueError(f"can't read {path} (from {path_name}): {why}") from None
    raw: object
    if name in environ:
        raw, origin, parse = environ[name], ENVIRONMENT, _from_text
    elif item.name in in_file:
        raw, origin, parse = in_file[item.name], f"file {file}", _from_toml
    else:
        return item.default, DEFAULT
    shown = "(secret)" if kind is Secret else repr(raw)
    value = parse(kind, raw)
    rule: Rule | None = item.metadata["rule"]
    if value is None or (rule is not None and not rule.test(value)):
        raise ValueError(f"got {shown} (from {origin}); expected {_allowed(kind, rule)}")
    return value, origin


_KIND_NAMES: Final[dict[Any, str]] = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    Secret: "text",
}
_BOOLEANS: Final = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def _allowed(kind: Any, rule: Rule | None) -> str:
    if rule is None:
        return _KIND_NAMES.get(kind) or " or ".join(get_args(kind))
    return rule.allowed.replace("a number", "a whole number") if kind is int else rule.allowed


def allowed(section: type[Any], item: Field[Any]) -> str:
    """What a setting may be, in words."""
    return _allowed(get_type_hints(section)[item.name], item.metadata["rule"])


def _from_text(kind: Any, raw: object) -> object | None:
    """An environment value as `kind`, or None where it is not one."""
    text = str(raw).strip()
    try:
        if kind is int:
            return int(text)
        if kind is float:
            return _finite(float(text))
    except ValueError:
        return None
    if kind is bool:
        return _BOOLEANS.get(text.lower())
    return Secret(str(raw)) if kind is Secret else _from_toml(kind, text)


def _from_toml(kind: Any, raw: object) -> object | None:
    """A TOML value as `kind`, or None where it is not one. TOML has types: nothing is guessed."""
    if get_origin(kind) is Literal:
        return raw if raw in get_args(kind) else None
    if kind is Secret:
        return Secret(raw) if isinstance(raw, str) else None
    if kind is float and isinstance(raw, int | float) and not isinstance(raw, bool):
        return _finite(float(raw))
    return raw if type(raw) is kind else None


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None


def _read_toml(file: Path, problems: list[str]) -> dict[str, object]:
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        problems.append(f"{CONFIG_ENV} / --config: can't read {file}: {error.strerror}")
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        problems.append(f"{CONFIG_ENV} / --config: {file} is not valid TOML: {error}")
    else:
        return document
    return {}


def _unknown_in_environment(
    sections: Mapping[str, type[Any]], environ: Mapping[str, str]
) -> list[str]:
    known = {CONFIG_ENV, CACHE_ENV, *map(env_name, _homes(sections)), *secret_file_names(sections)}
    unknown = [
        name
        for name in sorted(environ)
        if name.startswith(ENV_PREFIX) and name not in known and not name.startswith(TEST_PREFIX)
    ]
    words = {name.removeprefix(ENV_PREFIX): name for name in known}
    return [
        f"{name}: no such setting (from {ENVIRONMENT})"
        + _hint(words.get(_nearest([name.removeprefix(ENV_PREFIX)], words)))
        for name in unknown
    ]


def _unknown_in_file(
    sections: Mapping[str, type[Any]], tables: Mapping[str, object], file: Path | None
) -> list[str]:
    homes, problems = _homes(sections), []

    def unknown(what: str, problem: str, hint: str) -> None:
        problems.append(f"{what}: {problem} (from file {file}){hint}")

    def setting_meant(*spellings: str) -> str:
        home = homes.get(_nearest(spellings, homes))
        return _hint(home and "[{}] {}".format(*home))

    for table, entries in tables.items():
        if not isinstance(entries, dict):
            if table in sections:
                unknown(f"[{table}]", "expected a table", "")
            else:
                unknown(table, "outside of any table", setting_meant(table))
        elif table not in sections:
            close = _nearest([table], sections)
            unknown(f"[{table}]", "no such table", _hint(close and f"[{close}]"))
        else:
            own = [item.name for item in fields(sections[table])]
            for key in (key for key in entries if key not in own):
                # A near miss within the table, unless it is another setting's whole name.
                near = "" if key in homes else _closest([key], own)
                spellings = (f"{table}_{near}",) if near else (key, f"{table}_{key}")
                unknown(f"[{table}] {key}", "no such setting", setting_meant(*spellings))
    return problems


def _homes(sections: Mapping[str, type[Any]]) -> dict[str, tuple[str, str]]:
    """`<table>_<field>` -> table and field, of every setting."""
    return {
        f"{table}_{item.name}": (table, item.name)
        for table, section in sections.items()
        for item in fields(section)
    }


def secret_file_names(sections: Mapping[str, type[Any]]) -> list[str]:
    """The environment variables that name the file of a secret."""
    return [
        f"{env_name(table, name)}_FILE"
        for table, section in sections.items()
        for name, kind in get_type_hints(section).items()
        if kind is Secret
    ]


def _nearest(spellings: Sequence[str], known: Iterable[str]) -> str:
    """The known name that is most likely meant, or nothing.

    It is one of the spellings, else the only one that ends in the first, else the closest.

    >>> _nearest(["broker_url"], ["kafka_broker_url", "kafka_app_id"])
    'kafka_broker_url'
    """
    names = list(known)
    for spelling in spellings:
        if spelling in names:
            return spelling
    ends = [name for name in names if name.endswith(f"_{spellings[0]}")]
    return ends[0] if len(ends) == 1 else _closest(spellings, names)


def _closest(spellings: Sequence[str], names: Sequence[str]) -> str:
    def likeness(pair: tuple[str, str]) -> float:
        return difflib.SequenceMatcher(None, *pair).ratio()

    close = [
        (spelling, name)
        for spelling in spellings
        for name in difflib.get_close_matches(spelling, names, n=1, cutoff=0.65)
    ]
    return max(close, key=likeness)[1] if close else ""


def _hint(meant: str | None) -> str:
    return f"; did you mean {meant}?" if meant else "; see `tideline settings`"
