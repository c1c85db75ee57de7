"""Logistic regression that is learned label by label, and follows what changes.

What is known of the weights is a normal distribution. It begins at the prior, mean 0; each label
moves it by a step of the extended Kalman filter (Fahrmeir 1992, "Posterior mode estimation by
extended Kalman filtering for multivariate dynamic generalized linear models", Journal of the
American Statistical Association 87), and before the next one it moves back towards the prior by
`FORGETTING`, as an Ornstein-Uhlenbeck process does: the mean by as much, the covariance by twice as
much. So old labels fade, and what no label tells anything about returns to what it was.

    a = (1, logit, x)      p = sigmoid(logit + a . mean)      h = p (1 - p)
    gain = S a / (1 + h a . S a)      mean += gain (y - p)      S -= h gain (S a)'
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from river import base

__all__ = ["LOGIT", "DynamicLogisticRegression"]

LOGIT: Final = "logit"
INTERCEPT_VARIANCE: Final = 1.0
LOGIT_VARIANCE: Final = 0.25
FEATURE_VARIANCE: Final = 0.01
"""Of the prior. A standardised feature is rarely worth more than 0.2 in log-odds beside the model
that it corrects, which knows it too; a shop's rate and slope can be far off."""
FORGETTING: Final = 2e-5
"""Per label: those of about the last 50,000 count."""
_LEAST_INFORMATION: Final = 1e-4  # of a label that the model was sure about: h may be 0


class DynamicLogisticRegression(base.Classifier):  # type: ignore[misc]  # River is untyped
    """One of River's classifiers, over named numbers and the log-odds that they correct.

    The input of `learn_one` and `predict_proba_one` has `LOGIT` first and then `names`, in order.
    `mean` float64 [2 + names]: intercept, what is added to the logit's slope of 1, and weights.
    `covariance` float64 [2 + names, 2 + names].
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        variance = [INTERCEPT_VARIANCE, LOGIT_VARIANCE] + [FEATURE_VARIANCE] * len(self.names)
        self._prior = np.diag(variance)
        self.mean = np.zeros(len(variance))
        self.covariance = self._prior.copy()

    def _input(self, x: Mapping[str, float]) -> NDArray[np.float64]:
        return np.fromiter((1.0, *x.values()), np.float64, len(self.mean))

    def _probability(self, a: NDArray[np.float64]) -> float:
        z = float(a[1] + a @ self.mean)
        return 1.0 / (1.0 + math.exp(-z)) if z >= 0 else (e := math.exp(max(z, -700))) / (1.0 + e)

    def predict_proba_one(self, x: Mapping[str, float], **_: Any) -> dict[bool, float]:
        p = self._probability(self._input(x))
        return {False: 1.0 - p, True: p}

    def learn_one(self, x: Mapping[str, float], y: bool, **_: Any) -> None:
        a = self._input(x)
        p = self._probability(a)
        information = max(p * (1.0 - p), _LEAST_INFORMATION)
        spread = self.covariance @ a
        scale = 1.0 / (1.0 + information * float(a @ spread))
        self.mean += spread * (scale * (float(y) - p))
        # This way it stays symmetric to the last bit, and half of it is enough to go on exactly.
        self.covariance -= np.outer(spread, spread) * (information * scale)
        self.mean *= 1.0 - FORGETTING
        self.covariance += 2.0 * FORGETTING * (self._prior - self.covariance)

    @property
    def sound(self) -> bool:
        """Whether all of it are numbers."""
        return bool(np.isfinite(self.mean).all() and np.isfinite(self.covariance).all())

    def packed(self) -> bytes:
        """The covariance, on and above its diagonal: little-endian float64."""
        return self.covariance[np.triu_indices(len(self.mean))].astype("<f8").tobytes()

    def resume(
        self, names: Sequence[str], mean: Mapping[str, float], intercept: float, packed: bytes
    ) -> None:
        """Go on from a mean (`LOGIT` and features by name) and from `packed`, whose columns are
        `names`. A name that either lacks begins at its prior. Raises ValueError for a covariance of
        another size."""
        self.mean[0] = intercept
        self.mean[1:] = [mean.get(name, 0.0) for name in (LOGIT, *self.names)]
        theirs = len(names) + 2
        upper = np.frombuffer(packed, "<f8")
        if len(upper) != theirs * (theirs + 1) // 2:
            raise ValueError(f"{len(upper)} numbers are no covariance of {theirs} weights")
        whole = np.zeros((theirs, theirs))
        whole[np.triu_indices(theirs)] = upper
        whole = np.triu(whole) + np.triu(whole, 1).T
        place = {name: at for at, name in enumerate(names, 2)}
        mine = [0, 1, *(at for at, name in enumerate(self.names, 2) if name in place)]
        of = [0, 1, *(place[name] for name in self.names if name in place)]
        self.covariance[np.ix_(mine, mine)] = whole[np.ix_(of, of)]
