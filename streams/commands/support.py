"""What all commands share: settings, tables, JSON, and one line per error."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from streams.settings import Settings, load

__all__ = ["Invocation", "json_option", "pass_invocation", "print_json", "print_table"]


@dataclass
class Invocation:
    """One run of `tideline`: its global options, and the settings, loaded on first use."""

    config: Path | None = None
    debug: bool = False
    _settings: Settings | None = field(default=None, repr=False)

    @property
    def settings(self) -> Settings:
        """The effective settings. Raises SettingsError."""
        if self._settings is None:
            self._settings = load(os.environ, self.config)
        return self._settings

    def start_logging(self) -> Settings:
        """For commands that run on: set logging up as the settings say, and return them."""
        from streams.telemetry.logs import configure  # noqa: PLC0415

        log = self.settings.log
        configure("debug" if self.debug else log.level, log.format)
        return self.settings


pass_invocation = click.make_pass_decorator(Invocation, ensure=True)

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]], title: str = "") -> None:
    """A table on stdout; full width where the output is no terminal, so that grep finds all."""
    from rich.console import Console  # noqa: PLC0415  (a tenth of a second)
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    console = Console()
    if not console.is_terminal:
        console = Console(width=240)
    table = Table(title=title or None, title_justify="left", box=None, pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))  # Text: values may hold [brackets], which are no markup
    console.print(table)
