"""Pipeline: does every record get through, how late, and if not, why.

Two sources, and each may be away: the lag monitor's JSON, and ClickHouse. What the monitor does not
say now, its rows in ClickHouse may have said a while ago.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from streams.console.access import IDS
from streams.console.lag import LagSeen
from streams.console.page import Ask, Chart, Column, Fact, Note, Page, Part, Series, Table
from streams.console.pages.pipeline_lag import (
    BAD,
    FINE,
    GROUPS,
    LAG,
    LAG_MINUTES,
    PARTITIONS,
    away,
    group_rows,
    lag_charts,
    lag_notes,
    partition_rows,
    stored_rows,
)

__all__ = ["LEDGER", "pipeline"]

LEDGER: Final = """
SELECT shard, accepted, scored, duplicates, late, dead_letters, erased, canaries, missing_batches,
    balanced, toUnixTimestamp64Milli(newest_clock) AS newest_ms
FROM ledger ORDER BY shard
"""
MINUTES: Final = """
SELECT toUnixTimestamp(minute) AS minute_s, sum(accepted) AS accepted, max(seconds_worst) AS worst,
    sum(seconds_mean * batches) / sum(batches) AS mean
FROM batch_minutes
WHERE minute >= toDateTime(%(since)s, 'UTC') GROUP BY minute_s ORDER BY minute_s
"""
TRIPS: Final = """
SELECT shard, count() AS trips, quantileExact(0.5)(seconds) AS half,
    quantileExact(0.99)(seconds) AS most, max(toUnixTimestamp64Milli(recorded_at)) AS newest_ms
FROM canary_trips WHERE recorded_at >= toDateTime64(%(since)s, 3, 'UTC')
GROUP BY shard ORDER BY shard
"""
REASONS: Final = """
SELECT toString(topic) AS topic, toString(reason) AS reason, toUInt64(sum(records)) AS letters,
    toUInt64(sumIf(records, day >= toDate(%(today)s))) AS letters_today,
    max(toUnixTimestamp64Milli(newest_at)) AS newest_ms
FROM dead_letter_reasons GROUP BY topic, reason ORDER BY newest_ms DESC LIMIT 50
"""
LETTERS: Final = """
SELECT toUnixTimestamp64Milli(recorded_at) AS recorded_ms, toString(topic) AS topic, partition,
    offset, toString(reason) AS reason, detail, record_key, payload, payload_bytes
FROM dead_letters_newest WHERE (%(reason)s = '' OR reason = %(reason)s) LIMIT 50
"""
CLOCKS: Final = "SELECT max(lead_seconds) AS lead FROM worker_clocks"

LEDGER_COLUMNS: Final = (
    Column("shard", "Shard", "count"),
    Column("state", "State", "tag"),
    Column("accepted", "Accepted", "count"),
    Column("scored", "Scored", "count"),
    Column("duplicates", "Duplicates", "count"),
    Column("late", "Late", "count"),
    Column("dead_letters", "Dead letters", "count"),
    Column("erased", "Erased", "count"),
    Column("canaries", "Canaries", "count"),
    Column("missing_batches", "Missing batches", "count"),
    Column("newest_ms", "Newest batch", "time"),
)
TRIP_COLUMNS: Final = (
    Column("shard", "Partition", "count"),
    Column("age", "Newest", "seconds", "ago"),
    Column("half", "Half within", "seconds"),
    Column("most", "99 % within", "seconds"),
    Column("trips", "Read", "count", "this hour"),
    Column("waiting", "Under way", "count"),
)
REASON_COLUMNS: Final = (
    Column("topic", "Topic", "code"),
    Column("reason", "Reason", "link"),
    Column("letters_today", "Today", "count"),
    Column("letters", "30 days", "count"),
    Column("newest_ms", "Newest", "time"),
)
LETTER_COLUMNS: Final = (
    Column("recorded_ms", "Rejected", "time"),
    Column("place", "Place", "code"),
    Column("reason", "Reason", "tag"),
    Column("detail", "What was wrong", wide=True),
    Column("record_key", "Key", "code"),
    Column("payload", "Record", "code", wide=True),
    Column("payload_bytes", "Size", "bytes"),
)
_NO_CANARY: Final = (
    "None was sent within the hour. TIDELINE_LAG_CANARY_INTERVAL_SECONDS=5 sends one to each "
    "partition every 5 s."
)
_OLD_SECONDS: Final = 60.0
"""Canaries older than this mean that nothing gets through (the rule TidelineCanaryLost)."""


async def pipeline(ask: Ask) -> Page:
    """Lag, freshness, ledger, canaries, dead letters."""
    seen: LagSeen = await ask.sources["lag"]()
    hours = ask.choice("hours", "Charts of the last", ("1", "6", "24"), "6 hours")
    since = ask.wall_time_before(int(hours.value or 6) * 3_600)
    hour_ago = ask.wall_time_before(3_600)
    ledger, ledger_ms = await ask.sources["ledger"]()
    stored, minutes, batches, trips, reasons, clocks = await ask.together(
        (LAG, {}), (LAG_MINUTES, {"since": since}), (MINUTES, {"since": since}),
        (TRIPS, {"since": hour_ago}), (REASONS, {"today": ask.day_before(1)}), (CLOCKS, {}),
    )  # fmt: skip
    wanted = ask.choice("reason", "Dead letters", sorted({row["reason"] for row in reasons}),
                        "all reasons")  # fmt: skip
    letters = [*await ask.reader.rows(LETTERS, reason=wanted.value)]
    lead = clocks[0]["lead"] if clocks and not ask.is_replay else None
    groups = group_rows(seen) if not away(seen) else stored_rows(stored)
    canaries = trip_rows(trips, seen, ask.wall_ms)
    return Page(
        title="Pipeline",
        summary=summary(seen, groups, ledger, canaries),
        as_of_ms=ask.as_of_ms,
        facts=_facts(ask, groups, ledger, canaries, batches, reasons, lead),
        filters=(hours, wanted),
        parts=(
            *lag_notes(seen, stored),
            Table(
                "groups", "Consumer lag", GROUPS, groups,
                empty="No consumer group was looked at: start `tideline lag --serve`.",
                as_of_ms=seen.observed_ms, as_of_wall=True,
            ),
            Table(
                "partitions", "Partitions of Tideline's groups, and of those that are not ok",
                PARTITIONS, partition_rows(seen), folded=True,
                empty="Only the lag monitor knows partitions and who reads them.",
            ),
            *lag_charts(minutes),
            _freshness(ask, batches),
            Table(
                "canaries", "Canaries: one record a few seconds, through everything", TRIP_COLUMNS,
                canaries, empty=_NO_CANARY, half=True,
            ),
            Table(
                "ledger", "Ledger: is every record accounted for, once?", LEDGER_COLUMNS,
                ledger_rows(ledger),
                empty="No batch was written yet. Is a worker running? `tideline doctor` says.",
                as_of_ms=ledger_ms, as_of_wall=True,
            ),
            *_letters(ask, reasons, letters),
        ),
        file="groups",
    )  # fmt: skip


def summary(
    seen: LagSeen,
    groups: Sequence[tuple[Any, ...]],
    ledger: Sequence[Mapping[str, Any]],
    canaries: Sequence[tuple[Any, ...]],
) -> str:
    """What to look at first."""
    unbalanced = [row["shard"] for row in ledger if not row["balanced"]]
    if unbalanced:
        return (
            f"The ledger of shard {unbalanced[0]} does not balance: records are missing or doubled."
        )
    bad = [row for row in groups if row[1] in BAD]
    ours = [row for row in bad if row[-1] == "tideline"]
    if ours:
        return f"{ours[0][0]} is in state {ours[0][1]}: results fall behind."
    late = [row for row in canaries if row[1] is not None and row[1] > _OLD_SECONDS]
    if late:
        return f"No canary got through partition {late[0][0]} for {late[0][1]:.0f} s."
    if not ledger:
        return "No batch was written yet."
    if away(seen):
        return "Results arrive; the lag monitor says nothing now."
    others = (
        f" {len(bad)} of others' consumer groups: {bad[0][0]} is in {bad[0][1]}." if bad else ""
    )
    return f"Results arrive, and every record is accounted for.{others}"


def _facts(
    ask: Ask,
    groups: Sequence[tuple[Any, ...]],
    ledger: Sequence[Mapping[str, Any]],
    canaries: Sequence[tuple[Any, ...]],
    batches: Sequence[Mapping[str, Any]],
    reasons: Sequence[Mapping[str, Any]],
    lead: int | None,
) -> tuple[Fact, ...]:
    own = [row for row in groups if row[-1] == "tideline"]
    known = [row[2] for row in own if row[2] is not None]
    seconds = [row[3] for row in own if row[3] is not None]
    worst = next((row[1] for row in own if row[1] in BAD), "")
    state = "bad" if worst else "warn" if any(row[1] not in FINE for row in own) else "good"
    balanced = all(row["balanced"] for row in ledger)
    ages = [row[1] for row in canaries if row[1] is not None]
    newest = batches[-1] if batches and not ask.is_replay else {}
    of_replay = "a replay has the events' clock" if ask.is_replay else ""
    today = sum(row["letters_today"] for row in reasons)
    return (
        Fact("Tideline's lag", sum(known) if known else None, "count", "records",
             note=worst, state=state if own else ""),  # type: ignore[arg-type]
        Fact("in seconds", max(seconds, default=None), "seconds"),
        Fact("canary", max(ages, default=None), "seconds", "old",
             state="" if not ages else "bad" if max(ages) > _OLD_SECONDS else "good"),
        Fact("batch to row", newest.get("mean"), "seconds",
             note=of_replay or "mean of the newest minute"),
        Fact("ledger", ("balances" if balanced else "does not balance") if ledger else None, "text",
             state="" if not ledger else "good" if balanced else "bad"),
        Fact("dead letters", today, note="today", state="warn" if today else ""),
        Fact("workers' clocks", lead, "seconds", "ahead at most", note=of_replay,
             state="warn" if lead is not None and lead > 1 else ""),
    )  # fmt: skip


def _freshness(ask: Ask, batches: Sequence[Mapping[str, Any]]) -> Chart:
    empty = "No batch has arrived in this time. Is a worker running?"
    if ask.is_replay:
        batches = ()
        empty = (
            "A batch's clock is the events' here, as in a replay, so how long it took to its row "
            "can't be seen. With `TIDELINE_STREAM_CLOCK=wall` it can."
        )
    return Chart(
        "freshness", "Freshness: from a batch's clock to its row",
        [row["minute_s"] for row in batches],
        (
            Series("longest", [row["worst"] for row in batches]),
            Series("mean", [row["mean"] for row in batches]),
        ),
        y_label="s", empty=empty, note="A batch's clock is when the worker took it.", half=True,
    )  # fmt: skip


def trip_rows(
    trips: Iterable[Mapping[str, Any]], seen: LagSeen, now_ms: int
) -> list[tuple[Any, ...]]:
    """`TRIP_COLUMNS`: how long canaries took, and how old the newest readable one is."""
    stored = {row["shard"]: row for row in trips}
    told = {each["partition"]: each for each in seen.canary.get("partitions", ())}
    rows = []
    for shard in sorted({*stored, *told}):
        row, said = stored.get(shard, {}), told.get(shard, {})
        age = said.get("age_seconds")
        if age is None and row:
            age = max(0.0, (now_ms - row["newest_ms"]) / 1000)
        rows.append((
            shard, age, row.get("half"), row.get("most"), row.get("trips", 0), said.get("waiting"),
        ))  # fmt: skip
    return rows


def ledger_rows(ledger: Iterable[Mapping[str, Any]]) -> list[tuple[Any, ...]]:
    """`LEDGER_COLUMNS`."""
    return [
        tuple(
            ("balances" if row["balanced"] else "does not balance")
            if column.key == "state"
            else row[column.key]
            for column in LEDGER_COLUMNS
        )
        for row in ledger
    ]


def reason_rows(ask: Ask, reasons: Iterable[Mapping[str, Any]]) -> list[tuple[Any, ...]]:
    """`REASON_COLUMNS`; a reason leads to its records."""
    return [
        (
            row["topic"], [row["reason"], ask.url(reason=row["reason"])], row["letters_today"],
            row["letters"], row["newest_ms"],
        )
        for row in reasons
    ]  # fmt: skip


def _letters(
    ask: Ask, reasons: Sequence[Mapping[str, Any]], letters: Sequence[Mapping[str, Any]]
) -> Iterable[Part]:
    """Dead letters by reason; the records for roles that may see ids: a record names its user."""
    yield Table(
        "dead_letters", "Dead letters by reason", REASON_COLUMNS, reason_rows(ask, reasons),
        empty="Every record could be used.",
    )  # fmt: skip
    if not ask.visitor.may(IDS):
        yield Note("Records of dead letters name users: your roles do not see them.")
        return
    rows = [
        (
            row["recorded_ms"], f"{row['topic']}/{row['partition']}/{row['offset']}", row["reason"],
            row["detail"], row["record_key"], row["payload"], row["payload_bytes"],
        )
        for row in letters
    ]  # fmt: skip
    yield Table(
        "letters", "Dead letters, the newest first", LETTER_COLUMNS, rows,
        empty="None.", folded=True,
        note="`tideline dlq` lists, shows and sends them again once the cause is mended.",
    )  # fmt: skip
