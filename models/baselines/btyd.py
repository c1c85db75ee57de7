"""BG/NBD and Gamma-Gamma: the baselines that a champion has to beat.

BG/NBD (Fader, Hardie & Lee 2005, "Counting your customers the easy way", Marketing Science 24(2)):
a customer buys at rate lambda ~ Gamma(r, alpha) and leaves after each repeat purchase with
probability p ~ Beta(a, b). Gamma-Gamma (Fader & Hardie 2013, "The Gamma-Gamma model of monetary
value"): order values scatter around the customer's mean, which is itself drawn.

One minus "p alive" is *not* churn risk: in BG/NBD nobody leaves before the first repeat purchase,
so a one-time buyer is alive for certain. The risk is the chance of no purchase within a horizon,
of customers alive or not (`p_no_purchase`).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from schemas.errors import ArtifactError

__all__ = ["BgNbd", "GammaGamma", "Summary", "fit_bg_nbd", "fit_gamma_gamma"]

Floats = NDArray[np.float64]
_QUADRATURE: Final = 24
"""Nodes of the integral over p. The integrand is smooth: 24 are exact to about 1e-8."""
_QUANTILES: Final = 200
_LARGEST_B: Final = 300.0
_STEPS: Final = 500
_ROOM: Final = 12.0  # |log parameter| beyond which a fit is running off and is held back


class Summary(NamedTuple):
    """The statistics of k customers that both models read, float64 [k] each.

    frequency: repeat purchases, counted by day; recency: time from the first to the last purchase;
    age: time from the first purchase to now; value: mean amount of the repeat purchases' days. Both
    times are in one unit, days by convention.
    """

    frequency: Floats
    recency: Floats
    age: Floats
    value: Floats


def _scipy(module: str) -> Any:
    try:
        return importlib.import_module(f"scipy.{module}")
    except ImportError as error:
        raise ArtifactError(
            "The BG/NBD baseline needs scipy, which is not installed. "
            "Run `pip install tideline[train]`."
        ) from error


@dataclass(frozen=True)
class BgNbd:
    """A fitted BG/NBD; `alpha` is in the unit of time that it was fitted in.

    All methods take `x` (repeat purchases), `recency` and `age`, float64 [k] each as in `Summary`,
    and return float64 [k]; `horizon` is in the same unit of time.
    """

    r: float
    alpha: float
    a: float
    b: float

    def _dead_to_alive(self, x: Floats, recency: Floats, age: Floats) -> Floats:
        """Odds of having left after the last purchase; 0 for one-time buyers."""
        log_odds = (
            np.log(self.a)
            - np.log(self.b + np.maximum(x, 1.0) - 1.0)
            + (self.r + x) * (np.log(self.alpha + age) - np.log(self.alpha + recency))
        )
        return np.where(x > 0, np.exp(np.minimum(log_odds, 700.0)), 0.0)

    def p_alive(self, x: Floats, recency: Floats, age: Floats) -> Floats:
        """Probability of not having left for good."""
        return 1.0 / (1.0 + self._dead_to_alive(x, recency, age))

    def p_no_purchase(self, x: Floats, recency: Floats, age: Floats, horizon: float) -> Floats:
        """Probability of no purchase in (now, now + horizon], given the history.

        The likelihood with `horizon` more quiet time, over the likelihood: those who left stay
        quiet, and those who are there stay quiet with ((alpha + T) / (alpha + T + H)) ^ (r + x).
        """
        dead = self._dead_to_alive(x, recency, age)
        quiet = (self.r + x) * (np.log(self.alpha + age) - np.log(self.alpha + age + horizon))
        result: Floats = (np.exp(quiet) + dead) / (1.0 + dead)
        return result

    def expected_purchases(self, x: Floats, recency: Floats, age: Floats, horizon: float) -> Floats:
        """Mean number of purchases in (now, now + horizon], given the history.

        An alive customer with p makes (1 - exp(-lambda p H)) / p of them. The mean over lambda is
        closed, that over p ~ Beta(a, b + x) a Gauss-Jacobi sum. The known closed form needs 2F1
        near its singularity, and fails at a = 1.
        """
        alive = np.empty(len(x))
        for count in np.unique(x):
            p, weights = self._leaving(float(count))
            who = x == count
            older = self.alpha + age[who][:, None]
            log_ratio = -(self.r + count) * np.log1p(p * horizon / older)
            alive[who] = (-np.expm1(log_ratio) / p) @ weights
        return alive * self.p_alive(x, recency, age)

    def _leaving(self, count: float) -> tuple[Floats, Floats]:
        """Nodes and weights of a mean over p ~ Beta(a, b + count).

        Where nobody ever leaves, b runs off and the Jacobi polynomials overflow: then quantiles.
        """
        special = _scipy("special")
        if self.b + count < _LARGEST_B:
            nodes, weights = special.roots_jacobi(_QUADRATURE, self.b + count - 1.0, self.a - 1.0)
            if np.isfinite(nodes).all() and np.isfinite(weights).all() and weights.sum() > 0.0:
                return np.maximum((nodes + 1.0) / 2.0, 1e-12), weights / weights.sum()
        middle = (np.arange(_QUANTILES) + 0.5) / _QUANTILES
        p = special.betaincinv(self.a, self.b + count, middle)
        return np.maximum(p, 1e-12), np.full(_QUANTILES, 1.0 / _QUANTILES)

    def log_likelihood(self, x: Floats, recency: Floats, age: Floats) -> Floats:
        """Log-likelihood of each history, without the term that no parameter enters."""
        special = _scipy("special")
        r, alpha, a, b = self.r, self.alpha, self.a, self.b
        counts, which = np.unique(x, return_inverse=True)  # there are few
        of_counts = special.gammaln(r + counts) + special.betaln(a, b + counts)
        front = r * np.log(alpha) - special.gammaln(r) - special.betaln(a, b)
        odds = self._dead_to_alive(x, recency, age)
        result: Floats = of_counts[which] + front - (r + x) * np.log(alpha + age) + np.log1p(odds)
        return result

    def log_likelihood_slopes(self, x: Floats, recency: Floats, age: Floats) -> Floats:
        """Its derivatives by the logarithms of r, alpha, a and b, float64 [4, k]."""
        psi = _scipy("special").digamma
        r, alpha, a, b = self.r, self.alpha, self.a, self.b
        counts, which = np.unique(x, return_inverse=True)
        both = psi(a + b + counts) - psi(a + b)
        by_r, by_a, by_b = (
            of_counts[which]
            for of_counts in (psi(r + counts) - psi(r), -both, psi(b + counts) - psi(b) - both)
        )
        odds = self._dead_to_alive(x, recency, age)
        dead = odds / (1.0 + odds)
        now, then = alpha + age, alpha + recency
        return np.stack(
            [
                r * (by_r + np.log(alpha / now) + dead * np.log(now / then)),
                alpha * (r / alpha - (r + x) * (1.0 / now - dead * (1.0 / now - 1.0 / then))),
                a * (by_a + dead / a),
                b * (by_b - dead / (b + np.maximum(x, 1.0) - 1.0)),
            ]
        )


@dataclass(frozen=True)
class GammaGamma:
    """A fitted Gamma-Gamma model of order values."""

    p: float
    q: float
    v: float

    def mean_value(self, x: Floats, value: Floats) -> Floats:
        """Expected order value given `x` orders that average `value`; x = 0: the shop's mean.

        With q <= 1 the population has no mean; the customer's own then stands alone.
        """
        if self.q <= 1.0:
            return np.where(x > 0, value, np.nan)
        weight = self.p * x / (self.p * x + self.q - 1.0)
        return (1.0 - weight) * self.v * self.p / (self.q - 1.0) + weight * np.where(
            x > 0, value, 0.0
        )

    def log_likelihood(self, x: Floats, value: Floats) -> Floats:
        """Log-likelihood of the means of `x` > 0 order values."""
        gammaln = _scipy("special").gammaln
        px = self.p * x
        result: Floats = (
            gammaln(px + self.q) - gammaln(px) - gammaln(self.q)
            + self.q * np.log(self.v) + (px - 1.0) * np.log(value) + px * np.log(x)
            - (px + self.q) * np.log(x * value + self.v)
        )  # fmt: skip
        return result

    def log_likelihood_slopes(self, x: Floats, value: Floats) -> Floats:
        """Its derivatives by the logarithms of p, q and v, float64 [3, k]."""
        psi = _scipy("special").digamma
        px, total = self.p * x, x * value + self.v
        both = psi(px + self.q)
        return np.stack(
            [
                px * (both - psi(px) + np.log(x * value / total)),
                self.q * (both - psi(self.q) + np.log(self.v / total)),
                self.q - (px + self.q) * self.v / total,
            ]
        )


def fit_bg_nbd(customers: Summary) -> BgNbd:
    """Maximum likelihood over log parameters; equal histories are grouped.

    Raises `ArtifactError` without scipy.
    """
    # Time in units of the mean age: the optimiser then meets numbers near 1 in any unit.
    unit = float(customers.age.mean()) or 1.0
    rows = np.stack([customers.frequency, customers.recency, customers.age], axis=1)
    unique, counts = np.unique(rows, axis=0, return_counts=True)
    x, recency, age = unique[:, 0], unique[:, 1] / unit, unique[:, 2] / unit

    share = counts / counts.sum()

    def loss(log: Floats) -> tuple[float, Floats]:
        model = BgNbd(*np.exp(log))
        likely = model.log_likelihood(x, recency, age)
        slopes = model.log_likelihood_slopes(x, recency, age)
        return -float((likely * share).sum()), -(slopes * share).sum(axis=1)

    r, alpha, a, b = _minimise(loss, 4)
    return BgNbd(r, alpha * unit, a, b)


def fit_gamma_gamma(customers: Summary) -> GammaGamma | None:
    """Maximum likelihood over customers with repeat purchases of positive value.

    None if fewer than two have any. Raises `ArtifactError` without scipy.
    """
    fit = (customers.frequency > 0) & (customers.value > 0)
    if fit.sum() < 2:
        return None
    x, value = customers.frequency[fit], customers.value[fit]
    unit = float(value.mean())

    def loss(log: Floats) -> tuple[float, Floats]:
        model = GammaGamma(*np.exp(log))
        likely = model.log_likelihood(x, value / unit)
        return -float(likely.mean()), -model.log_likelihood_slopes(x, value / unit).mean(axis=1)

    p, q, v = _minimise(loss, 3)
    return GammaGamma(p, q, v * unit)


def _minimise(loss: Callable[[Floats], tuple[float, Floats]], parameters: int) -> list[float]:
    """The parameters of the least `loss`, which gives its value and slopes by their logarithms."""
    minimize = _scipy("optimize").minimize

    def held(log: Floats) -> tuple[float, Floats]:
        value, slopes = loss(log)
        beyond = np.maximum(np.abs(log) - _ROOM, 0.0)
        return value + float((beyond**2).sum()), slopes + 2.0 * beyond * np.sign(log)

    # The surface is a narrow valley: it is followed until the slope is all but level.
    found = minimize(
        held, np.zeros(parameters), jac=True, method="L-BFGS-B",
        options={"maxiter": _STEPS, "maxcor": 20, "ftol": 1e-14, "gtol": 1e-8},
    )  # fmt: skip
    return [float(v) for v in np.exp(found.x)]
