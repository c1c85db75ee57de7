"""One step of a shard: (state, plan, records) -> (state', outputs). The whole story, in order.

Pure but for changing `state` in place: the same state, plan and records give the same outputs, bit
for bit, on the same build. No IO, no clock, no randomness.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from schemas.messages import AlertMessage, DeadLetter, Example, LearnerSnapshot
from schemas.segments import LIFECYCLE, VALUE_TIERS
from streams.core.alerts import enough_data, update_alerts
from streams.core.apply import Applied, admit, apply, forget_some
from streams.core.config import CoreConfig, Scorer
from streams.core.erasure import erase, keep_out, shut_out
from streams.core.events.decode import decode
from streams.core.events.events import Events, Reject
from streams.core.events.records import SOURCES, Records
from streams.core.features import DAY_MS, features
from streams.core.labels import ask, look_ahead, mature
from streams.core.plan import Plan
from streams.core.samples import SAMPLE_TABLE, sample
from streams.core.scoring import take_outlook, take_scores
from streams.core.segments import update_segments
from streams.core.state.shard_state import ShardState
from streams.core.sweep import end_slice, next_sweep_ms, take_slice
from streams.core.texts import Coded, TableRows

__all__ = ["Counts", "Outputs", "step"]

# A score row is written when something a reader would see has changed, and once a day at least.
WRITE_P_CHANGE: Final = 0.02
WRITE_SPEND_CHANGE: Final = 0.05
WRITE_AFTER_MS: Final = DAY_MS
PAYLOAD_KEPT_BYTES: Final = 4_096  # of a dead letter; the rest is cut off


@dataclass(frozen=True)
class Counts:
    """The ledger of one step, in records:
    accepted = scored + duplicates + late + dead_letters + erased."""

    accepted: int
    scored: int
    duplicates: int
    late: int
    dead_letters: int
    erased: int
    """Sent by people before they were erased: read, and left out."""
    users_scored: int


@dataclass(frozen=True)
class Outputs:
    """What a step sends out. Every row and message is the same when the step is replayed."""

    tables: dict[str, TableRows]
    """ClickHouse rows by table; times are int64 milliseconds."""
    alerts: list[AlertMessage]
    examples: list[Example]
    dead_letters: list[DeadLetter]
    """Records that can't be used, and the late ones (reason `late`)."""
    counts: Counts
    refused: int = 0
    """Users whom the champion gave no number; they keep the score that they had."""


def step(
    state: ShardState,
    plan: Plan,
    records: Sequence[Records],
    config: CoreConfig,
    scorer: Scorer,
) -> Outputs:
    """Apply one plan. `records` are exactly the plan's ranges of clickstream and orders.

    Raises ValueError if the plan does not follow the state: that is a bug or a damaged journal.
    """
    meta = state.meta
    _check(state, plan, records)
    meta.seq = plan.seq
    look_ahead(state, scorer.horizon_days)
    known = meta.learner
    if plan.learner is not None:
        meta.learner = plan.learner
    learner = meta.learner

    forget_some(state)

    # 0. who is to be forgotten is, before anything of theirs is looked at
    for order in plan.erase:
        erase(state, order)

    # 1. events in: decode, refuse, drop duplicates, set late ones aside
    decoded = [decode(records[s], s, config.decode) for s in SOURCES]
    out = [shut_out(state, decoded[s], records[s], s) for s in SOURCES]
    rejects = [keep_out(state, decoded[s].rejects, records[s], s) for s in SOURCES]
    admitted = [
        admit(state, events, config.lateness_ms, mask)
        for events, mask in zip(decoded, out, strict=True)
    ]
    now_ms = _move_clock(state, plan, decoded, admitted, config.sweep_interval_ms)
    rows = [apply(state, e, a.fresh) for e, a in zip(decoded, admitted, strict=True)]
    meta.offsets = list(plan.stop)
    scored = sum(map(len, rows))

    # 2. questions whose horizon has passed become examples, before anyone is asked anew
    matured, examples = mature(state, now_ms)

    # 3. score whoever was touched, and the slice of silent users whose turn it is
    swept = take_slice(state, plan.sweep_rows)
    touched = np.sort(state.grouped(np.concatenate([*rows, swept]))[0])
    x = features(state, touched, now_ms)
    refused = take_scores(state, touched, x, now_ms, config, scorer, learner)
    take_outlook(state, touched, x, swept, now_ms, config.sweep_interval_ms, scorer)

    # 4. decide
    learner_version = learner.version if learner else 0
    produced_ms = max((int(r.timestamps_ms.max()) for r in records if len(r)), default=now_ms)
    alert_rows, alerts = update_alerts(
        state, touched, x, now_ms, produced_ms, config, scorer, learner
    )
    changes_before = state.columns.segment_changes[touched]
    changes = update_segments(state, touched, now_ms, meta.shard)
    moved = state.columns.segment_changes[touched] != changes_before
    if len(swept):
        at = np.searchsorted(touched, swept)
        fit = enough_data(state, swept, now_ms, config)
        ask(state, swept, x[at], fit, now_ms, scorer.champion_version, learner_version)

    # 5. out
    dead = [
        letter
        for s in SOURCES
        for letter in _dead_letters(
            state, records[s], decoded[s], rejects[s], admitted[s], config.topics[s]
        )
    ]
    erased = sum(int(mask.sum()) for mask in out if mask is not None) + sum(
        len(decoded[s].rejects) - len(rejects[s]) for s in SOURCES
    )
    late = sum(len(a.late) for a in admitted)
    counts = Counts(
        accepted=sum(map(len, records)),
        scored=scored,
        duplicates=sum(a.duplicates for a in admitted),
        late=late,
        dead_letters=len(dead) - late,
        erased=erased,
        users_scored=len(touched),
    )
    fresh = ~np.isin(touched, refused) if len(refused) else slice(None)
    tables = {
        "score_history": _score_rows(state, touched, now_ms, scorer, learner_version, moved),
        "segment_changes": changes,
        "alerts": alert_rows,
        "matured_predictions": matured,
        "model_drift": _drift_rows(meta.shard, known, learner),
        "dead_letters": _dead_letter_rows(dead),
        SAMPLE_TABLE: sample(
            state, touched[fresh], x[fresh], now_ms, config.sample_share, scorer, learner_version
        ),
        "batches": _batch_row(state, plan, counts),
    }
    tables = {name: table for name, table in tables.items() if len(next(iter(table.values())))}
    if plan.sweep_rows:
        end_slice(state, swept, now_ms, config)
    return Outputs(tables, alerts, examples, dead, counts, len(refused))


def _check(state: ShardState, plan: Plan, records: Sequence[Records]) -> None:
    meta = state.meta
    if plan.seq != meta.seq + 1 or list(plan.start) != meta.offsets:
        raise ValueError(
            f"step {plan.seq} from {plan.start} does not follow step {meta.seq} at {meta.offsets}"
        )
    for source in SOURCES:
        offsets = records[source].offsets
        start, stop = plan.start[source], plan.stop[source]
        missing = stop != start and not len(offsets)
        if missing or (len(offsets) and (offsets[0] < start or offsets[-1] != stop - 1)):
            raise ValueError(f"step {plan.seq}: the records of source {source} are not the plan's")


def _move_clock(
    state: ShardState,
    plan: Plan,
    decoded: Sequence[Events],
    admitted: Sequence[Applied],
    interval_ms: int,
) -> int:
    meta = state.meta
    now_ms = max(meta.clock_ms, plan.clock_ms)
    if not plan.clock_ms:
        for events, applied in zip(decoded, admitted, strict=True):
            if len(applied.fresh):
                now_ms = max(now_ms, int(events.ts_ms[applied.fresh].max()))
    meta.clock_ms = now_ms
    if not meta.next_sweep_ms and now_ms:
        meta.next_sweep_ms = next_sweep_ms(now_ms, interval_ms)
    state.counts.advance(now_ms)
    state.money.advance(now_ms)
    return now_ms


def _score_rows(
    state: ShardState,
    rows: NDArray[np.int64],
    now_ms: int,
    scorer: Scorer,
    learner_version: int,
    moved: NDArray[np.bool_],
) -> TableRows:
    """Rows of those users of whom there is something new to tell; `moved`: in another segment."""
    c = state.columns
    p, spend = c.p_churn[rows], c.expected_spend[rows]
    with np.errstate(invalid="ignore"):
        told = (
            (np.abs(p - c.written_p[rows]) < WRITE_P_CHANGE)
            & (np.abs(spend - c.written_spend[rows]) <= WRITE_SPEND_CHANGE * spend)
        ) | (np.isnan(p) & np.isnan(c.written_p[rows]) & (c.written_at_ms[rows] > 0))
    told &= c.orders[rows] == c.written_orders[rows]
    told &= now_ms - c.written_at_ms[rows] < WRITE_AFTER_MS
    told &= ~moved
    at = rows[~told]
    k = len(at)
    c.written_p[at], c.written_spend[at] = c.p_churn[at], c.expected_spend[at]
    c.written_orders[at], c.written_at_ms[at] = c.orders[at], now_ms
    return {
        "user_id": state.users.strings(at),
        "shard": np.full(k, state.meta.shard, np.uint16),
        "seq": np.full(k, state.meta.seq, np.uint64),
        "scored_at": np.full(k, now_ms, np.int64),
        "p_churn": c.p_churn[at],
        "p_champion": c.p_champion[at],
        "p_learner": c.p_learner[at],
        "expected_spend": c.expected_spend[at],
        "p_buy_7d": c.p_buy_7d[at],
        "p_buy_30d": c.p_buy_30d[at],
        "next_order_at": c.next_order_ms[at],
        "horizon_days": np.full(k, scorer.horizon_days, np.uint16),
        "champion_version": Coded.same(scorer.champion_version, k),
        "learner_version": np.full(k, learner_version, np.uint32),
        "value_tier": Coded(c.value_tier[at], VALUE_TIERS),
        "lifecycle": Coded(c.lifecycle[at], LIFECYCLE),
        "at_risk": c.at_risk[at].astype(np.uint8),
        "lifetime_orders": c.orders[at].astype(np.uint32),
        "last_order_at": c.recent_orders_ms[at, 0],
    }


def _drift_rows(
    shard: int, known: LearnerSnapshot | None, new: LearnerSnapshot | None
) -> TableRows:
    """What the learner has noticed since the snapshot `known`. Every shard is told; one writes."""
    before = known.version if known else -1
    fresh = [d for d in new.drifts if d.version > before] if new and shard == 0 else []
    return {
        "drift_id": [d.drift_id for d in fresh],
        "detected_at": np.array([d.detected_at_ms for d in fresh], np.int64),
        "since": np.array([d.since_ms for d in fresh], np.int64),
        "kind": [d.kind for d in fresh],
        "stream": [d.stream for d in fresh],
        "direction": [d.direction for d in fresh],
        "mean_before": np.array([d.mean_before for d in fresh], np.float32),
        "mean_since": np.array([d.mean_since for d in fresh], np.float32),
        "labels_since": np.array([d.labels_since for d in fresh], np.uint32),
        "reason": [d.reason for d in fresh],
        "champion_version": [d.champion_version for d in fresh],
    }


def _dead_letters(
    state: ShardState,
    records: Records,
    events: Events,
    rejects: Sequence[Reject],
    applied: Applied,
    topic: str,
) -> list[DeadLetter]:
    refused = [(r.position, r.reason, r.detail) for r in rejects]
    for i in applied.late.tolist():
        behind = (state.meta.watermark_ms - int(events.ts_ms[i])) / DAY_MS
        detail = f"{behind:.1f} days older than the newest event"
        refused.append((int(events.positions[i]), "late", detail))
    letters = []
    for position, reason, detail in refused:
        value = records.values[position]
        letters.append(
            DeadLetter(
                topic=topic,
                partition=state.meta.shard,
                offset=int(records.offsets[position]),
                reason=reason,
                detail=detail,
                recorded_at_ms=int(records.timestamps_ms[position]),
                key=records.keys[position],
                payload=None if value is None else value[:PAYLOAD_KEPT_BYTES],
                payload_bytes=0 if value is None else len(value),
            )
        )
    return letters


def _dead_letter_rows(letters: list[DeadLetter]) -> TableRows:
    return {
        "topic": [d.topic for d in letters],
        "partition": np.array([d.partition for d in letters], np.uint16),
        "offset": np.array([d.offset for d in letters], np.uint64),
        "reason": [d.reason for d in letters],
        "detail": [d.detail for d in letters],
        "recorded_at": np.array([d.recorded_at_ms for d in letters], np.int64),
        "record_key": [(d.key or b"").decode(errors="replace") for d in letters],
        "payload": [(d.payload or b"").decode(errors="replace") for d in letters],
        "payload_bytes": np.array([d.payload_bytes for d in letters], np.uint32),
    }


def _batch_row(state: ShardState, plan: Plan, counts: Counts) -> TableRows:
    row: dict[str, Any] = {
        "shard": np.uint16(state.meta.shard),
        "seq": np.uint64(plan.seq),
        "clock": np.int64(state.meta.clock_ms),
        "clickstream_from": np.uint64(plan.start[0]),
        "clickstream_to": np.uint64(plan.stop[0]),
        "orders_from": np.uint64(plan.start[1]),
        "orders_to": np.uint64(plan.stop[1]),
        "accepted": np.uint32(counts.accepted),
        "scored": np.uint32(counts.scored),
        "duplicates": np.uint32(counts.duplicates),
        "late": np.uint32(counts.late),
        "dead_letters": np.uint32(counts.dead_letters),
        "erased": np.uint32(counts.erased),
        "users_scored": np.uint32(counts.users_scored),
    }
    return {name: np.array([value]) for name, value in row.items()}
