"""Where a lag is going: velocity, time to close, retention, and partitions that get too much.

Pure arithmetic on what polls saw. NaN is "not known"; it is never 0.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "HOT_FACTOR",
    "hot_partitions",
    "retention_ratio",
    "seconds_to_close",
    "seconds_to_loss",
    "velocity",
]

HOT_FACTOR: Final = 3.0
"""A partition is hot if it gets so many times what the topic's other partitions get on average."""
_HOT_PARTITIONS: Final = 3  # of fewer, none can be told from the others
_HOT_RECORDS_PER_SECOND: Final = 1.0

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def velocity(times_ms: Ints, lags: Ints) -> Floats:
    """Records per second by which lags grow; negative: they shrink. The least-squares line through
    what was seen, so that one odd poll does not turn it round.

    times_ms: int64 [polls]. lags: int64 [partitions, polls]; negative where there was no number.
    NaN where fewer than two polls had one.

    >>> velocity(np.array([0, 1_000, 2_000]), np.array([[30, 20, 10], [5, -1, -1]])).tolist()
    [-10.0, nan]
    """
    known = lags >= 0
    n = known.sum(axis=1)
    seconds = np.where(known, (times_ms - times_ms[:1]) / 1000.0, 0.0)
    values = np.where(known, lags, 0).astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean_t, mean_v = seconds.sum(axis=1) / n, values.sum(axis=1) / n
        dt = np.where(known, seconds - mean_t[:, None], 0.0)
        dv = np.where(known, values - mean_v[:, None], 0.0)
        slope: Floats = (dt * dv).sum(axis=1) / (dt * dt).sum(axis=1)
    return np.where(np.isfinite(slope), slope, np.nan)


def seconds_to_close(lags: Ints, velocities: Floats) -> Floats:
    """Seconds until caught up at the present velocity: 0 without lag, infinity if it does not
    shrink, NaN where lag or velocity is not known.

    >>> seconds_to_close(np.array([100, 100, 0]), np.array([-4.0, 1.0, np.nan])).tolist()
    [25.0, inf, 0.0]
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        closing = np.where(velocities < 0, lags / -velocities, np.inf)
    closing = np.where(np.isnan(velocities), np.nan, closing)
    return np.where(lags == 0, 0.0, np.where(lags < 0, np.nan, closing))


def retention_ratio(committed: Ints, starts: Ints, ends: Ints) -> Floats:
    """The share of the retained log that lies unread, 0 to 1; 1: the next record to read is the
    next to be deleted, or is deleted. NaN where an offset is not known (negative). An empty log
    has nothing unread, unless the group is before its beginning.

    >>> retention_ratio(np.array([75, 3]), np.array([50, 10]), np.array([150, 10])).tolist()
    [0.75, 1.0]
    """
    retained, unread = ends - starts, ends - committed
    ratio = np.clip(unread / np.maximum(retained, 1), 0.0, 1.0)
    ratio = np.where(committed < starts, 1.0, ratio)
    known = (committed >= 0) & (starts >= 0) & (ends >= 0)
    return np.where(known, ratio, np.nan)


def seconds_to_loss(committed: Ints, starts: Ints, ends: Ints, velocities: Floats) -> Floats:
    """Seconds until unread records are deleted, if lag grows on at this velocity and the log keeps
    its length: 0 if that has happened, infinity if lag does not grow, NaN where not known.

    >>> seconds_to_loss(np.array([75]), np.array([50]), np.array([150]), np.array([5.0])).tolist()
    [5.0]
    """
    room = np.maximum(committed - starts, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        left = np.where(velocities > 0, room / velocities, np.inf)
    left = np.where(np.isnan(velocities), np.nan, left)
    left = np.where(committed < starts, 0.0, left)
    known = (committed >= 0) & (starts >= 0) & (ends >= 0)
    return np.where(known, left, np.nan)


def hot_partitions(records_per_second: Floats) -> NDArray[np.bool_]:
    """Which partitions of one topic get far more than the others: `HOT_FACTOR` times their average,
    and at least one record per second. NaN counts as nothing.

    >>> hot_partitions(np.array([10.0, 9.0, 80.0, 11.0])).tolist()
    [False, False, True, False]
    """
    rates = np.nan_to_num(records_per_second)
    if len(rates) < _HOT_PARTITIONS:
        return np.zeros(len(rates), np.bool_)
    others = (rates.sum() - rates) / (len(rates) - 1)
    hot: NDArray[np.bool_] = (rates >= _HOT_RECORDS_PER_SECOND) & (rates > HOT_FACTOR * others)
    return hot
