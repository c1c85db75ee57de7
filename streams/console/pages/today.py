"""Today: who is about to leave, why, what is at stake, and what to do about it."""

from __future__ import annotations

from typing import Any, Final

from streams.console.page import Ask, Column, Fact, Filter, Page, Table
from streams.console.reads import Rows

__all__ = ["today"]

ROWS: Final = 50

TOTALS: Final = """
SELECT
    count() AS alerts, countIf(arm = 'treat') AS to_contact,
    sumIf(priority, arm = 'treat') AS at_stake, countIf(arm != 'treat') AS held_out,
    max(toUnixTimestamp64Milli(raised_at)) AS newest_ms
FROM churn_alerts_live
WHERE (%(arm)s = '' OR arm = %(arm)s) AND (%(action)s = '' OR action = %(action)s)
    AND (%(tier)s = '' OR value_tier = %(tier)s) AND priority >= %(least)s
"""
ALERTS: Final = """
SELECT
    alert_id, user_id, priority, p_churn, expected_spend, reasons, action, arm, value_tier,
    toUnixTimestamp64Milli(raised_at) AS raised_ms
FROM churn_alerts_live
WHERE (%(arm)s = '' OR arm = %(arm)s) AND (%(action)s = '' OR action = %(action)s)
    AND (%(tier)s = '' OR value_tier = %(tier)s) AND priority >= %(least)s
    AND (%(is_first)s = 1 OR (priority, alert_id) < (%(priority)s, %(alert_id)s))
ORDER BY priority DESC, alert_id DESC
LIMIT %(limit)s
"""
ACTIONS_THERE: Final = """
SELECT DISTINCT toString(action) AS action FROM churn_alerts_live ORDER BY action LIMIT 50
"""

COLUMNS: Final = (
    Column("alert_id", "Alert", "code", hidden=True),
    Column("user_id", "Customer", "user"),
    Column("priority", "At stake", "money"),
    Column("p_churn", "Leaves", "share"),
    Column("expected_spend", "Spend", "money"),
    Column("reasons", "Why", "words", wide=True),
    Column("action", "Do", "tag"),
    Column("arm", "Arm", "tag"),
    Column("value_tier", "Value", "tag"),
    Column("raised_ms", "Raised", "time"),
)


async def today(ask: Ask) -> Page:
    """Open alerts, the most at stake first."""
    there = [str(row["action"]) for row in await ask.reader.rows(ACTIONS_THERE)]
    filters = (
        ask.choice("arm", "Arm", ("treat", "holdout"), "both arms"),
        ask.choice("action", "Do", there, "any action"),
        ask.choice("tier", "Value", ("high", "medium", "low", "none"), "any value"),
        ask.number("least", "At stake from"),
    )
    arm, action, tier, least = (each.value for each in filters)
    chosen: dict[str, Any] = {
        "arm": arm, "action": action, "tier": tier, "least": float(least or 0),
    }  # fmt: skip
    totals = (await ask.reader.rows(TOTALS, **chosen)).first() or {}
    place = ask.cursor(float, str)
    found = await ask.reader.rows(
        ALERTS, **chosen, limit=ROWS + 1, is_first=int(place is None),
        priority=place[0] if place else 0.0, alert_id=place[1] if place else "",
    )  # fmt: skip
    return shaped(ask, filters, totals, found)


def shaped(ask: Ask, filters: tuple[Filter, ...], totals: dict[str, Any], found: Rows) -> Page:
    """The page from what was read."""
    rows = [tuple(row[column.key] for column in COLUMNS) for row in found][:ROWS]
    more = len(found) > ROWS
    alerts, to_contact = totals.get("alerts", 0), totals.get("to_contact", 0)
    currency = ask.settings.stream.currency
    return Page(
        title="Today",
        summary=_summary(alerts, to_contact, totals.get("at_stake", 0.0), currency),
        as_of_ms=ask.as_of_ms,
        facts=(
            Fact("to contact", to_contact, note="open alerts, not held out"),
            Fact("at stake", totals.get("at_stake"), "money", currency),
            Fact("held out", totals.get("held_out"), note="contact nobody of these"),
            Fact("newest alert", totals.get("newest_ms") or None, "time"),
        ),
        filters=filters,
        parts=(
            Table(
                "alerts", "Open alerts, the most at stake first", COLUMNS, rows,
                empty="No open alert matches. An alert opens once a scored customer is overdue: "
                "`tideline doctor` says whether scores arrive.",
                next=ask.after(rows[-1][2], rows[-1][0]) if more else "",
                acts=ask.visitor.may("contacted"),
            ),
        ),
    )  # fmt: skip


def _summary(alerts: int, to_contact: int, at_stake: float, currency: str) -> str:
    if not alerts:
        return "No open alert matches."
    people = "customer" if to_contact == 1 else "customers"
    return f"{to_contact:,} {people} to contact, {at_stake:,.0f} {currency} at stake."
