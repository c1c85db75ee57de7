"""Where users stand by the owners' definitions: tiers, stages, segments, audiences, and what
followed. And how a shard takes new definitions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from schemas.definitions import Definitions
from schemas.messages import AudienceChange
from schemas.segments import DIMENSIONS
from streams.core.alerts import Alerting
from streams.core.audiences import update_audiences
from streams.core.budget import learn_first_floor
from streams.core.contacts import left_alone_until_ms
from streams.core.memberships import (
    is_member,
    leave_ended,
    note,
    set_due,
    update_membership,
)
from streams.core.quantities import UserQuantities
from streams.core.responses import answer_exposures, expose, sum_rows
from streams.core.rulebook import Rulebook, rulebook_of
from streams.core.segments import (
    Moves,
    count_ranks,
    count_values,
    live,
    membership_moves,
    segment_rows,
    update_dimension,
    update_rfm,
)
from streams.core.state.shard_state import ShardState
from streams.core.state.slots import free_ended, seat_audiences, seat_segments
from streams.core.texts import TableRows
from streams.rules import Outcome
from streams.rules.compile import defined_by

__all__ = ["Standing", "end_rules_sweep", "take_definitions", "update_standing"]


@dataclass(frozen=True)
class Standing:
    """What a step changed."""

    tables: dict[str, TableRows]
    messages: list[AudienceChange]
    moves: list[Moves]
    """Who moved, in every dimension."""
    moved: NDArray[np.bool_]
    """Which of the k users changed tier, stage or a segment, bool [k]."""


def take_definitions(state: ShardState, new: Definitions, now_ms: int, currency: str) -> None:
    """Let these definitions be in force, and a sweep look at everybody by them."""
    meta = state.meta
    meta.definitions = new
    meta.rules_taken += 1
    names = [each.name for each in new.segments]
    meta.segment_slots = seat_segments(meta.segment_slots, names, meta.rules_taken)
    meta.audience_slots = seat_audiences(meta.audience_slots, new.audiences)
    state.ranks.keep(rulebook_of(new, currency).ranks)
    state.ranks.start_sweep()
    meta.sweep_row, meta.sweep_parked = 0, state.parked.entries
    meta.sweep_started_ms = 0  # by a wall clock: a slice with every step until it is done
    meta.next_sweep_ms = now_ms + 1  # by the event clock: at once


def end_rules_sweep(state: ShardState) -> None:
    """Everybody has been looked at: bits of what has ended are free, counted ranks in force."""
    meta = state.meta
    meta.segment_slots = free_ended(meta.segment_slots)
    meta.audience_slots = free_ended(meta.audience_slots)
    state.ranks.end_sweep()
    learn_first_floor(state)


def update_standing(
    state: ShardState,
    rows: NDArray[np.int64],
    x: NDArray[np.float32],
    swept: NDArray[np.int64],
    now_ms: int,
    book: Rulebook,
    alerting: Alerting,
) -> Standing:
    """Bring the users in `rows` (int64 [k], ascending; features x float32 [k, F]) up to date, after
    their scores and alerts. `swept` are those of them whose turn in the sweep it is."""
    due_ms = alerting.due_ms.copy()
    q = UserQuantities(state, rows, x, now_ms, book.rules)
    lapsed_after_ms = book.definitions.lapsed_after_ms
    counted = state.columns.segment_changes[rows]
    count_values(state, rows, now_ms, lapsed_after_ms)
    cells = _rfm(state, rows, q, book, now_ms)
    moves, suppressed = _apply_rules(state, rows, q, book, now_ms, due_ms)
    count_ranks(state, q, rows, swept, now_ms, lapsed_after_ms)
    # Alerts come before segments: who is suppressed from now on, or no longer, is looked at again.
    due_ms[suppressed & state.columns.at_risk[rows]] = now_ms
    due_ms[alerting.silenced & ~suppressed] = now_ms
    alone_ms = left_alone_until_ms(state, rows, book.definitions.caps, now_ms)
    capped = alone_ms > 0
    due_ms[capped] = np.minimum(due_ms[capped], alone_ms[capped])
    assignments, audience_rows, messages = update_audiences(
        state, rows, book.definitions, now_ms, suppressed, capped
    )
    salts = answer_exposures(state, rows, now_ms, due_ms)
    salts |= expose(state, rows, x, assignments, now_ms, due_ms)
    set_due(state, rows, due_ms)
    moves += cells
    tables = {"segment_changes": segment_rows(state, moves, now_ms, lapsed_after_ms)}
    if audience_rows is not None:
        tables["audience_changes"] = audience_rows
    if (sums := sum_rows(state, salts, now_ms)) is not None:
        tables["campaign_sums"] = sums
    return Standing(tables, messages, moves, state.columns.segment_changes[rows] != counted)


def _rfm(
    state: ShardState, rows: NDArray[np.int64], q: UserQuantities, book: Rulebook, now_ms: int
) -> list[Moves]:
    """Who moved to another RFM cell. Without cells in the definitions, those there were go."""
    if book.definitions.rfm:
        of = live(state, rows, now_ms, book.definitions.lapsed_after_ms)
        return [update_rfm(state, rows, q, of)]
    if state.columns.rfm[rows].any():
        return [update_rfm(state, rows, q, np.zeros(len(rows), np.bool_))]
    return []


def _apply_rules(
    state: ShardState,
    rows: NDArray[np.int64],
    q: UserQuantities,
    book: Rulebook,
    now_ms: int,
    due_ms: NDArray[np.int64],
) -> tuple[list[Moves], NDArray[np.bool_]]:
    """Tiers, stages and segments, each after those that its rules name. Who moved, and who is
    suppressed, bool [k]. Lowers `due_ms` (int64 [k]) to when time alone may next change one of
    them."""
    bits = {slot.name: i for i, slot in enumerate(state.meta.segment_slots) if slot is not None}
    evaluation, outcomes = book.rules.begin(q), dict[str, Outcome]()
    moves: list[Moves] = []
    for rule in book.order:
        outcomes[rule] = evaluation.outcome(rule)
        note(due_ms, outcomes[rule].flips_in_days, now_ms)
        if book.last_of[defined_by(rule)] != rule:
            continue
        name, _, _ = rule.partition(".")
        if name in DIMENSIONS:
            cases = [(case, outcomes[at].true) for case, at in book.cases[name]]
            moves.append(update_dimension(state, rows, name, cases))
        else:
            change = update_membership(
                state, rows, bits[name], outcomes[name], outcomes.get(f"{name}.leave"),
                now_ms, book.segments[name].hold_ms, due_ms,
            )  # fmt: skip
            moves += membership_moves(state, rows, change)
            q.flags[f"segment.{name}"] = is_member(state, rows, bits[name])
    for change in leave_ended(state, rows):
        moves += membership_moves(state, rows, change)
    suppress = book.suppressed(evaluation)
    if suppress is None:
        return moves, np.zeros(len(rows), np.bool_)
    note(due_ms, suppress.flips_in_days, now_ms)
    return moves, suppress.true
