"""One step of a shard: (state, plan, records) -> (state', outputs). The whole story, in order.

Pure but for changing `state` in place: the same state, plan and records give the same outputs, bit
for bit, on the same build. No IO, no clock, no randomness.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from schemas.lives import first_of, follows, life_of, position_of
from schemas.messages import AlertMessage, AudienceChange, DeadLetter, Example
from streams.core.alerts import alert_cases, update_alerts
from streams.core.apply import Applied, admit, apply, forget_some, set_back_watermark
from streams.core.canaries import NONE, canary_rows, newest_ms, set_apart, times_of_events
from streams.core.config import CoreConfig, Scorer
from streams.core.contacts import NONE_ADMITTED, Contacts, contact_rows, take_contacts, take_in
from streams.core.dead_letters import dead_letter_rows, dead_letters
from streams.core.drift import drift_rows
from streams.core.erasure import erase, exclude_erased_events, exclude_erased_rejects
from streams.core.event_rows import EVENT_TABLE, event_rows
from streams.core.events.decode import decode, decode_ours
from streams.core.events.events import Events, Reject
from streams.core.events.records import CLICKSTREAM, ORDERS, SOURCES, Records
from streams.core.features import features
from streams.core.labels import ask, look_ahead, mature, worth_asking
from streams.core.ledger import Counts, batch_row, counts_of
from streams.core.memberships import wake
from streams.core.plan import Plan
from streams.core.rulebook import Rulebook, rulebook_of
from streams.core.samples import FEATURES_TABLE, SAMPLE_TABLE, features_of, sample
from streams.core.scoring import (
    forecast_orders,
    mark_written,
    rows_to_write,
    score_rows,
    take_scores,
)
from streams.core.stages import Stage
from streams.core.standing import take_definitions, update_standing
from streams.core.state.shard_state import ShardState
from streams.core.state.totals import Stands
from streams.core.sweep import end_slice, next_sweep_ms, take_slice
from streams.core.texts import TableRows
from streams.core.totals import (
    begin_totals,
    definition_rows,
    tell_totals,
)

__all__ = ["Outputs", "step"]


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
    produced_ms: int
    """The newest timestamp of the step's records, canaries aside; the step's clock if it has none.
    """
    refused: int = 0
    """Users that the champion gave no number; they keep the score that they had."""
    clock_leads_ms: tuple[int, int] = (0, 0)
    """How far ahead the producer with the fastest clock is, by source; 0: no event was refused for
    that."""
    watermark_lead_ms: int = 0
    """How far the watermark was beyond what is plausible, before this step set it back."""
    applied_ms: tuple[int, int] = (0, 0)
    """The timestamp of the last record, by source; 0: there was none."""
    canaries: NDArray[np.int64] = field(default_factory=lambda: NONE)
    """Which of the clickstream's records are no events but canaries: positions, int64 [k]."""
    audiences: list[AudienceChange] = field(default_factory=list)
    """Who entered or left a feed; nobody in it is held out."""
    over_budget: int = 0
    """Users who were worth an alert and found no room in the day's budget, each once a day."""
    postponed: int = 0
    """Users whose alert waits for the end of quiet hours, each time they are looked at."""


def step(
    state: ShardState,
    plan: Plan,
    records: Sequence[Records],
    config: CoreConfig,
    scorer: Scorer,
    done: Callable[[Stage], None] = lambda _: None,
) -> Outputs:
    """Apply one plan. `records` are exactly the plan's ranges of clickstream and orders; `done` is
    told of every stage that has ended.

    Raises ValueError if the plan does not follow the state: that is a bug or a damaged journal.
    """
    meta = state.meta
    _check(state, plan, records)
    _begin(state, plan, config)
    look_ahead(state, scorer.horizon_days)
    known, learner = meta.learner, plan.learner or meta.learner
    meta.learner = learner

    forget_some(state)
    first = begin_totals(state)

    # 0. people to erase are forgotten before any record of theirs is looked at
    for order in plan.erase:
        erase(state, order)

    # 1. events in: decode, refuse, drop duplicates, set late ones aside
    watermark_lead_ms = set_back_watermark(state, plan.clock_ms, config.decode.max_future_ms)
    decoded, canaries, contacts = _decoded(state, plan, records, config)
    taken = _taken(decoded, contacts)
    excluded = [exclude_erased_events(state, events, records[s], s) for events, s in taken]
    rejects = [exclude_erased_rejects(state, decoded[s].rejects, records[s], s) for s in SOURCES]
    done("decode")
    admitted = [
        admit(state, events, config.lateness_ms, mask)
        for (events, _), mask in zip(taken, excluded, strict=True)
    ]
    now_ms = _move_clock(state, plan, decoded, admitted, config.sweep_interval_ms)
    contacted = admitted[-1] if contacts.said else NONE_ADMITTED
    counted = [
        *(apply(state, decoded[s], admitted[s]) for s in SOURCES),
        take_in(state, contacts, contacted),
    ]
    meta.offsets = list(plan.stop)

    # 2. questions whose horizon has passed become examples, before new questions are asked
    matured, examples = mature(state, now_ms, config, scorer)
    done("apply")

    # 3. score the users whom events touched, those whose time has come, and the slice of silent
    #    users whose turn it is
    book = _rules_in_force(state, plan, now_ms, config.decode.currency)
    swept = take_slice(state, plan.sweep_rows)
    woken = wake(state, plan.wake_rows, now_ms)
    rows = np.concatenate([*(each.rows for each in counted), swept, woken])
    touched = np.sort(state.grouped(rows)[0])
    x = features(state, touched, now_ms)
    refused = take_scores(state, touched, x, now_ms, config, scorer, learner)
    forecast_orders(state, touched, x, swept, now_ms, config.sweep_interval_ms, scorer)
    done("score")

    # 4. decide
    learner_version = learner.version if learner else 0
    produced_ms = newest_ms(times_of_events(records, canaries), now_ms)
    cases = alert_cases(state, contacts.users(contacted), config, book)
    before = Stands.of(state.columns, touched)
    alerting = update_alerts(state, touched, x, now_ms, produced_ms, config, scorer, learner, book)
    standing = update_standing(state, touched, x, swept, now_ms, book, alerting)
    _ask(state, touched, x, swept, now_ms, config, scorer, learner_version)

    # 5. out
    written = rows_to_write(state, touched, now_ms, standing.moved)
    told = tell_totals(state, before, touched, written, standing.moves, now_ms)
    answered = ~np.isin(touched, refused) if len(refused) else slice(None)
    dead = [
        letter
        for (events, s), unusable, decided in zip(
            taken, [*rejects, []][: len(taken)], admitted, strict=True
        )
        for letter in dead_letters(state, records[s], events, unusable, decided, config.topics[s])
    ]
    counts = counts_of(
        records, decoded, excluded, rejects, admitted, counted, len(touched), len(canaries)
    )
    tables = {
        "score_history": score_rows(state, written, now_ms, scorer, learner_version),
        **standing.tables,
        **told,
        "definitions_taken": definition_rows(
            state, plan.definitions or (meta.definitions if first else None), now_ms
        ),
        "alerts": alerting.table,
        "alert_budget": alerting.budget or {},
        "contacts": contact_rows(state, contacts, contacted, cases),
        **matured,
        "model_drift": drift_rows(meta.shard, known, learner),
        "dead_letters": dead_letter_rows(dead),
        SAMPLE_TABLE: sample(
            state,
            touched[answered],
            x[answered],
            now_ms,
            config.sample_share,
            scorer,
            learner_version,
        ),
        EVENT_TABLE: event_rows(
            state, records, decoded, admitted, counted, now_ms, config.keep_events_days
        ),
        FEATURES_TABLE: features_of(state, written, touched, x, now_ms, config.keep_features_days),
        "canaries": canary_rows(state, records[CLICKSTREAM], canaries, scorer, learner),
        "batches": batch_row(state, plan, counts),
    }
    tables = {name: t for name, t in tables.items() if t and len(next(iter(t.values())))}
    mark_written(state, written, now_ms)
    if plan.sweep_rows:
        end_slice(state, swept, now_ms, config)
    done("decide")
    return Outputs(
        tables, alerting.messages, examples, dead, counts, produced_ms, len(refused),
        _leads_ms(rejects), watermark_lead_ms, _last_ms(records), canaries, standing.messages,
        alerting.over_budget, alerting.postponed,
    )  # fmt: skip


def _ask(
    state: ShardState,
    touched: NDArray[np.int64],
    x: NDArray[np.float32],
    swept: NDArray[np.int64],
    now_ms: int,
    config: CoreConfig,
    scorer: Scorer,
    learner_version: int,
) -> None:
    """Ask those of the swept users (int64 [s]) who are worth it. They are among the touched (int64
    [k], ascending), whose features are x, float32 [k, F]."""
    if len(swept):
        at = np.searchsorted(touched, swept)
        fit = worth_asking(state, swept, now_ms, config, scorer)
        ask(state, swept, x[at], fit, now_ms, scorer.champion_version, learner_version)


def _rules_in_force(state: ShardState, plan: Plan, now_ms: int, currency: str) -> Rulebook:
    """The rules by which this step decides, taken over with it if they are new."""
    if plan.definitions is not None:
        take_definitions(state, plan.definitions, now_ms, currency)
    return rulebook_of(state.meta.definitions, currency)


def _leads_ms(rejects: Sequence[Sequence[Reject]]) -> tuple[int, int]:
    """By how much the most future-dated record of each source was ahead."""
    clicks, orders = (max((r.ahead_ms for r in of), default=0) for of in rejects)
    return clicks, orders


def _last_ms(records: Sequence[Records]) -> tuple[int, int]:
    """The timestamp of the last record of each source; 0: there was none."""
    clicks, orders = (int(r.timestamps_ms[-1]) if len(r) else 0 for r in records)
    return clicks, orders


def _decoded(
    state: ShardState, plan: Plan, records: Sequence[Records], config: CoreConfig
) -> tuple[list[Events], NDArray[np.int64], Contacts]:
    """The events of both sources; which records of the clickstream are canaries; and its
    contacts."""

    def of(source: int) -> Events:
        rules, clock_ms, own = config.decode, plan.clock_ms, records[source]
        if config.partitioner is None:
            return decode(own, source, rules, clock_ms)
        # Also where a shard refuses misplaced records: the journal may hold a step that another
        # setting took, and its replay must set aside what was set aside then.
        return decode_ours(own, source, rules, clock_ms, state.meta.shard, config.partitioner)

    clicks, canaries = set_apart(of(CLICKSTREAM))
    clicks, contacts = take_contacts(clicks)
    return [clicks, of(ORDERS)], canaries, contacts


def _taken(decoded: Sequence[Events], contacts: Contacts) -> list[tuple[Events, int]]:
    """What may count, with its source. Contacts are no events, and become what events become."""
    taken = [*zip(decoded, SOURCES, strict=True)]
    return [*taken, (contacts.events, CLICKSTREAM)] if contacts.said else taken


def _check(state: ShardState, plan: Plan, records: Sequence[Records]) -> None:
    meta = state.meta
    number = position_of(plan.seq)
    if not follows(plan.seq, meta.seq) or list(plan.start) != meta.offsets:
        raise ValueError(
            f"step {number} from {plan.start} does not follow step {position_of(meta.seq)} at "
            f"{meta.offsets}"
        )
    for source in SOURCES:
        offsets = records[source].offsets
        start, stop = plan.start[source], plan.stop[source]
        inside = not len(offsets) or (offsets[0] >= start and offsets[-1] < stop)
        if plan.records is None:
            whole = offsets[-1] == stop - 1 if len(offsets) else stop == start
        else:
            whole = len(offsets) == plan.records[source]
        if not (inside and whole):
            raise ValueError(f"step {number}: the records of source {source} are not the plan's")


def _begin(state: ShardState, plan: Plan, config: CoreConfig) -> None:
    meta = state.meta
    if config.partitioner is not None:
        meta.partitions = config.partitioner.partitions
    if not meta.seq:  # a life begins: its examples are numbered as its steps are
        meta.examples = first_of(life_of(plan.seq)) - 1
    meta.seq = plan.seq


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
        for events, applied in zip(decoded, admitted[: len(decoded)], strict=True):
            if len(applied.fresh):
                now_ms = max(now_ms, int(events.ts_ms[applied.fresh].max()))
    meta.clock_ms = now_ms
    if not meta.next_sweep_ms and now_ms:
        meta.next_sweep_ms = next_sweep_ms(now_ms, interval_ms)
    state.counts.advance(now_ms)
    state.money.advance(now_ms)
    return now_ms
