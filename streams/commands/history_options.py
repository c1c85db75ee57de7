"""The options that say how a file of orders is read, and the report: the same in every command."""
# ruff: noqa: PLC0415  (heavy imports wait until the command runs)

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from schemas.errors import SettingsError

if TYPE_CHECKING:
    from streams.history.report import Report
    from streams.history.source import EventHistory, OrderHistory

__all__ = ["history_options", "print_report", "read_orders", "take_history_options"]

_Command = TypeVar("_Command", bound=Callable[..., Any])
_OPTIONS = (
    click.option("--map", "mapping", default="", metavar="FIELD=COLUMN,...",
                 help="Columns of the file: user, timestamp, amount, order and others; usual names "
                 "and known exports are found without."),
    click.option("--tz", metavar="ZONE", help="Zone of times that name none.  [default: UTC]"),
    click.option("--time-format", metavar="FORMAT",
                 help="How times are written (strptime), if nothing usual fits."),
    click.option("--dates", type=click.Choice(["day-first", "month-first", "year-first"]),
                 help="How to read dates such as 03/04/2024, if the file doesn't settle it."),
    click.option("--decimal", type=click.Choice(["point", "comma"]),
                 help="Which sign is the decimal one, if the file doesn't settle it."),
    click.option("--amount-per", type=click.Choice(["order", "line"]),
                 help="Whether amounts are an order's, repeated on its rows, or a line's."),
    click.option("--only", multiple=True, metavar="COLUMN=VALUE,...",
                 help="Read only the rows with such a value, as event_type=purchase."),
    click.option("--count-status", multiple=True, metavar="STATUS,...",
                 help="Statuses that count as orders, such as pending or authorized."),
    click.option("--guests", multiple=True, metavar="ID,...",
                 help="User ids that stand for guests, beside 0, NULL and the like."),
    click.option("--encoding", metavar="NAME", help="Of a text file, if it is not as it looks."),
    click.option("--sheet", metavar="NAME", help="Of an Excel file with several."),
    click.option("--strict", is_flag=True, help="Stop if any row is left out."),
    click.option("--max-left-out", type=click.FloatRange(0, 1), default=0.05, show_default=True,
                 metavar="SHARE", help="Stop if more of the rows than this can't be used."),
)  # fmt: skip
_NAMES = frozenset(
    ("mapping", "tz", "time_format", "dates", "decimal", "amount_per", "only", "count_status",
     "guests", "encoding", "sheet", "strict", "max_left_out")
)  # fmt: skip


def history_options(command: _Command) -> _Command:
    """Adds the options to a command; they arrive in its `**options`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def take_history_options(options: dict[str, Any]) -> dict[str, Any]:
    """The options of `history_options`, taken out of `options`."""
    return {name: options.pop(name) for name in _NAMES if name in options}


def read_orders(path: Path, options: dict[str, Any]) -> OrderHistory | EventHistory:
    """The orders in a file, checked. Raises SettingsError."""
    try:
        from streams.history.read import read
        from streams.history.table import ReadOptions
    except ModuleNotFoundError as missing:
        raise SettingsError(
            f"Reading a file of orders needs {missing.name}, which is not installed. "
            "Run: pip install 'tideline[local]'"
        ) from missing
    from streams.history.fields import parse_map, plain

    found = read(
        path,
        ReadOptions(
            given=parse_map(options["mapping"]),
            tz=options["tz"],
            time_format=options["time_format"],
            dates=options["dates"],
            decimal=options["decimal"],
            amount_per=options["amount_per"],
            only=_only(options["only"]),
            counted=frozenset(plain(word) for word in _words(options["count_status"])),
            guests=frozenset(word.lower() for word in _words(options["guests"])),
            encoding=options["encoding"],
            sheet=options["sheet"],
        ),
        int(time.time() * 1000),
    )
    found.report.check(strict=options["strict"], max_share=options["max_left_out"])
    return found


def print_report(report: Report) -> None:
    """The report as a table on stdout."""
    from streams.commands.support import print_table

    print_table(("HISTORY", ""), report.lines())


def _words(given: tuple[str, ...]) -> list[str]:
    return [word.strip() for text in given for word in text.split(",") if word.strip()]


def _only(given: tuple[str, ...]) -> dict[str, frozenset[str]]:
    found: dict[str, frozenset[str]] = {}
    for text in given:
        column, equals, values = (part.strip() for part in text.partition("="))
        if not column or not equals or not values:
            raise SettingsError(f"--only: {text!r} is not COLUMN=VALUE, as event_type=purchase.")
        words = frozenset(word.lower() for word in _words((values,)))
        found[column] = found.get(column, frozenset()) | words
    return found
