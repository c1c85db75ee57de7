"""Feature rows are those of the numpy reference, and every column is written once."""

from __future__ import annotations

import importlib.util
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numba import config
from numpy.typing import NDArray

import schemas.features
from schemas.features import FEATURE_NAMES, GAP_ORDERS, RHYTHM_DAYS, SILENCE_DAYS
from streams.core.features import DAY_MS, features
from streams.core.state.shard_state import ShardState
from streams.core.texts import Texts
from streams.kernels import feature_rows
from tests.core import reference_features

uncompiled = pytest.mark.skipif(
    not config.DISABLE_JIT, reason="needs kernels in plain Python: test_uncompiled.py runs it"
)

NOW_MS = 1_700_000_123_456


def made_up(users: int, seed: int, *, wide: bool) -> ShardState:
    """A random state: new and old users, orders on one day and years apart, now and slightly ahead
    of the clock. `wide`: window sums have their full width."""
    rng = np.random.default_rng(seed)
    state = ShardState(0, len(FEATURE_NAMES))
    state.rows_of(Texts.of([f"u{i}" for i in range(users)]))
    c = state.columns

    def times(shape: tuple[int, ...]) -> NDArray[np.int64]:
        back = (10 ** rng.uniform(-3, 3, shape) * DAY_MS).astype(np.int64)
        return np.where(rng.random(shape) < 0.2, 0, NOW_MS + 60_000 - back)

    rows = slice(0, users)
    for name in ("last_seen_ms", "last_activity_ms", "first_seen_ms", "first_order_ms"):
        column = getattr(c, name)
        column[rows] = times(column[rows].shape)
    recent = np.sort(times((users, GAP_ORDERS)), axis=1)[:, ::-1]
    recent[np.arange(GAP_ORDERS) >= rng.integers(0, GAP_ORDERS + 1, users)[:, None]] = 0
    same_day = rng.random(users) < 0.2
    recent[same_day] = np.where(recent[same_day] > 0, recent[same_day, :1] // DAY_MS * DAY_MS, 0)
    c.recent_orders_ms[rows] = recent
    c.orders[rows] = (recent > 0).sum(axis=1) + rng.integers(0, 3, users)
    c.revenue_cents[rows] = rng.integers(0, 10**6, users) * (rng.random(users) < 0.8)
    c.decayed[rows] = rng.random((users, c.decayed.shape[1])) * 100
    c.decayed_at_ms[rows] = times((users,))
    for sums in (state.counts, state.money):
        held = sums.table
        some = rng.integers(0, 90, held.shape) * (rng.random(held.shape) < 0.4)
        sums.table = some.astype(sums.dtype if wide else held.dtype)
    return state


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_features_are_the_reference_bit_for_bit(seed: int, wide: bool) -> None:
    state = made_up(2_000, seed, wide=wide)
    rows = np.random.default_rng(seed).permutation(2_000)[:1_500]
    found = features(state, rows, NOW_MS).view(np.uint32)
    wanted = reference_features.features(state, rows, NOW_MS).view(np.uint32)
    differ = {FEATURE_NAMES[f] for f in np.flatnonzero((found != wanted).any(axis=0))}
    assert not differ


def test_features_of_a_user_do_not_depend_on_the_other_rows() -> None:
    state = made_up(300, 9, wide=False)
    together = features(state, np.arange(300), NOW_MS).view(np.uint32)
    for row in (0, 7, 299):
        assert (features(state, np.array([row]), NOW_MS).view(np.uint32) == together[row]).all()


class Recorder(np.ndarray[Any, Any]):
    """A matrix that counts what is written to each column."""

    writes: dict[int, int]

    def __setitem__(self, at: Any, value: Any) -> None:
        self.writes[int(at[1])] = self.writes.get(int(at[1]), 0) + 1
        super().__setitem__(at, value)


def written(module: ModuleType, state: ShardState, rows: NDArray[np.int64]) -> Recorder:
    """What the kernels of `module` write about some users."""
    x = np.full((len(rows), len(FEATURE_NAMES)), -1, np.float32).view(Recorder)
    x.writes = {}
    c = state.columns
    names = module.UserColumns._fields
    users = module.UserColumns(*[getattr(c, name) for name in names])
    within, beyond = np.empty(len(RHYTHM_DAYS), np.int64), np.empty(len(SILENCE_DAYS), np.int64)
    module.window_features(x, rows, state.counts.table, state.money.table)
    module.history_features(x, rows, NOW_MS, users, within, beyond)
    module.present_features(x, rows, NOW_MS, users, np.full((len(rows), 3), 0.5))
    return x


@uncompiled
def test_each_feature_is_written_by_one_name() -> None:
    x = written(feature_rows, made_up(20, 1, wide=False), np.array([7]))
    names = {FEATURE_NAMES[column]: count for column, count in x.writes.items()}
    # the day of the year is the same for all users, so `streams.core.features` writes it
    assert names == {name: 1 for name in FEATURE_NAMES if name != "day_of_year"}


@uncompiled
def test_features_go_with_their_names_when_the_list_is_reordered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    state, rows = made_up(50, 2, wide=False), np.arange(50)
    before = written(feature_rows, state, rows)
    moved = np.random.default_rng(2).permutation(len(FEATURE_NAMES))
    monkeypatch.setattr(schemas.features, "FEATURE_NAMES", tuple(FEATURE_NAMES[i] for i in moved))
    spec = importlib.util.spec_from_file_location("reordered", feature_rows.__file__)
    assert spec is not None
    assert spec.loader is not None
    reordered = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reordered)
    after = written(reordered, state, rows)
    assert (after.view(np.uint32) == before.view(np.uint32)[:, moved]).all()
