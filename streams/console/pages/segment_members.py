"""One segment: what defines it, how its size went, and who is in it since when."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from schemas.definitions import Definitions, SegmentDefinition
from schemas.segments import DIMENSIONS
from streams.campaigns.written import duration
from streams.console.access import Refused
from streams.console.definitions import in_force, known, segment_of
from streams.console.page import Ask, Chart, Column, Fact, Note, Page, Series, Table
from streams.console.ranked import ranked, ranking

__all__ = ["members"]

SIZE: Final = """
SELECT users, expected_spend FROM segment_sizes_now
WHERE dimension = %(dimension)s AND segment = %(segment)s
"""
MEMBERS: Final = ranking(
    """user_id, expected_spend, p_churn, value_tier, lifecycle, lifetime_orders,
    toUnixTimestamp64Milli(last_order_at) AS last_order_ms""",
    "ifNull(expected_spend, -1)",
    "multiIf(%(dimension)s = 'value_tier', value_tier = %(segment)s,"
    " %(dimension)s = 'lifecycle', lifecycle = %(segment)s, has(segments, %(dimension)s))",
)
SINCE: Final = """
SELECT user_id, toUnixTimestamp64Milli(since) AS since_ms FROM customer_segments
WHERE dimension = %(dimension)s AND segment = %(segment)s AND user_id IN %(all_user_id)s
"""
DAYS: Final = """
SELECT toUnixTimestamp(toStartOfDay(hour)) AS day_s,
    sumIf(moves, to_segment = %(segment)s) AS entered,
    sumIf(moves, from_segment = %(segment)s) AS gone
FROM segment_flow_hours
WHERE dimension = %(dimension)s AND hour >= toDateTime64(%(since)s, 3, 'UTC')
GROUP BY day_s ORDER BY day_s
"""
SIZES: Final = """
SELECT toUnixTimestamp(toStartOfDay(hour)) AS day_s, argMax(users, hour) AS users
FROM segment_size_hours
WHERE dimension = %(dimension)s AND segment = %(segment)s
    AND hour >= toDateTime64(%(since)s, 3, 'UTC')
GROUP BY day_s ORDER BY day_s
"""
COLUMNS: Final = (
    Column("user_id", "Customer", "user"),
    Column("expected_spend", "Expected spend", "money"),
    Column("p_churn", "Leaves", "share"),
    Column("value_tier", "Value", "tag"),
    Column("lifecycle", "Stage", "tag"),
    Column("lifetime_orders", "Orders", "count"),
    Column("last_order_ms", "Last order", "date"),
    Column("since_ms", "In it since", "time"),
)
DEFINITION: Final = (Column("what", "What"), Column("value", "Value", "code", wide=True))
_ROWS: Final = 50
_DAYS_SHOWN: Final = 60
_IN: Final = "in"


async def members(ask: Ask) -> Page:
    """/segments/NAME of a segment of the shop's own, /segments/DIMENSION/NAME of a tier or stage.

    Raises Refused (404).
    """
    now = in_force(await known(ask.reader))
    dimension, segment = _named(ask.path)
    which = {"dimension": dimension, "segment": segment}
    size = (await ask.reader.rows(SIZE, **which)).first()
    if size is None and segment == _IN and segment_of(now, dimension) is None:
        names = ", ".join(each.name for each in now.segments) or "none"
        raise Refused(404, f"There is no segment {dimension[:40]!r}. Defined are: {names}.")
    found = [
        *await ranked(
            ask.reader, MEMBERS, ask.limit(_ROWS) + 1, ask.cursor(float, str), **which
        )
    ]  # fmt: skip
    since = {}
    if found:
        everybody = [row["user_id"] for row in found]
        since = {
            row["user_id"]: row["since_ms"]
            for row in await ask.reader.rows(SINCE, **which, all_user_id=everybody)
        }
    past = ask.day_before(_DAYS_SHOWN)
    days, sizes = await ask.together(
        (DAYS, {**which, "since": past}), (SIZES, {**which, "since": past})
    )
    return _page(ask, now, which, size or {}, [{**row, "since_ms": since.get(row["user_id"])}
                 for row in found], days, sizes)  # fmt: skip


def _named(path: str) -> tuple[str, str]:
    """Dimension and segment of a path. Raises Refused (404)."""
    dimension, _, segment = path.partition("/")
    if dimension not in DIMENSIONS and not segment:
        return dimension, _IN
    if segment not in DIMENSIONS.get(dimension, ()):
        raise Refused(404, f"There is no segment {path[:80]!r}.")
    return dimension, segment


def _page(
    ask: Ask,
    now: Definitions,
    which: Mapping[str, str],
    size: Mapping[str, Any],
    found: Sequence[Mapping[str, Any]],
    days: Sequence[Mapping[str, Any]],
    sizes: Sequence[Mapping[str, Any]],
) -> Page:
    dimension = which["dimension"]
    own = dimension not in DIMENSIONS
    name = dimension if own else which["segment"]
    of, users = segment_of(now, dimension), int(size.get("users", 0))
    shown = found[: ask.limit(_ROWS)]
    last = shown[-1] if len(found) > ask.limit(_ROWS) else None
    title = f": {of.title}" if of and of.title else ""
    currency = ask.settings.stream.currency
    past = f"in {_DAYS_SHOWN} days"
    return Page(
        title=f"Segment {name.replace('_', ' ')}",
        summary=f"{users:,} users are in {name.replace('_', ' ')} now{title}.",
        as_of_ms=ask.as_of_ms,
        facts=(
            Fact("users now", users, note=expected_words(of)),
            Fact("expected spend", size.get("expected_spend"), "money", currency),
            Fact("entered", sum(day["entered"] for day in days), note=past),
            Fact("left", sum(day["gone"] for day in days), note=past),
        ),
        parts=(
            *_definition(of, dimension, own=own),
            *_charts(days, sizes),
            Table(
                "members", "Who is in it, the most expected spend first", COLUMNS,
                [tuple(row[column.key] for column in COLUMNS) for row in shown],
                empty="Nobody is in it now.",
                next=ask.after(last["rank"], last["user_id"]) if last else "",
            ),
        ),
        up=("Segments", "/segments"),
        file="members",
    )  # fmt: skip


def expected_words(of: SegmentDefinition | None) -> str:
    """What the owner expects of the size."""
    span = of.expect.size if of is not None else None
    return f"{span[0]:,} to {span[1]:,} are expected" if span else ""


def _definition(of: SegmentDefinition | None, dimension: str, *, own: bool) -> Iterable[Any]:
    if of is not None:
        yield Table("definition", "What defines it", DEFINITION, definition_rows(of), half=True)
    if own:
        yield Note(
            "Why somebody is in it or not, each condition with the value that it saw: "
            f"`tideline segments explain {dimension} USER`.",
            half=True,
        )


def _charts(
    days: Sequence[Mapping[str, Any]], sizes: Sequence[Mapping[str, Any]]
) -> tuple[Chart, Chart]:
    moved = {row["day_s"]: row for row in days}  # nobody moved on the days that are missing
    every_day = list(range(min(moved), max(moved) + 1, 86_400)) if moved else []
    return (
        Chart(
            "sizes", "Size at the end of each day", [row["day_s"] for row in sizes],
            (Series("users", [row["users"] for row in sizes]),),
            x_label="day (UTC)", y_label="users", empty="No size was written yet.", half=True,
        ),
        Chart(
            "days", "Entered and left by day", every_day,
            (
                Series("entered", [moved.get(day, {}).get("entered", 0) for day in every_day]),
                Series("left", [moved.get(day, {}).get("gone", 0) for day in every_day]),
            ),
            x_label="day (UTC)", y_label="users", empty="Nobody has moved in this time.", half=True,
        ),
    )  # fmt: skip


def definition_rows(of: SegmentDefinition) -> list[tuple[str, str]]:
    """What a segment's definition says, one line each."""
    spans = {"expected size": of.expect.size, "expected entries per day": of.expect.per_day}
    found = {
        "enters when": of.when,
        "leaves when": of.leave or "that is no longer true",
        "true for": duration(of.hold_ms) if of.hold_ms else "",
        "owner": of.owner,
        **{what: f"{span[0]:,} to {span[1]:,}" for what, span in spans.items() if span},
    }
    return [(what, value) for what, value in found.items() if value]
