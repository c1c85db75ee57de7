"""The long horizon in an evaluation: asked once, and judged by what came."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from schemas.features import FEATURE_NAMES
from streams.core.events.records import Records
from streams.core.features import features
from streams.evaluation.history import History, read_history
from streams.evaluation.long import long_figures
from streams.evaluation.protocol import Protocol, plan_protocol
from streams.evaluation.rows import cut_rows
from streams.evaluation.run import Replayed
from streams.evaluation.training import states_at
from streams.history.read import read
from streams.history.table import ReadOptions
from streams.settings import Settings
from streams.shard.config import core_config
from tests.evaluation import shops

ORDERS = FEATURE_NAMES.index("lifetime_orders")


def seen(path: Path, days: int, users: int = 160) -> tuple[History, Protocol, Replayed]:
    """A shop's rows at each weekly cut, without any scores."""
    shops.write(path, shops.weekly(users, days, seed=5))
    decode = core_config(Settings()).decode
    source = read(path, ReadOptions(), int(time.time() * 1000))
    history = read_history(source, decode.currency, decode.rates)
    protocol = plan_protocol(history, 28, 2, None)
    number = {user: i for i, user in enumerate(history.users)}
    done = Replayed()
    for cut, state in states_at((Records.empty(), history.records), protocol.cuts, decode):
        rows = np.flatnonzero(state.columns.orders[: state.n] >= 1)
        user, x = np.array([number[u] for u in state.users[rows]]), features(state, rows, cut)
        for at, to in ((x[:, ORDERS] > 1, done.cuts), (x[:, ORDERS] == 1, done.few)):
            to.append(cut_rows(history, cut, user[at], x[at], 28))
    return history, protocol, done


def test_half_of_a_short_history_is_held_out_and_judged_beside_the_rival(tmp_path: Path) -> None:
    history, protocol, done = seen(tmp_path / "orders.csv", 400)
    found = long_figures(history, protocol, done)
    assert found["why"] == ""
    assert 195 <= found["days"] <= 200
    assert 75 <= found["seen_days"] < 100  # of what was there when it was asked
    live, rival = found["customers"]["live"], found["customers"]["bgnbd_gg"]
    asked_ms = int(np.datetime64(found["as_of"], "ms").astype(np.int64))
    (rows,) = [cut for cut in done.cuts if cut.cut_ms == asked_ms]
    assert live["n"] == rival["n"] == len(rows.user)
    assert live["normalized_gini"] > 0.6
    assert live["bias"] == pytest.approx(1.0, abs=0.3)
    assert 0.6 < live["coverage_80"] <= 1.0
    assert rival["coverage_80"] is None


def test_what_came_later_taught_nothing(tmp_path: Path) -> None:
    history, protocol, done = seen(tmp_path / "orders.csv", 400)
    found = long_figures(history, protocol, done)
    asked_ms = int(np.datetime64(found["as_of"], "ms").astype(np.int64))
    for cut in (*done.cuts, *done.few):
        if cut.cut_ms > asked_ms:
            cut.x[:] = np.nan  # nothing of these rows is read
    assert long_figures(history, protocol, done) == found
