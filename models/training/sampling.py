"""Samples of rows that are the same every time: which rows are kept depends on their keys alone.

A rare kind of row is kept at a higher rate than the others. What a row stands for is its weight, so
that what is learned stays calibrated.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["shares", "uniform"]


def shares(counts: NDArray[np.int64], most: float) -> NDArray[np.float64]:
    """The share to keep of each kind of row, float64 [kinds], so that about `most` are kept in all.

    counts: int64 [kinds], how many rows there are. Of two kinds, the rarer one is a quarter of the
    sample, of more kinds less, as far as there are so many of it.

    >>> shares(np.array([600, 200]), 1_000).tolist()
    [1.0, 1.0]
    >>> shares(np.array([600, 200]), 400).tolist()
    [0.5, 0.5]
    >>> shares(np.array([7_800, 200]), 400).tolist()  # 300 and 100 rows
    [0.038461538461538464, 0.5]
    """
    kinds = counts.astype(np.float64)
    total = float(kinds.sum())
    if total <= most:
        return np.ones(len(kinds))
    kept = kinds * most / total
    enough = most / (2 * len(kinds))
    rare = kept < enough
    kept[rare] = np.minimum(kinds[rare], enough)
    kept[~rare] *= (most - kept[rare].sum()) / max(float(kept[~rare].sum()), 1.0)
    return np.divide(kept, kinds, out=np.zeros(len(kinds)), where=kinds > 0)


def uniform(keys: NDArray[np.uint64], moment: int) -> NDArray[np.float64]:
    """A number in [0, 1) for each key at a moment, float64 [n]: keep the row if it is below the
    share. It is the finaliser of splitmix64 (Steele, Lea & Flood 2014) of the two.

    >>> uniform(np.array([1, 2], np.uint64), 7).round(3).tolist()
    [0.877, 0.726]
    """
    with np.errstate(over="ignore"):
        z = keys + np.uint64(moment % 2**64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return (z >> np.uint64(11)).astype(np.float64) * 2.0**-53
