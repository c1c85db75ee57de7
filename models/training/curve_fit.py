"""Fits the curves of `models.curve` to labels: by their slopes, and to a few thousand rows."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.curve import (
    Curve,
    EventBase,
    Floats,
    Inputs,
    SpendBase,
    inputs_of,
    order_value,
    until_left,
)
from models.season import Season
from schemas.errors import ArtifactError

__all__ = ["CURVE_ROWS", "fit_event_base", "fit_lasting_base", "fit_spend_base"]

CURVE_ROWS: Final = 15_000
"""Fitted to so many rows, spread evenly: seven numbers need no more."""
_PULL: Final = 1e-4  # towards the start, where the labels don't determine a parameter
_STEPS: Final = 200
_FAR: Final = 25.0  # a log ratio beyond which a mean counts as no further off
_POWER: Final = 1.5
"""Tweedie's, for fitting spend: less swayed by single large orders than Poisson's 1."""
_LEAVING: Final = 0.002
"""Of customers who are there, per day; where a fit of it begins."""
_LEAVE_LEAST, _LEAVE_MOST = 1e-5, 0.05


def fit_event_base(
    x: NDArray[np.float32],
    happened: NDArray[Any],
    days: float,
    *,
    order: bool,
    season: Season | None = None,
) -> EventBase:
    """The curve whose log loss is least on rows `x` float32 [n, F].

    `happened` [n], true where above 0: an order within `days` if `order`, else no order (or an
    event that goes with none). Raises `ArtifactError` without scipy.
    """
    some = _spread(len(x))
    inputs = inputs_of(x[some], season, days)
    signs = 2.0 * (happened[some] > 0) - 1.0
    start = np.array([0.0, np.log(max(float(np.median(inputs.age)) / 2.0, 1.0)), 0.0, 1.0])
    start = np.r_[start, -1.0 if order else 1.0, 0.0]

    def base(p: Floats) -> EventBase:
        return EventBase(Curve(*np.exp(p[:4]).tolist()), days, float(p[4]), float(p[5]), season)

    def loss(p: Floats) -> tuple[float, Floats]:
        c, slope = Curve(*np.exp(p[:4]).tolist()), p[4]
        at = c.slopes(inputs)
        later = at.older + inputs.ahead
        quiet = (at.older / later) ** at.rate
        z = np.log(quiet + at.dead) - np.log(1.0 - quiet)
        by_dead = slope / (quiet + at.dead)
        by_quiet = by_dead + slope / (1.0 - quiet)
        quiet_by_r = -quiet * np.log(later / at.older) * c.r
        quiet_by_alpha = quiet * at.rate * (1.0 / at.older - 1.0 / later) * c.alpha
        wrong = -signs * (p[5] + slope * z)
        with np.errstate(over="ignore"):  # an infinite divisor: a label that was no surprise
            by_z = -signs / (1.0 + np.exp(-wrong)) / len(signs)
        by = (
            by_quiet * quiet_by_r + by_dead * at.by_r,
            by_quiet * quiet_by_alpha + by_dead * at.by_alpha,
            by_dead * at.by_a,
            by_dead * at.by_b,
            z,
        )
        pull = p - start
        value = float(np.logaddexp(0.0, wrong).mean() + _PULL * (pull**2).sum())
        return value, _gradient(by_z, by) + 2.0 * _PULL * pull

    return base(_least(loss, start, [(None, None)] * 2))


def fit_spend_base(
    x: NDArray[np.float32], spend: NDArray[Any], days: float, season: Season | None = None
) -> SpendBase:
    """The mean whose Tweedie deviance is least, shifted so that the sum over all rows is unbiased.

    `x` float32 [n, F]; `spend` [n] in currency within `days`. Raises `ArtifactError` without scipy.
    """
    some = _spread(len(x))
    x, amount = x[some], spend[some].astype(np.float64)
    inputs, own = inputs_of(x, season, days), order_value(x)
    found = _fit_spend(inputs, own, amount, days, season, leaves=False)
    mean = max(float(amount.mean()), 1e-9)
    return found.times(mean / float(np.exp(found.of_inputs(inputs, own)).mean()))


def fit_lasting_base(
    x: NDArray[np.float32],
    spend: NDArray[Any],
    within: NDArray[Any],
    days: float,
    season: Season | None = None,
) -> SpendBase:
    """The same for a long time, in which customers leave: rows `x` float32 [n, F] with `spend` [n]
    within so many days each, `within` [n], of which there must be several for the rate at which
    they leave. Unbiased over the rows of the longest. What it says is within `days`."""
    inputs, own = inputs_of(x, season, within.astype(np.float64)), order_value(x)
    amount = spend.astype(np.float64)
    found = _fit_spend(inputs, own, amount, days, season, leaves=True)
    longest = within == within.max()
    mean = max(float(amount[longest].mean()), 1e-9)
    return found.times(mean / float(np.exp(found.of_inputs(inputs, own))[longest].mean()))


def _fit_spend(
    inputs: Inputs, worth: Floats, amount: Floats, days: float, season: Season | None, *,
    leaves: bool,
) -> SpendBase:  # fmt: skip
    mean = max(float(amount.mean()), 1e-9)
    own = max(float(worth.mean()), 1e-9)
    age = max(float(np.median(inputs.age)) / 2.0, 1.0)
    start = np.array([0.0, np.log(age), 0.0, 1.0, np.log(2.0), np.log(own)])
    start = np.r_[start, [np.log(_LEAVING)] if leaves else [], 0.0]

    def base(p: Floats) -> SpendBase:
        curve, (weight, value) = Curve(*np.exp(p[:4]).tolist()), np.exp(p[4:6]).tolist()
        leaving = float(np.exp(p[6])) if leaves else 0.0
        return SpendBase(curve, days, weight, value, float(p[-1]), season, leaving)

    y = amount / mean

    def loss(p: Floats) -> tuple[float, Floats]:
        found = base(p)
        at = found.curve.slopes(inputs)
        alive = 1.0 / (1.0 + at.dead)
        orders = found.weight + inputs.orders
        value = (found.weight * found.value + inputs.orders * worth) / orders
        there = until_left(inputs.ahead, found.leaving)
        log_mean = found.intercept + np.log(at.rate * there / at.older * alive * value)
        log_ratio = log_mean - np.log(mean)
        ratio = np.exp(np.clip(log_ratio, -_FAR, _FAR))
        paid, expected = y * ratio ** (1.0 - _POWER), ratio ** (2.0 - _POWER)
        by_log = np.where(np.abs(log_ratio) < _FAR, expected - paid, 0.0) / len(y)
        share = found.weight / (orders * value)
        by: tuple[Floats, ...] = (
            found.curve.r / at.rate - at.by_r * alive,
            -found.curve.alpha / at.older - at.by_alpha * alive,
            -at.by_a * alive,
            -at.by_b * alive,
            share * (found.value - value),
            share * found.value,
        )
        if leaves:
            by = (*by, inputs.ahead * np.exp(-found.leaving * inputs.ahead) / there - 1.0)
        pull = p - start
        deviance = paid / (_POWER - 1.0) + expected / (2.0 - _POWER)
        loss = float(deviance.mean() + _PULL * (pull**2).sum())
        return loss, _gradient(by_log, by) + 2.0 * _PULL * pull

    bounds = [(None, None)] * 2 + [(np.log(_LEAVE_LEAST), np.log(_LEAVE_MOST))] * leaves
    return base(_least(loss, start, [*bounds, (None, None)]))


def _spread(n: int) -> NDArray[np.int64]:
    return np.linspace(0, n - 1, min(n, CURVE_ROWS)).astype(np.int64)


def _gradient(weight: Floats, by: Collection[Floats]) -> Floats:
    """Weighted sums of the derivatives, the last of which is 1. Not as products of vectors: BLAS
    would wake its threads for each."""
    return np.array([*((weight * each).sum() for each in by), weight.sum()])


def _least(
    loss: Callable[[Floats], tuple[float, Floats]], start: Floats, others: list[tuple[Any, Any]]
) -> Floats:
    """Where `loss`, which returns its value and gradient, is least; `others`: bounds of the
    parameters after the curve's four."""
    try:
        minimize = importlib.import_module("scipy.optimize").minimize
    except ImportError as error:
        raise ArtifactError(
            "Training needs scipy, which is not installed. Run `pip install tideline[train]`."
        ) from error
    # |log parameter| <= 12: where nobody ever leaves, some of them have no best value
    bounds = [(-12.0, 12.0)] * 4 + others
    found = minimize(
        loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": _STEPS}
    )
    return np.asarray(found.x, np.float64).copy()
