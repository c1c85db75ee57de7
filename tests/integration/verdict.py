"""Compares ClickHouse with the journal's replay: which rows were lost, which are too many."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from streams.core.erasure import named_in
from tests.shard.memory import TOTALS
from tests.shard.oracle import Oracle

__all__ = ["Verdict", "compare_rows", "compare_views"]

Sql = Callable[[str], list[tuple[Any, ...]]]


@dataclass
class Verdict:
    """What is wrong, in words and numbers; nothing, if all is well."""

    lost: int = 0
    """Rows or records that should be there and are not."""
    doubled: int = 0
    """Rows or records that are there and should not be."""
    problems: list[str] = field(default_factory=list)

    def missing(self, what: str, count: int, example: object = "") -> None:
        if count:
            self.lost += count
            self.problems.append(f"{what}: {count} missing {example}")

    def surplus(self, what: str, count: int, example: object = "") -> None:
        if count:
            self.doubled += count
            self.problems.append(f"{what}: {count} too many {example}")

    def check(self) -> None:
        assert not self.problems, "\n".join(self.problems)


# What is compared of each table, oracle column -> its kind: keys, and what a reader acts on.
_COMPARED: Mapping[str, Mapping[str, str]] = {
    "batches": dict.fromkeys(
        (
            "shard", "seq", "clickstream_from", "clickstream_to", "orders_from", "orders_to",
            "accepted", "scored", "duplicates", "late", "dead_letters", "users_scored",
        ),
        "",
    ),
    "score_history": {
        "user_id": "", "seq": "", "shard": "", "scored_at": "ms", "p_churn": "float",
        "expected_spend": "float", "value_tier": "", "lifecycle": "", "at_risk": "",
        "learner_version": "", "segments": "",
    },
    "segment_changes": {
        "change_id": "", "user_id": "", "dimension": "", "from_segment": "", "to_segment": "",
        "changed_at": "ms", "life": "",
    },
    "audience_changes": {
        "change_id": "", "user_id": "", "audience": "", "change": "", "number": "", "arm": "",
        "changed_at": "ms", "life": "",
    },
    "segment_totals": {
        "dimension": "", "segment": "", "shard": "", "life": "", "seq": "", "users": "",
        "spend_cents": "", "as_of": "ms",
    },
    "segment_moves": {
        "hour": "ms", "dimension": "", "from_segment": "", "to_segment": "", "shard": "",
        "life": "", "seq": "", "moves": "",
    },
    "definitions_taken": {"shard": "", "seq": "", "number": "", "version": "", "document": ""},
    "campaign_sums": {
        "salt": "", "arm": "", "shard": "", "life": "", "seq": "", "exposed": "", "answered": "",
        "buyers": "", "orders": "", "y_cents": "", "x_cents": "",
    },
    "alerts": {
        "alert_id": "", "version": "", "user_id": "", "arm": "", "raised_at": "ms",
        "closed_why": "", "p_churn": "float", "life": "",
    },
    "matured_predictions": {
        "shard": "", "ordinal": "", "user_id": "", "churned": "", "p_churn": "float",
    },
    "examples": {
        "user_id": "", "asked_at": "ms", "matured_at": "ms", "horizon_days": "", "shard": "",
        "ordinal": "", "churned": "", "spend": "float", "first_order_at": "ms",
    },
    "score_samples": {
        "shard": "", "seq": "", "user_id": "", "scored_at": "ms", "p_churn": "float",
        "champion_version": "",
    },
    "user_features": {"user_id": "", "shard": "", "seq": "", "scored_at": "ms", "keep_days": ""},
    "events": {
        "user_id": "", "ts": "ms", "event_hash": "", "type": "", "item_id": "", "lines": "",
        "rating": "float", "lifecycle": "", "first_event_at": "ms", "first_order_at": "ms",
        "shard": "", "taken_at": "ms", "keep_days": "",
    },
    "model_drift": {"drift_id": "", "detected_at": "ms", "stream": "", "direction": ""},
    "dead_letters": {"topic": "", "partition": "", "offset": "", "reason": ""},
}  # fmt: skip


def compare_rows(
    sql: Sql,
    oracles: Iterable[Oracle],
    *,
    milliseconds: bool = True,
    erased: Collection[str] = (),
) -> Verdict:
    """Every table against the rows of the journal's steps, read as people read: each row once.

    `milliseconds`: whether the server knows them; if not, times are compared in seconds. Rows of
    `erased` users may be missing.
    """
    wanted: dict[str, Counter[tuple[Any, ...]]] = {name: Counter() for name in _COMPARED}
    excused: dict[str, Counter[tuple[Any, ...]]] = {name: Counter() for name in _COMPARED}
    for table, row in _newest(oracles):
        kinds = _COMPARED[table]
        plain = tuple(_plain(row[name], kind, milliseconds) for name, kind in kinds.items())
        wanted[table][plain] += 1
        excused[table][plain] += _names(row, erased)
    verdict = Verdict()
    for table, kinds in _COMPARED.items():
        columns = ", ".join(_expression(name, kind, milliseconds) for name, kind in kinds.items())
        found = Counter(sql(f"SELECT {columns} FROM {table} FINAL"))
        missing, extra = wanted[table] - found - excused[table], found - wanted[table]
        verdict.missing(f"rows of {table}", missing.total(), next(iter(missing), ""))
        verdict.surplus(f"rows of {table}", extra.total(), next(iter(extra), ""))
    return verdict


def _newest(oracles: Iterable[Oracle]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every row with its table. Of totals those of the highest step: a shard that goes on after a
    repartition replaces what it told before, in the same life."""
    totals: dict[tuple[str, Any], Mapping[str, Any]] = {}
    for oracle in oracles:
        for table, rows in oracle.rows.items():
            for key, row in rows.items():
                if table not in TOTALS:
                    yield table, row
                elif (table, key) not in totals or totals[table, key]["seq"] < row["seq"]:
                    totals[table, key] = row
    for (table, _), newest in totals.items():
        yield table, newest


def _names(row: Mapping[str, Any], users: Collection[str]) -> bool:
    if "record_key" in row:
        return not named_in(row["record_key"].encode(), row["payload"].encode()).isdisjoint(users)
    return row.get("user_id") in users


def compare_views(sql: Sql, verdict: Verdict, without: Iterable[str] = ()) -> None:
    """One row each in every view that people read."""
    for view, key in (
        ("churn_alerts_live", "alert_id"),
        ("alert_history", "alert_id"),
        ("scores_live", "user_id"),
        ("segment_members", "dimension, user_id"),
        ("customers", "user_id"),
        ("customer_segments", "dimension, user_id"),
        ("open_alerts", "alert_id"),
        ("audience_people", "audience, user_id"),
        ("segment_sizes_now", "dimension, segment"),
        ("audience_members", "audience, user_id"),
        ("ledger", "shard"),
    ):
        if view not in without:
            rows, different = sql(f"SELECT count(), uniqExact({key}) FROM {view}")[0]
            verdict.surplus(f"rows of {view}", rows - different)


def _expression(name: str, kind: str, milliseconds: bool) -> str:
    if kind == "ms":
        return f"toUnixTimestamp{'64Milli' if milliseconds else ''}({name})"
    if kind == "float":
        # By its bits; a NaN has many.
        return f"if(isNaN({name}), 0, 1 + reinterpretAsUInt32(reinterpretAsString({name})))"
    return f"`{name}`"


def _plain(value: Any, kind: str, milliseconds: bool) -> Any:
    if kind == "ms":
        return value if milliseconds else value // 1000
    if kind == "float":  # the bits, see `rows_of`
        nan = np.isnan(np.frombuffer(value, np.float32)[0])
        return 0 if nan else 1 + int(np.frombuffer(value, np.uint32)[0])
    return value
