"""Turns parts of dates, as arrays, into milliseconds: civil dates, clocks, zones and offsets."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, tzinfo
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from streams.history.rows import as_bools, as_ints

__all__ = ["DAY_MS", "Parts", "epoch_ms", "local_ms", "parts_of", "zone_offsets_ms"]

DAY_MS: Final = 86_400_000
_UNREADABLE: Final = np.iinfo(np.int64).min
_QUARTER_MS: Final = 900_000
_MONTHS: Final = {
    name: number
    for number, names in enumerate(
        ("january janvier januar enero gennaio januari jan", "february février februar febrero feb",
         "march mars märz marzo mar mär mrz", "april avril abril aprile apr abr",
         "may mai mayo maggio mei", "june juin juni junio giugno jun",
         "july juillet juli julio luglio jul", "august août agosto augustus aug ago",
         "september septembre septiembre settembre sept sep",
         "october octobre oktober octubre ottobre oct okt",
         "november novembre noviembre nov",
         "december décembre dezember diciembre dicembre dec dez dic"), 1,
    )
    for name in names.split()
}  # fmt: skip
_ZONES: Final = {
    "": 0, "z": 0, "utc": 0, "gmt": 0, "est": -300, "edt": -240, "cst": -360, "cdt": -300,
    "mst": -420, "mdt": -360, "pst": -480, "pdt": -420, "cet": 60, "cest": 120, "wet": 0,
    "west": 60, "eet": 120, "eest": 180, "bst": 60, "jst": 540, "msk": 180, "brt": -180,
}  # fmt: skip
"""Minutes east of Greenwich. CST and BST mean others elsewhere: these are the most used."""


@dataclass(frozen=True)
class Parts:
    """Parts of k dates, int64 [k] each; -1 where a text has none. `offset_ms` counts only where
    `zoned`."""

    matched: NDArray[np.bool_]
    year: NDArray[np.int64]
    month: NDArray[np.int64]
    day: NDArray[np.int64]
    clock_ms: NDArray[np.int64]
    """Since midnight; -1 for a time of day that there is not."""
    zoned: NDArray[np.bool_]
    offset_ms: NDArray[np.int64]
    numbers: dict[str, NDArray[np.int64]]
    """The three numbers of a date whose order is still open: a, b, c."""
    short_year: NDArray[np.bool_]
    dotted: NDArray[np.bool_]
    """Of the texts that match: whether dots are between the numbers."""

    def ordered(self, letters: str, now_ms: int) -> Parts:
        """With day, month and year from the numbers named by `letters`, such as abc."""
        day, month, year = (self.numbers[letter] for letter in letters)
        this_year = datetime.fromtimestamp(now_ms / 1000, UTC).year
        # two digits: the last hundred years up to now
        century = this_year // 100 * 100
        long = np.where(year <= this_year % 100, century + year, century - 100 + year)
        short = self.short_year
        if letters[2] == "c":
            return replace(self, day=day, month=month, year=np.where(short, long, year))
        ok = self.matched & short
        return replace(self, matched=ok, day=day, month=month, year=long)


def parts_of(texts: Any, pattern: str) -> Parts:
    """The named groups of `pattern` in pyarrow texts [k]: y m d, n (a month's name), H M S f, p
    (am or pm), z (a zone), or a s b c."""
    found = pc.extract_regex(texts, pattern)
    matched = ~as_bools(found.is_null())
    names = {found.type.field(i).name for i in range(found.type.num_fields)}
    k = len(texts)

    def words(name: str) -> Any:
        return pc.fill_null(pc.struct_field(found, name), "") if name in names else None

    def number(name: str) -> NDArray[np.int64]:
        column = words(name)
        if column is None:
            return np.full(k, -1, np.int64)
        filled = pc.if_else(pc.equal(column, ""), pa.scalar("-1", column.type), column)
        return as_ints(filled.cast(pa.int64()))

    zoned, offset, known = _zones(words("z"), k)
    year = number("y")
    fraction = words("f")
    milliseconds = np.zeros(k, np.int64)
    if fraction is not None:
        padded = pc.utf8_slice_codeunits(pc.utf8_rpad(fraction, 3, "0"), 0, 3)
        milliseconds = as_ints(padded.cast(pa.int64()))
    clock = _clock(number("H"), number("M"), number("S"), milliseconds, words("p"))
    separator, last = words("s"), words("c") if "c" in names else words("y")
    lengths = np.zeros(k, np.int64) if last is None else as_ints(pc.utf8_length(last))  # fmt: skip
    short = lengths == 2
    if "y" in names:
        year = np.where(short & (year >= 0), np.where(year < 70, 2000 + year, 1900 + year), year)
    month = _named_months(words("n")) if "n" in names else number("m")
    dotted = np.ones(k, np.bool_) if separator is None else np.asarray(
        pc.equal(separator, ".")) | ~matched  # fmt: skip
    return Parts(
        matched & known, year, month, number("d"), clock, zoned, offset,
        {letter: number(letter) for letter in "abc" if letter in names}, short & matched, dotted,
    )  # fmt: skip


def local_ms(parts: Parts, tz: tzinfo) -> NDArray[np.int64]:
    """ms since 1970 UTC [k], the lowest int64 for what is no date; in `tz` where none is named."""
    year, month, day = parts.year, parts.month, parts.day
    ok = parts.matched & (year >= 1) & (year <= 9999) & (month >= 1) & (month <= 12) & (day >= 1)
    ok &= parts.clock_ms >= 0
    months = np.where(ok, (year - 1970) * 12 + month - 1, 0).astype("datetime64[M]")
    days = months.astype("datetime64[D]") + np.where(ok, day - 1, 0)
    ok &= days.astype("datetime64[M]") == months
    local = days.astype(np.int64) * DAY_MS + np.where(ok, parts.clock_ms, 0)
    offset = np.where(parts.zoned, parts.offset_ms, zone_offsets_ms(np.where(ok, local, 0), tz))
    return np.where(ok, local - offset, _UNREADABLE)


def zone_offsets_ms(local: NDArray[np.int64], tz: tzinfo) -> NDArray[np.int64]:
    """How far `tz` is ahead of UTC at local times [k], in ms; of two, the earlier reading."""
    if tz is UTC:
        return np.zeros(len(local), np.int64)
    quarters, inverse = np.unique(local // _QUARTER_MS, return_inverse=True)
    offsets = []
    for quarter in quarters.tolist():
        seconds = quarter * (_QUARTER_MS // 1000)
        try:
            moment = datetime.fromtimestamp(seconds, UTC).replace(tzinfo=tz)
            ahead = moment.utcoffset()
        except (ValueError, OverflowError, OSError):
            ahead = None
        offsets.append(0 if ahead is None else round(ahead.total_seconds() * 1000))
    return np.array(offsets, np.int64)[inverse.reshape(-1)] if len(local) else local


def epoch_ms(ms: NDArray[np.float64], ok: NDArray[np.bool_]) -> NDArray[np.int64]:
    """`ms` [k] as integers where `ok`, else the lowest int64."""
    return np.where(ok, np.where(ok, np.round(ms), 0).astype(np.int64), _UNREADABLE)


def _named_months(words: Any) -> NDArray[np.int64]:
    distinct = pc.utf8_lower(words).dictionary_encode()
    numbers = [_MONTHS.get(w, 0) for w in distinct.dictionary.to_pylist()]
    codes = as_ints(distinct.indices)
    return np.array(numbers, np.int64)[codes] if numbers else np.zeros(len(words), np.int64)


def _zones(words: Any, k: int) -> tuple[NDArray[np.bool_], NDArray[np.int64], NDArray[np.bool_]]:
    """(zoned, ms east of Greenwich, known) of k texts; a word that is no zone is not known."""
    if words is None:
        return np.zeros(k, np.bool_), np.zeros(k, np.int64), np.ones(k, np.bool_)
    distinct = words.dictionary_encode()
    texts = [w.strip().lower() for w in distinct.dictionary.to_pylist()]
    minutes = [_minutes(w) for w in texts]
    codes = as_ints(distinct.indices)
    east = np.array([m or 0 for m in minutes], np.int64)[codes] * 60_000
    named = np.array([bool(w) for w in texts], np.bool_)[codes]
    return named, east, np.array([m is not None for m in minutes], np.bool_)[codes]


def _minutes(word: str) -> int | None:
    if word in _ZONES:
        return _ZONES[word]
    digits = word.removeprefix("utc").removeprefix("gmt").strip()
    sign = {"+": 1, "-": -1}.get(digits[:1])
    number = digits[1:].replace(":", "")
    if sign is None or not number.isdigit():
        return None
    hours, minutes = (int(number), 0) if len(number) <= 2 else divmod(int(number), 100)
    return sign * (hours * 60 + minutes) if hours <= 14 and minutes < 60 else None


def _clock(
    hour: NDArray[np.int64], minute: NDArray[np.int64], second: NDArray[np.int64],
    millisecond: NDArray[np.int64], half: Any,
) -> NDArray[np.int64]:  # fmt: skip
    """ms since midnight [k]; -1 for what is no time of day; 0 where none is named."""
    none = hour < 0
    minute, second = np.maximum(minute, 0), np.maximum(second, 0)
    if half is not None:
        letter = pc.utf8_lower(pc.utf8_slice_codeunits(half, 0, 1))
        am = as_bools(pc.equal(letter, "a"))
        pm = as_bools(pc.equal(letter, "p"))
        wrong = (am | pm) & ((hour > 12) | (hour == 0))
        hour = np.where((am | pm) & (hour == 12), 0, hour) + np.where(pm, 12, 0)
        hour = np.where(wrong, 99, hour)
    ok = (hour <= 23) & (minute <= 59) & (second <= 60)
    ms = ((hour * 60 + minute) * 60 + np.minimum(second, 59)) * 1000 + millisecond
    return np.where(none, 0, np.where(ok, ms, -1))
