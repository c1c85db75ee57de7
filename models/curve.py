"""The curve of a customer who buys at an individual rate and may have left: a few parameters.

Trees need rows; a shop that has few, or whose customers grow older than any that the trees have
seen, is described better by BG/NBD's handful of parameters (Fader, Hardie & Lee 2005, "Counting
your customers the easy way"). So a head is both, pooled with a weight `w` that training chooses:

    log-odds = w * curve + (1 - w) * trees      mean spend = w * curve + (1 - w) * trees

The curve's parameters are not BG/NBD's maximum likelihood: they are fitted to the head's own
labels, together with an intercept and a slope, so that the loss is least for this form.

With x repeat orders, the last one `recency` after the first, `age` since the first (days):

    dead  = a / (b + max(x, 1) - 1) * ((alpha + age) / (alpha + recency)) ^ (r + x)
    quiet = ((alpha + age) / (alpha + age + days)) ^ (r + x)
    P(no order within `days`) = (quiet + dead) / (1 + dead)
    mean orders               = (r + x) / (alpha + age) * days / (1 + dead)
    mean order value          = (k * m + n * own mean) / (k + n), over n orders (as Gamma-Gamma)

In a shop with a season all times are in days of the shop's clock (`models.season`).

The formulas are here twice, in numpy for fitting and in ONNX for scoring; a test and the golden
vectors compare them. ONNX has the curve in float64, and in `Pow` only: `Log` of ONNX Runtime gives
a row other bits depending on its place in the batch.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.onnx.graph import Graph
from models.season import SEASON_FEATURE, Season, clock_nodes
from schemas.errors import ArtifactError
from schemas.features import FEATURE_NAMES, YEAR_DAYS

__all__ = [
    "BASE_FEATURES",
    "CURVE_ROWS",
    "EventBase",
    "SpendBase",
    "base_nodes",
    "fit_event_base",
    "fit_spend_base",
    "input_nodes",
]

Floats = NDArray[np.float64]

BASE_FEATURES: Final = tuple(
    FEATURE_NAMES.index(name)
    for name in ("lifetime_orders", "days_since_first_order", "days_since_order")
)
"""What an `EventBase` reads, in a shop with a season `SEASON_FEATURE` besides: positions in
`schemas.features.FEATURES`."""
_ORDERS, _AGE, _SILENCE = BASE_FEATURES
_VALUE: Final = FEATURE_NAMES.index("mean_order_value")
_HIGHEST: Final = {_ORDERS: 1e4, _AGE: 1e5, _SILENCE: 1e5, _VALUE: 1e12, SEASON_FEATURE: YEAR_DAYS}
_LOWEST: Final = {_ORDERS: 1.0, _AGE: 1.0, _SILENCE: 0.0, _VALUE: 0.0, SEASON_FEATURE: 0.0}
"""Inputs are clipped here; an unknown value counts as the lowest."""
_MOST_DEAD: Final = 1e9
CURVE_ROWS: Final = 15_000
"""Fitted to so many rows, spread evenly: seven numbers need no more."""
_PULL: Final = 1e-4  # towards the start, where the labels don't determine a parameter
_STEPS: Final = 200
_FAR: Final = 25.0  # a log ratio beyond which a mean counts as no further off
_POWER: Final = 1.5
"""Tweedie's, for fitting spend: less swayed by single large orders than Poisson's 1."""


@dataclass(frozen=True)
class _Curve:
    """BG/NBD's parameters, in days."""

    r: float
    alpha: float
    a: float
    b: float

    def rate(self, orders: Floats) -> Floats:
        return self.r + orders - 1.0

    def slopes(self, inputs: _Inputs) -> _Slopes:
        """For fitting: `dead` and its derivatives by the parameters' logarithms."""
        orders, age, silence, _ = inputs
        rate, older = self.rate(orders), self.alpha + age
        dead = self.dead(orders, age, silence)
        free = np.where(dead < _MOST_DEAD, dead, 0.0)  # one that is cut off depends on nothing
        by_r = free * np.log(older / (older - silence)) * self.r
        by_alpha = free * rate * (1.0 / older - 1.0 / (older - silence)) * self.alpha
        by_b = -free * self.b / (self.b + np.maximum(orders - 2.0, 0.0))
        return _Slopes(rate, older, dead, by_r, by_alpha, free, by_b)

    def dead(self, orders: Floats, age: Floats, silence: Floats) -> Floats:
        ratio = (self.alpha + age) / (self.alpha + age - silence)
        with np.errstate(over="ignore"):
            grown = self.a / (self.b + np.maximum(orders - 2.0, 0.0)) * ratio ** self.rate(orders)
        return np.minimum(grown, _MOST_DEAD)


class _Slopes(NamedTuple):
    """float64 [n] each."""

    rate: Floats
    older: Floats
    dead: Floats
    by_r: Floats
    by_alpha: Floats
    by_a: Floats
    by_b: Floats


@dataclass(frozen=True)
class EventBase:
    """Log-odds of no order within `days`; of an order, with a negative `slope`."""

    curve: _Curve
    days: float
    slope: float
    intercept: float
    season: Season | None = None

    def log_odds(self, x: NDArray[np.float32]) -> Floats:
        """`x` float32 [n, F] -> log-odds, float64 [n]."""
        return self.of_inputs(_inputs(x, self.season, self.days))

    def of_inputs(self, inputs: _Inputs) -> Floats:
        """The same, of inputs on the clock of `season`."""
        c, (orders, age, silence, days) = self.curve, inputs
        quiet = ((c.alpha + age) / (c.alpha + age + days)) ** c.rate(orders)
        z = np.log(quiet + c.dead(orders, age, silence)) - np.log(1.0 - quiet)
        return self.intercept + self.slope * z

    def reads(self) -> list[str]:
        """The names of the features that it depends on."""
        season = () if self.season is None else (SEASON_FEATURE,)
        return [FEATURE_NAMES[feature] for feature in (*BASE_FEATURES, *season)]

    def times(self, weight: float) -> EventBase:
        """Its log-odds multiplied."""
        return replace(self, slope=self.slope * weight, intercept=self.intercept * weight)


@dataclass(frozen=True)
class SpendBase:
    """Mean spend within `days`: mean orders times mean order value."""

    curve: _Curve
    days: float
    weight: float
    """Of the shop's mean, in orders."""
    value: float
    """The shop's mean order value."""
    intercept: float
    season: Season | None = None

    def log_mean(self, x: NDArray[np.float32]) -> Floats:
        """`x` float32 [n, F] -> log of the mean spend in currency, float64 [n]."""
        return self.of_inputs(_inputs(x, self.season, self.days), _bounded(x, _VALUE))

    def of_inputs(self, inputs: _Inputs, own: Floats) -> Floats:
        """The same, of inputs on the clock of `season`, and each customer's mean order value."""
        c, (orders, age, silence, days) = self.curve, inputs
        rate = c.rate(orders) * days / (c.alpha + age) / (1.0 + c.dead(orders, age, silence))
        value = (self.weight * self.value + orders * own) / (self.weight + orders)
        return self.intercept + np.log(rate) + np.log(value)

    def reads(self) -> list[str]:
        """The names of the features that it depends on."""
        season = () if self.season is None else (SEASON_FEATURE,)
        return [FEATURE_NAMES[feature] for feature in (*BASE_FEATURES, _VALUE, *season)]

    def times(self, weight: float) -> SpendBase:
        """Its mean multiplied."""
        return replace(self, intercept=self.intercept + float(np.log(weight)))


def _bounded(x: NDArray[np.float32], feature: int) -> Floats:
    low, high = _LOWEST[feature], _HIGHEST[feature]
    return np.clip(np.nan_to_num(x[:, feature].astype(np.float64), nan=low), low, high)


class _Inputs(NamedTuple):
    """float64 [n] each: orders, and in days the time since the first order, since the last order,
    and ahead, over which the prediction reaches."""

    orders: Floats
    age: Floats
    silence: Floats
    ahead: Floats | float


def _inputs(x: NDArray[np.float32], season: Season | None, days: float) -> _Inputs:
    """On the clock of `season`, if there is one."""
    orders, age = _bounded(x, _ORDERS), _bounded(x, _AGE)
    silence = np.minimum(_bounded(x, _SILENCE), age)
    if season is None:
        return _Inputs(orders, age, silence, days)
    day = _bounded(x, SEASON_FEATURE)
    now = season.clock(day)
    since_first, since_last = now - season.clock(day - age), now - season.clock(day - silence)
    return _Inputs(orders, since_first, since_last, season.clock(day + days) - now)


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
    inputs = _inputs(x[some], season, days)
    signs = 2.0 * (happened[some] > 0) - 1.0
    start = np.array([0.0, np.log(max(float(np.median(inputs.age)) / 2.0, 1.0)), 0.0, 1.0])
    start = np.r_[start, -1.0 if order else 1.0, 0.0]

    def base(p: Floats) -> EventBase:
        return EventBase(_Curve(*np.exp(p[:4]).tolist()), days, float(p[4]), float(p[5]), season)

    def loss(p: Floats) -> tuple[float, Floats]:
        c, slope = _Curve(*np.exp(p[:4]).tolist()), p[4]
        at = c.slopes(inputs)
        later = at.older + inputs.ahead
        quiet = (at.older / later) ** at.rate
        z = np.log(quiet + at.dead) - np.log(1.0 - quiet)
        by_dead = slope / (quiet + at.dead)
        by_quiet = by_dead + slope / (1.0 - quiet)
        quiet_by_r = -quiet * np.log(later / at.older) * c.r
        quiet_by_alpha = quiet * at.rate * (1.0 / at.older - 1.0 / later) * c.alpha
        wrong = -signs * (p[5] + slope * z)
        with np.errstate(over="ignore"):  # 1 / (1 + inf) is 0, as it should be
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

    return base(_least(loss, start))


def fit_spend_base(
    x: NDArray[np.float32], spend: NDArray[Any], days: float, season: Season | None = None
) -> SpendBase:
    """The mean whose Tweedie deviance is least, shifted so that the sum over all rows is unbiased.

    `x` float32 [n, F]; `spend` [n] in currency within `days`. Raises `ArtifactError` without scipy.
    """
    some = _spread(len(x))
    inputs, worth = _inputs(x[some], season, days), _bounded(x[some], _VALUE)
    amount = spend[some].astype(np.float64)
    mean = max(float(amount.mean()), 1e-9)
    own = max(float(worth.mean()), 1e-9)
    age = max(float(np.median(inputs.age)) / 2.0, 1.0)
    start = np.array([0.0, np.log(age), 0.0, 1.0, np.log(2.0), np.log(own), 0.0])

    def base(p: Floats) -> SpendBase:
        curve, (weight, value) = _Curve(*np.exp(p[:4]).tolist()), np.exp(p[4:6]).tolist()
        return SpendBase(curve, days, weight, value, float(p[6]), season)

    y = amount / mean

    def loss(p: Floats) -> tuple[float, Floats]:
        found = base(p)
        at = found.curve.slopes(inputs)
        alive = 1.0 / (1.0 + at.dead)
        orders = found.weight + inputs.orders
        value = (found.weight * found.value + inputs.orders * worth) / orders
        log_mean = found.intercept + np.log(at.rate * inputs.ahead / at.older * alive * value)
        log_ratio = log_mean - np.log(mean)
        ratio = np.exp(np.clip(log_ratio, -_FAR, _FAR))
        paid, expected = y * ratio ** (1.0 - _POWER), ratio ** (2.0 - _POWER)
        by_log = np.where(np.abs(log_ratio) < _FAR, expected - paid, 0.0) / len(y)
        share = found.weight / (orders * value)
        by = (
            found.curve.r / at.rate - at.by_r * alive,
            -found.curve.alpha / at.older - at.by_alpha * alive,
            -at.by_a * alive,
            -at.by_b * alive,
            share * (found.value - value),
            share * found.value,
        )
        pull = p - start
        deviance = paid / (_POWER - 1.0) + expected / (2.0 - _POWER)
        loss = float(deviance.mean() + _PULL * (pull**2).sum())
        return loss, _gradient(by_log, by) + 2.0 * _PULL * pull

    found = _least(loss, start)
    found[6] += np.log(mean / np.exp(base(found).of_inputs(inputs, worth)).mean())
    return base(found)


def _spread(n: int) -> NDArray[np.int64]:
    return np.linspace(0, n - 1, min(n, CURVE_ROWS)).astype(np.int64)


def _gradient(weight: Floats, by: Collection[Floats]) -> Floats:
    """Weighted sums of the derivatives, the last of which is 1. Not as products of vectors: BLAS
    would wake its threads for each."""
    return np.array([*((weight * each).sum() for each in by), weight.sum()])


def _least(loss: Callable[[Floats], tuple[float, Floats]], start: Floats) -> Floats:
    """Where `loss`, which returns its value and gradient, is least."""
    try:
        minimize = importlib.import_module("scipy.optimize").minimize
    except ImportError as error:
        raise ArtifactError(
            "Training needs scipy, which is not installed. Run `pip install tideline[train]`."
        ) from error
    # |log parameter| <= 12: where nobody ever leaves, some of them have no best value
    bounds = [(-12.0, 12.0)] * 4 + [(None, None)] * (len(start) - 4)
    found = minimize(
        loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": _STEPS}
    )
    return np.asarray(found.x, np.float64).copy()


def input_nodes(
    helper: Any, tensor: Any, x: str, bases: Collection[EventBase | SpendBase]
) -> list[Any]:
    """Nodes that all bases share: `base_orders`, `base_age`, `base_silence` and `base_value`,
    float64 [N], from the matrix `x`; and with a season, by `_ahead`, the days ahead on its clock.

    Raises `ArtifactError` for bases of several seasons.
    """
    seasons = {base.season for base in bases}
    if len(seasons) > 1:
        raise ArtifactError("The heads of one champion must have one season. Train them together.")
    season = next(iter(seasons), None)
    graph = Graph(helper, tensor, "base_input")

    def bounded(feature: int, output: str = "") -> str:
        column = graph.column(x, feature)
        low, high = _LOWEST[feature], _HIGHEST[feature]
        known = graph("Where", graph("IsNaN", column), low, column)
        return graph("Clip", known, low, high, output=output)

    bounded(_ORDERS, "base_orders")
    bounded(_VALUE, "base_value")
    age = bounded(_AGE, "" if season else "base_age")
    silence = graph("Min", bounded(_SILENCE), age, output="" if season else "base_silence")
    if season is not None:
        day = bounded(SEASON_FEATURE)
        now = clock_nodes(graph, season, day)
        for back, output in ((age, "base_age"), (silence, "base_silence")):
            graph("Sub", now, clock_nodes(graph, season, graph("Sub", day, back)), output=output)
        for days in sorted({base.days for base in bases}):
            then = clock_nodes(graph, season, graph("Add", day, days))
            graph("Sub", then, now, output=_ahead(days))
    return graph.nodes


def _ahead(days: float) -> str:
    return f"base_ahead_{days:g}"


def base_nodes(helper: Any, tensor: Any, base: EventBase | SpendBase, output: str) -> list[Any]:
    """Nodes that compute `output` float32 [N]: odds to the minus one, or mean spend."""
    graph = Graph(helper, tensor, output)
    c = base.curve
    days = base.days if base.season is None else _ahead(base.days)
    rate = graph("Add", "base_orders", c.r - 1.0)
    older = graph("Add", "base_age", c.alpha)
    ratio = graph("Div", older, graph("Sub", older, "base_silence"))
    stays = graph("Add", graph("Max", graph("Sub", "base_orders", 2.0), 0.0), c.b)
    odds = graph("Mul", graph("Div", c.a, stays), graph("Pow", ratio, rate))
    dead = graph("Min", odds, _MOST_DEAD)
    if isinstance(base, EventBase):
        quiet = graph("Pow", graph("Div", older, graph("Add", older, days)), rate)
        upside_down = graph("Div", graph("Sub", 1.0, quiet), graph("Add", quiet, dead))
        wide = graph("Pow", upside_down, base.slope)
        wide = graph("Mul", wide, float(np.exp(-base.intercept)))
    else:
        scaled = graph("Mul", rate, float(np.exp(base.intercept)))
        orders = graph("Div", graph("Mul", scaled, days), older)
        alive = graph("Div", orders, graph("Add", dead, 1.0))
        own = graph("Mul", "base_orders", "base_value")
        value = graph("Div", graph("Add", own, base.weight * base.value),
                      graph("Add", "base_orders", base.weight))  # fmt: skip
        wide = graph("Mul", alive, value)
    graph.narrow(wide, output)
    return graph.nodes
