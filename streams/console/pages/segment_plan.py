"""The preview of an edited document of definitions: what is wrong with it, or what it changes.

What differs is computed from the document and from what is in force, as `tideline segments plan`
does. How many would enter and leave is in the shards' states, which are not in ClickHouse: when it
is asked for, that command counts them, in a process of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from schemas.definitions import Definitions, SegmentDefinition
from streams.campaigns import Difference, DocumentError, differences, read_definitions, written
from streams.campaigns.places import FileProblem
from streams.campaigns.plan_text import shown
from streams.campaigns.preview import cost_ns
from streams.console.access import Refused
from streams.console.definitions import in_force, known
from streams.console.page import Ask, Column, Fact, Note, Page, Part, Table
from streams.console.sizing import CountFailed, SegmentSize, Sizes
from streams.core.rulebook import rulebook_of

__all__ = ["PLAN", "Plan", "plan_preview", "planned"]

PLAN: Final = "plan-preview"
"""What stands behind /segments/; no segment can have this name."""
_FILE: Final = "segments.yaml"

SIZES: Final = """
SELECT toString(dimension) AS dimension, users FROM segment_sizes_now WHERE segment = 'in'
"""
PROBLEMS: Final = (
    Column("line", "Line", "count"),
    Column("column", "Column", "count"),
    Column("text", "Where", "code", wide=True),
    Column("what", "What is wrong", "prose", wide=True),
    Column("fix", "What to do", "prose", wide=True),
)
CHANGES: Final = (
    Column("change", "Change", "tag"),
    Column("kind", "Of", "tag"),
    Column("name", "Name"),
    Column("field", "Field"),
    Column("before", "In force", "code", wide=True),
    Column("after", "In this document", "code", wide=True),
)
SEGMENTS: Final = (
    Column("name", "Segment"),
    Column("users", "Users now", "count"),
    Column("expected", "Expected size"),
    Column("cost_ns", "To evaluate", "number", "ns per user"),
    Column("when", "Enters when", "code", wide=True),
)
COUNTED: Final = (
    Column("name", "Segment"),
    Column("in_force", "In force", "count"),
    Column("size", "Would have", "count"),
    Column("enters", "Would enter", "count"),
    Column("leaves", "Would leave", "count"),
    Column("expected", "Expected size"),
    Column("overlap", "Shares most members with", wide=True),
)


@dataclass(frozen=True)
class Plan:
    """What a document comes to: problems, or definitions and what differs."""

    problems: tuple[FileProblem, ...] = ()
    found: Definitions | None = None
    changes: tuple[Difference, ...] = ()


def planned(document: str, earlier: Sequence[Definitions], currency: str, now_ms: int) -> Plan:
    """Read a document beside all that was ever applied, the oldest first."""
    try:
        found = read_definitions(
            document.encode(errors="replace"), file=_FILE, currency=currency, earlier=earlier,
            now_ms=now_ms,
        )  # fmt: skip
    except DocumentError as error:
        return Plan(problems=error.problems)
    return Plan(found=found, changes=tuple(differences(in_force(earlier), found)))


async def plan_preview(ask: Ask) -> Page:
    """The document in force in a field; once it was sent, what it comes to."""
    earlier = await known(ask.reader)
    currency = ask.settings.stream.currency
    now = in_force(earlier)
    sent = ask.posted.get("document")
    # A browser sends a field's lines with carriage returns.
    document = written(now, currency) if sent is None else sent.replace("\r\n", "\n")
    plan = planned(document, earlier, currency, ask.now_ms) if sent is not None else None
    sizes = {row["dimension"]: row["users"] for row in await ask.reader.rows(SIZES)}
    counted = None
    if plan is not None and plan.found is not None and "count" in ask.posted:
        counted = await _count(ask, document)
    newest = f"number {now.number}" if now.number else "what ships"
    return Page(
        title="Preview definitions",
        summary=summary(plan, newest),
        as_of_ms=ask.as_of_ms,
        facts=_facts(plan, now, newest),
        parts=_parts(plan, currency, sizes, counted),
        template="segment_plan.html",
        data={
            "document": document,
            "in_force": now.number,
            "can_apply": bool(plan and plan.changes) and ask.visitor.may("apply"),
            "can_count": bool(plan and plan.found) and ask.visitor.may("apply"),
        },
        up=("Segments", "/segments"),
    )


async def _count(ask: Ask, document: str) -> Sizes | str:
    """How many would enter and leave, or why that is not known. Raises Refused."""
    if not ask.visitor.may("apply"):
        raise Refused(403, "Only who may put definitions into force may have them counted.")
    try:
        found: Sizes = await ask.sources["sizing"](document)
    except CountFailed as error:
        return str(error)
    return found


def summary(plan: Plan | None, newest: str) -> str:
    """What came of it, in one sentence."""
    if plan is None:
        return f"Edit the definitions in force ({newest}), and see what would change."
    if plan.problems:
        count = len(plan.problems)
        return f"{count} problem{'s' if count > 1 else ''}; nothing of it can be applied."
    if not plan.changes:
        return f"The document is in order, and says the same as {newest}."
    count = len(plan.changes)
    return f"The document is in order: {count} difference{'s' if count > 1 else ''} from {newest}."


def _facts(plan: Plan | None, now: Definitions, newest: str) -> tuple[Fact, ...]:
    said = [
        Fact("in force", newest, "text", note=f"applied by {now.applied_by}" if now.number else ""),
        Fact("applied", now.applied_at_ms or None, "time"),
    ]
    if plan is not None and plan.problems:
        said.append(Fact("problems", len(plan.problems), state="bad"))
    elif plan is not None:
        said.append(Fact("problems", 0, state="good"))
        said.append(Fact("differences", len(plan.changes)))
    return tuple(said)


def _parts(
    plan: Plan | None, currency: str, sizes: Mapping[str, int], counted: Sizes | str | None
) -> tuple[Part, ...]:
    if plan is None:
        return ()
    if plan.found is None:
        return (Table("problems", "What is wrong", PROBLEMS, problem_rows(plan.problems)),)
    return (
        Table(
            "changes", "What would change", CHANGES, change_rows(plan.changes),
            empty="Nothing: what is in force says the same.",
        ),
        *_counted(plan.found, counted),
        Table(
            "segments", "Its segments", SEGMENTS, segment_rows(plan.found, currency, sizes),
            empty="It defines none.",
        ),
    )  # fmt: skip


def _counted(found: Definitions, counted: Sizes | str | None) -> tuple[Part, ...]:
    """What counting gave, if it was asked for."""
    if counted is None:
        return ()
    if isinstance(counted, str):
        return (Note(counted, state="bad"),)
    if not counted.users:
        return (Note("No shard has a checkpoint yet, so there is nobody to count.", state="warn"),)
    return (
        Table(
            "counted", "Who would enter and leave", COUNTED, counted_rows(found, counted.segments),
            empty="It defines no segments.",
            note=f"{counted.users:,} customers, by the shards' checkpoints of {counted.as_of} and "
            f"later. `tideline segments plan {_FILE}` names some of them, with what decided.",
        ),
    )  # fmt: skip


def counted_rows(found: Definitions, sizes: Mapping[str, SegmentSize]) -> list[tuple[Any, ...]]:
    """`COUNTED`: a row for each segment of the document."""
    rows = []
    for each in found.segments:
        of = sizes[each.name]
        others = sorted(of.overlap.items(), key=lambda item: -item[1])
        shared = ", ".join(f"{name} {n / of.size:.0%}" for name, n in others[:2] if n and of.size)
        rows.append(
            (each.name, of.size_in_force, of.size, of.enters, of.leaves,
             _expected(each, of.size), shared or None)
        )  # fmt: skip
    return rows


def _expected(segment: SegmentDefinition, size: int | None = None) -> str:
    """The bounds of its size in words, and whether it would be outside of them."""
    if segment.expect.size is None:
        return ""
    low, high = segment.expect.size
    outside = "" if size is None or low <= size <= high else "; outside"
    return f"{low:,} to {high:,}{outside}"


def problem_rows(problems: Sequence[FileProblem]) -> list[tuple[Any, ...]]:
    """`PROBLEMS`; a problem of the whole document has no line."""
    return [
        (each.line or None, each.column or None, _line_of(each), each.what, each.fix)
        for each in problems
    ]


def _line_of(problem: FileProblem) -> str:
    """The line that is meant, as it stands in the document."""
    first = problem.shown.split("\n")[0]
    return first.partition("| ")[2].strip()


def change_rows(changes: Sequence[Difference]) -> list[tuple[Any, ...]]:
    """`CHANGES`: a row for each field; of what is new or gone those that are set."""
    rows = []
    for each in changes:
        for field, (before, after) in each.fields.items():
            name = each.name if each.kind == "setting" else field
            if each.change == "changed" or (before or after):
                rows.append((
                    each.change, each.kind, each.name, name.removesuffix("_ms"),
                    shown(name, before) if each.change != "added" else "",
                    shown(name, after) if each.change != "removed" else "",
                ))  # fmt: skip
    return rows


def segment_rows(
    found: Definitions, currency: str, sizes: Mapping[str, int]
) -> list[tuple[Any, ...]]:
    """`SEGMENTS`: those of the document, with the users of those that are in force."""
    book = rulebook_of(found, currency)
    return [
        (
            each.name, sizes.get(each.name),
            _expected(each), cost_ns(book, each), each.when,
        )
        for each in found.segments
    ]  # fmt: skip
