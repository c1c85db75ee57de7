"""The second oracle: the pure core, run over the input log in other batches, without any journal.

Where a live run cuts its batches depends on when records arrive, and a score on what a batch held.
So scores and alerts of two live runs may differ a little, and are compared by the journalled cuts.
What must not depend on cuts at all is compared here: what became of every record, and each user's
windows, counts, times and money at the end.

One batch of everything would be no oracle: lateness is measured from the batches before.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from schemas.features import FEATURE_NAMES
from streams.core.config import CoreConfig
from streams.core.events.records import SOURCES, Records
from streams.core.features import features
from streams.core.ledger import Counts
from streams.core.plan import Pending, next_plan
from streams.core.state.shard_state import ShardState
from streams.core.step import Outputs, step
from streams.core.texts import Texts
from tests.core.driving import SilenceScorer
from tests.shard.oracle import Oracle

__all__ = ["Plain", "differences", "differences_of_states", "plain_run"]

BATCH_RECORDS = 61  # fewer than a shard has before the generator makes anything late
_DECAYED = np.array(["_decayed_" in name for name in FEATURE_NAMES])
_COLUMNS = (
    "first_seen_ms", "last_seen_ms", "last_activity_ms", "orders", "revenue_cents",
    "first_order_ms", "recent_orders_ms",
)  # fmt: skip


@dataclass
class Plain:
    """One shard after such a run."""

    state: ShardState
    ledger: Counter[str] = field(default_factory=Counter)
    letters: set[tuple[str, int, int, str]] = field(default_factory=set)
    """Dead letters: topic, partition, offset, reason."""

    def add(self, outputs: Outputs) -> None:
        for name in Counts.__dataclass_fields__:
            if name != "users_scored":
                self.ledger[name] += getattr(outputs.counts, name)
        self.letters |= {(d.topic, d.partition, d.offset, d.reason) for d in outputs.dead_letters}


def plain_run(
    shard: int, inputs: tuple[Records, Records], config: CoreConfig, horizon_days: int
) -> Plain:
    """All of both topics, by the event clock, `BATCH_RECORDS` at a time."""
    result = Plain(ShardState(shard, len(FEATURE_NAMES)))
    state, scorer = result.state, SilenceScorer(horizon_days)
    state.meta.offsets = [int(r.offsets[0]) if len(r) else 0 for r in inputs]
    at = [0, 0]
    while True:
        # More than a batch is never taken, so the plan needs to see no more.
        views = [inputs[s][at[s] : at[s] + 2 * BATCH_RECORDS] for s in SOURCES]
        pending = [
            Pending(v.offsets, v.timestamps_ms, at[s] + len(v) == len(inputs[s]))
            for s, v in zip(SOURCES, views, strict=True)
        ]
        plan = next_plan(
            state.meta,
            (pending[0], pending[1]),
            clock="event",
            wall_ms=0,
            sweep_interval_ms=config.sweep_interval_ms,
            max_records=BATCH_RECORDS,
            users=state.sweep_places,
        )
        if plan is None:
            return result
        cuts = [int(np.searchsorted(inputs[s].offsets, plan.stop[s])) for s in SOURCES]
        records = [inputs[s][at[s] : cuts[s]] for s in SOURCES]
        at = cuts
        result.add(step(state, plan, records, config, scorer))


def differences(plain: Plain, oracle: Oracle) -> list[str]:
    """What differs between a plain run and the journal's, of what may not. Event clock only."""
    found = []
    journalled = Plain(oracle.state)
    for outputs in oracle.outputs:
        journalled.add(outputs)
    if plain.ledger != journalled.ledger:
        found.append(f"ledger: {dict(plain.ledger)} plain, {dict(journalled.ledger)} journalled")
    if plain.letters != journalled.letters:
        found.append(f"dead letters: {len(plain.letters ^ journalled.letters)} differ")
    return found + differences_of_states(plain.state, oracle.state)


def differences_of_states(ours: ShardState, theirs: ShardState) -> list[str]:
    """What differs between the state of a plain run and that of the journal, of what may not."""
    found = []
    if ours.meta.clock_ms != theirs.meta.clock_ms:
        found.append(f"clock: {ours.meta.clock_ms} plain, {theirs.meta.clock_ms} journalled")
    mine, other = _by_user(ours), _by_user(theirs)
    if mine.keys() != other.keys():
        return [*found, f"users: {len(mine.keys() ^ other.keys())} differ"]
    users = sorted(mine)
    rows = [np.array([of[user] for user in users], np.int64) for of in (mine, other)]
    for name in _COLUMNS:
        a, b = (getattr(s.columns, name)[r] for s, r in zip((ours, theirs), rows, strict=True))
        if (a != b).any():
            found.append(f"{name}: of {int((a != b).reshape(len(users), -1).any(1).sum())} users")
    a, b = (features(s, r, s.meta.clock_ms) for s, r in zip((ours, theirs), rows, strict=True))
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    # Decayed sums are floats that are added up batch by batch.
    same[:, _DECAYED] |= np.isclose(a, b, rtol=1e-4, atol=1e-6)[:, _DECAYED]
    found += [f"feature {FEATURE_NAMES[i]}" for i in np.flatnonzero(~same.all(0))[:5]]
    return found


def _by_user(state: ShardState) -> dict[Any, int]:
    state.rows_of(Texts.of(state.parked.everyone(0)[0]))
    return {user: state.rows_by_user[user] for user in state.rows_by_user}
