"""Detects drift: Page-Hinkley tests on the champion's loss and on customers' features.

There is one test per stream of numbers. Each label that matures adds the champion's log loss, the
label less the predicted probability (whose mean has a sign, so a direction), and of each concept
the feature that the champion uses most. Page 1954 ("Continuous inspection schemes") with a
running mean, as Hinkley has it (see Gama et al. 2014, "A survey on concept drift adaptation",
section 3.2): with z the standardised value,

    up   = max(0, up + z - DELTA)        down = max(0, down - z - DELTA)

and drift where one of them passes THRESHOLD. It began where the sum last left 0 (the
maximum-likelihood estimate of a CUSUM), so an alert names that time and the means before and since.

Numbers are standardised by the mean and deviation of all numbers since the last alarm; as these are
at least REFERENCE, the newest hardly dampen a change. With DELTA = 0.25 and THRESHOLD = 30
a steady stream of independent normal numbers alarms about once in 20 million (Siegmund 1985,
"Sequential Analysis", eq. 2.51), and a change by one deviation is seen after 40.

Labels are known one horizon after the prediction, so the tests see drift one horizon late.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.concepts import concept_of
from models.evidence import log_loss_one
from models.manifest import Manifest
from schemas.features import FEATURES, columns_by_name
from schemas.messages import Drift

__all__ = ["LOSS", "RATE", "DriftMonitor", "DriftState", "monitored"]

LOSS: Final = "champion log loss"
RATE: Final = "churn less predicted"
_KINDS: Final = ("loss", "rate")
"""Of the first streams; the others are features."""
DELTA: Final = 0.25
"""Changes of less than twice this, in standard deviations, are ignored."""
THRESHOLD: Final = 30.0
REFERENCE: Final = 200
"""Labels that set the reference mean and deviation before a test begins."""
_CUT: Final = 4.0
"""Standardised values are cut off here: one label can't raise an alarm."""
_MOST: Final = 12
_LEAST_IMPORTANCE: Final = 0.002
_GROWING: Final = ("tenure_days", "days_since_first_order", "lifetime_orders", "lifetime_revenue")
"""Features that grow with time alone, so that they always drift."""


def monitored(manifest: Manifest) -> list[int]:
    """The features that are tested, as indices into FEATURES: of each concept the most important
    feature, and of these the twelve most important."""
    chosen: dict[str, int] = {}
    for feature in np.argsort(-np.array(manifest.importances), kind="stable").tolist():
        name = FEATURES[feature].name
        fit = manifest.typical.varies[feature] and name not in _GROWING
        if fit and manifest.importances[feature] >= _LEAST_IMPORTANCE:
            chosen.setdefault(concept_of(name), feature)
    return list(chosen.values())[:_MOST]


class DriftState(msgspec.Struct):
    """The tests' numbers, one item per stream; the loss comes first."""

    streams: list[str] = []
    """The name of each stream, by which its numbers are found: another release may have others."""
    n: list[float] = []
    mean: list[float] = []
    squares: list[float] = []
    """Sums of squared differences from the mean (Welford)."""
    up: list[float] = []
    down: list[float] = []
    run: list[list[float]] = []
    """Of either sum's excursion, up then down: its labels, their total, and its first label's time
    (ms) for each stream: 6 lists."""
    found: list[Drift] = []
    """The newest alarms, the newest last."""


class DriftMonitor:
    """Tests the streams of one champion; `state` holds everything, so a restart is exact."""

    KEPT: Final = 20

    def __init__(self, manifest: Manifest, state: DriftState | None = None) -> None:
        self._champion = manifest.version
        self._features = monitored(manifest)
        self.streams: Final = [LOSS, RATE, *(FEATURES[f].name for f in self._features)]
        state = state or DriftState()
        at = columns_by_name(state.streams, self.streams)

        def picked(numbers: list[float]) -> NDArray[np.float64]:
            return np.array([numbers[place] if place >= 0 else 0.0 for place in at])

        self._n, self._mean, self._squares, self._up, self._down = (
            picked(v) for v in (state.n, state.mean, state.squares, state.up, state.down)
        )
        self._run = np.array([picked(v) for v in state.run or [[0.0] * len(state.streams)] * 6])
        self.found = list(state.found)

    def state(self) -> DriftState:
        """A copy of everything, as plain numbers."""
        arrays = (self._n, self._mean, self._squares, self._up, self._down, self._run)
        n, mean, squares, up, down, run = (a.tolist() for a in arrays)
        return DriftState(self.streams, n, mean, squares, up, down, run, list(self.found))

    def add(
        self,
        x: NDArray[np.float32],
        p_champion: float,
        churned: bool,
        matured_at_ms: int,
        version: int,
    ) -> list[Drift]:
        """Adds one matured label; returns the drifts that it reveals.

        `x` float32 [F]: the features at prediction time; `p_champion`: the champion's prediction;
        `matured_at_ms`: ms since 1970. `version` numbers the labels, and with them the alarms.
        """
        loss = log_loss_one(p_champion, churned)
        values = np.concatenate(
            [[loss, churned - p_champion], x[self._features].astype(np.float64)]
        )
        known = np.isfinite(values)
        values = np.where(known, values, self._mean)
        ready = known & (self._n >= REFERENCE)
        deviation = np.sqrt(self._squares / np.maximum(self._n, 1.0))
        z = np.clip((values - self._mean) / np.maximum(deviation, 1e-9), -_CUT, _CUT)
        z = np.where(ready & (deviation > 0), z, 0.0)
        for sums, sign, run in ((self._up, 1.0, self._run[:3]), (self._down, -1.0, self._run[3:])):
            before = sums.copy()
            np.copyto(sums, np.maximum(0.0, sums + sign * z - DELTA), where=ready)
            begins, goes_on = ready & (before == 0) & (sums > 0), ready & (sums > 0)
            run[:, sums == 0] = 0.0
            run[2, begins] = float(matured_at_ms)
            run[0, goes_on] += 1.0
            run[1, goes_on] += values[goes_on]
        self._n[known] += 1.0
        step = (values - self._mean)[known]
        self._mean[known] += step / self._n[known]
        self._squares[known] += step * (values - self._mean)[known]
        alarms = np.flatnonzero(np.maximum(self._up, self._down) > THRESHOLD)
        fresh = [self._alarm(int(i), matured_at_ms, version) for i in alarms]
        self.found = [*self.found, *fresh][-self.KEPT :]
        return fresh

    def _alarm(self, i: int, at_ms: int, version: int) -> Drift:
        up = bool(self._up[i] > self._down[i])
        labels, total, since = self._run[:3, i] if up else self._run[3:, i]
        rest = max(self._n[i] - labels, 1.0)
        before, now = (self._mean[i] * self._n[i] - total) / rest, total / labels
        stream = self.streams[i]
        for array in (self._n, self._mean, self._squares, self._up, self._down):
            array[i] = 0.0  # the reference is learned again
        self._run[:, i] = 0.0
        named = f"{self._champion}\0{stream}\0{version}".encode()
        return Drift(
            drift_id=hashlib.blake2b(named, digest_size=16).hexdigest(),
            version=version,
            detected_at_ms=at_ms,
            since_ms=int(since),
            kind=_KINDS[i] if i < len(_KINDS) else "feature",
            stream=stream,
            direction="up" if up else "down",
            mean_before=float(before),
            mean_since=float(now),
            labels_since=int(labels),
            reason=_reason(i, self._features, float(before), float(now)),
            champion_version=self._champion,
        )


def _reason(stream: int, features: list[int], before: float, now: float) -> str:
    """In words, with what to do about it."""
    if stream == 0:
        change = f"The champion's log loss went from {before:.3f} to {now:.3f}"
        if now < before:
            return f"{change}: customers have become easier to predict. Nothing is wrong."
        return (
            f"{change}: customers don't behave as they did. The learner follows; train a "
            "challenger with `tideline train --as-of`."
        )
    if stream == 1:
        often = "more" if now > before else "less"
        return (
            f"Customers leave {often} often than the champion says: by {100 * now:+.1f} points, "
            f"before {100 * before:+.1f}. The learner follows; train a challenger with "
            "`tideline train --as-of`."
        )
    feature = FEATURES[features[stream - len(_KINDS)]]
    return (
        f"{feature.words[0].upper()}{feature.words[1:]} went from {_short(before)} to "
        f"{_short(now)} on average ({feature.unit}): customers look different from before. If "
        "nothing in the shop explains it, look at what producers send."
    )


def _short(value: Any) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
