"""Two numbers per head that make scores mean what they say on later data."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["platt", "total_factor"]


def platt(raw: NDArray[np.float64], y: NDArray[np.bool_]) -> tuple[float, float]:
    """Slope and intercept such that `sigmoid(slope * raw + intercept)` fits `y`, by Newton steps.

    Platt 1999 with his smoothed targets, which keep the fit finite when classes separate. A slope
    that would turn the ranking around is refused: the result is then (1, 0).

    >>> slope, intercept = platt(np.array([-2.0, -1.0, 1.0, 2.0] * 50),
    ...                          np.array([False, True, False, True] * 50))
    >>> 0 < slope < 1, abs(intercept) < 1e-9
    (True, True)
    """
    positives = int(y.sum())
    high = (positives + 1.0) / (positives + 2.0)
    low = 1.0 / (len(y) - positives + 2.0)
    target = np.where(y, high, low)
    columns = np.stack([raw, np.ones_like(raw)], axis=1)

    def loss(weights: NDArray[np.float64]) -> float:
        z = columns @ weights
        return float((np.logaddexp(0.0, z) - target * z).sum())

    weights = np.array([1.0, 0.0])
    for _ in range(50):
        p = np.exp(-np.logaddexp(0.0, -(columns @ weights)))
        gradient = columns.T @ (p - target)
        hessian = columns.T @ (columns * (p * (1.0 - p))[:, None]) + 1e-9 * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        # A full Newton step overshoots where the curve is flat; the loss is convex: halve it.
        while loss(weights - step) > loss(weights) and np.abs(step).max() > 1e-10:
            step /= 2.0
        weights = weights - step
        if np.abs(step).max() <= 1e-10:
            break
    slope, intercept = float(weights[0]), float(weights[1])
    return (slope, intercept) if slope > 0.0 and np.isfinite(intercept) else (1.0, 0.0)


def total_factor(predicted: NDArray[np.float64], observed: NDArray[np.float32]) -> float:
    """The factor that makes the predictions add up to what was observed; 1 if either sum is 0.

    >>> total_factor(np.array([1.0, 3.0]), np.array([3.0, 5.0], dtype=np.float32))
    2.0
    """
    total, seen = float(predicted.sum()), float(observed.sum(dtype=np.float64))
    return seen / total if total > 0.0 and seen > 0.0 else 1.0
