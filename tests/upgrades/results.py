"""The values in a shard's state and rows by name, so that releases can be compared."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from schemas.features import COUNT_MEASURES, FEATURE_NAMES, MONEY_MEASURES, WINDOWS
from streams.core.features import features
from streams.core.state.layout import OWN, Record
from streams.core.state.shard_state import ShardState
from tests.shard.memory import MemorySink

__all__ = ["differences", "of_rows", "of_state"]

Results = dict[str, Any]
_NOT_RESULTS = ("format", "learner", "erased")  # of meta: in other words below, or not a result
_NOT_ROWS = ("features", "features_hash")  # of samples: in the order of the release


def of_state(state: ShardState) -> Results:
    """Everything a state knows, as plain values by name. Unknown numbers are None."""
    rows = np.flatnonzero(state.rows_by_user.named(np.arange(state.n)))
    names = state.users[rows].tolist()
    x = features(state, rows, state.meta.clock_ms)
    parked, packed = state.parked.everyone(state.meta.horizon_since)
    orders = state.known_orders
    kept = orders.records["owner"] != 0
    meta = msgspec.to_builtins(state.meta)
    learner = state.meta.learner
    return {
        "meta": {name: value for name, value in meta.items() if name not in _NOT_RESULTS},
        "erased": [each.erasure_id for each in state.meta.erased],
        "learner": None if learner is None else _named(learner.features, learner.weights),
        "columns": dict(zip(names, _numbers(state.columns.pack(rows), OWN.row), strict=True)),
        "parked": dict(zip(parked, _numbers(packed, OWN.row), strict=True)),
        "features": {
            name: _named(FEATURE_NAMES, row) for name, row in zip(names, x.tolist(), strict=True)
        },
        "sums": {name: _sums(state, row) for name, row in zip(names, rows.tolist(), strict=True)},
        "questions": _questions(state),
        "orders": dict(
            zip(
                (str(key) for key in orders.keys[kept].tolist()),
                _numbers(orders.records[kept], OWN.order),
                strict=True,
            )
        ),
        "value_histogram": {
            str(i): int(state.value_histogram[i]) for i in np.flatnonzero(state.value_histogram)
        },
    }


def of_rows(sink: MemorySink) -> Results:
    """The rows that were written, by table and sorting key."""

    def plain(value: Any) -> Any:
        if isinstance(value, bytes):  # a float by its bits
            return _known(float(np.frombuffer(value, f"f{len(value)}")[0]))
        return value if isinstance(value, (int, float)) else str(value)  # also numpy's texts

    return {
        table: {
            "/".join(map(str, key)): {
                name: plain(value) for name, value in row.items() if name not in _NOT_ROWS
            }
            for key, row in rows.items()
        }
        for table, rows in sink.rows.items()
    }


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _named(names: Any, numbers: Any) -> Results:
    return {name: _known(number) for name, number in zip(names, numbers, strict=False)}


def _numbers(packed: NDArray[Any], of: Record) -> list[Results]:
    raw = np.ascontiguousarray(packed).view(np.uint8).reshape(len(packed), of.nbytes)
    found: list[Results] = [{} for _ in range(len(packed))]
    for name, (dtype, at) in of.numbers.items():
        cut = np.ascontiguousarray(raw[:, at : at + np.dtype(dtype).itemsize])
        for each, value in zip(found, cut.view(dtype)[:, 0].tolist(), strict=True):
            each[name] = _known(value) if isinstance(value, float) else value
    return found


def _sums(state: ShardState, row: int) -> Results:
    return {
        f"{measure}/{window.name}": int(sums.table[row, m, w])
        for sums, measures in ((state.counts, COUNT_MEASURES), (state.money, MONEY_MEASURES))
        for m, measure in enumerate(measures)
        for w, window in enumerate(WINDOWS)
    }


def _questions(state: ShardState) -> Results:
    found = {}
    for horizon_days, queue in state.questions.by_horizon.items():
        asked = queue.everything()
        whose = state.users[asked.rows.astype(np.int64)].tolist()
        for i, user in enumerate(whose):
            found[f"{horizon_days}/{user}"] = {
                "asked_ms": int(asked.asked_ms[i]),
                "champion": state.meta.champions[int(asked.champion[i])],
                "learner": int(asked.learner[i]),
                "scores": [_known(score) for score in asked.scores[i].tolist()],
                "x": _named(FEATURE_NAMES, asked.x[i].tolist()),
            }
    return found


def differences(recorded: Any, found: Any, gone: frozenset[str], place: str = "") -> list[str]:
    """Where `found` differs from the recording. Names that only `found` has are new; this build
    lacks those in `gone`."""
    if isinstance(recorded, dict) and isinstance(found, dict):
        lost = [
            f"{place}/{name} is missing"
            for name in recorded
            if name not in found | dict.fromkeys(gone)
        ]
        return lost + [
            line
            for name, value in recorded.items()
            if name in found
            for line in differences(value, found[name], gone, f"{place}/{name}")
        ]
    same = recorded == found
    return [] if same else [f"{place}: recorded {recorded!r}, found {found!r}"]
