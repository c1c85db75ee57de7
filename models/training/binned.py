"""LightGBM's datasets of one training, each made once for all heads.

Binning costs as much as some dozens of trees, and depends on no label. So the heads share what was
binned, one after the other, each with its own labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.training.columns import Features
from models.training.dataset import Dataset
from models.training.export import require

__all__ = ["Binned"]

_LONG_RUNS: Final = 1_000
"""Rows of an array that lie together in such numbers are given as an array. Then LightGBM leaves
out features that `min_data_in_leaf` can't split; of a sequence it goes by its own default of 20."""
_AT_ONCE: Final = 1 << 14
"""So many other rows are copied at a time: a copy of all would be larger than the data."""
_NEAR: Final = 1 << 10
"""Rows that say where bins begin are asked for one by one, in their order: so many are read at a
time."""
_MANY_ROWS: Final = 1_000_000
_SAMPLED: Final = 100_000
"""Of many rows so many say where a feature's bins begin: LightGBM's own 200,000 take 400 MB, more
than all rows do once they are binned. Of fewer it warns on standard output, where results are."""


class Binned:
    """Rows of `data`, binned by `parameters` (LightGBM's); `hidden` columns are not split on."""

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
        x, at = self._data.x, np.flatnonzero(rows)
        long_runs = (np.count_nonzero(np.diff(at) != 1) + 1) * _LONG_RUNS <= len(at)
        read = _read(x, at, self._hidden)
        made = require("lightgbm").Dataset(
            read[:] if long_runs and isinstance(x, np.ndarray) else read,
            label=label, reference=first, params=self._parameters,
        )  # fmt: skip
        return made.construct()

    def forget(self) -> None:
        """Give back the memory of all that was made; the next rows have bins of their own."""
        self._made.clear()


def _read(x: Features, at: NDArray[np.int64], hidden: NDArray[np.int64]) -> Any:
    """The rows `at` int64 [k] with `hidden` columns unknown, as a sequence that LightGBM reads in
    parts."""

    def rows(some: NDArray[np.int64]) -> NDArray[np.float32]:
        found = x[some]
        found[:, hidden] = np.nan
        return found

    class Rows(require("lightgbm").Sequence):  # type: ignore[misc]  # an extra, without types
        batch_size = _AT_ONCE
        _near = -1
        _read: NDArray[np.float64]

        def __len__(self) -> int:
            return len(at)

        def __getitem__(self, index: int | slice | list[int]) -> NDArray[Any]:
            if isinstance(index, slice | list):
                return rows(at[index])
            if index // _NEAR != self._near:
                self._near = index // _NEAR
                first = self._near * _NEAR
                self._read = rows(at[first : first + _NEAR]).astype(np.float64)
            row: NDArray[np.float64] = self._read[index % _NEAR]
            return row

    return Rows()
