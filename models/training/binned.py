"""LightGBM's datasets of one training, each made once for all heads.

Binning costs as much as some dozens of trees, and depends on no label. So the heads share what was
binned, one after the other, each with its own labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.training.dataset import Dataset
from models.training.export import require

__all__ = ["Binned"]

_LONG_RUNS: Final = 1_000
"""Rows that lie together in such numbers are read where they are."""
_AT_ONCE: Final = 1 << 14
"""So many of other rows are copied at a time: a copy of all is nearly as large as the data."""
_MANY_ROWS: Final = 1_000_000
_SAMPLED: Final = 50_000
"""Of many rows so many say where a feature's bins begin: LightGBM's own 200,000 take 400 MB, more
than all rows do once they are binned."""


class Binned:
    """Rows of `data`, binned by `parameters` (LightGBM's); `hidden` columns are not split on.

    Not for two threads: while rows are read, `data.x` is without its hidden columns.
    """

    def __init__(
        self, data: Dataset, hidden: NDArray[np.int64], parameters: Mapping[str, Any]
    ) -> None:
        self._data = data
        self._hidden = hidden
        self._parameters = dict(parameters)
        if len(data.x) > _MANY_ROWS:
            self._parameters["bin_construct_sample_cnt"] = _SAMPLED
        self._made: dict[bytes, tuple[NDArray[np.bool_], Any]] = {}

    @property
    def parameters(self) -> dict[str, Any]:
        """What to train with: LightGBM wants the same that the rows were binned with."""
        return self._parameters

    def of(self, rows: NDArray[np.bool_], label: NDArray[np.float32]) -> Any:
        """The rows where `rows` bool [n] is true, with labels `label` float32 [n], as a LightGBM
        dataset that is good until the next call with the same rows. The bins are those of the first
        rows that were asked for."""
        key = np.packbits(rows).tobytes()
        if key not in self._made:
            self._made[key] = (rows.copy(), self._binned(rows, label[rows]))
        made = self._made[key][1]
        made.set_label(label[rows])
        return made

    def _binned(self, rows: NDArray[np.bool_], label: NDArray[np.float32]) -> Any:
        for known, made in self._made.values():
            if not (rows & ~known).any():  # copied from there, without the features
                part = made.subset(np.flatnonzero(rows[known]), params=self._parameters)
                return part.construct()
        first = next((made for _, made in self._made.values()), None)
        with _without(self._data.x, self._hidden) as x:
            made = require("lightgbm").Dataset(
                _pieces(x, rows), label=label, reference=first, params=self._parameters
            )
            return made.construct()

    def forget(self) -> None:
        """Give back the memory of all that was made; the next rows have bins of their own."""
        self._made.clear()


@contextmanager
def _without(x: NDArray[np.float32], columns: NDArray[np.int64]) -> Iterator[NDArray[np.float32]]:
    """`x` with some columns unknown. A copy would double the largest array that training has."""
    kept = x[:, columns]
    x[:, columns] = np.nan
    try:
        yield x
    finally:
        x[:, columns] = kept


def _pieces(x: NDArray[np.float32], rows: NDArray[np.bool_]) -> Any:
    """The chosen rows: views of the runs that they form, or what copies a few at a time."""
    edges = np.flatnonzero(np.diff(rows.astype(np.int8), prepend=0, append=0)).reshape(-1, 2)
    if not len(edges) or len(edges) * _LONG_RUNS > np.count_nonzero(rows):
        return _copied(x, np.flatnonzero(rows))
    return [x[start:stop] for start, stop in edges.tolist()]


def _copied(x: NDArray[np.float32], at: NDArray[np.int64]) -> Any:
    """The rows `at` int64 [k], as a sequence that LightGBM reads in parts."""

    class Rows(require("lightgbm").Sequence):  # type: ignore[misc]  # an extra, without types
        batch_size = _AT_ONCE

        def __len__(self) -> int:
            return len(at)

        def __getitem__(self, index: int | slice | list[int]) -> NDArray[Any]:
            found = x[at[index]]
            return found if found.ndim == 2 else found.astype(np.float64)  # a row of the sample

    return Rows()
