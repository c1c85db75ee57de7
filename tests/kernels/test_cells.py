"""Entries of a window's log are sorted and merged."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from streams.kernels.cells import DIGITS, Entries, combine_cells


def combined(
    cells: NDArray[np.uint32], deltas: NDArray[np.int64]
) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """What `combine_cells` must give."""
    order = np.argsort(cells, kind="stable")
    cells, deltas = cells[order], deltas[order]
    starts = np.flatnonzero(np.r_[True, cells[1:] != cells[:-1]])
    summed = np.add.reduceat(deltas, starts)
    return cells[starts][summed != 0], summed[summed != 0]


@pytest.mark.parametrize("size", [1, 2, 63, 64, 65, 1_000, 50_000])
@pytest.mark.parametrize("most", [1, 40, 2_047, 2_048, 1 << 22, (1 << 32) - 1])
def test_cells_are_combined_as_a_sort_and_a_sum_would(size: int, most: int) -> None:
    rng = np.random.default_rng(size * 31 + most)
    cells = rng.integers(0, most, size, endpoint=True).astype(np.uint32)
    deltas = rng.integers(-2, 3, size)
    want_cells, want_deltas = combined(cells, deltas)
    entries = Entries(cells, deltas)
    spare = Entries(np.empty_like(cells), np.empty_like(deltas))
    left, swapped = combine_cells(entries, spare, np.empty(DIGITS, np.int64))
    got_cells, got_deltas = spare if swapped else entries
    assert got_cells[:left].tolist() == want_cells.tolist()
    assert got_deltas[:left].tolist() == want_deltas.tolist()
