"""Today: who is about to leave, why, what is at stake, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from streams.console.actions import CHANNELS
from streams.console.page import Ask, Column, Fact, Filter, Page, Table
from streams.console.reads import Rows

__all__ = ["today"]

ROWS: Final = 50

# A customer who was told of another alert is not thereby told of this one.
_CHOSEN: Final = """
    (%(action)s = '' OR action = %(action)s) AND (%(tier)s = '' OR value_tier = %(tier)s)
    AND priority >= %(least)s
    AND (%(why)s = '' OR arrayExists(r -> positionCaseInsensitiveUTF8(r, %(why)s) > 0, reasons))
"""
_CONTACTED: Final = "alert_id IN (SELECT alert_id FROM customer_contacts WHERE alert_id != '')"
TOTALS: Final = f"""
SELECT
    countIf(arm = 'treat' AND NOT told) AS to_contact,
    sumIf(toFloat64(priority), arm = 'treat' AND NOT told) AS at_stake,
    countIf(arm = 'treat' AND told) AS contacted, countIf(arm != 'treat') AS held_out,
    toUnixTimestamp64Milli(max(raised_at)) AS newest_ms
FROM (SELECT arm, priority, raised_at, {_CONTACTED} AS told FROM open_alerts WHERE {_CHOSEN})
"""  # noqa: S608  (constants of this module)
ALERTS: Final = f"""
SELECT
    alert_id, user_id, priority, p_churn, expected_spend, reasons, action, arm, value_tier,
    toUnixTimestamp64Milli(raised_at) AS raised_ms
FROM open_alerts
WHERE {_CHOSEN}
    AND multiIf(%(show)s = 'all', 1, %(show)s = 'held_out', arm != 'treat',
        %(show)s = 'contacted', arm = 'treat' AND {_CONTACTED},
        arm = 'treat' AND NOT {_CONTACTED}) = 1
    AND (%(is_first)s = 1 OR (priority, alert_id) < (%(priority)s, %(alert_id)s))
ORDER BY priority DESC, alert_id DESC
LIMIT %(limit)s
"""  # noqa: S608  (constants of this module)
TOLD: Final = """
SELECT alert_id, toUnixTimestamp64Milli(max(contacted_at)) AS contacted_ms,
    argMax(channel, contacted_at) AS channel
FROM customer_contacts
WHERE user_id IN (%(user_id)s) AND alert_id != '' GROUP BY alert_id
"""
ACTIONS_THERE: Final = """
SELECT DISTINCT toString(action) AS action FROM open_alerts ORDER BY action LIMIT 50
"""

COLUMNS: Final = (
    Column("alert_id", "Alert", "code", hidden=True),
    Column("user_id", "Customer", "user"),
    Column("priority", "At stake", "money"),
    Column("p_churn", "Leaves", "share"),
    Column("reasons", "Why", "words", wide=True),
    Column("action", "Do", "tag"),
    Column("value_tier", "Value", "tag"),
    Column("expected_spend", "Spend", "money", hidden=True),
    Column("arm", "Arm", "tag", hidden=True),
    Column("state", "State", "tag"),
    Column("open_seconds", "Open for", "seconds"),
    Column("raised_ms", "Raised", "time", hidden=True),
    Column("contacted_ms", "Contacted", "time", hidden=True),
)


async def today(ask: Ask) -> Page:
    """Open alerts, the most at stake first."""
    there = [str(row["action"]) for row in await ask.reader.rows(ACTIONS_THERE)]
    filters = (
        ask.choice("show", "Show", ("contacted", "held_out", "all"), "to contact"),
        ask.choice("action", "Do", there, "any action"),
        ask.choice("tier", "Value", ("high", "medium", "low", "none"), "any value"),
        ask.number("least", f"At stake from, {ask.settings.stream.currency}"),
        ask.text("why", "Reason has"),
    )
    show, action, tier, least, why = (each.value for each in filters)
    chosen: dict[str, Any] = {
        "action": action,
        "tier": tier,
        "least": float(least or 0),
        "why": why,
    }
    totals = (await ask.reader.rows(TOTALS, **chosen)).first() or {}
    place, limit = ask.cursor(float, str), ask.limit(ROWS)
    found = await ask.reader.rows(
        ALERTS, **chosen, show=show, limit=limit + 1, is_first=int(place is None),
        priority=place[0] if place else 0.0, alert_id=place[1] if place else "",
    )  # fmt: skip
    users = [str(row["user_id"]) for row in found]
    told = await ask.reader.rows(TOLD, user_id=users) if users else Rows((), [], 0)
    return shaped(ask, filters, totals, found, {row["alert_id"]: row for row in told}, limit)


def shaped(
    ask: Ask,
    filters: tuple[Filter, ...],
    totals: Mapping[str, Any],
    found: Rows,
    told: Mapping[str, Mapping[str, Any]],
    limit: int,
) -> Page:
    """The page from what was read; `told`: the newest contact for an alert."""
    rows = [_row(ask, row, told.get(row["alert_id"], {})) for row in found][:limit]
    last = rows[-1] if rows and len(found) > limit else None
    currency = ask.settings.stream.currency
    to_contact, at_stake = totals.get("to_contact", 0), totals.get("at_stake", 0.0)
    people = "customer" if to_contact == 1 else "customers"
    return Page(
        title="Today",
        summary=f"{to_contact:,} {people} to contact, {at_stake:,.0f} {currency} at stake."
        if to_contact
        else "Nobody has to be contacted now.",
        as_of_ms=ask.as_of_ms,
        facts=(
            Fact("to contact", to_contact, note="open alerts, not held out"),
            Fact("at stake", at_stake, "money", currency, "of those to contact"),
            Fact("contacted", totals.get("contacted"), note="and not closed yet"),
            Fact("held out", totals.get("held_out"), note="contact nobody of these"),
            Fact("newest alert", totals.get("newest_ms") or None, "time"),
        ),
        filters=filters,
        parts=(
            Table(
                "alerts", "Open alerts, the most at stake first", COLUMNS, rows,
                empty=_why_empty(filters, totals),
                next=ask.after(last[2], last[0]) if last else "",
                boxes=_boxes(ask, rows),
            ),
        ),
        template="today.html",
        data={"channels": list(CHANNELS)},
    )  # fmt: skip


def _row(ask: Ask, row: Mapping[str, Any], told: Mapping[str, Any]) -> list[Any]:
    given = {
        **row,
        "state": "held out" if row["arm"] != "treat"
        else f"contacted ({told['channel'] or 'channel unknown'})" if told else "to contact",
        "open_seconds": max(0.0, (ask.now_ms - row["raised_ms"]) / 1000),
        "contacted_ms": told.get("contacted_ms"),
    }  # fmt: skip
    return [given[column.key] for column in COLUMNS]


def _boxes(ask: Ask, rows: list[list[Any]]) -> tuple[str, ...]:
    """What ticking a row sends; nothing for who is held out."""
    if not ask.visitor.may("contacted"):
        return ()
    return tuple("" if row[8] != "treat" else str(row[0]) for row in rows)


def _why_empty(filters: tuple[Filter, ...], totals: Mapping[str, Any]) -> str:
    if any(each.value for each in filters):
        return "No open alert matches. Clear the filters to see all."
    if totals.get("contacted") or totals.get("held_out"):
        return "Everybody with an open alert was contacted, or is held out."
    return (
        "No alert is open. One opens once a customer who is scored is overdue; in a shop's first "
        "weeks nobody is. `tideline doctor` says whether events and scores arrive."
    )
