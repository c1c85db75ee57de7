"""The rows of a sample while they are made: columns with room for as many as were counted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.training.dataset import Dataset
from schemas.features import FEATURE_NAMES
from streams.evaluation.protocol import Labels

__all__ = ["SampledRows"]

_SPARE: Final = 1.02
_SPARE_ROWS: Final = 1_000
"""More than were counted: cancelled orders were not, and a sample's size is left to chance."""


class SampledRows:
    """About `expected` rows, with weights or without. Room that is not used takes no memory."""

    def __init__(self, expected: int, *, weighted: bool) -> None:
        self._room = int(expected * _SPARE) + _SPARE_ROWS
        self._weighted = weighted
        self._x = np.empty((self._room, len(FEATURE_NAMES)), np.float32)
        self._columns: dict[str, NDArray[Any]] = {}
        self._n = 0

    def __len__(self) -> int:
        return self._n

    def add(
        self, x: NDArray[np.float32], truth: Labels, later: Mapping[str, NDArray[np.float32]],
        cut_ms: int, user_hash: NDArray[np.uint64], weight: NDArray[np.float64],
    ) -> None:  # fmt: skip
        """Rows of one cut: features float32 [k, F], labels, labels of further heads by output name,
        who, and what each stands for."""
        n, k = self._n, len(x)
        if n + k > self._room:
            self._grow(n + k)
        self._x[n : n + k] = x
        columns = {
            "churned": truth.churned, "spend": truth.spend.astype(np.float32),
            "as_of_ms": np.full(k, cut_ms, np.int64), "user": user_hash.view(np.int64), **later,
            "weight": weight.astype(np.float32),
        }  # fmt: skip
        for name, column in columns.items():
            if name not in self._columns:
                self._columns[name] = np.empty(self._room, column.dtype)
            self._columns[name][n : n + k] = column
        self._more = tuple(later)
        self._n += k

    def _grow(self, rows: int) -> None:
        self._room = int(rows * _SPARE) + _SPARE_ROWS
        x = np.empty((self._room, self._x.shape[1]), np.float32)
        x[: self._n] = self._x[: self._n]
        self._x = x
        for name, column in self._columns.items():
            self._columns[name] = np.resize(column, self._room)

    def dataset(self) -> Dataset | None:
        """The rows, without a copy; None if there are none."""
        if not self._n:
            return None
        columns = {name: column[: self._n] for name, column in self._columns.items()}
        return Dataset(
            x=self._x[: self._n],
            churned=columns["churned"],
            spend=columns["spend"],
            as_of_ms=columns["as_of_ms"],
            user=columns["user"],
            more={name: columns[name] for name in self._more},
            weight=columns["weight"] if self._weighted else None,
        )
