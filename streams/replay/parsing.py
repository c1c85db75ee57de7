"""Reads the texts and numbers of a user's file as times, amounts and ids."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, tzinfo
from math import isfinite, isnan
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from schemas.errors import SettingsError

__all__ = ["identifier", "money", "time_reader", "zone"]

_SECONDS_BELOW = 100_000_000_000  # as seconds the year 5138, as milliseconds 1973


def zone(name: str | None) -> tzinfo:
    """The time zone of times that name none. Raises SettingsError for an unknown one."""
    if name is None:
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as unknown:
        raise SettingsError(
            f"--tz {name!r} is no time zone; use one such as Europe/Berlin."
        ) from unknown


def time_reader(tz: tzinfo, pattern: str | None = None) -> Callable[[Any], int]:
    """A function from a cell to epoch milliseconds; it raises ValueError for what is no time.

    Texts are ISO 8601 (or `pattern`, as strptime has it); numbers are epoch seconds, or
    milliseconds from 100,000,000,000 on. Times without a zone are in `tz`.

    >>> read = time_reader(UTC)
    >>> read("2024-03-01 12:00"), read("2024-03-01T13:00+01:00"), read(1709294400)
    (1709294400000, 1709294400000, 1709294400000)
    """

    def from_datetime(moment: datetime) -> int:
        aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=tz)
        return round(aware.timestamp() * 1000)

    def from_number(number: float) -> int:
        if not isfinite(number):
            raise ValueError(f"{number} is no time")
        return round(number * 1000 if abs(number) < _SECONDS_BELOW else number)

    def read(cell: Any) -> int:
        if isinstance(cell, datetime):
            return from_datetime(cell)
        if isinstance(cell, date):
            return from_datetime(datetime(cell.year, cell.month, cell.day))
        if isinstance(cell, int | float) and not isinstance(cell, bool):
            return from_number(cell)
        text = str(cell if cell is not None else "").strip()
        if pattern is not None:
            return from_datetime(datetime.strptime(text, pattern))
        # Twelve digits or so are an epoch; eight are an ISO date without dashes.
        if len(text) > 8 and text.replace(".", "", 1).isdigit():
            return from_number(float(text))
        try:
            return from_datetime(datetime.fromisoformat(text))
        except ValueError:
            raise ValueError(
                f"{text!r} is no time (ISO 8601 or an epoch; else use --time-format)"
            ) from None

    return read


def money(cell: Any) -> float:
    """A finite number; a decimal comma is read as such. Raises ValueError.

    >>> money("12,50"), money("1,234.5"), money(3), money("-4")
    (12.5, 1234.5, 3.0, -4.0)
    """
    if isinstance(cell, str):
        text = cell.strip()
        comma, point = text.rfind(","), text.rfind(".")
        if point < 0 and comma >= 0 and len(text) - comma == 4:
            raise ValueError(f"{text!r} may be a thousand or a decimal; write it without the comma")
        if comma > point:  # 12,50 and 1.234,50
            text = text.replace(".", "").replace(",", ".")
        elif comma >= 0:
            text = text.replace(",", "")
        cell = text
    try:
        number = float(cell)
    except (TypeError, ValueError):
        raise ValueError(f"{cell!r} is no number") from None
    if not isfinite(number):
        raise ValueError(f"{cell!r} is no number")
    return number


def identifier(cell: Any) -> str:
    """An id as text, "" for none. Columns with gaps become floats elsewhere: 17850.0 is 17850."""
    if cell is None:
        return ""
    if isinstance(cell, float):
        return str(int(cell)) if cell.is_integer() else ("" if isnan(cell) else str(cell))
    return str(cell).strip()
