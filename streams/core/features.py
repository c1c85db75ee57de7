"""The feature matrix: what `schemas.features` names, computed from the state for chosen users."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from schemas.features import (
    COUNT_MEASURES,
    DECAY_HALF_LIVES_DAYS,
    FEATURE_NAMES,
    MONEY_MEASURES,
    RHYTHM_DAYS,
    SILENCE_DAYS,
    WINDOW_FEATURES,
    WINDOWS,
    YEAR_DAYS,
)
from streams.core.state.shard_state import ShardState
from streams.kernels.feature_rows import (
    UserColumns,
    history_features,
    present_features,
    window_features,
)

__all__ = ["DAY_MS", "HALF_LIVES_MS", "features"]

DAY_MS: Final = 86_400_000
HALF_LIVES_MS: Final = np.repeat(np.array(DECAY_HALF_LIVES_DAYS) * DAY_MS, 3)
_DAY_AT: Final = FEATURE_NAMES.index("day_of_year")


def features(state: ShardState, rows: NDArray[np.int64], now_ms: int) -> NDArray[np.float32]:
    """Features of the users in `rows` (int64 [k]) at `now_ms`, the windows' clock.

    Returns float32 [k, F], columns in `schemas.features.FEATURES` order; what is unknown is NaN.
    Each row depends on its user alone, bit for bit, whichever other users are in `rows`.
    """
    x = np.empty((len(rows), len(FEATURE_NAMES)), np.float32)
    window_features(x, rows, state.counts.table, state.money.table)
    for sums, measures in ((state.counts, COUNT_MEASURES), (state.money, MONEY_MEASURES)):
        if sums.short is not None:  # features that are computed from these below are unknown, too
            x[:, _made_of(measures, sums.short)] = np.nan
    c = state.columns
    users = UserColumns(*[getattr(c, name) for name in UserColumns._fields])
    within, beyond = np.empty(len(RHYTHM_DAYS), np.int64), np.empty(len(SILENCE_DAYS), np.int64)
    history_features(x, rows, now_ms, users, within, beyond)
    age_ms = np.maximum(now_ms - c.decayed_at_ms[rows], 0)
    faded = np.exp2(-age_ms[:, None] / HALF_LIVES_MS[::3])  # numpy's own; others round differently
    present_features(x, rows, now_ms, users, faded)
    x[:, _DAY_AT] = now_ms / DAY_MS % YEAR_DAYS
    return x


def _made_of(measures: tuple[str, ...], short: NDArray[np.bool_]) -> list[int]:
    """The columns of x that need a sum that is `short`, bool [measures, windows]."""
    return [
        FEATURE_NAMES.index(f"{stem}_{WINDOWS[w].name}")
        for m, w in np.argwhere(short).tolist()
        for stem, needed in WINDOW_FEATURES.items()
        if measures[m] in needed
    ]
