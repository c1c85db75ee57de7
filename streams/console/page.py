"""What a page is: facts once, which a template shows and `.json` and `.csv` give as they are.

A page is a function `async def NAME(ask: Ask) -> Page` in `streams/console/pages/`. It reads by
`ask.reader`, whose rows have pseudonyms where the visitor may not see ids, and returns a `Page`:
a summary, facts, and parts (tables, charts, notes) in the order in which they are shown. One that
needs more has a template of its own, which gets `page.data`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from typing import Any, Final, Literal
from urllib.parse import quote, urlencode

import msgspec

from streams.console import flow
from streams.console.access import Refused, Visitor
from streams.console.reads import Parameter, Reader
from streams.settings import Settings

__all__ = [
    "FORMS",
    "Ask",
    "Chart",
    "Column",
    "Fact",
    "Filter",
    "Kind",
    "Note",
    "Page",
    "Part",
    "Picture",
    "Series",
    "Table",
    "page_path",
]

FORMS: Final = ("html", "json", "csv", "live")
"""Suffixes of a page's path."""

Kind = Literal[
    "text", "user", "count", "number", "money", "share", "time", "date", "seconds", "words", "tag",
    "bytes", "link", "code", "prose", "heat",
]  # fmt: skip
"""How a value is shown. Values are plain:

text, code   str                          tag      str, shown as a small label
user         a user id or pseudonym, which links to the profile
count        int                          number   float
money        float in the shop's currency share    float from 0 to 1, shown as per cent
time, date   Unix ms                      seconds  float, shown as 12 s, 3 min, 4 h or 5 d
words        list of str                  bytes    int
link         [text, path]; the path begins with /
heat         as share, on a ground that is stronger the larger it is

prose        str of ours, whose `commands` between backticks are shown as such

None is shown as a dash everywhere, and is null in JSON and empty in CSV.
"""


class Fact(msgspec.Struct, frozen=True):
    """One number with its name, above the tables."""

    name: str
    value: Any
    kind: Kind = "count"
    unit: str = ""
    note: str = ""
    """A few words below it."""
    state: Literal["", "good", "warn", "bad"] = ""
    """Shown by a sign and a word, never by colour alone."""


class Column(msgspec.Struct, frozen=True):
    """One column: its key in JSON and CSV, its heading, and how its values are shown."""

    key: str
    label: str
    kind: Kind = "text"
    unit: str = ""
    wide: bool = False
    """It takes the room that is left."""
    hidden: bool = False
    """In JSON and CSV only: what programs join by."""


class Table(msgspec.Struct, frozen=True):
    """Rows under columns."""

    name: str
    """Its key in JSON, and its id on the page."""
    title: str
    columns: tuple[Column, ...]
    rows: Sequence[Sequence[Any]]
    """One value per column."""
    empty: str = "Nothing yet."
    """What is said in place of rows: what is missing, and the command that mends it."""
    next: str = ""
    """Path and query of the next page of rows."""
    note: str = ""
    as_of_ms: int | None = None
    """When these rows were true, Unix ms; None: as the page."""
    as_of_wall: bool = False
    """That is this machine's time, which in a replay is another than the shop's."""
    half: bool = False
    """It is shown beside its neighbour if that is so, too, and there is room."""
    folded: bool = False
    """Shown as a line that opens."""
    boxes: tuple[str, ...] = ()
    """What ticking each row's box sends as `alert` with the form `act`; '' is a row without one."""


class Series(msgspec.Struct, frozen=True):
    """One line of a chart; None is a gap."""

    label: str
    values: Sequence[float | None]
    style: Literal["line", "dots", "bars", "low", "high"] = "line"
    """low and high: the edges of a band, low first."""


class Chart(msgspec.Struct, frozen=True):
    """A chart by uPlot. The same numbers are shown as a folded table below it."""

    name: str
    title: str
    x: Sequence[float]
    """Unix seconds if `x_kind` is time, else numbers. Rising."""
    series: tuple[Series, ...]
    x_label: str = "time"
    x_kind: Literal["time", "number"] = "time"
    y_label: str = ""
    """What the y axis shows, with its unit."""
    empty: str = "Nothing yet."
    note: str = ""
    y_from_zero: bool = True
    half: bool = False
    """As of a table."""
    diagonal: bool = False
    """A dotted line y = x: where a perfect calibration would be."""


class Note(msgspec.Struct, frozen=True):
    """A sentence between the parts."""

    text: str
    state: Literal["", "good", "warn", "bad"] = ""
    half: bool = False
    """As of a table."""


class Picture(msgspec.Struct, frozen=True):
    """Moves between segments, drawn as SVG. The same numbers are in a table beside it."""

    name: str
    title: str
    drawn: flow.Picture | None
    empty: str = "Nothing yet."
    note: str = ""
    half: bool = False
    """As of a table."""


Part = Table | Chart | Note | Picture


class Filter(msgspec.Struct, frozen=True):
    """One field of the form that filters the page; its value is in the URL."""

    name: str
    label: str
    value: str
    kind: Literal["choice", "text", "number"] = "choice"
    choices: tuple[tuple[str, str], ...] = ()
    """Value and label of each choice; an empty value is no filter."""


@dataclass(frozen=True)
class Page:
    """What one request gets."""

    title: str
    summary: str
    """One sentence: what to know. Screen readers say it again when it changes."""
    as_of_ms: int | None = None
    """When all of it was true, Unix ms, by the shop's clock; None: it is not about a time."""
    facts: tuple[Fact, ...] = ()
    filters: tuple[Filter, ...] = ()
    parts: tuple[Part, ...] = ()
    up: tuple[str, str] | None = None
    """Title and path of the page above this one."""
    template: str = "page.html"
    data: Mapping[str, Any] = field(default_factory=dict)
    """What else the template shows; in JSON, too."""
    file: str = ""
    """The table that `.csv` gives, by its name; '' is the first."""
    is_live: bool = True
    """Whether it is sent again as results change, if its route says so. One that reads much is not:
    it is asked for again by its filters, or by loading it."""
    old_seconds: float = 60.0
    """The age from which on its numbers are marked as old; 0: never."""

    @property
    def table(self) -> Table | None:
        """What `.csv` gives."""
        tables = [part for part in self.parts if isinstance(part, Table)]
        return next((each for each in tables if self.file in ("", each.name)), None)


def page_path(name: str, rest: str = "", form: str = "") -> str:
    """The path of a page, or of what stands below it, such as one customer.

    What looks like a folder or another form of the page gets a suffix, which is then what counts.

    >>> page_path("customers", "a/b"), page_path("customers", "x.json"), page_path("users", "..")
    ('/customers/a%2Fb', '/customers/x.json.html', '/users/...html')
    """
    path = f"/{name}/{quote(rest, safe='', errors='replace')}" if rest else f"/{name}"
    odd = rest in (".", "..") or rest.endswith(tuple(f".{each}" for each in FORMS))
    return f"{path}.{form or 'html'}" if form or odd else path


def _given(value: str) -> str:
    """A text of the URL for a message, in which backticks would mean a command."""
    return repr(value[:40]).replace("`", "'")


def _utc_text(at_seconds: float) -> str:
    return f"{datetime.fromtimestamp(at_seconds, UTC):%Y-%m-%d %H:%M:%S}"


@dataclass(frozen=True)
class Ask:
    """One request for a page."""

    visitor: Visitor
    reader: Reader
    values: Mapping[str, str]
    """The query of the URL; a name that came twice has its last value."""
    now_ms: int
    """The shop's time, Unix ms: the newest batch's clock in a replay, else now."""
    wall_ms: int
    """This machine's time, Unix ms: what a monitor or an insert goes by, in a replay, too."""
    zone: tzinfo
    settings: Settings
    as_of_ms: int | None = None
    """The clock of the newest batch, Unix ms: results are as of then. None: there is none yet."""
    path: str = ""
    """What stands behind the page's name in the URL, decoded; such as a user id."""
    name: str = ""
    """The page's name."""
    posted: Mapping[str, str] = field(default_factory=dict)
    """The form that was sent to the page; empty: it is only looked at."""
    most_rows: int = 0
    """So many rows are wanted, as for a file; 0: as many as the page shows."""
    sources: Mapping[str, Any] = field(default_factory=dict)
    """What else pages ask, by name: `lag` is a function that fetches the lag monitor's JSON."""

    def limit(self, shown: int) -> int:
        """How many rows to ask for, where the page shows so many."""
        return self.most_rows or shown

    async def together(
        self, *asked: tuple[str, Mapping[str, Parameter]]
    ) -> list[list[dict[str, Any]]]:
        """The rows of several queries with their parameters, asked at once. Raises ReadFailed."""
        found = await asyncio.gather(
            *(self.reader.rows(query, **parameters) for query, parameters in asked)
        )
        return [list(rows) for rows in found]

    def day_before(self, days: int) -> str:
        """The first of so many days, today among them, as YYYY-MM-DD in UTC: what is counted by day
        is counted by such days."""
        return f"{datetime.fromtimestamp(self.now_ms / 1000 - (days - 1) * 86_400, UTC):%Y-%m-%d}"

    def time_before(self, seconds: int) -> str:
        """So long ago by the shop's time, as ClickHouse reads it, in UTC."""
        return _utc_text(self.now_ms / 1000 - seconds)

    def wall_time_before(self, seconds: int) -> str:
        """So long ago by this machine's time, as ClickHouse reads it, in UTC."""
        return _utc_text(self.wall_ms / 1000 - seconds)

    @property
    def is_replay(self) -> bool:
        """Whether the shop's time is that of the events, and so another than this machine's."""
        return self.settings.stream.clock == "event"

    def url(self, **changes: str | None) -> str:
        """This page's path and query with some values changed; None takes one out."""
        values = {**self.values, **changes}
        kept = {name: value for name, value in values.items() if value not in (None, "")}
        return page_path(self.name, self.path) + (f"?{urlencode(kept)}" if kept else "")

    def form_url(self, form: str) -> str:
        """The same as `json`, `csv` or `live`, with the same values."""
        kept = {name: value for name, value in self.values.items() if value}
        path = page_path(self.name, self.path, form)
        return path + (f"?{urlencode(kept)}" if kept else "")

    def choice(self, name: str, label: str, choices: Sequence[str], all_label: str) -> Filter:
        """A filter by one of `choices`, or by none. Raises Refused (400) for another value."""
        value = self.values.get(name, "")
        if value and value not in choices:
            raise Refused(400, f"{name} can be {', '.join(choices)}; not {_given(value)}.")
        pairs = (("", all_label), *((each, each.replace("_", " ")) for each in choices))
        return Filter(name, label, value, "choice", pairs)

    def text(self, name: str, label: str) -> Filter:
        """A filter by any text of up to 200 characters. Raises Refused (400)."""
        value = self.values.get(name, "").strip()
        if len(value) > 200:
            raise Refused(400, f"{name} can have 200 characters.")
        return Filter(name, label, value, "text")

    def number(self, name: str, label: str) -> Filter:
        """A filter by a number: `float(filter.value)` if it is not empty. Raises Refused (400)."""
        value = self.values.get(name, "").strip()
        try:
            finite = not value or abs(float(value)) < 1e15
        except ValueError:
            finite = False
        if not finite:
            raise Refused(400, f"{name} must be a number; not {_given(value)}.")
        return Filter(name, label, value, "number")

    def cursor(self, *kinds: type) -> tuple[Any, ...] | None:
        """The last row of the rows before these, as `after` has it; None: these are the first.

        Raises Refused (400) for a cursor that is not ours.
        """
        raw = self.values.get("after", "")
        if not raw:
            return None
        try:
            found = msgspec.json.decode(raw, type=tuple[kinds])  # type: ignore[valid-type]
        except (msgspec.DecodeError, ValueError):
            raise Refused(
                400, "after is not a place in this list. Begin at its first page."
            ) from None
        return tuple(found)

    def after(self, *values: str | float) -> str:
        """The URL of the rows that come after these values of the last row."""
        return self.url(after=msgspec.json.encode(values).decode())
