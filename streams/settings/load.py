"""Reads the settings once, at the edge, and shows them: environment over file over default."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from streams.settings.checks import across
from streams.settings.reader import (
    CONFIG_ENV,
    DEFAULT,
    Secret,
    allowed,
    env_name,
    read,
    secret_file_names,
    settings_error,
)
from streams.settings.sections import SECTIONS, Settings

__all__ = [
    "SettingRow",
    "allowed_of",
    "as_environ",
    "as_given",
    "describe",
    "load",
    "override",
    "secret_files",
]


@dataclass(frozen=True)
class SettingRow:
    """One setting as people see it: `value` and `default` as text, secrets masked."""

    name: str
    env: str
    value: str
    origin: str
    help: str
    table: str
    default: str
    allowed: str


def load(environ: Mapping[str, str], file: Path | None = None) -> Settings:
    """The effective settings. Raises SettingsError with every problem at once.

    Without `file`, TIDELINE_CONFIG in `environ` names the TOML file; without both there is none.
    """
    if file is None and environ.get(CONFIG_ENV):
        file = Path(environ[CONFIG_ENV])
    settings, problems = _read(environ, file)
    problems += across(settings)
    if problems:
        raise settings_error(problems)
    return settings


def as_given(environ: Mapping[str, str], file: Path | None = None) -> Settings:
    """Settings, some of which may still be missing: rules between settings are not applied.

    Raises SettingsError if one is wrong by itself.
    """
    settings, problems = _read(environ, file)
    if problems:
        raise settings_error(problems)
    return settings


def _read(environ: Mapping[str, str], file: Path | None) -> tuple[Settings, list[str]]:
    values, origins, problems = read(SECTIONS, environ, file)
    return Settings(**values, origins=origins), problems


def override(settings: Settings, *, origin: str = "command", **values: Any) -> Settings:
    """The settings with some replaced, each as `<table>_<field>`, checked as if loaded.

    `override(settings, origin="tideline demo", kafka_partitions=8)`
    """
    changed = {env_name(name): _text(value) for name, value in values.items()}
    origins = dict(settings.origins) | dict.fromkeys(changed, origin)
    return replace(load(as_environ(settings) | changed), origins=origins)


def as_environ(settings: Settings) -> dict[str, str]:
    """Every setting as environment variables, secrets in clear: for a child process only."""
    return {
        env_name(table, item.name): _text(getattr(getattr(settings, table), item.name))
        for table, section in SECTIONS.items()
        for item in fields(section)
    }


def secret_files() -> list[str]:
    """The environment variables that name the file of a secret."""
    return secret_file_names(SECTIONS)


def describe(settings: Settings) -> list[SettingRow]:
    """One row per setting, in the order declared above."""
    return [
        SettingRow(
            name=item.name,
            env=env_name(table, item.name),
            value=_shown(getattr(getattr(settings, table), item.name)),
            origin=settings.origins.get(env_name(table, item.name), DEFAULT),
            help=item.metadata["help"],
            table=table,
            default=_shown(item.default),
            allowed=allowed(section, item),
        )
        for table, section in SECTIONS.items()
        for item in fields(section)
    ]


def allowed_of(table: str, name: str) -> str:
    """What a setting may be, in words."""
    section = SECTIONS[table]
    return allowed(section, section.__dataclass_fields__[name])


def _text(value: Any) -> str:
    if isinstance(value, Secret):
        return value.reveal()
    return str(value).lower() if isinstance(value, bool) else str(value)


def _shown(value: Any) -> str:
    return str(value) if isinstance(value, Secret) else _text(value)
