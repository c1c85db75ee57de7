"""Logs a sample of live scores with their features, so that `tideline skew` can recompute them.

Which (user, clock) pairs are in the sample depends on nothing but a hash of the two: not on the
score, the batch or the worker, so replay logs the same ones.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from schemas.features import FEATURES_HASH
from streams.core.config import Scorer
from streams.core.hashing import mix
from streams.core.state.shard_state import ShardState
from streams.core.texts import Coded, TableRows

__all__ = ["SAMPLE_TABLE", "sample"]

SAMPLE_TABLE: Final = "score_samples"
_SALT: Final = np.uint64(0x736B6577)  # "skew": other choices by the same hashes stay independent


def sample(
    state: ShardState,
    rows: NDArray[np.int64],
    x: NDArray[np.float32],
    now_ms: int,
    share: float,
    scorer: Scorer,
    learner_version: int,
) -> TableRows:
    """`score_samples` rows of about `share` (0 to 1) of the users in `rows` (int64 [k], features
    x float32 [k, F]) who have a score."""
    c = state.columns
    drawn = mix(c.user_hash[rows] ^ _SALT, np.full(len(rows), now_ms, np.uint64))
    low = (drawn >> np.uint64(11)).astype(np.int64) < int(share * 2**53)
    chosen = np.flatnonzero(low & ~np.isnan(c.p_churn[rows]))
    at = rows[chosen]
    k = len(at)
    return {
        "shard": np.full(k, state.meta.shard, np.uint16),
        "seq": np.full(k, state.meta.seq, np.uint64),
        "user_id": state.users.strings(at),
        "scored_at": np.full(k, now_ms, np.int64),
        "p_churn": c.p_churn[at],
        "p_champion": c.p_champion[at],
        "p_learner": c.p_learner[at],
        "expected_spend": c.expected_spend[at],
        "champion_version": Coded.same(scorer.champion_version, k),
        "learner_version": np.full(k, learner_version, np.uint32),
        "features": x[chosen],
        "features_hash": Coded.same(FEATURES_HASH, k),
    }
