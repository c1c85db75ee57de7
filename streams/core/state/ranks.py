"""Where a number lies among those of the shop's live customers: a histogram for each quantity.

A sweep visits every user once. So what it counts is a histogram of the shard's live customers, and
users are spread over shards by hash, so each shard's shares estimate the shop's. What a sweep has
counted comes into force when it ends: nobody's rank moves because a neighbour was looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["RANK_BINS", "Ranks", "bin_edge", "rank_bin"]

RANK_BINS: Final = 512
_FRACTION_BITS: Final = 19  # of float32's 23, so that an octave has 16 bins, each 4.4 % wide
_LEAST: Final = np.float32(2.0**-10)
_OFFSET: Final = int(np.array(_LEAST).view(np.int32)) >> _FRACTION_BITS


def rank_bin(values: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
    """The bin of each number: 0 below 2^-10, then 16 per octave up to 2^22; -1 where it is NaN.

    >>> rank_bin(np.array([np.nan, -1.0, 0.0, 1.0, 2.0, 1e30])).tolist()
    [-1, 0, 0, 160, 176, 511]
    """
    bits = np.maximum(values.astype(np.float32), _LEAST).view(np.int32) >> _FRACTION_BITS
    clipped = np.minimum(bits.astype(np.int64) - _OFFSET, RANK_BINS - 1)
    clipped[np.isnan(values)] = -1
    return clipped


def bin_edge(place: int) -> float:
    """The least number in a bin; 0 in the first one, NaN for -1.

    >>> bin_edge(160), bin_edge(176), bin_edge(0)
    (1.0, 2.0, 0.0)
    """
    if place <= 0:
        return 0.0 if place == 0 else float("nan")
    return float(np.array((place + _OFFSET) << _FRACTION_BITS, np.int32).view(np.float32))


class Ranks:
    """Histograms by the name of a quantity, int64 [RANK_BINS] each."""

    def __init__(self) -> None:
        self.counting: dict[str, NDArray[np.int64]] = {}
        """Of the sweep under way."""
        self.in_force: dict[str, NDArray[np.int64]] = {}

    def keep(self, names: Iterable[str]) -> None:
        """Count these quantities from now on, and no others."""
        wanted = sorted(names)
        self.counting = {n: self.counting.get(n, _nothing()) for n in wanted}
        self.in_force = {n: self.in_force.get(n, _nothing()) for n in wanted}

    def count(self, name: str, bins: NDArray[np.int64]) -> None:
        """Add customers with these bins (int64 [k]); -1 has no number and does not count."""
        self.counting[name] += np.bincount(bins[bins >= 0], minlength=RANK_BINS)

    def end_sweep(self) -> None:
        """What was counted comes into force, unless nothing was."""
        for name, counted in self.counting.items():
            if counted.any():
                self.in_force[name] = counted
                self.counting[name] = _nothing()

    def start_sweep(self) -> None:
        """Count from the start."""
        self.counting = {name: _nothing() for name in self.counting}

    def divide(self, by: int) -> None:
        """Count as if it had been so many times fewer customers so far."""
        self.counting = {name: counted // by for name, counted in self.counting.items()}

    def share_below(self, name: str, bins: NDArray[np.int64]) -> NDArray[np.float64]:
        """The share of live customers in lower bins than these (int64 [k]); float64 [k], NaN for a
        bin of -1 and while nothing is in force."""
        return share_below(self.in_force.get(name, _nothing()), bins)

    def export(self) -> dict[str, NDArray[Any]]:
        """Arrays by name, as a checkpoint has them."""
        both = (("counting", self.counting), ("in_force", self.in_force))
        return {f"{which}/{name}": a.copy() for which, found in both for name, a in found.items()}

    def load(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Become what `export` gave."""
        for name, array in arrays.items():
            which, _, quantity = name.partition("/")
            found = self.counting if which == "counting" else self.in_force
            found[quantity] = array.copy()


def share_below(histogram: NDArray[np.int64], bins: NDArray[np.int64]) -> NDArray[np.float64]:
    """The share of a histogram (int64 [b]) that lies in lower bins than `bins` (integers [k]);
    float64 [k], NaN for negative bins and if the histogram is empty."""
    total = int(histogram.sum())
    if not total:
        return np.full(len(bins), np.nan)
    below = np.concatenate([[0], np.cumsum(histogram)[:-1]]) / total
    shares: NDArray[np.float64] = np.where(bins < 0, np.nan, below[np.maximum(bins, 0)])
    return shares


def _nothing() -> NDArray[np.int64]:
    return np.zeros(RANK_BINS, np.int64)
