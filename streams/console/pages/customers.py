"""Customers: find one, or see who has the most at stake. `profile` shows one."""

from __future__ import annotations

from typing import Any, Final

from streams.console.page import Ask, Column, Fact, Filter, Note, Page, Part, Table
from streams.console.pages.profile import profile
from streams.console.ranked import ranked, ranking
from streams.console.reads import Rows

__all__ = ["customers"]

ROWS: Final = 50
MATCHES: Final = 20

_SHOWN: Final = """
    user_id, p_churn, expected_spend, p_churn * expected_spend AS at_stake, value_tier, lifecycle,
    segments, lifetime_orders, status,
    if(lifetime_orders = 0, 0, toUnixTimestamp64Milli(last_order_at)) AS last_order_ms,
    toUnixTimestamp64Milli(scored_at) AS scored_ms
"""
SEARCH: Final = f"""
SELECT {_SHOWN} FROM customers WHERE startsWith(user_id, %(prefix)s)
ORDER BY user_id LIMIT %(limit)s
"""  # noqa: S608  (constants of this module)
TOTALS: Final = """
SELECT sum(users) AS customers, sumIf(users, segment = 'visitor') AS visitors,
    sum(expected_spend) AS spend
FROM segment_sizes_now WHERE dimension = 'lifecycle'
"""
AT_RISK: Final = "SELECT uniqExact(user_id) AS at_risk FROM open_alerts"
RISKIEST: Final = ranking(
    _SHOWN,
    "p_churn * expected_spend",
    "p_churn IS NOT NULL AND expected_spend IS NOT NULL"
    " AND (%(tier)s = '' OR value_tier = %(tier)s) AND (%(stage)s = '' OR lifecycle = %(stage)s)",
)

COLUMNS: Final = (
    Column("user_id", "Customer", "user", wide=True),
    Column("at_stake", "At stake", "money"),
    Column("p_churn", "Leaves", "share"),
    Column("expected_spend", "Expected spend", "money"),
    Column("value_tier", "Value", "tag"),
    Column("lifecycle", "Stage", "tag"),
    Column("segments", "Segments", "words"),
    Column("lifetime_orders", "Orders", "count"),
    Column("last_order_ms", "Last order", "date"),
    Column("scored_seconds", "Score's age", "seconds"),
    Column("scored_ms", "Scored", "time", hidden=True),
)


async def customers(ask: Ask) -> Page:
    """The search, or the profile of the customer that the path names."""
    if ask.path:
        return await profile(ask)
    filters = (
        ask.text("q", "Customer begins with" if ask.visitor.sees_ids else "Pseudonym"),
        ask.choice("tier", "Value", ("high", "medium", "low", "none"), "any value"),
        ask.choice(
            "stage", "Stage", ("visitor", "new", "active", "at_risk", "lapsed"), "any stage"
        ),
    )
    totals, at_risk = await ask.together((TOTALS, {}), (AT_RISK, {}))
    known = {name: value for found in (totals, at_risk) for name, value in found[0].items()}
    wanted = filters[0].value
    found = await (_search(ask, wanted) if wanted else _riskiest(ask, filters))
    return shaped(ask, filters, known, found)


async def _search(ask: Ask, wanted: str) -> Rows:
    """Who begins so. A pseudonym is one customer, and for who sees no ids there is nothing else."""
    if wanted.startswith("~") or not ask.visitor.sees_ids:
        exact = SEARCH.replace("startsWith(user_id, %(prefix)s)", "user_id = %(user_id)s")
        return await ask.reader.rows(exact, user_id=wanted, limit=1)
    return await ask.reader.rows(SEARCH, prefix=wanted, limit=MATCHES + 1)


async def _riskiest(ask: Ask, filters: tuple[Filter, ...]) -> Rows:
    return await ranked(
        ask.reader, RISKIEST, ask.limit(ROWS) + 1, ask.cursor(float, str),
        tier=filters[1].value, stage=filters[2].value,
    )  # fmt: skip


def shaped(ask: Ask, filters: tuple[Filter, ...], totals: dict[str, Any], found: Rows) -> Page:
    """The page from what was read."""
    searched = filters[0].value
    limit = MATCHES if searched else ask.limit(ROWS)
    rows = [_row(ask, row) for row in found][:limit]
    more = len(found) > limit
    everybody, visitors = totals.get("customers", 0), totals.get("visitors", 0)
    filtered = any(each.value for each in filters)
    parts: list[Part] = [
        Table(
            "customers",
            f"Customers that begin with {searched}" if searched else "The most at stake first",
            COLUMNS, rows,
            empty=_why_empty(searched, everybody, filtered=filtered),
            next=ask.after(rows[-1][1], rows[-1][0]) if more and not searched else "",
        )
    ]  # fmt: skip
    if more and searched:
        parts.append(Note(f"More than {MATCHES} begin so. Type more of the id."))
    return Page(
        title="Customers",
        summary=f"{everybody - visitors:,} customers, and {visitors:,} visitors who have not "
        "ordered yet.",
        as_of_ms=ask.as_of_ms,
        facts=(
            Fact("customers", everybody - visitors, note="have ordered"),
            Fact("visitors", visitors),
            Fact("with an open alert", totals.get("at_risk")),
            Fact(
                "expected spend", totals.get("spend"), "money", ask.settings.stream.currency,
                "within the horizon",
            ),
        ),
        filters=filters,
        parts=tuple(parts),
    )  # fmt: skip


def _row(ask: Ask, row: dict[str, Any]) -> list[Any]:
    given = {
        **row,
        "scored_seconds": max(0.0, (ask.now_ms - row["scored_ms"]) / 1000),
        "last_order_ms": row["last_order_ms"] or None,
    }
    return [given[column.key] for column in COLUMNS]


def _why_empty(searched: str, everybody: int, *, filtered: bool) -> str:
    if searched:
        return "Nobody is known under that id. Ids are as the shop's events have them."
    if not everybody:
        return "Nobody is known yet: no event has arrived. `tideline doctor` says why."
    if not filtered:
        return (
            "Nobody has a score yet: the shop's first weeks are too little to judge by "
            "([model] shop_min_days)."
        )
    return "Nobody matches. Clear the filters to see all."
