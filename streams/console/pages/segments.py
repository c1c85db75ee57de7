"""Segments: how many are in each, who moved from where to where, and what owners defined."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from schemas.definitions import Definitions
from schemas.segments import DIMENSIONS, LIFECYCLE, VALUE_TIERS
from streams.console.definitions import in_force, known, segment_of
from streams.console.flow import Move, picture
from streams.console.page import Ask, Column, Fact, Note, Page, Picture, Table
from streams.console.pages.segment_funnel import FUNNEL, funnel
from streams.console.pages.segment_members import members
from streams.console.pages.segment_plan import PLAN, plan_preview
from streams.console.pages.segment_retention import RETENTION, retention

__all__ = ["segments"]

SIZES: Final = """
SELECT toString(dimension) AS dimension, toString(segment) AS segment, users, expected_spend
FROM segment_sizes_now
"""
MOVES: Final = """
SELECT toString(dimension) AS dimension, toString(from_segment) AS from_segment,
    toString(to_segment) AS to_segment, toUInt64(sum(moves)) AS moves
FROM segment_flow_hours
WHERE hour >= toDateTime64(%(since)s, 3, 'UTC')
GROUP BY dimension, from_segment, to_segment
"""
CELLS: Final = """
SELECT substring(segment, 1, 2) AS recency, substring(segment, 3, 2) AS frequency, count() AS users
FROM customer_segments WHERE dimension = 'rfm' AND segment != 'none' GROUP BY recency, frequency
"""

OWN: Final = (
    Column("segment", "Segment", "link"),
    Column("title", "Title", wide=True),
    Column("owner", "Owner"),
    Column("users", "Users", "count"),
    Column("share", "Of all", "share"),
    Column("expected_spend", "Expected spend", "money"),
    Column("entered", "Entered", "count"),
    Column("left", "Left", "count"),
    Column("expected", "Expected size"),
    Column("state", "Size is", "tag"),
)
STANDARD: Final = (
    Column("dimension", "Dimension", "tag"),
    Column("segment", "Segment", "link"),
    Column("users", "Users", "count"),
    Column("share", "Of all", "share"),
    Column("expected_spend", "Expected spend", "money"),
    Column("entered", "Entered", "count"),
    Column("left", "Left", "count"),
)
FLOW: Final = (
    Column("from_segment", "From", "tag"),
    Column("to_segment", "To", "tag"),
    Column("moves", "Moves", "count"),
    Column("share", "Of these moves", "share"),
)
HISTORY: Final = (
    Column("number", "Number", "count"),
    Column("applied_ms", "Applied", "time"),
    Column("applied_by", "By"),
    Column("note", "Note", wide=True),
    Column("segments", "Segments", "count"),
    Column("audiences", "Audiences", "count"),
    Column("version", "Version", "code"),
)
_ORDER: Final = {"lifecycle": LIFECYCLE, "value_tier": VALUE_TIERS}
_DAYS: Final = ("1", "7", "28", "90")
_IN, _OUT = "in", "out"


async def segments(ask: Ask) -> Page:
    """All segments; below it one of them, or the preview of other definitions."""
    if ask.path == PLAN:
        return await plan_preview(ask)
    if ask.path == FUNNEL:
        return await funnel(ask)
    if ask.path == RETENTION:
        return await retention(ask)
    if ask.path:
        return await members(ask)
    applied = await known(ask.reader)
    now = in_force(applied)
    dimensions = (*DIMENSIONS, *(each.name for each in now.segments))
    dimension = ask.choice("dimension", "Picture of", dimensions, "lifecycle")
    days = ask.choice("days", "Moves of the last", _DAYS, "7 days")
    since = ask.day_before(int(days.value or 7))
    sizes, moves = await ask.together((SIZES, {}), (MOVES, {"since": since}))
    cells = [*await ask.reader.rows(CELLS)] if now.rfm else []
    shown = dimension.value or "lifecycle"
    whole = sum(row["users"] for row in sizes if row["dimension"] == "lifecycle")
    flow = flow_rows(moves, shown)
    drawn = picture([Move(*row[:3]) for row in flow], _ORDER.get(shown, (_OUT, _IN)))
    own = own_rows(now, sizes, moves, whole)
    return Page(
        title="Segments",
        summary=summary(whole, own, since),
        as_of_ms=ask.as_of_ms,
        facts=_facts(now, whole, own, moves),
        filters=(dimension, days),
        parts=(
            Table(
                "segments", "Segments of your own", OWN, own,
                empty="None is defined. `tideline segments example` prints a file to start from; "
                "docs/segments.md has the language.",
                note=f"Entered and left since {since}, UTC.",
            ),
            Picture(
                "flow_picture", f"Moves in {shown.replace('_', ' ')} since {since}", drawn,
                empty="Nobody has moved in this time.", half=True,
            ),
            Table(
                "flow", "The same moves in numbers", FLOW, flow,
                empty="Nobody has moved in this time.", half=True,
            ),
            Table(
                "standard", "Tiers and stages", STANDARD, standard_rows(sizes, moves),
                half=bool(cells),
            ),
            *_cells(cells),
            Table(
                "history", "What was applied", HISTORY, history_rows(applied),
                empty="Nothing was applied yet: tiers, stages and policy are those that ship.",
                folded=True,
            ),
        ),
    )  # fmt: skip


def summary(whole: int, own: Sequence[tuple[Any, ...]], since: str) -> str:
    """What to know first: a segment whose size is not as its owner expects."""
    at = {column.key: place for place, column in enumerate(OWN)}
    off = [row for row in own if row[at["state"]] in ("too small", "too large")]
    if off:
        name, users = off[0][at["segment"]][0], off[0][at["users"]]
        more = f", and {len(off) - 1} more" if len(off) > 1 else ""
        return f"{name} has {users:,} users, {off[0][at['state']]} for its owner{more}."
    entered = sum(row[at["entered"]] for row in own)
    return (
        f"{whole:,} users in {len(own)} segments of your own; {entered:,} entries since {since}."
        if own
        else f"{whole:,} users; no segment of your own is defined."
    )


def _facts(
    now: Definitions, whole: int, own: Sequence[Any], moves: Sequence[Mapping[str, Any]]
) -> tuple[Fact, ...]:
    newest = f"number {now.number}" if now.number else "what ships"
    by = f"applied by {now.applied_by}" if now.applied_by else "no file was applied yet"
    return (
        Fact("users", whole),
        Fact("segments of your own", len(own)),
        Fact("moves", sum(row["moves"] for row in moves), note="of all dimensions"),
        Fact("what they do", ["funnel", f"/segments/{FUNNEL}"], "link", note="view, cart, order"),
        Fact("who comes back", ["retention", f"/segments/{RETENTION}"], "link", note="by week"),
        Fact("in force", [newest, f"/segments/{PLAN}"], "link", note=f"{by}; edit and preview"),
    )


def own_rows(
    now: Definitions,
    sizes: Iterable[Mapping[str, Any]],
    moves: Sequence[Mapping[str, Any]],
    whole: int,
) -> list[tuple[Any, ...]]:
    """`OWN`: segments that are defined, as the file has them, and then those that are no more, as
    long as somebody is in one."""
    found = {row["dimension"]: row for row in sizes if row["dimension"] not in DIMENSIONS}
    names = [each.name for each in now.segments]
    gone = [name for name, row in sorted(found.items()) if name not in names and row["users"]]
    rows = []
    for name in (*names, *gone):
        of, size = segment_of(now, name), found.get(name, {"users": 0, "expected_spend": 0.0})
        users = int(size["users"])
        span = of.expect.size if of is not None else None
        rows.append((
            [name, f"/segments/{name}"], of.title if of else "", of.owner if of else "", users,
            users / whole if whole else None, size["expected_spend"],
            _moved(moves, name, _IN, entered=True), _moved(moves, name, _IN, entered=False),
            "" if span is None else f"{span[0]:,} to {span[1]:,}",
            "no longer defined" if of is None else size_state(users, span),
        ))  # fmt: skip
    return rows


def size_state(users: int, span: tuple[int, int] | None) -> str:
    """How a size is beside what the owner expects; empty: nothing is expected."""
    if span is None:
        return ""
    return "too small" if users < span[0] else "too large" if users > span[1] else "as expected"


def standard_rows(
    sizes: Iterable[Mapping[str, Any]], moves: Sequence[Mapping[str, Any]]
) -> list[tuple[Any, ...]]:
    """`STANDARD`: tiers and stages in their own order, an empty one too."""
    found = {(row["dimension"], row["segment"]): row for row in sizes}
    rows = []
    for dimension, names in _ORDER.items():
        whole = sum(int(row["users"]) for key, row in found.items() if key[0] == dimension)
        for name in names:
            row = found.get((dimension, name), {"users": 0, "expected_spend": 0.0})
            users = int(row["users"])
            rows.append((
                dimension, [name.replace("_", " "), f"/segments/{dimension}/{name}"], users,
                users / whole if whole else None, row["expected_spend"],
                _moved(moves, dimension, name, entered=True),
                _moved(moves, dimension, name, entered=False),
            ))  # fmt: skip
    return rows


def _moved(
    moves: Iterable[Mapping[str, Any]], dimension: str, segment: str, *, entered: bool
) -> int:
    side = "to_segment" if entered else "from_segment"
    return sum(
        row["moves"] for row in moves if row["dimension"] == dimension and row[side] == segment
    )


def flow_rows(moves: Iterable[Mapping[str, Any]], dimension: str) -> list[tuple[Any, ...]]:
    """`FLOW`: the moves of one dimension, the most first."""
    own = [row for row in moves if row["dimension"] == dimension]
    whole = sum(row["moves"] for row in own)
    rows = [
        (row["from_segment"], row["to_segment"], row["moves"], row["moves"] / whole) for row in own
    ]
    return sorted(rows, key=lambda row: (-row[2], row[0], row[1]))


def history_rows(applied: Sequence[Definitions]) -> list[tuple[Any, ...]]:
    """`HISTORY`: the newest first."""
    return [
        (
            each.number, each.applied_at_ms, each.applied_by, each.note, len(each.segments),
            len(each.audiences), each.version,
        )
        for each in reversed(applied)
    ]  # fmt: skip


def _cells(cells: Sequence[Mapping[str, Any]]) -> tuple[Table | Note, ...]:
    """Customers by fifths of recency and frequency; nothing where the definitions ask for none."""
    if not cells:
        return ()
    found = {(row["recency"], row["frequency"]): row["users"] for row in cells}
    columns = (
        Column("recency", "Ordered last"),
        *(Column(f"f{f}", f"F{f}", "count") for f in range(1, 6)),
    )
    said = {5: "most recently", 1: "longest ago"}
    rows = [
        (
            f"R{r}" + (f", {said[r]}" if r in said else ""),
            *(found.get((f"R{r}", f"F{f}"), 0) for f in range(1, 6)),
        )
        for r in range(5, 0, -1)
    ]
    note = "Fifths of the live customers by recency; F1 orders seldom, F5 most often."
    return (Table("rfm", "RFM: recency by frequency", columns, rows, note=note, half=True),)
