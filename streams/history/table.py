"""A file's rows as columns of an order's fields, each with the reason why it is left out, if so."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from schemas.errors import SettingsError
from streams.history.exports import Mapped
from streams.history.identifiers import GUEST_WORDS, addresses, damaged, identifiers
from streams.history.levels import Level
from streams.history.numbers import Decimal, read_numbers
from streams.history.outcomes import is_no, kind_of, mixed_events, outcome_of
from streams.history.report import EXAMPLES, LeftOut
from streams.history.rows import Cells, Rows, cells_of
from streams.history.times import (
    EARLIEST_MS,
    DateOrder,
    TimeColumn,
    TimeRules,
    read_times,
    read_times_in_zones,
    zone,
)

__all__ = ["ReadOptions", "Reasons", "RowTable", "table_of"]

DAY_MS: Final = 86_400_000
IDS_TOGETHER: Final = 120
"""Characters of user and order id together: the event id is made of both."""
_SYMBOLS: Final = {"€": "EUR", "£": "GBP", "¥": "JPY", "₹": "INR", "₽": "RUB", "R$": "BRL"}
_NO_DOLLARS: Final = frozenset(("$", "US$", "KR", "-"))
Words = Mapping[str, frozenset[str]]


@dataclass(frozen=True)
class ReadOptions:
    """What the user says about a file; None and empty: found out by looking."""

    given: Mapping[str, str] = field(default_factory=dict)
    """Field -> column."""
    tz: str | None = None
    time_format: str | None = None
    dates: DateOrder | None = None
    decimal: Decimal | None = None
    amount_per: Level | None = None
    only: Words = field(default_factory=dict)
    """Column -> the values of rows that are read."""
    counted: frozenset[str] = frozenset()
    """Plain statuses that count as orders."""
    guests: frozenset[str] = frozenset()
    """Further user ids that stand for nobody, lower case."""
    encoding: str | None = None
    sheet: str | None = None


class Reasons:
    """Why each of n rows is left out; the first reason stays."""

    def __init__(self, rows: int) -> None:
        self._of = np.zeros(rows, np.int16)
        self._found: list[tuple[str, bool, Callable[[int], str]]] = []

    @property
    def used(self) -> NDArray[np.bool_]:
        """The rows that no reason leaves out, bool [n]."""
        used: NDArray[np.bool_] = self._of == 0
        return used

    def leave_out(
        self, rows: NDArray[np.bool_], reason: str, *, fault: bool,
        show: Callable[[int], str] = lambda _row: "",
    ) -> None:  # fmt: skip
        """Leave `rows` (bool [n]) out. `show` gives the text of one of them."""
        fresh = rows & self.used
        if fresh.any():
            self._found.append((reason, fault, show))
            self._of[fresh] = len(self._found)

    def left_for(self, *reasons: str) -> NDArray[np.bool_]:
        """The rows that one of these reasons leaves out, bool [n]."""
        codes = [code for code, (reason, _, _) in enumerate(self._found, 1) if reason in reasons]
        left: NDArray[np.bool_] = np.isin(self._of, codes)
        return left

    def ignore(self, rows: NDArray[np.bool_]) -> None:
        """Leave `rows` out that are no rows at all: every cell is blank. They are not counted."""
        self._of[rows] = -1

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return int((self._of >= 0).sum())

    def listed(self, unit: str, number: NDArray[np.int64]) -> list[LeftOut]:
        """The reasons in the order they came up, with the first rows of each."""
        found = []
        for code, (reason, fault, show) in enumerate(self._found, 1):
            rows = np.flatnonzero(self._of == code)
            if len(rows):
                shown = [(int(number[r]), show(int(r))) for r in rows[:EXAMPLES]]
                examples = tuple(f"{unit} {n}" + (f": {t!r}" if t else "") for n, t in shown)
                found.append(LeftOut(reason, len(rows), examples, fault))
        return found


@dataclass(frozen=True)
class RowTable:
    """n rows as columns. Codes are int64 [n] into `texts`, -1 for none; NaN for no number."""

    number: NDArray[np.int64]
    user: Cells
    email: Cells
    """In lower case; who a row without a user is."""
    order: Cells
    ts_ms: NDArray[np.int64]
    time_blank: NDArray[np.bool_]
    amount: NDArray[np.float64] | None
    of_line: NDArray[np.float64] | None
    """Price times quantity."""
    quantity: NDArray[np.float64]
    discount: NDArray[np.float64]
    refund: NDArray[np.float64]
    status: NDArray[np.int64]
    """Index into `outcomes`."""
    outcomes: list[str]
    cancelled: NDArray[np.bool_]
    returned: NDArray[np.bool_]
    """The row itself is a return, by its type."""
    item: Cells
    name: Cells
    category: Cells
    currency: Cells
    reasons: Reasons
    choices: dict[str, str]
    notes: list[str]


def table_of(rows: Rows, mapped: Mapped, options: ReadOptions, now_ms: int, file: str) -> RowTable:
    """The rows' fields, typed by whole columns. `now_ms` is the time after which nothing can have
    happened. Raises SettingsError if a column can't be read without the user's word."""
    columns = {name: rows.columns[column] for name, column in mapped.columns.items()}
    n = len(rows.number)
    reasons, choices, notes = Reasons(n), dict[str, str](), list[str]()
    _only(rows, options, reasons)
    returned, undone = _kinds(columns.get("kind"), mapped, options, reasons, file)
    nobody = GUEST_WORDS | options.guests
    user = identifiers(columns["user"], nobody)
    email = addresses(columns["email"], nobody) if "email" in columns else _nothing(n)
    order = identifiers(columns["order"]) if "order" in columns else _nothing(n)
    status, outcomes = _statuses(columns.get("status"), mapped, options, choices, notes)
    status, outcomes = _with_uncaptured(columns.get("captured"), status, outcomes)
    item, name, category = (_cells(columns.get(f), n) for f in ("item", "name", "category"))
    times = _times(columns, mapped, options, now_ms, choices, notes)
    numbers = read_numbers({c: rows.columns[c] for c in _number_columns(mapped)}, options.decimal)
    signs = {found.decimal for found in numbers.values() if found.decimal}
    if signs:
        choices["decimal sign"] = " and ".join(sorted(signs))

    def number(field_name: str) -> NDArray[np.float64] | None:
        column = mapped.columns.get(field_name)
        return None if column is None else numbers[column].values

    quantity = number("quantity")
    price = number("price")
    of_line = None if price is None else price * (
        np.ones(n) if quantity is None else np.where(np.isnan(quantity), 1.0, quantity)
    )  # fmt: skip
    amount = number("amount")
    if amount is not None:
        for sign, extra in ((1, mapped.added), (-1, mapped.taken_off)):
            for column in extra:
                amount = amount + sign * np.abs(np.nan_to_num(numbers[column].values))
    for label in ("amount", "price", "quantity", "refund", "discount"):
        source = mapped.columns.get(label)
        if source is not None and not (label == "price" and amount is not None):
            reasons.leave_out(
                numbers[source].unreadable,
                f"{label} ({source}) is no number that can be read",
                fault=True,
                show=_shown(rows.columns[source]),
            )
    _unusable_times(times, columns["timestamp"], reasons, now_ms)
    currency = _currency(columns.get("currency"), n, reasons)
    for label, cells in (("user", user), ("order", order)):
        wrong = np.append(damaged(cells), False)[cells.codes]
        reasons.leave_out(
            wrong, f"the {label} id lost digits in a spreadsheet", fault=True, show=cells.text
        )
    cancelled = undone | (_cells(columns.get("cancelled"), n).codes >= 0)
    blank = times.blank.copy()
    for cells in (user, order, item, name, category):
        blank &= cells.codes < 0
    for found in numbers.values():
        blank &= np.isnan(found.values) & ~found.unreadable
    reasons.ignore(blank)
    blanks, discount, refund = np.zeros(n), number("discount"), number("refund")
    return RowTable(
        rows.number, user, email, order, times.ms, times.blank, amount, of_line,
        np.ones(n) if quantity is None else np.abs(np.where(np.isnan(quantity), 1.0, quantity)),
        blanks if discount is None else np.abs(discount),
        np.full(n, np.nan) if refund is None else np.abs(refund),
        status, outcomes, cancelled, returned, item, name, category, currency, reasons, choices,
        notes,
    )  # fmt: skip


def _nothing(n: int) -> Cells:
    return Cells(np.full(n, -1, np.int64), pa.array([], pa.string()))


def _cells(column: Any, n: int) -> Cells:
    return _nothing(n) if column is None else cells_of(column)


def _number_columns(mapped: Mapped) -> list[str]:
    fields = ("amount", "price", "quantity", "discount", "refund")
    found = [mapped.columns[f] for f in fields if f in mapped.columns]
    return list(dict.fromkeys([*found, *mapped.added, *mapped.taken_off]))


def _only(rows: Rows, options: ReadOptions, reasons: Reasons) -> None:
    for column, wanted in options.only.items():
        cells = cells_of(rows.columns[column])
        words = cells.words()
        keep = np.array([w.lower() in wanted for w in words] + [False], np.bool_)
        if not keep.any():
            there = ", ".join(words[:12])
            raise SettingsError(
                f"--only {column}={','.join(sorted(wanted))}: no row has that; there are: {there}."
            )
        reasons.leave_out(~keep[cells.codes], f"not chosen by --only {column}", fault=False)


def _kinds(
    column: Any, mapped: Mapped, options: ReadOptions, reasons: Reasons, file: str
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which rows are returns, or cancel their order, by their type, bool [n]; a clickstream is
    refused."""
    none = np.zeros(len(reasons.used), np.bool_)
    if column is None:
        return none, none
    name = mapped.columns["kind"]
    cells = cells_of(column)
    words, counts = cells.words(), cells.counts()
    if name in options.only:
        return none, none
    if mixed_events(words):
        order = np.argsort(-counts)[:8]
        there = ", ".join(f"{words[i]} {counts[i]:,}" for i in order)
        buys = [words[i] for i in order if kind_of(words[i]) == "order"]
        raise SettingsError(
            f"{file} has a column {name} ({there}): these are events, and not all of them orders. "
            f"Say which rows are orders: --only {name}={buys[0] if buys else 'VALUE'}."
        )
    kinds = np.array([kind_of(w) for w in words] + ["other"])[cells.codes]
    if not (kinds == "order").any() and "kind" not in mapped.given:
        return none, none  # a type of something else, such as of customer
    other = (kinds == "other") & (cells.codes >= 0)
    reasons.leave_out(other, f"its {name} is no order", fault=False, show=cells.text)
    return kinds == "return", kinds == "cancelled"


def _statuses(
    column: Any, mapped: Mapped, options: ReadOptions, choices: dict[str, str], notes: list[str]
) -> tuple[NDArray[np.int64], list[str]]:
    """(index into outcomes [n], outcomes); the last outcome is of a blank status."""
    if column is None:
        return np.zeros(0, np.int64), []
    cells = cells_of(column)
    words, counts = cells.words(), cells.counts()
    of_export = mapped.export.statuses if mapped.export else {}
    outcomes = [str(outcome_of(w, of_export, options.counted)) for w in words]
    if all(o == "unknown" for o in outcomes) and "status" not in mapped.given:
        return np.zeros(0, np.int64), []  # a state of the country, say
    by_outcome: dict[str, list[str]] = {}
    for i in np.argsort(-counts, kind="stable").tolist():
        by_outcome.setdefault(outcomes[i], []).append(f"{words[i]} {counts[i]:,}")
    choices["statuses"] = "; ".join(
        f"{outcome}: {', '.join(shown[:6])}" for outcome, shown in by_outcome.items()
        if outcome != "unknown"
    )  # fmt: skip
    if unknown := by_outcome.get("unknown"):
        notes.append(f"Not known as statuses, and counted as orders: {', '.join(unknown[:6])}.")
    return np.where(cells.codes < 0, len(outcomes), cells.codes), [*outcomes, ""]


def _with_uncaptured(
    column: Any, status: NDArray[np.int64], outcomes: list[str]
) -> tuple[NDArray[np.int64], list[str]]:
    """Statuses as from `_statuses`, where a charge that was not captured is pending: the money was
    only reserved, whatever its status says, and releasing it is no refund."""
    cells = None if column is None else cells_of(column)
    no = None if cells is None else np.array([is_no(w) for w in cells.words()] + [False])
    if cells is None or no is None or not no.any():
        return status, outcomes
    if not outcomes:
        status, outcomes = np.zeros(len(cells.codes), np.int64), [""]
    pending = len(outcomes) - 1  # before the last one, which is of a blank status
    blank = pending + 1
    cancelled = np.array([o == "cancelled" for o in outcomes])[status]
    moved = np.where(status == pending, blank, status)
    found = np.where(no[cells.codes] & ~cancelled, pending, moved)
    return found, [*outcomes[:-1], "pending", ""]


def _times(
    columns: Mapping[str, Any], mapped: Mapped, options: ReadOptions, now_ms: int,
    choices: dict[str, str], notes: list[str],
) -> TimeColumn:  # fmt: skip
    rules = TimeRules(now_ms, zone(options.tz), options.time_format, options.dates)
    name, column, clock = mapped.columns["timestamp"], columns["timestamp"], columns.get("clock")
    elsewhere = f"in {options.tz or 'UTC'} where no zone is named"
    if "zone" in columns:
        zones = cells_of(columns["zone"])
        times = read_times_in_zones(name, column, rules, clock, zones)
        counts = zones.counts()
        top = [f"{zones.texts[i]} {counts[i]:,}" for i in np.argsort(-counts, kind="stable")[:6]]
        elsewhere = f"in the zones of {mapped.columns['zone']} ({', '.join(top)}), else {elsewhere}"
    else:
        times = read_times(name, column, rules, clock)
        if mapped.export and mapped.export.local_times and options.tz is None:
            notes.append(
                f"{mapped.export.name} has local times: name their zone with --tz, if it is not "
                "UTC."
            )
    choices["times"] = f"{times.read_as}, {elsewhere}"
    return times


def _shown(column: Any) -> Callable[[int], str]:
    return lambda row: str(column[row].as_py())


def _unusable_times(times: TimeColumn, column: Any, reasons: Reasons, now_ms: int) -> None:
    show = _shown(column)
    reasons.leave_out(
        times.unreadable, "its time can't be read (is --time-format needed?)", fault=True, show=show
    )
    known = ~times.blank
    today = datetime.fromtimestamp(now_ms / 1000, UTC).date().isoformat()
    reasons.leave_out(
        known & (times.ms > now_ms + DAY_MS), f"in the future (today is {today})", fault=True,
        show=show,
    )  # fmt: skip
    reasons.leave_out(known & (times.ms < EARLIEST_MS), "before 1995", fault=True, show=show)


def _currency(column: Any, n: int, reasons: Reasons) -> Cells:
    if column is None:
        return _nothing(n)
    cells = cells_of(pc.utf8_upper(column.cast("string")))
    words = cells.words()
    codes = [_SYMBOLS.get(w, "" if w in _NO_DOLLARS else w) for w in words]
    wrong = [bool(c) and not (len(c) == 3 and c.isascii() and c.isalpha()) for c in codes]
    reasons.leave_out(
        np.array([*wrong, False], np.bool_)[cells.codes], "its currency is not three letters",
        fault=True, show=cells.text,
    )  # fmt: skip
    again = cells_of(pa.array(codes, pa.string()))
    return Cells(np.append(again.codes, -1)[cells.codes], again.texts)
