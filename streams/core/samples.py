"""Logs features that scores were made of: a sample, which `tideline skew` recomputes, and, where
that is on, those of every user's newest row, to be looked at.

Which (user, clock) pairs are in the sample depends on nothing but a hash of the two: not on the
score, the batch or the worker, so replay logs the same ones.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from schemas.features import FEATURES_HASH, LISTED_FEATURE_NAMES
from streams.core.config import Scorer
from streams.core.hashing import mix
from streams.core.state.shard_state import ShardState
from streams.core.texts import Coded, TableRows

__all__ = ["FEATURES_TABLE", "SAMPLE_TABLE", "features_of", "sample"]

SAMPLE_TABLE: Final = "score_samples"
FEATURES_TABLE: Final = "user_features"
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


def features_of(
    state: ShardState,
    rows: NDArray[np.int64],
    touched: NDArray[np.int64],
    x: NDArray[np.float32],
    now_ms: int,
    keep_days: int,
) -> TableRows:
    """`user_features` rows of the users in `rows` (int64 [k]), who are among the `touched` (int64
    [n], ascending; features x float32 [n, F]); none with `keep_days` 0."""
    if not keep_days:
        return {}
    k = len(rows)
    return {
        "user_id": state.users.strings(rows),
        "shard": np.full(k, state.meta.shard, np.uint16),
        "seq": np.full(k, state.meta.seq, np.uint64),
        "scored_at": np.full(k, now_ms, np.int64),
        "feature_names": Coded.same(LISTED_FEATURE_NAMES, k),
        "features": x[np.searchsorted(touched, rows)],
        "keep_days": np.full(k, keep_days, np.uint16),
    }
