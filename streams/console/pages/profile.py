"""One customer: score and its age, what such scores were worth, segments, alerts, what happened."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any, Final

from streams.console import words
from streams.console.access import Refused
from streams.console.page import (
    Ask,
    Chart,
    Column,
    Fact,
    Note,
    Page,
    Series,
    Table,
    page_path,
)
from streams.console.pages.profile_events import event_table
from streams.console.pages.profile_features import feature_table
from streams.console.reads import Rows

__all__ = ["profile"]

BINS: Final = 20
"""Of predictions, in the view quality_days."""
SCORE_DAYS: Final = 90

CUSTOMER: Final = """
SELECT user_id, p_churn, expected_spend, spend_low, spend_high, p_buy_7d, p_buy_30d,
    toUnixTimestamp64Milli(next_order_at) AS next_order_ms, horizon_days, status, evidence,
    value_tier, lifecycle, segments, at_risk, lifetime_orders,
    if(lifetime_orders = 0, 0, toUnixTimestamp64Milli(last_order_at)) AS last_order_ms,
    toUnixTimestamp64Milli(scored_at) AS scored_ms, p_champion, p_learner, champion_version,
    learner_version, shard
FROM customers WHERE user_id = %(user_id)s LIMIT 1
"""
SEGMENTS: Final = """
SELECT dimension, segment, before, toUnixTimestamp64Milli(since) AS since_ms, why
FROM customer_segments WHERE user_id = %(user_id)s ORDER BY since DESC, dimension LIMIT 100
"""
ALERTS: Final = """
SELECT alert_id, toUnixTimestamp64Milli(raised_at) AS raised_ms,
    toUnixTimestamp64Milli(closed_at) AS closed_ms, closed_why, p_churn, priority, reasons, action,
    arm, champion_version
FROM customer_alerts WHERE user_id = %(user_id)s ORDER BY raised_at DESC, alert_id LIMIT 50
"""
CONTACTS: Final = """
SELECT toUnixTimestamp64Milli(contacted_at) AS contacted_ms, campaign, channel, alert_id, arm
FROM customer_contacts WHERE user_id = %(user_id)s ORDER BY contacted_at DESC, event_id LIMIT 50
"""
SCORES: Final = """
SELECT toUnixTimestamp(toStartOfInterval(scored_at, INTERVAL 6 HOUR)) AS t,
    argMax(p_churn, scored_at) AS p_churn, argMax(expected_spend, scored_at) AS expected_spend
FROM customer_scores
WHERE user_id = %(user_id)s AND toUnixTimestamp64Milli(scored_at) >= %(from_ms)s
GROUP BY t ORDER BY t
"""
AUDIENCES: Final = """
SELECT audience, segment, arm, fed, toUnixTimestamp64Milli(entered_at) AS entered_ms
FROM audience_people WHERE user_id = %(user_id)s ORDER BY entered_at DESC, audience LIMIT 100
"""
JUDGED: Final = """
SELECT sum(n) AS n, sum(churned) AS churned, sum(p_churn_sum) AS p_sum FROM quality_days
WHERE bin = %(bin)s AND toUnixTimestamp(toDateTime(day, 'UTC')) >= %(from_s)s
"""


async def profile(ask: Ask) -> Page:
    """Raises Refused (404) for somebody who is not known here."""
    user = ask.path
    if len(user) > 500:
        raise Refused(404, "No id is so long.")
    found = (await ask.reader.rows(CUSTOMER, user_id=user)).first()
    if found is None:
        raise Refused(
            404,
            "Nobody is known under that id: they have sent no event yet, were erased, or the id is "
            "another. Ids are as the shop's events have them.",
        )
    from_ms = ask.now_ms - SCORE_DAYS * 86_400_000
    bin_of = min(BINS - 1, int((found["p_churn"] or 0) * BINS))
    happened = asyncio.gather(
        ask.reader.rows(SEGMENTS, user_id=user),
        ask.reader.rows(SCORES, user_id=user, from_ms=from_ms),
        ask.reader.rows(CONTACTS, user_id=user),
        ask.reader.rows(ALERTS, user_id=user) if ask.visitor.may("today") else _nothing(),
        ask.reader.rows(AUDIENCES, user_id=user) if ask.visitor.may("campaigns") else _nothing(),
        ask.reader.rows(JUDGED, bin=bin_of, from_s=from_ms // 1000),
    )
    (segments, scores, contacts, alerts, audiences, judged), events, made_of = await asyncio.gather(
        happened, event_table(ask, user), feature_table(ask, user)
    )
    parts = (
        _worth(found, judged.first()),
        _alerts(ask, alerts),
        _segments(ask, segments),
        _audiences(ask, audiences),
        _scores(scores),
        _timeline(alerts, contacts, segments),
        events,
        made_of,
    )
    return Page(
        title=str(found["user_id"]),
        summary=_summary(found),
        as_of_ms=int(found["scored_ms"]),
        facts=_facts(ask, found),
        parts=tuple(part for part in parts if part is not None),
        template="profile.html",
        old_seconds=2 * 86_400,  # a sweep looks at everybody once a day
        data={"customer": {key: value for key, value in found.items() if key != "segments"}},
    )


async def _nothing() -> Rows:
    return Rows((), [], 0)


def _summary(found: Mapping[str, Any]) -> str:
    stage = str(found["lifecycle"]).replace("_", " ")
    orders = f"{found['lifetime_orders']:,} order" + ("" if found["lifetime_orders"] == 1 else "s")
    if found["p_churn"] is None:
        return f"{stage.capitalize()}, {orders}; no score: {found['status']}."
    return (
        f"{stage.capitalize()}, {orders}; {words.share(found['p_churn'])} likely not to order "
        f"within {found['horizon_days']} days."
    )


def _facts(ask: Ask, found: Mapping[str, Any]) -> tuple[Fact, ...]:
    currency = ask.settings.stream.currency
    spread = ""
    if found["spend_low"] is not None and found["spend_high"] is not None:
        low, high = words.money(found["spend_low"]), words.money(found["spend_high"])
        spread = f"80 %: {low} to {high}"
    stake = None
    if found["p_churn"] is not None and found["expected_spend"] is not None:
        stake = found["p_churn"] * found["expected_spend"]
    return (
        Fact("leaves", found["p_churn"], "share", note=f"within {found['horizon_days']} days"),
        Fact("expected spend", found["expected_spend"], "money", currency, spread),
        Fact("at stake", stake, "money", currency),
        Fact("orders within 7 days", found["p_buy_7d"], "share",
             note=f"within 30 days: {words.share(found['p_buy_30d'])}"),
        Fact("next order due", found["next_order_ms"], "date", note="as likely before as after"),
        Fact("orders so far", found["lifetime_orders"], note=f"evidence: {found['evidence']}"),
        Fact("last order", found["last_order_ms"] or None, "date"),
        Fact("value", str(found["value_tier"]), "tag"),
        Fact("model", str(found["champion_version"]), "code",
             note=f"{words.share(found['p_champion'])}; learner {found['learner_version']}: "
             f"{words.share(found['p_learner'])}"),
    )  # fmt: skip


def _worth(found: Mapping[str, Any], judged: Mapping[str, Any] | None) -> Note | None:
    """What became of those who had such a score."""
    if found["p_churn"] is None:
        return Note(f"There is no score: {found['status']}.")
    n = int((judged or {}).get("n") or 0)
    if judged is None or not n:
        return Note(
            "No score like this one has been judged yet: that takes until the horizon of the first "
            "ones is over."
        )
    low = min(BINS - 1, int(found["p_churn"] * BINS)) / BINS
    return Note(
        f"Of {n:,} scores between {words.share(low)} and {words.share(low + 1 / BINS)} in the last "
        f"{SCORE_DAYS} days, {words.share(judged['churned'] / n)} did not order; "
        f"{words.share(judged['p_sum'] / n)} were predicted."
    )


def _alerts(ask: Ask, found: Rows) -> Table | None:
    if not ask.visitor.may("today"):
        return None
    columns = (
        Column("alert_id", "Alert", "code", hidden=True),
        Column("raised_ms", "Raised", "time"),
        Column("state", "State", "tag"),
        Column("p_churn", "Leaves", "share"),
        Column("priority", "At stake", "money"),
        Column("reasons", "Why", "words", wide=True),
        Column("action", "Do", "tag"),
        Column("arm", "Arm", "tag"),
    )
    rows = [
        [
            row["alert_id"], row["raised_ms"], row["closed_why"] or "open", row["p_churn"],
            row["priority"], row["reasons"], row["action"], row["arm"],
        ]
        for row in found
    ]  # fmt: skip
    return Table(
        "alerts", "Alerts", columns, rows, empty="This customer has never had an alert.",
        note="`tideline alert explain ID` says all about one." if rows else "",
    )  # fmt: skip


def _segments(ask: Ask, found: Rows) -> Table:
    columns = (
        Column("dimension", "Segment", "link" if ask.visitor.may("segments") else "text"),
        Column("segment", "Now", "tag"),
        Column("since_ms", "Since", "time"),
        Column("before", "Before", "tag"),
        Column("why", "Why", "text", wide=True),
    )

    def name(dimension: str) -> Any:
        shown = dimension.replace("_", " ")
        return [shown, page_path("segments", dimension)] if ask.visitor.may("segments") else shown

    rows = [
        [name(str(r["dimension"])), r["segment"], r["since_ms"], r["before"], r["why"]]
        for r in found
    ]
    return Table(
        "segments", "Segments, since when", columns, rows, empty="Never moved between segments."
    )


def _audiences(ask: Ask, found: Rows) -> Table | None:
    if not ask.visitor.may("campaigns"):
        return None
    columns = (
        Column("audience", "Audience", "link"),
        Column("arm", "Arm", "tag"),
        Column("fed", "In the feed", "tag"),
        Column("entered_ms", "Since", "time"),
        Column("segment", "By segment", "text", wide=True),
    )
    rows = [
        [
            [str(row["audience"]), page_path("campaigns", str(row["audience"]))], row["arm"],
            "yes" if row["fed"] else "no", row["entered_ms"], row["segment"],
        ]
        for row in found
    ]  # fmt: skip
    return Table("audiences", "Audiences", columns, rows, empty="In no audience now.")


def _scores(found: Rows) -> Chart:
    rows = [row for row in found if row["p_churn"] is not None]
    return Chart(
        "scores", f"Churn probability, the last {SCORE_DAYS} days",
        [float(row["t"]) for row in rows],
        (Series("leaves", [row["p_churn"] for row in rows]),),
        y_label="probability",
        empty=f"No score was written in the last {SCORE_DAYS} days: only changes are.",
    )  # fmt: skip


def _timeline(alerts: Rows, contacts: Rows, segments: Rows) -> Table:
    """What is known to have happened, the newest first."""
    happened = sorted(
        [*_from_alerts(alerts), *_from_contacts(contacts), *_from_segments(segments)],
        key=lambda each: -each[0],
    )
    columns = (
        Column("at_ms", "When", "time"),
        Column("what", "What", "tag"),
        Column("detail", "Detail", "text", wide=True),
    )
    return Table(
        "timeline", "What happened", columns, [list(each) for each in happened[:100]],
        empty="Nothing is written of this customer but the score.",
        note="Alerts, contacts and the newest move in each segment.",
    )  # fmt: skip


def _from_alerts(alerts: Rows) -> Iterable[tuple[int, str, str]]:
    for row in alerts:
        yield row["raised_ms"], "alert", f"{words.share(row['p_churn'])}; {row['action']}"
        if row["closed_why"]:
            yield row["closed_ms"], "alert closed", str(row["closed_why"]).replace("_", " ")


def _from_contacts(contacts: Rows) -> Iterable[tuple[int, str, str]]:
    for row in contacts:
        said = [row["channel"] or "channel unknown", row["campaign"], "" if row["arm"] == "treat"
                else "although held out"]  # fmt: skip
        yield row["contacted_ms"], "contacted", ", ".join(filter(None, said))


def _from_segments(segments: Rows) -> Iterable[tuple[int, str, str]]:
    for row in segments:
        before = f"{row['before']} → " if row["before"] else ""
        name = str(row["dimension"]).replace("_", " ")
        yield row["since_ms"], "moved", f"{name}: {before}{row['segment']} ({row['why']})"
