"""The points of the report's plots, from truth and scores."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["calibration", "decile_means", "gains", "pr_curve", "roc_curve", "value_gains"]

Points = list[tuple[float, float]]
_MOST_POINTS = 160


def _thin(x: NDArray[Any], y: NDArray[Any]) -> Points:
    """At most 160 points, evenly over the rows, the first and the last among them."""
    keep = np.unique(np.linspace(0, len(x) - 1, min(len(x), _MOST_POINTS)).astype(int))
    return [(round(float(a), 4), round(float(b), 4)) for a, b in zip(x[keep], y[keep], strict=True)]


def _steps(y: NDArray[np.bool_], p: NDArray[np.float64]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Hits and rows above each distinct score, from the highest down."""
    order = np.argsort(-p, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(p[order])), len(p) - 1)
    return np.cumsum(y[order])[ends], ends + 1


def roc_curve(y: NDArray[np.bool_], p: NDArray[np.float64]) -> Points:
    """(false positive rate, true positive rate)."""
    hits, rows = _steps(y, p)
    false = np.r_[0, rows - hits] / max(int((~y).sum()), 1)
    return _thin(false, np.r_[0, hits] / max(int(y.sum()), 1))


def pr_curve(y: NDArray[np.bool_], p: NDArray[np.float64]) -> Points:
    """(recall, precision)."""
    hits, rows = _steps(y, p)
    return _thin(hits / max(int(y.sum()), 1), hits / rows)


def gains(y: NDArray[np.bool_], p: NDArray[np.float64]) -> Points:
    """(share of users contacted, share of what happens among them)."""
    hits, rows = _steps(y, p)
    return _thin(np.r_[0, rows] / len(y), np.r_[0, hits] / max(int(y.sum()), 1))


def value_gains(y: NDArray[np.float64], p: NDArray[np.float64]) -> Points:
    """(share of users, highest predictions first; their share of all spend)."""
    order = np.argsort(-p, kind="stable")
    spend = np.r_[0.0, np.cumsum(y[order])] / max(float(y.sum()), 1e-12)
    return _thin(np.linspace(0.0, 1.0, len(y) + 1), spend)


def calibration(y: NDArray[np.bool_], p: NDArray[np.float64], bins: int = 10) -> Points:
    """(mean prediction, observed rate) in bins of equal mass."""
    return [(predicted, seen) for predicted, seen in decile_means(y.astype(np.float64), p, bins)]


def decile_means(y: NDArray[np.float64], p: NDArray[np.float64], bins: int = 10) -> Points:
    """(mean prediction, mean observed) of each tenth of the rows, lowest predictions first."""
    order = np.argsort(p, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    return [(float(p[part].mean()), float(y[part].mean())) for part in parts]
