"""Canaries (`schemas.canary`): set apart before anything counts a record, and what is written.

They are no events. They touch no user, clock, window or share; a step only says for each that it
has come this far, with a score that the models in force make of one fixed customer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from schemas.messages import LearnerSnapshot
from streams.core.config import Scorer
from streams.core.events.events import CANARY, Events
from streams.core.events.records import Records
from streams.core.state.shard_state import ShardState
from streams.core.texts import Coded, TableRows

__all__ = ["NONE", "canary_rows", "newest_ms", "set_apart", "times_of_events"]

NONE: Final = np.empty(0, np.int64)


def set_apart(events: Events) -> tuple[Events, NDArray[np.int64]]:
    """The events without the canaries among their rejects; and where these stood in the run of
    records, int64 [k], rising."""
    if not any(reject.reason == CANARY for reject in events.rejects):
        return events, NONE
    positions = [each.position for each in events.rejects if each.reason == CANARY]
    others = [each for each in events.rejects if each.reason != CANARY]
    return replace(events, rejects=others), np.array(sorted(positions), np.int64)


def times_of_events(
    records: Sequence[Records], canaries: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The timestamps of clickstream and orders, int64 [n] each, without those of the `canaries` at
    these positions of the clickstream, int64 [k]."""
    clicks, orders = (each.timestamps_ms for each in records)
    return np.delete(clicks, canaries) if len(canaries) else clicks, orders


def newest_ms(times_ms: Sequence[NDArray[np.int64]], otherwise_ms: int) -> int:
    """The newest of several topics' timestamps, int64 [n] each; `otherwise_ms` if there are none.

    >>> newest_ms([np.array([3, 5]), np.array([], np.int64)], 9), newest_ms([NONE], 9)
    (5, 9)
    """
    return max((int(each.max()) for each in times_ms if len(each)), default=otherwise_ms)


def canary_rows(
    state: ShardState,
    records: Records,
    canaries: NDArray[np.int64],
    scorer: Scorer,
    learner: LearnerSnapshot | None,
) -> TableRows:
    """`canaries` rows of the records at these positions, int64 [k]. All have one score, as the
    step has one champion and one learner; without a canary, nothing is scored."""
    k = len(canaries)
    p_churn = np.empty(0, np.float32)
    if k:
        p_churn = np.repeat(scorer.score(scorer.typical[None, :], learner).p_churn, k)
    return {
        "shard": np.full(k, state.meta.shard, np.uint16),
        "offset": records.offsets[canaries].astype(np.uint64),
        "recorded_at": records.timestamps_ms[canaries],
        "seq": np.full(k, state.meta.seq, np.uint64),
        "champion_version": Coded.same(scorer.champion_version, k),
        "p_churn": p_churn,
    }
