"""What new definitions would change, as lines, a table and JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from schemas.definitions import Definitions
from streams.campaigns.differences import Difference
from streams.campaigns.preview import Preview, SegmentPreview, cost_ns
from streams.campaigns.written import duration
from streams.core.rulebook import Rulebook
from streams.core.times import iso_utc

__all__ = ["HEADINGS", "difference_lines", "plan_document", "segment_lines", "shown", "size_rows"]

HEADINGS: Final = (
    "SEGMENT", "NOW", "THEN", "ENTER", "LEAVE", "EXPECTED", "ALSO IN", "NS PER USER",
)  # fmt: skip
_SIGNS: Final = {"added": "+", "removed": "-", "changed": "~"}
_DAYS_SHOWN: Final = 7
_DAY_MS: Final = 86_400_000


def difference_lines(found: Sequence[Difference]) -> Iterator[str]:
    """Each difference with its fields; fields of what was added or removed only if they are set."""
    for each in found:
        yield f"{_SIGNS[each.change]} {each.kind} {each.name}"
        for name, (before, after) in each.fields.items():
            if each.change == "changed":
                of = each.name if each.kind == "setting" else name  # its field is `value`
                yield f"    {name}: {shown(of, before)} -> {shown(of, after)}"
                continue
            value = after if each.change == "added" else before
            if value not in ("", None, 0, 0.0):
                yield f"    {name}: {shown(name, value)}"


def shown(name: str, value: Any) -> str:
    """The value of a field of a definition, for people: durations with units, shares short."""
    if value is None or value == "":
        return "none"
    if name.endswith("_ms"):
        return duration(int(value)) if value else "0"
    return f"{value:.4g}" if name.endswith("_share") else str(value)


def size_rows(book: Rulebook, sizes: Preview) -> Iterator[tuple[str, ...]]:
    """A row of `HEADINGS` for each segment."""
    for each in book.definitions.segments:
        of = sizes.segments[each.name]
        yield (
            each.name, f"{of.size_in_force:,}", f"{of.size:,}", f"+{of.enters:,}",
            f"-{of.leaves:,}", _expected(each.expect.size, of.size), _overlap(of),
            f"{cost_ns(book, each):.0f}",
        )  # fmt: skip


def _expected(expected: tuple[int, int] | None, size: int) -> str:
    if expected is None:
        return "-"
    low, high = expected
    outside = "" if low <= size <= high else "  OUTSIDE"
    return f"{low:,}..{high:,}{outside}"


def _overlap(of: SegmentPreview) -> str:
    if not of.size:
        return "-"
    shares = [(n / of.size, name) for name, n in of.overlap.most_common(3) if n]
    return ", ".join(f"{name} {share:.0%}" for share, name in shares) or "-"


def segment_lines(name: str, of: SegmentPreview) -> Iterator[str]:
    """A segment on past days, and examples of who would be in it."""
    yield name
    if of.past_unknown:
        yield f"  past days: not known, as past values of {of.past_unknown} are not kept"
    elif of.past:
        days = ", ".join(
            f"{iso_utc(day * _DAY_MS)[5:10]} {of.past[day].estimate:,.0f} ± "
            f"{of.past[day].error:,.0f}"
            for day in sorted(of.past)[-_DAYS_SHOWN:]
        )
        yield f"  past days, of customers asked about, estimated (95 %): {days}"
    for example in of.examples:
        yield f"  {example.user}"
        yield from (f"    {line}" for line in example.lines)


def plan_document(
    new: Definitions,
    old: Definitions,
    found: Sequence[Difference],
    book: Rulebook,
    sizes: Preview | None,
) -> dict[str, Any]:
    """Everything as JSON; without `sizes` only the differences."""
    document: dict[str, Any] = {
        "in_force": old.number,
        "version": new.version,
        "differences": [
            {"kind": d.kind, "name": d.name, "change": d.change,
             "fields": {name: list(both) for name, both in d.fields.items()}}
            for d in found
        ],
    }  # fmt: skip
    if sizes is not None:
        document["users"] = sizes.users
        document["as_of"] = iso_utc(sizes.as_of_ms)
        document["segments"] = {
            each.name: _segment_document(sizes.segments[each.name], cost_ns(book, each))
            for each in new.segments
        }
    return document


def _segment_document(of: SegmentPreview, ns_per_user: float) -> dict[str, Any]:
    return {
        "size_in_force": of.size_in_force,
        "size": of.size,
        "enters": of.enters,
        "leaves": of.leaves,
        "overlap": dict(of.overlap),
        "ns_per_user": ns_per_user,
        "past": {
            iso_utc(day * _DAY_MS)[:10]: {
                "estimate": past.estimate, "error": past.error, "asked": past.asked,
            }
            for day, past in sorted(of.past.items())
        },
        "past_unknown": of.past_unknown,
        "examples": [{"user": each.user, "conditions": each.lines} for each in of.examples],
    }  # fmt: skip
