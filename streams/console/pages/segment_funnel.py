"""A funnel: of the customers who took a first step, how many took the next ones in time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from schemas.definitions import Definitions
from schemas.events import CLICK_TYPES
from schemas.segments import LIFECYCLE, VALUE_TIERS
from streams.console import words
from streams.console.access import Refused
from streams.console.definitions import in_force, known
from streams.console.page import Ask, Column, Fact, Filter, Page, Table
from streams.console.pages.kept_events import OFF, Sample, sample_of, wilson

__all__ = ["FUNNEL", "FUNNEL_QUERY", "funnel", "funnel_rows"]

FUNNEL: Final = "event-funnel"
"""Behind /segments/: no segment's name has a hyphen."""
_PLACED: Final = "placed"
STEPS: Final = (*CLICK_TYPES, _PLACED)
_USUAL: Final = ("view", "cart_add", _PLACED)
_MOST: Final = 4
_WINDOWS: Final = {"1_hour": 3_600, "1_day": 86_400, "7_days": 604_800, "28_days": 2_419_200}
_DAYS: Final = ("1", "7", "28", "90")

# windowFunnel takes milliseconds here: a view and what follows it often share a second.
_ONE_CUSTOMER: Final = """
    SELECT user_hash,
        windowFunnel(%(window_ms)s)(
            toUInt64(toUnixTimestamp64Milli(ts)), type = %(step_1)s, type = %(step_2)s,
            type = %(step_3)s, type = %(step_4)s
        ) AS level
    FROM event_groups
    WHERE user_group < %(groups)s AND ts >= toDateTime64(%(since)s, 3, 'UTC')
        AND type IN %(steps)s
    GROUP BY user_hash
    HAVING level > 0{more}
"""
_QUERY: Final = "SELECT level, count() AS users FROM ({of}) GROUP BY level ORDER BY level"
FUNNEL_QUERY: Final = _QUERY.format(of=_ONE_CUSTOMER.format(more=""))
OF_SOME: Final = _QUERY.format(
    of=_ONE_CUSTOMER.format(
        more="""
        AND (%(stage)s = '' OR argMinIf(lifecycle, ts, type = %(step_1)s) = %(stage)s)
        AND (%(tier)s = '' OR argMinIf(value_tier, ts, type = %(step_1)s) = %(tier)s)
        AND (%(segment)s = '' OR has(argMinIf(segments, ts, type = %(step_1)s), %(segment)s))"""
    )
)


def _columns(*, is_sample: bool) -> tuple[Column, ...]:
    return (
        Column("step", "Step", "tag"),
        Column("users", "Customers", "count"),
        Column("of_first", "Of the first step", "heat"),
        Column("low", "At least", "share", hidden=not is_sample),
        Column("high", "At most", "share", hidden=not is_sample),
        Column("of_before", "Of the step before", "share"),
        Column("gone", "Went no further", "count"),
    )


async def funnel(ask: Ask) -> Page:
    """Raises Refused (400) for a step, window or segment that there is not, and ReadFailed."""
    now = in_force(await known(ask.reader))
    steps = _steps(ask)
    chosen = tuple(each.value for each in steps if each.value)
    window = ask.choice("window", "Within", tuple(_WINDOWS), "7 days")
    days = ask.choice("days", "Last days", _DAYS, "28")
    some = _of_whom(ask, now)
    sample = await sample_of(ask)
    seconds = _WINDOWS[window.value or "7_days"]
    counts: list[dict[str, Any]] = []
    if sample is not None:
        given = {f"step_{i}": step for i, step in enumerate((*chosen, *[""] * _MOST)[:_MOST], 1)}
        whom = {each.name: each.value for each in some}
        counts = [
            *await ask.reader.rows(
                OF_SOME if any(whom.values()) else FUNNEL_QUERY,
                groups=sample.groups, window_ms=1_000 * seconds, steps=list(chosen),
                since=ask.time_before(int(days.value or 28) * 86_400), **given,
                **(whom if any(whom.values()) else {}),
            )
        ]  # fmt: skip
    is_sample = sample is not None and not sample.is_everybody
    rows = funnel_rows(chosen, counts, is_sample=is_sample)
    return Page(
        title="Funnel",
        summary=summary(rows, sample, words.seconds(seconds)),
        as_of_ms=ask.as_of_ms,
        facts=_facts(ask, sample, rows),
        filters=(*steps, window, days, *some),
        parts=(
            Table(
                "funnel", "Step by step", _columns(is_sample=is_sample),
                rows if rows and rows[0][1] else [],
                empty=OFF if sample is None else "Nobody took the first step in this time.",
                note=_note(sample, words.seconds(seconds), some),
            ),
        ),
        up=("Segments", "/segments"),
        is_live=False,
        old_seconds=0,
    )  # fmt: skip


def _steps(ask: Ask) -> tuple[Filter, ...]:
    """The steps of the URL, or the usual ones. Raises Refused (400)."""
    labels = ("First", "then", "then", "then")
    asked = [
        ask.choice(f"step_{i}", label, STEPS, "no more") for i, label in enumerate(labels, start=1)
    ]
    if not any(each.value for each in asked):
        return tuple(
            msgspec.structs.replace(each, value=value)
            for each, value in zip(asked, (*_USUAL, ""), strict=True)
        )
    values = [each.value for each in asked]
    given = [each for each in values if each]
    if len(set(given)) < len(given) or len(given) < 2 or values[: len(given)] != given:
        raise Refused(400, "A funnel has two to four different steps, without a gap between them.")
    return tuple(asked)


def _of_whom(ask: Ask, now: Definitions) -> tuple[Filter, ...]:
    found = [
        ask.choice("stage", "Stage", LIFECYCLE, "every stage"),
        ask.choice("tier", "Value", VALUE_TIERS, "every value"),
    ]
    own = tuple(each.name for each in now.segments)
    segment = ask.choice("segment", "Segment", own, "all")
    return (*found, segment)


def funnel_rows(
    steps: Sequence[str], counts: Iterable[Mapping[str, Any]], *, is_sample: bool
) -> list[list[Any]]:
    """A row of `_columns` for each step; `counts` has how many users went so far and no further."""
    ended = {int(row["level"]): int(row["users"]) for row in counts}
    reached = [sum(n for level, n in ended.items() if level > i) for i in range(len(steps))]
    rows = []
    for i, (step, users) in enumerate(zip(steps, reached, strict=True)):
        bounds = wilson(users, reached[0]) if is_sample and i else None
        low, high = bounds or (None, None)
        rows.append([
            step, users, users / reached[0] if reached[0] else None, low, high,
            users / reached[i - 1] if i and reached[i - 1] else None,
            ended.get(i + 1, 0) if i + 1 < len(steps) else None,
        ])  # fmt: skip
    return rows


def summary(rows: Sequence[Sequence[Any]], sample: Sample | None, within: str) -> str:
    """What to know first."""
    if sample is None:
        return "Single events are not kept, so there is no funnel."
    if not rows or not rows[0][1]:
        return "Nobody took the first step in this time."
    first, last = str(rows[0][0]).replace("_", " "), str(rows[-1][0]).replace("_", " ")
    return (
        f"{words.share(rows[-1][2])} of {words.count(rows[0][1])} customers came from {first} to "
        f"{last} within {within}."
    )


def _facts(ask: Ask, sample: Sample | None, rows: Sequence[Sequence[Any]]) -> tuple[Fact, ...]:
    if sample is None:
        return ()
    return (
        Fact("kept since", sample.since_ms, "date", note="events before that are not there"),
        Fact("customers read", rows[0][1] if rows else 0, note="who took the first step"),
        Fact("of all", sample.share, "share", note="whose events were read"),
    )


def _note(sample: Sample | None, within: str, some: Iterable[Filter]) -> str:
    if sample is None:
        return ""
    whom = (
        " Stage, value and segment are those at the first step, after the batch that it was in."
        if any(each.value for each in some)
        else ""
    )
    sure = "" if sample.is_everybody else " At least and at most: with 95 %, by the sample's size."
    return (
        f"{sample.said}{sure} `placed` is an order. Steps count in their order, all within "
        f"{within} of the first; who took it less than {within} ago may still go on.{whom}"
    )
