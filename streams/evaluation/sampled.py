"""The rows of a sample while they are made: columns with room for as many as will come.

Live examples and rows of a history come into the same columns, one beside the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.training.columns import FeatureColumns
from models.training.dataset import Dataset
from schemas.features import FEATURE_NAMES

__all__ = ["SampledRows"]

_SPARE: Final = 1.02
_SPARE_ROWS: Final = 1_000
"""More than were counted: cancelled orders were not, and more examples may have matured since."""
_UNKNOWN: Final = np.float32(np.nan)


class SampledRows:
    """About `expected` rows. Room that is not used takes no memory."""

    def __init__(self, expected: int) -> None:
        self._room = int(expected * _SPARE) + _SPARE_ROWS
        self._x = FeatureColumns(len(FEATURE_NAMES), self._room)
        self._columns: dict[str, NDArray[Any]] = {
            "churned": np.empty(self._room, np.bool_),
            "spend": np.empty(self._room, np.float32),
            "as_of_ms": np.empty(self._room, np.int64),
            "user": np.empty(self._room, np.int64),
        }
        self._more: dict[str, NDArray[np.float32]] = {}
        self._n = 0

    def __len__(self) -> int:
        return self._n

    def add(
        self, x: NDArray[np.float32], churned: NDArray[np.bool_], spend: NDArray[Any],
        as_of_ms: NDArray[np.int64], user: NDArray[np.uint64],
        more: Mapping[str, NDArray[np.float32]] | None = None,
    ) -> None:  # fmt: skip
        """Rows as they are in a `Dataset`, [k] each; user: a hash of each one's name. Labels of
        further heads may come later."""
        n, k = self._n, len(x)
        if n + k > self._room:
            self._grow(n + k)
        self._x.add(x)
        found = {"churned": churned, "spend": spend, "as_of_ms": as_of_ms,
                 "user": user.view(np.int64)}  # fmt: skip
        for name, column in found.items():
            self._columns[name][n : n + k] = column
        for label in self._more.values():
            label[n : n + k] = _UNKNOWN
        self._n += k
        if more is not None:
            self.label(n, more)

    def label(self, first: int, more: Mapping[str, NDArray[np.float32]]) -> None:
        """Labels of further heads, by output name, of the rows from the `first` one on."""
        for name, label in more.items():
            if name not in self._more:
                self._more[name] = np.empty(self._room, np.float32)
                self._more[name][: self._n] = _UNKNOWN
            self._more[name][first : first + len(label)] = label

    def column(self, name: str) -> NDArray[Any]:
        """`churned`, `spend`, `as_of_ms` or `user` (int64) of the rows so far, without a copy."""
        return self._columns[name][: self._n]

    @property
    def x(self) -> FeatureColumns:
        """Features of the rows so far, [n, F], without a copy."""
        return self._x

    def _grow(self, rows: int) -> None:
        self._room = int(rows * _SPARE) + _SPARE_ROWS
        self._columns = {n: np.resize(column, self._room) for n, column in self._columns.items()}
        self._more = {name: np.resize(label, self._room) for name, label in self._more.items()}

    def dataset(self) -> Dataset | None:
        """The rows, without a copy; None if there are none."""
        if not self._n:
            return None
        more = {name: label[: self._n] for name, label in self._more.items()}
        columns = {name: self.column(name) for name in self._columns}
        return Dataset(self.x, **columns, more=more)
