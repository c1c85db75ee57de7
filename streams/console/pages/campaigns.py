"""Campaigns: who may be contacted now and who is held out, and what followed in each arm."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from streams.console.definitions import in_force, known
from streams.console.page import Ask, Column, Fact, Note, Page, Table
from streams.console.pages.audience import audience_page
from streams.console.pages.audiences import AUDIENCES, BY_ARM, NO_EFFECT, audience_rows, result_rows

__all__ = ["campaigns"]

ARMS: Final = """
SELECT toString(audience) AS audience, toString(arm) AS arm, users, expected_spend,
    toUnixTimestamp64Milli(newest_at) AS newest_ms
FROM audience_arms
"""
RESULTS: Final = """
SELECT toString(audience) AS audience, salt, toString(arm) AS arm, horizon_days, exposed, answered,
    buyers, orders, spend_mean, spend_before
FROM campaign_results
"""
OUTCOMES: Final = """
SELECT toString(arm) AS arm, toString(outcome) AS outcome, toUInt64(sum(alerts)) AS episodes
FROM alert_outcomes WHERE day >= toDate(%(since)s) GROUP BY arm, outcome
"""
OUTCOME_COLUMNS: Final = (
    Column("arm", "Arm", "tag"),
    Column("alerts", "Alerts", "count"),
    Column("opened", "Open", "count"),
    Column("contacted", "Contacted", "count"),
    Column("won_back", "Won back", "count"),
    Column("ordered", "Ordered", "count"),
    Column("lost", "Lost", "count"),
    Column("ended", "Ended", "count"),
    Column("share_ordered", "Ordered", "share", "of those that are over"),
)
_OUTCOMES: Final = ("opened", "contacted", "won back", "ordered", "lost", "ended")


async def campaigns(ask: Ask) -> Page:
    """All audiences; below it one of them."""
    now = in_force(await known(ask.reader))
    arms, results = await ask.together((ARMS, {}), (RESULTS, {}))
    if ask.path:
        return await audience_page(ask, now, arms, results)
    days = ask.choice("days", "Alerts raised in the last", ("28", "90", "365"), "90 days")
    since = ask.day_before(int(days.value or 90))
    outcomes = outcome_rows(await ask.reader.rows(OUTCOMES, since=since))
    rows = audience_rows(now, arms)
    treat = sum(row[3] for row in rows)
    return Page(
        title="Campaigns",
        summary=summary(rows, treat),
        as_of_ms=ask.as_of_ms,
        facts=(
            Fact("audiences", len(rows)),
            Fact("may be contacted", treat, note="over all audiences"),
            Fact("held out", sum(row[4] for row in rows), note="contact nobody of these"),
            Fact("held out of all", sum(row[5] for row in rows), note="in no feed, ever"),
            Fact("entered so far", sum(row["exposed"] for row in results)),
        ),
        filters=(days,),
        parts=(
            Table(
                "audiences", "Who is in them now", AUDIENCES, rows,
                empty="No audience is defined. docs/audiences.md has an example; `tideline "
                "segments apply FILE` puts it into force.",
            ),
            Table(
                "results", "What followed, by arm", BY_ARM,
                result_rows(results, [each.name for each in now.audiences]),
                empty="Nobody has entered an audience yet.", note=NO_EFFECT,
            ),
            Table(
                "outcomes", f"What became of alerts raised since {since}", OUTCOME_COLUMNS,
                outcomes, empty="No alert was raised in this time.",
                note="Won back: ordered after a contact, within the horizon. Held-out customers "
                "get no contact: what they do is what would have happened anyway.",
            ),
            Note(
                "Members as a file: `tideline audience NAME --output NAME.csv`; or open an "
                "audience, and take its CSV."
            ),
        ),
    )  # fmt: skip


def summary(rows: Sequence[tuple[Any, ...]], treat: int) -> str:
    """How many may be contacted, in how many audiences."""
    if not rows:
        return "No audience is defined."
    people = "person" if treat == 1 else "people"
    return f"{treat:,} {people} may be contacted, in {len(rows)} audiences."


def outcome_rows(outcomes: Iterable[Mapping[str, Any]]) -> list[tuple[Any, ...]]:
    """`OUTCOME_COLUMNS`: what became of the alerts of each arm."""
    found: dict[str, dict[str, int]] = {}
    for row in outcomes:
        found.setdefault(row["arm"], {})[row["outcome"]] = int(row["episodes"])
    rows = []
    for arm in sorted(found, key=lambda name: name != "treat"):
        counts = [found[arm].get(outcome, 0) for outcome in _OUTCOMES]
        ordered, over = counts[2] + counts[3], sum(counts[2:5])
        rows.append((arm, sum(counts), *counts, ordered / over if over else None))
    return rows
