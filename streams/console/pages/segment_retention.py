"""Retention: of those who came first in some week, how many were there again in the weeks after."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from streams.console import words
from streams.console.page import Ask, Column, Fact, Page, Table
from streams.console.pages.kept_events import OFF, Sample, sample_of, wilson

__all__ = ["RETENTION", "RETENTION_QUERY", "first_monday_ms", "retention", "retention_rows"]

RETENTION: Final = "cohort-retention"
"""Behind /segments/: no segment's name has a hyphen."""
_WEEK_MS: Final = 7 * 86_400_000
_WEEKS: Final = ("4", "8", "12", "26")
_MONDAY_MS: Final = 4 * 86_400_000  # 1970-01-05

# A bit for each week, from the first one shown, in which a user did it; no week is beyond 60.
RETENTION_QUERY: Final = """
SELECT cohort, week, countIf(bitTest(weeks, week)) AS users, count() AS of_users
FROM
(
    SELECT user_hash,
        toInt64(intDiv(max(if(%(by)s = 'order', toUnixTimestamp64Milli(first_order_at),
            toUnixTimestamp64Milli(first_event_at))) - %(from_ms)s, 604800000)) AS cohort,
        groupBitOr(if(%(did)s = 'event' OR type = 'placed', bitShiftLeft(toUInt64(1),
            toUInt8(intDiv(toUnixTimestamp64Milli(ts) - %(from_ms)s, 604800000))), 0)) AS weeks
    FROM event_groups
    WHERE user_group < %(groups)s
        AND toUnixTimestamp64Milli(ts) >= %(from_ms)s AND toUnixTimestamp64Milli(ts) < %(to_ms)s
        AND toUnixTimestamp64Milli(if(%(by)s = 'order', first_order_at, first_event_at))
            >= %(from_ms)s
    GROUP BY user_hash
)
ARRAY JOIN range(toUInt64(cohort), toUInt64(%(weeks)s)) AS week
WHERE cohort < %(weeks)s
GROUP BY cohort, week ORDER BY cohort, week
"""


async def retention(ask: Ask) -> Page:
    """Raises Refused (400) for another choice, and ReadFailed."""
    by = ask.choice("by", "First", ("event",), "order")
    did = ask.choice("did", "Then", ("order",), "any event")
    span = ask.choice("weeks", "Weeks", _WEEKS, "12")
    sample = await sample_of(ask)
    wanted = int(span.value or 12)
    from_ms = first_monday_ms(ask.now_ms, wanted, sample.since_ms if sample else 0)
    weeks = max(0, (ask.now_ms - from_ms) // _WEEK_MS)
    counts: list[dict[str, Any]] = []
    if sample is not None and weeks:
        counts = [
            *await ask.reader.rows(
                RETENTION_QUERY, groups=sample.groups, by=by.value or "order",
                did=did.value or "event", from_ms=from_ms, to_ms=from_ms + weeks * _WEEK_MS,
                weeks=weeks,
            )
        ]  # fmt: skip
    rows = retention_rows(counts, from_ms, weeks)
    first = "event" if by.value else "order"
    return Page(
        title="Retention",
        summary=summary(rows, sample, first),
        as_of_ms=ask.as_of_ms,
        facts=_facts(sample, rows),
        filters=(by, did, span),
        parts=(
            Table(
                "cohorts", f"By the week of the first {first}", _columns(rows), rows,
                empty=OFF if sample is None else
                "No week is over yet since single events are kept, or nobody was new in one.",
                note=_note(sample, rows, "an order" if did.value else "any event"),
            ),
        ),
        up=("Segments", "/segments"),
        is_live=False,
        old_seconds=0,
    )  # fmt: skip


def first_monday_ms(now_ms: int, weeks: int, since_ms: int) -> int:
    """Where the first week begins, UTC: so many whole weeks ago, and after events began to be kept,
    or those who came before would be missing.

    >>> at = lambda ms: f"{datetime.fromtimestamp(ms / 1000, UTC):%a %d %b}"
    >>> now = 1_780_000_000_000  # Thursday 28 May 2026
    >>> at(first_monday_ms(now, 4, 0)), at(first_monday_ms(now, 4, now - 10 * 86_400_000))
    ('Mon 27 Apr', 'Mon 25 May')
    """

    def monday(ms: int) -> int:
        return (ms - _MONDAY_MS) // _WEEK_MS * _WEEK_MS + _MONDAY_MS

    whole = monday(since_ms)
    return max(monday(now_ms) - weeks * _WEEK_MS, whole if whole == since_ms else whole + _WEEK_MS)


def _columns(rows: Sequence[Sequence[Any]]) -> tuple[Column, ...]:
    return (
        Column("week", "Week of"),
        Column("users", "Customers", "count"),
        *(
            Column(f"w{i}", f"+{i}", "heat", unit="wk")
            for i in range(1, len(rows[0]) - 1 if rows else 1)
        ),
    )


def retention_rows(
    counts: Iterable[Mapping[str, Any]], from_ms: int, weeks: int
) -> list[list[Any]]:
    """A row for each week in which somebody was new: its Monday, how many, and which share of them
    was there 1, 2, ... weeks later, as far as the first row knows; None where that is not over."""
    found: dict[int, dict[int, Mapping[str, Any]]] = {}
    for row in counts:
        found.setdefault(int(row["cohort"]), {})[int(row["week"])] = row
    begin = datetime.fromtimestamp(from_ms / 1000, UTC)
    rows = []
    for cohort, by_week in sorted(found.items()):
        users = int(next(iter(by_week.values()))["of_users"])
        later = [by_week.get(cohort + i) for i in range(1, weeks - min(found))]
        shares = [None if row is None else int(row["users"]) / users for row in later]
        rows.append([f"{begin + timedelta(weeks=cohort):%Y-%m-%d}", users, *shares])
    return rows


def summary(rows: Sequence[Sequence[Any]], sample: Sample | None, first: str) -> str:
    """What to know first: how many come back in the week after."""
    if sample is None:
        return "Single events are not kept, so there are no cohorts."
    after = [(row[1], row[2]) for row in rows if len(row) > 2 and row[2] is not None]
    if not after:
        return "No week after a first one is over yet."
    users = sum(n for n, _ in after)
    share = sum(n * share for n, share in after) / users
    return (
        f"{words.share(share)} of {words.count(users)} were there again in the week after their "
        f"first {first}."
    )


def _facts(sample: Sample | None, rows: Sequence[Sequence[Any]]) -> tuple[Fact, ...]:
    if sample is None:
        return ()
    return (
        Fact("kept since", sample.since_ms, "date", note="only whole weeks after that are shown"),
        Fact("customers", sum(row[1] for row in rows), note="who were new in these weeks"),
        Fact("of all", sample.share, "share", note="whose events were read"),
    )


def _note(sample: Sample | None, rows: Sequence[Sequence[Any]], did: str) -> str:
    if sample is None:
        return ""
    most = max((row[1] for row in rows), default=0)
    unsure = ""
    if most and not sample.is_everybody:
        low, high = wilson(round(most * 0.2), most) or (0.0, 1.0)
        unsure = (
            f" Of the largest week, 20 % mean {words.share(low)} to {words.share(high)}, with 95 %."
        )
    return f"{sample.said}{unsure} +1 is the week after, with {did}; weeks begin on Monday, UTC."
