"""Consumer lag for the page Pipeline: what the monitor says now, or what it last wrote."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from streams.console.lag import LagSeen
from streams.console.page import Chart, Column, Note, Series

__all__ = [
    "BAD", "FINE", "GROUPS", "LAG", "LAG_MINUTES", "PARTITIONS", "away", "group_rows", "lag_charts",
    "lag_notes", "partition_rows", "stored_rows",
]  # fmt: skip

LAG: Final = """
SELECT toString(consumer_group) AS consumer_group, toString(topic) AS topic, partition, lag_records,
    lag_seconds, records_per_second, retention_ratio, toString(status) AS status, subscribed,
    toUnixTimestamp64Milli(observed_at) AS observed_ms
FROM consumer_lag_live
"""
LAG_MINUTES: Final = """
SELECT toUnixTimestamp(minute) AS minute_s, toString(consumer_group) AS consumer_group,
    sum(greatest(lag_records, 0)) AS lag_records, max(lag_seconds) AS lag_seconds
FROM lag_minutes
WHERE minute >= toDateTime(%(since)s, 'UTC') GROUP BY minute_s, consumer_group ORDER BY minute_s
"""
GROUPS: Final = (
    Column("group", "Consumer group", "code"),
    Column("status", "Status", "tag"),
    Column("records", "Lag", "count", "records"),
    Column("seconds", "Lag", "seconds"),
    Column("velocity", "Grows by", "number", "records/s"),
    Column("to_close", "Closes in", "seconds"),
    Column("to_loss", "Loses records in", "seconds"),
    Column("retention", "Of the log unread", "share"),
    Column("members", "Members", "count"),
    Column("partitions", "Partitions", "count"),
    Column("ours", "Whose", "tag"),
)
PARTITIONS: Final = (
    Column("group", "Consumer group", "code"),
    Column("topic", "Topic", "code"),
    Column("partition", "Partition", "count"),
    Column("status", "Status", "tag"),
    Column("records", "Lag", "count", "records"),
    Column("seconds", "Lag", "seconds"),
    Column("velocity", "Grows by", "number", "records/s"),
    Column("to_close", "Closes in", "seconds"),
    Column("retention", "Of the log unread", "share"),
    Column("since_ms", "Status since", "time"),
    Column("owner", "Read by", "code"),
    Column("note", "Note"),
)
BAD: Final = frozenset(("error", "stop", "stall", "rewind"))
FINE: Final = frozenset(("ok", "pending", "uncommitted"))
_CHARTED: Final = 5


def away(seen: LagSeen) -> bool:
    return bool(seen.problem) or (bool(seen.blind) and not seen.groups)


def lag_notes(seen: LagSeen, stored: Sequence[Mapping[str, Any]]) -> Iterable[Note]:
    """What the monitor can't say, and how old what stands in its place is."""
    if seen.problem:
        yield Note(seen.problem, "warn")
    elif seen.blind:
        yield Note(f"The lag monitor sees nothing now: {seen.blind}.", "warn")
    if away(seen) and stored:
        yield Note("Lag below is what the monitor last wrote to ClickHouse.", "warn")
    for problem in seen.problems[:3]:
        yield Note(f"Kafka did not answer everything: {problem}", "warn")


def group_rows(seen: LagSeen) -> list[tuple[Any, ...]]:
    """`GROUPS`: Tideline's own first, then those with the worst status."""
    rows = []
    for group in seen.groups:
        parts = seen.partitions.get(group["consumer_group"], ())
        rows.append((
            group["consumer_group"], group["status"], group["total_records"], group["max_seconds"],
            group["records_per_second"], _most(parts, "seconds_to_close"),
            _least(parts, "seconds_to_loss"), _most(parts, "retention_ratio"), group["members"],
            group["partition_count"], "tideline" if group["ours"] else "other",
        ))  # fmt: skip
    return sorted(rows, key=lambda row: (row[-1] != "tideline", row[1] not in BAD, row[1] == "ok",
                                         row[0]))  # fmt: skip


def stored_rows(stored: Iterable[Mapping[str, Any]]) -> list[tuple[Any, ...]]:
    """`GROUPS` from what the monitor wrote to ClickHouse: less is known there."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for row in stored:
        if row["subscribed"]:
            found.setdefault(row["consumer_group"], []).append(row)
    rows = []
    for name, parts in sorted(found.items()):
        status = min((p["status"] for p in parts), key=lambda s: (s not in BAD, s in FINE, s))
        records = [p["lag_records"] for p in parts if p["lag_records"] >= 0]
        rows.append((
            name, status, sum(records) if records else None, _most(parts, "lag_seconds"),
            _sum(parts, "records_per_second"), None, None, _most(parts, "retention_ratio"), None,
            len(parts), "",
        ))  # fmt: skip
    return rows


def _known(parts: Iterable[Mapping[str, Any]], name: str) -> list[float]:
    return [p[name] for p in parts if p[name] is not None and p[name] == p[name]]


def _most(parts: Iterable[Mapping[str, Any]], name: str) -> float | None:
    return max(_known(parts, name), default=None)


def _least(parts: Iterable[Mapping[str, Any]], name: str) -> float | None:
    return min(_known(parts, name), default=None)


def _sum(parts: Iterable[Mapping[str, Any]], name: str) -> float | None:
    known = _known(parts, name)
    return sum(known) if known else None


def partition_rows(seen: LagSeen) -> list[tuple[Any, ...]]:
    """`PARTITIONS`, those with a bad status first."""
    rows = []
    for group, parts in seen.partitions.items():
        for part in parts:
            notes = [
                "hot: its log grows far faster than the others" if part["hot"] else "",
                "" if part["subscribed"] else "no member subscribes to this topic any more",
                f"no seconds: {part['no_seconds']}" if part["no_seconds"] else "",
            ]
            rows.append((
                group, part["topic"], part["partition"], part["status"], part["lag_records"],
                part["lag_seconds"], part["records_per_second"], part["seconds_to_close"],
                part["retention_ratio"], part["since_ms"] or None, part["owner"],
                "; ".join(filter(None, notes)),
            ))  # fmt: skip
    return sorted(rows, key=lambda row: (row[3] not in BAD, row[3] == "ok", *row[:3]))


def lag_charts(minutes: Sequence[Mapping[str, Any]]) -> Iterable[Chart]:
    """Lag over time of the groups that were furthest behind."""
    worst: dict[str, float] = {}
    for row in minutes:
        name = row["consumer_group"]
        worst[name] = max(worst.get(name, 0.0), row["lag_seconds"] or 0.0)
    names = sorted(worst, key=lambda name: (-worst[name], name))[:_CHARTED]
    x = sorted({row["minute_s"] for row in minutes})
    at = {(row["minute_s"], row["consumer_group"]): row for row in minutes}
    for key, label, unit in (
        ("lag_seconds", "Lag in seconds", "s"), ("lag_records", "Lag in records", "records")
    ):  # fmt: skip
        series = tuple(
            Series(name, [at.get((minute, name), {}).get(key) for minute in x]) for name in names
        )
        left_out = len(worst) - len(names)
        yield Chart(
            key, f"{label}, by group", x, series, y_label=unit,
            empty="The lag monitor has written nothing in this time.",
            note=f"{left_out} groups with less lag are left out." if left_out else "", half=True,
        )  # fmt: skip
