"""Columns for rules in tests: given by name, or drawn; and time that passes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streams.rules import CATALOGUE

__all__ = ["Columns"]


class Columns:
    """`Quantities` of lists: numbers, codes as texts, flags; ranks under `rank NAME`."""

    def __init__(self, columns: Mapping[str, Sequence[Any]]) -> None:
        self.columns = dict(columns)
        self.asked: Counter[str] = Counter()
        (self.size,) = {len(column) for column in columns.values()}

    def _asked(self, name: str) -> Sequence[Any]:
        self.asked[name] += 1
        return self.columns[name]

    def number(self, name: str) -> NDArray[np.float64]:
        assert name in CATALOGUE
        return np.array(self._asked(name), np.float64)

    def code(self, name: str) -> NDArray[np.int8]:
        values = (*CATALOGUE[name].values, None)
        codes = [values.index(value) for value in self._asked(name)]
        return np.array([-1 if code == len(values) - 1 else code for code in codes], np.int8)

    def flag(self, name: str) -> NDArray[np.bool_]:
        return np.array(self._asked(name), np.bool_)

    def rank(self, name: str) -> NDArray[np.float64]:
        return np.array(self._asked(f"rank {name}"), np.float64)

    def after(self, days: float) -> Columns:
        """The same when so many days have passed and nothing else happened."""
        slopes = {name: q.slope_per_day for name, q in CATALOGUE.items() if q.slope_per_day}
        return Columns({
            name: [value + slopes[name] * days for value in column] if name in slopes else column
            for name, column in self.columns.items()
        })  # fmt: skip
