"""What a shard keeps of a daily budget of alerts: the day's account, and what is at stake.

Each user who might get an alert is counted once a day, with the value at stake, in histograms with
the bins of `streams.core.state.ranks`. The column `alert_day` says when, and in which bin.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from streams.core.state.ranks import RANK_BINS

__all__ = ["FADE", "NO_FLOOR", "Budget", "Candidates", "bins_of", "days_of", "mark", "was_over"]

NO_FLOOR: Final = -1
FADE: Final = 0.5
"""What a day counts beside the day after it, so that arrivals are those of the last few days."""
_BIN_BITS: Final = 9  # of RANK_BINS
_OVER: Final = 1


def mark(days: Any, bins: NDArray[np.int64]) -> NDArray[np.int32]:
    """What `alert_day` has of candidates (int64 [k]) who were counted on a day in these bins."""
    marks: NDArray[np.int32] = ((days << _BIN_BITS | bins) << 1).astype(np.int32)
    return marks


def days_of(marks: NDArray[np.int32]) -> NDArray[np.int32]:
    """The days, since 1970, on which users with these marks (int32 [k]) were last candidates."""
    return marks >> (_BIN_BITS + 1)


def bins_of(marks: NDArray[np.int32]) -> NDArray[np.int32]:
    """In which bins they were counted."""
    return marks >> 1 & (RANK_BINS - 1)


def was_over(marks: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Who found no room on that day, bool [k]."""
    found: NDArray[np.bool_] = (marks & _OVER) != 0
    return found


class Budget(msgspec.Struct):
    """The shard's account of the shop's day."""

    per_day: int
    """Of the whole shop, by the definitions; 0: there is no budget now."""
    day: int
    """Counted from 1970-01-01. Never goes back."""
    share: int
    """So many alerts may open in this shard on this day."""
    day_before: int = 0
    """The day whose account was the one before; 0: this is the first."""
    opened: int = 0
    candidates: int = 0
    over: int = 0
    """Candidates above the floor for whom there was no room."""
    floor_bin: int = NO_FLOOR
    """Bin of the least value at stake that opens an alert; -1: not known yet, and none opens."""
    days: float = 0.0
    """How many days `Candidates.arrivals` stands for."""


class Candidates:
    """Histograms of candidates by value at stake."""

    def __init__(self) -> None:
        self.waiting = np.zeros(RANK_BINS, np.int64)
        """The day's candidates who have got no alert."""
        self.arrived = np.zeros(RANK_BINS, np.int64)
        """The day's candidates who had been none the day before."""
        self.arrivals = np.zeros(RANK_BINS, np.float64)
        """Those of the days before, each day half as much as the one after it."""

    def divide(self, by: int) -> None:
        """Count as if it had been so many times fewer candidates so far."""
        self.waiting, self.arrived = self.waiting // by, self.arrived // by
        self.arrivals = self.arrivals / by

    def export(self) -> dict[str, NDArray[Any]]:
        """Arrays by name, as a checkpoint has them; none while nothing was counted."""
        found: dict[str, NDArray[Any]] = {
            "waiting": self.waiting, "arrived": self.arrived, "arrivals": self.arrivals,
        }  # fmt: skip
        if not any(array.any() for array in found.values()):
            return {}
        return {name: array.copy() for name, array in found.items()}

    def load(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Become what `export` gave."""
        for name, array in arrays.items():
            setattr(self, name, array.copy())
