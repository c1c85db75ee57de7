"""Reads a column of times as the whole of it shows: which order of day and month, which epoch.

`03/04/2024` may be in March or in April; `25/12/2023` in the same column settles it. What nothing
settles is asked for and never guessed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Any, Final, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from schemas.errors import SettingsError
from streams.history.calendar import DAY_MS, epoch_ms, local_ms, parts_of, zone_offsets_ms
from streams.history.rows import Cells, as_bools, as_floats, as_ints, cells_of

__all__ = [
    "EARLIEST_MS",
    "DateOrder",
    "TimeColumn",
    "TimeRules",
    "read_times",
    "read_times_in_zones",
    "zone",
]

DateOrder = Literal["day-first", "month-first", "year-first"]
EARLIEST_MS: Final = 788_918_400_000
"""1995: no shop's orders were online before, and what says so is a mistake (0, 1900, 1970)."""
UNREADABLE: Final = np.iinfo(np.int64).min
_ZONE_NAMES: Final = {
    "Eastern Time (US & Canada)": "America/New_York", "Arizona": "America/Phoenix",
    "Central Time (US & Canada)": "America/Chicago", "Hawaii": "Pacific/Honolulu",
    "Mountain Time (US & Canada)": "America/Denver", "Alaska": "America/Juneau",
    "Pacific Time (US & Canada)": "America/Los_Angeles", "Puerto Rico": "America/Puerto_Rico",
    "Indiana (East)": "America/Indiana/Indianapolis", "Saskatchewan": "America/Regina",
    "Atlantic Time (Canada)": "America/Halifax", "Newfoundland": "America/St_Johns",
    "London": "Europe/London", "Edinburgh": "Europe/London", "Dublin": "Europe/Dublin",
    "Paris": "Europe/Paris", "Madrid": "Europe/Madrid", "Tokyo": "Asia/Tokyo",
    "Osaka": "Asia/Tokyo", "Sapporo": "Asia/Tokyo", "Sydney": "Australia/Sydney",
    "Canberra": "Australia/Melbourne", "Melbourne": "Australia/Melbourne",
    "Brisbane": "Australia/Brisbane", "Perth": "Australia/Perth", "Hobart": "Australia/Hobart",
    "Adelaide": "Australia/Adelaide", "Darwin": "Australia/Darwin",
}  # fmt: skip
"""Names of zones as Rails has them (ActiveSupport::TimeZone), of the countries Square sells in."""
_PROBE: Final = timezone(timedelta(minutes=1))
CLEAR: Final = 10
"""So many values must speak for one reading for each that speaks against it."""


@dataclass(frozen=True)
class TimeRules:
    """How times are read: the zone of those that name none, what the user said, and the clock."""

    now_ms: int
    tz: tzinfo = UTC
    pattern: str | None = None
    """As strptime has it; then nothing else is tried."""
    dates: DateOrder | None = None


@dataclass(frozen=True)
class TimeColumn:
    """ms since 1970 UTC, int64 [n]; 0 where `blank` or `unreadable` (bool [n])."""

    ms: NDArray[np.int64]
    blank: NDArray[np.bool_]
    unreadable: NDArray[np.bool_]
    read_as: str
    """The choice in words."""


def zone(name: str | None) -> tzinfo:
    """The time zone of times that name none. Raises SettingsError for an unknown one."""
    if name is None:
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as unknown:
        raise SettingsError(
            f"--tz {name!r} is no time zone; use one such as Europe/Berlin."
        ) from unknown


def read_times(name: str, column: Any, rules: TimeRules, clock: Any = None) -> TimeColumn:
    """Read column `name`, a pyarrow Array [n]; `clock` is a column of times of day beside it.

    Raises SettingsError if the order of day and month can't be settled.
    """
    kind = column.type
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        if clock is None:
            return _typed(column, rules.tz)
        column = pc.strftime(column, "%Y-%m-%d")
    if clock is not None:
        column = _with_clock(column, clock)
    cells = cells_of(column)
    texts = cells.texts
    if rules.pattern is not None:
        ms, read_as = _by_pattern(cells.words(), rules), rules.pattern
    else:
        ms, read_as = _by_shape(name, texts, rules)
    padded = np.append(ms, UNREADABLE)
    found = padded[cells.codes]
    blank = cells.codes < 0
    unreadable = (found == UNREADABLE) & ~blank
    return TimeColumn(np.where(blank | unreadable, 0, found), blank, unreadable, read_as)


def read_times_in_zones(
    name: str, column: Any, rules: TimeRules, clock: Any, zones: Cells
) -> TimeColumn:
    """As `read_times`, where `zones` [n] names the zone of each row; `rules.tz` is that of rows
    without one.

    Raises SettingsError for a zone that is not known, unless a zone was said (`rules.tz` is not
    UTC): then that serves.
    """
    of_word = [_zone_named(word, rules.tz) for word in zones.words()] + [rules.tz]
    different = list(dict.fromkeys(of_word))
    number = {tz: i for i, tz in enumerate(different)}
    of_row = np.array([number[tz] for tz in of_word])[zones.codes]
    in_utc = read_times(name, column, replace(rules, tz=UTC), clock)
    probed = read_times(name, column, replace(rules, tz=_PROBE), clock)
    local = in_utc.ms != probed.ms  # a time that names its zone, or an epoch, is the same in both
    ms = in_utc.ms.copy()
    for i, tz in enumerate(different):
        rows = local & (of_row == i)
        ms[rows] -= zone_offsets_ms(in_utc.ms[rows], tz)
    return replace(in_utc, ms=ms)


def _zone_named(word: str, otherwise: tzinfo) -> tzinfo:
    try:
        return ZoneInfo(_ZONE_NAMES.get(word, word))
    except (ZoneInfoNotFoundError, ValueError, OSError) as unknown:
        if otherwise is not UTC:
            return otherwise
        raise SettingsError(
            f"{word!r} in the file is no time zone that is known. Say which zone its times are in: "
            "--tz, such as --tz America/New_York."
        ) from unknown


def _typed(column: Any, tz: tzinfo) -> TimeColumn:
    aware = pa.types.is_timestamp(column.type) and column.type.tz is not None
    blank = as_bools(column.is_null())
    ms = column.cast(pa.timestamp("ms", "UTC") if aware else pa.timestamp("ms"), safe=False)
    values = as_ints(ms.cast(pa.int64()).fill_null(0))
    if not aware:
        values = values - zone_offsets_ms(values, tz)
    return TimeColumn(np.where(blank, 0, values), blank, np.zeros(len(values), np.bool_), "times")


def _with_clock(day: Any, clock: Any) -> Any:
    """Dates and times of day as one text each; a date that has a time already keeps it."""
    texts = pc.cast(day, pa.large_string())
    times = pc.cast(pc.cast(clock, pa.string()), pa.large_string())
    space = pa.scalar(" ", pa.large_string())
    joined = pc.binary_join_element_wise(texts, times, space, null_handling="skip")
    has_time = pc.match_substring(texts, ":")
    is_time = pc.match_substring_regex(times, r"^\s*\d{1,2}:\d{2}")
    use = pc.and_(pc.fill_null(is_time, False), pc.invert(pc.fill_null(has_time, False)))
    return pc.if_else(use, joined, texts)


def _by_pattern(words: list[str], rules: TimeRules) -> NDArray[np.int64]:
    assert rules.pattern is not None  # noqa: S101  (the caller looked)
    found = np.full(len(words), UNREADABLE, np.int64)
    for i, word in enumerate(words):
        try:
            moment = datetime.strptime(word, rules.pattern)
            aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=rules.tz)
            found[i] = round(aware.timestamp() * 1000)
        except (ValueError, OverflowError):
            continue
    return found


_CLOCK: Final = (
    r"(?:(?:\s*[T,]\s*|\s+)(?P<H>\d{1,2})[:.h](?P<M>\d{2})(?:[:.](?P<S>\d{2})(?:[.,](?P<f>\d{1,9}))?)?"
    r"\s*(?P<p>[AaPp]\.?\s?[Mm]\.?)?)?"
    r"\s*(?P<z>[Zz]|(?:UTC|GMT)?\s?[+-]\d{1,2}:?\d{0,2}|[A-Za-z]{3,4})?(?:\s*\([^)]*\))?\s*$"
)
_WEEKDAY: Final = r"^(?:[A-Za-z]{2,9}\.?,?\s+)?"
_MONTH: Final = r"(?P<n>\p{L}{3,9})\.?"
_YEAR: Final = r"(?P<y>\d{4}|\d{2})"
_SHAPES: Final[Mapping[str, str]] = {
    "year-month-day": r"^(?P<y>\d{4})[-/.](?P<m>\d{1,2})[-/.](?P<d>\d{1,2})" + _CLOCK,
    "day, month by name": _WEEKDAY + r"(?P<d>\d{1,2})(?:st|nd|rd|th|\.)?[-/\s]*(?:of\s)?" + _MONTH
    + r"[-/,\s]*" + _YEAR + _CLOCK,
    "month by name, day": _WEEKDAY + _MONTH + r"[-/\s]*(?P<d>\d{1,2})(?:st|nd|rd|th)?[-/,\s]+"
    + _YEAR + _CLOCK,
    "YYYYMMDD": r"^(?P<y>(?:19|20)\d{2})(?P<m>0[1-9]|1[0-2])(?P<d>0[1-9]|[12]\d|3[01])"
    r"(?:[T ]?(?P<H>[01]\d|2[0-3])(?::?(?P<M>[0-5]\d))(?::?(?P<S>[0-5]\d)(?:\.?(?P<f>\d{1,6}))?)?)?"
    r"\s*(?P<z>[Zz]|[+-]\d{2}:?\d{2})?$",
}  # fmt: skip
_DIGITS: Final = r"^(?P<a>\d{1,2})(?P<s>[-/.\s])(?P<b>\d{1,2})[-/.\s](?P<c>\d{4}|\d{2})" + _CLOCK
_ORDERS: Final[Mapping[DateOrder, str]] = {
    "day-first": "abc", "month-first": "bac", "year-first": "cba"
}  # fmt: skip
"""Which of the three numbers are day, month and year."""


def _by_shape(name: str, texts: Any, rules: TimeRules) -> tuple[NDArray[np.int64], str]:
    """ms [k] of the distinct texts, and how they were read, most frequent first."""
    quick = _iso(texts, rules.tz)
    if quick is not None:
        return quick, "ISO 8601"
    found = np.full(len(texts), UNREADABLE, np.int64)
    counts: dict[str, int] = {}

    def take(read_as: str, ms: NDArray[np.int64]) -> None:
        fresh = (found == UNREADABLE) & (ms != UNREADABLE)
        found[fresh] = ms[fresh]
        if fresh.any():
            counts[read_as] = counts.get(read_as, 0) + int(fresh.sum())

    for read_as, pattern in _SHAPES.items():
        take(read_as, local_ms(parts_of(texts, pattern), rules.tz))
    for read_as, ms in _epochs(texts, rules.now_ms, rules.tz):
        take(read_as, ms)
    if (found == UNREADABLE).any():
        read_as, ms = _digits(name, texts, rules)
        take(read_as, ms)
    read_as = ", ".join(sorted(counts, key=lambda t: -counts[t]))
    return found, read_as or "nothing that is a time"


def _iso(texts: Any, tz: tzinfo) -> NDArray[np.int64] | None:
    """The quick way, if all texts are ISO 8601 and all or none of them name a zone."""
    if not len(texts):
        return np.zeros(0, np.int64)
    # eight digits alone would be read as a date too, but a column of numbers is looked at as such
    if not pc.all(pc.match_substring_regex(texts, r"^\d{4}-\d\d-\d\d")).as_py():
        return None
    zoned = pc.match_substring_regex(texts, r"\d(?:Z|[+-]\d\d:?\d\d)$")
    aware = pc.all(zoned).as_py()
    if not aware and pc.any(zoned).as_py():
        return None
    try:
        moments = texts.cast(pa.timestamp("us", "UTC") if aware else pa.timestamp("us"))
    except pa.ArrowInvalid:
        return None
    ms = as_ints(moments.cast(pa.int64())) // 1000
    return ms if aware else ms - zone_offsets_ms(ms, tz)


def _epochs(texts: Any, now_ms: int, tz: tzinfo) -> list[tuple[str, NDArray[np.int64]]]:
    """Numbers as epochs by their size, from 1995 to a century from now, or as Excel's days."""
    is_number = pc.match_substring_regex(texts, r"^\d+(?:\.\d+)?(?:[eE]\+?\d+)?$")
    texts = pc.if_else(is_number, texts, pa.scalar("nan", texts.type))
    values = as_floats(texts.cast(pa.float64()))
    values = np.where(values < 1e21, values, np.nan)
    latest_ms = now_ms + 36_525 * DAY_MS
    found: list[tuple[str, NDArray[np.int64]]] = []
    for read_as, per_ms in (
        ("epoch seconds", 1e-3), ("epoch milliseconds", 1.0), ("epoch microseconds", 1e3),
        ("epoch nanoseconds", 1e6),
    ):  # fmt: skip
        ms = values / per_ms
        found.append((read_as, epoch_ms(ms, (ms >= EARLIEST_MS) & (ms < latest_ms))))
    # Excel counts days from 1899-12-30; 25,569 is 1970-01-01
    serial = np.round((values - 25_569) * 86_400) * 1000
    ok = (values >= 18_000) & (values < 100_000)
    local = epoch_ms(serial, ok)
    shift = zone_offsets_ms(np.where(ok, local, 0), tz)
    found.append(("Excel's day numbers", np.where(ok, local - shift, UNREADABLE)))
    return found


def _digits(name: str, texts: Any, rules: TimeRules) -> tuple[str, NDArray[np.int64]]:
    """Dates of three numbers, the year last or (of two digits) first."""
    parts = parts_of(texts, _DIGITS)
    matched = parts.matched
    nothing = np.full(len(texts), UNREADABLE, np.int64)
    if not matched.any():
        return "", nothing
    short = parts.short_year
    readings: dict[DateOrder, NDArray[np.int64]] = {}
    for order, letters in _ORDERS.items():
        if order == "year-first" and not short.any():
            continue
        readings[order] = local_ms(parts.ordered(letters, rules.now_ms), rules.tz)
    if rules.dates is not None:
        return rules.dates, readings.get(rules.dates, nothing)
    fits = {
        order: int((matched & (ms >= EARLIEST_MS) & (ms <= rules.now_ms + DAY_MS)).sum())
        for order, ms in readings.items()
    }
    if parts.dotted.all():  # 03.04.2024 is written where the day comes first, and nowhere else
        fits.pop("month-first", None)
    best = max(fits.values())
    leading = [order for order, n in fits.items() if n == best]
    same = all(np.array_equal(readings[leading[0]], readings[order]) for order in leading)
    against = int(matched.sum()) - best
    others = [int(matched.sum()) - n for order, n in fits.items() if order not in leading]
    if (len(leading) > 1 and not same) or any(CLEAR * against > n for n in others if against):
        case = _case(texts, readings, leading if len(leading) > 1 else list(fits))
        options = " or ".join(f"--dates {order}" for order in fits)
        raise SettingsError(
            f"Column {name}: {case}, and the {int(matched.sum()):,} different dates in the file "
            f"don't settle it. Say which: {options}."
        )
    return f"{leading[0]} dates", readings[leading[0]]


def _case(
    texts: Any, readings: Mapping[DateOrder, NDArray[np.int64]], orders: list[DateOrder]
) -> str:
    one, two = readings[orders[0]], readings[orders[-1]]
    differ = np.flatnonzero((one != two) & (one != UNREADABLE) & (two != UNREADABLE))
    if not len(differ):
        return "its dates are written in more than one order"
    at = int(differ[0])
    days = [datetime.fromtimestamp(ms[at] / 1000, UTC).date().isoformat() for ms in (one, two)]
    return f"{str(texts[at])!r} may be {days[0]} or {days[1]}"
