"""Customers: find one, or see who has the most at stake. `profile` shows one."""

from __future__ import annotations

from typing import Any, Final

from streams.console.page import Ask, Column, Fact, Filter, Note, Page, Part, Table
from streams.console.pages.profile import profile
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
COUNT: Final = """
SELECT count() AS customers, countIf(status = 'scored') AS scored, countIf(at_risk = 1) AS at_risk,
    sumIf(toFloat64(assumeNotNull(expected_spend)), expected_spend IS NOT NULL) AS spend
FROM (SELECT status, at_risk, expected_spend FROM customers)
"""
# Few columns over everybody, then the details of one page.
_CHOSEN: Final = """
    SELECT user_id FROM customers
    WHERE p_churn IS NOT NULL
        AND (%(tier)s = '' OR value_tier = %(tier)s) AND (%(stage)s = '' OR lifecycle = %(stage)s)
        AND (%(is_first)s = 1 OR p_churn * expected_spend < %(at_stake)s
            OR (p_churn * expected_spend = %(at_stake)s AND user_id > %(after_user_id)s))
    ORDER BY p_churn * expected_spend DESC, user_id LIMIT %(limit)s
"""
RISKIEST: Final = f"""
SELECT {_SHOWN} FROM customers WHERE user_id IN ({_CHOSEN})
ORDER BY p_churn * expected_spend DESC, user_id
"""  # noqa: S608  (constants of this module)

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
    totals = (await ask.reader.rows(COUNT)).first() or {}
    wanted = filters[0].value
    found = await (_search(ask, wanted) if wanted else _riskiest(ask, filters))
    return shaped(ask, filters, totals, found)


async def _search(ask: Ask, wanted: str) -> Rows:
    """Who begins so. A pseudonym is one customer, and for who sees no ids there is nothing else."""
    if wanted.startswith("~") or not ask.visitor.sees_ids:
        exact = SEARCH.replace("startsWith(user_id, %(prefix)s)", "user_id = %(user_id)s")
        return await ask.reader.rows(exact, user_id=wanted, limit=1)
    return await ask.reader.rows(SEARCH, prefix=wanted, limit=MATCHES + 1)


async def _riskiest(ask: Ask, filters: tuple[Filter, ...]) -> Rows:
    place = ask.cursor(float, str)
    after: dict[str, Any] = {
        "is_first": int(place is None), "at_stake": place[0] if place else 0.0,
    }  # fmt: skip
    if place is None:
        query = RISKIEST.replace("%(after_user_id)s", "''")
    else:
        query, after["after_user_id"] = RISKIEST, place[1]
    return await ask.reader.rows(
        query, tier=filters[1].value, stage=filters[2].value, limit=ask.limit(ROWS) + 1, **after
    )


def shaped(ask: Ask, filters: tuple[Filter, ...], totals: dict[str, Any], found: Rows) -> Page:
    """The page from what was read."""
    searched = filters[0].value
    limit = MATCHES if searched else ask.limit(ROWS)
    rows = [_row(ask, row) for row in found][:limit]
    more = len(found) > limit
    everybody, scored = totals.get("customers", 0), totals.get("scored", 0)
    parts: list[Part] = [
        Table(
            "customers",
            f"Customers that begin with {searched}" if searched else "The most at stake first",
            COLUMNS, rows,
            empty=_why_empty(searched, everybody, scored),
            next=ask.after(rows[-1][1], rows[-1][0]) if more and not searched else "",
        )
    ]  # fmt: skip
    if more and searched:
        parts.append(Note(f"More than {MATCHES} begin so. Type more of the id."))
    return Page(
        title="Customers",
        summary=f"{everybody:,} customers and visitors, {scored:,} of them with a score.",
        as_of_ms=ask.as_of_ms,
        facts=(
            Fact("known", everybody, note="customers and visitors"),
            Fact("with a score", scored),
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


def _why_empty(searched: str, everybody: int, scored: int) -> str:
    if searched:
        return "Nobody is known under that id. Ids are as the shop's events have them."
    if not everybody:
        return "Nobody is known yet: no event has arrived. `tideline doctor` says why."
    if not scored:
        return (
            "Nobody has a score yet: the shop's first weeks are too little to judge by "
            "([model] shop_min_days)."
        )
    return "Nobody matches. Clear the filters to see all."
