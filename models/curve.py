"""The curve of a customer who buys at an individual rate and may have left: a few parameters.

Trees need rows; a shop that has few, or whose customers grow older than any that the trees have
seen, is described better by BG/NBD's handful of parameters (Fader, Hardie & Lee 2005, "Counting
your customers the easy way"). So a head is both, pooled with a weight `w` that training chooses:

    log-odds = w * curve + (1 - w) * trees      mean spend = w * curve + (1 - w) * trees

The curve's parameters are not BG/NBD's maximum likelihood: `models.training.curve_fit` fits them to
the head's own labels, together with an intercept and a slope, so that the loss is least for this
form.

With x repeat orders, the last one `recency` after the first, `age` since the first (days):

    dead  = a / (b + max(x, 1) - 1) * ((alpha + age) / (alpha + recency)) ^ (r + x)
    quiet = ((alpha + age) / (alpha + age + days)) ^ (r + x)
    P(no order within `days`) = (quiet + dead) / (1 + dead)
    mean orders               = (r + x) / (alpha + age) * days / (1 + dead)
    mean order value          = (k * m + n * own mean) / (k + n), over n orders (as Gamma-Gamma)

Over a year, customers leave who are there now: at a rate `leaving`, `days` counts as
`(1 - exp(-leaving * days)) / leaving` (as Pareto/NBD; Schmittlein, Morrison & Colombo 1987).

In a shop with a season all times are in days of the shop's clock (`models.season`).

The formulas are here twice, in numpy for fitting and in ONNX for scoring; a test and the golden
vectors compare them. ONNX has the curve in float64, and in `Pow` only: `Log` of ONNX Runtime gives
a row other bits depending on its place in the batch.
"""

from __future__ import annotations

from collections.abc import Collection
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
    "Curve",
    "EventBase",
    "Floats",
    "Inputs",
    "Slopes",
    "SpendBase",
    "base_nodes",
    "input_nodes",
    "inputs_of",
    "order_value",
    "until_left",
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


@dataclass(frozen=True)
class Curve:
    """BG/NBD's parameters, in days."""

    r: float
    alpha: float
    a: float
    b: float

    def rate(self, orders: Floats) -> Floats:
        return self.r + orders - 1.0

    def slopes(self, inputs: Inputs) -> Slopes:
        """For fitting: `dead` and its derivatives by the parameters' logarithms."""
        orders, age, silence, _ = inputs
        rate, older = self.rate(orders), self.alpha + age
        dead = self.dead(orders, age, silence)
        free = np.where(dead < _MOST_DEAD, dead, 0.0)  # one that is cut off depends on nothing
        by_r = free * np.log(older / (older - silence)) * self.r
        by_alpha = free * rate * (1.0 / older - 1.0 / (older - silence)) * self.alpha
        by_b = -free * self.b / (self.b + np.maximum(orders - 2.0, 0.0))
        return Slopes(rate, older, dead, by_r, by_alpha, free, by_b)

    def dead(self, orders: Floats, age: Floats, silence: Floats) -> Floats:
        ratio = (self.alpha + age) / (self.alpha + age - silence)
        with np.errstate(over="ignore"):
            grown = self.a / (self.b + np.maximum(orders - 2.0, 0.0)) * ratio ** self.rate(orders)
        return np.minimum(grown, _MOST_DEAD)


class Slopes(NamedTuple):
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

    curve: Curve
    days: float
    slope: float
    intercept: float
    season: Season | None = None

    def log_odds(self, x: NDArray[np.float32]) -> Floats:
        """`x` float32 [n, F] -> log-odds, float64 [n]."""
        return self.of_inputs(inputs_of(x, self.season, self.days))

    def of_inputs(self, inputs: Inputs) -> Floats:
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

    curve: Curve
    days: float
    weight: float
    """Of the shop's mean, in orders."""
    value: float
    """The shop's mean order value."""
    intercept: float
    season: Season | None = None
    leaving: float = 0.0
    """Of those who are there now, per day; 0: nobody leaves within `days` (a short time)."""

    def log_mean(self, x: NDArray[np.float32]) -> Floats:
        """`x` float32 [n, F] -> log of the mean spend in currency, float64 [n]."""
        return self.of_inputs(inputs_of(x, self.season, self.days), order_value(x))

    def of_inputs(self, inputs: Inputs, own: Floats) -> Floats:
        """The same, of inputs on the clock of `season`, and each customer's mean order value."""
        c, (orders, age, silence, days) = self.curve, inputs
        there = until_left(days, self.leaving)
        rate = c.rate(orders) * there / (c.alpha + age) / (1.0 + c.dead(orders, age, silence))
        value = (self.weight * self.value + orders * own) / (self.weight + orders)
        return self.intercept + np.log(rate) + np.log(value)

    def reads(self) -> list[str]:
        """The names of the features that it depends on."""
        season = () if self.season is None else (SEASON_FEATURE,)
        return [FEATURE_NAMES[feature] for feature in (*BASE_FEATURES, _VALUE, *season)]

    def times(self, weight: float) -> SpendBase:
        """Its mean multiplied."""
        return replace(self, intercept=self.intercept + float(np.log(weight)))


def until_left(days: Floats | float, leaving: float) -> Floats | float:
    """So many of `days` is a customer there who leaves at this rate, in the mean."""
    if not leaving:
        return days
    found: Floats | float = -np.expm1(-leaving * days) / leaving
    return found


def order_value(x: NDArray[np.float32]) -> Floats:
    """Each customer's own mean order value in currency, float64 [n]."""
    return _bounded(x, _VALUE)


def _bounded(x: NDArray[np.float32], feature: int) -> Floats:
    low, high = _LOWEST[feature], _HIGHEST[feature]
    return np.clip(np.nan_to_num(x[:, feature].astype(np.float64), nan=low), low, high)


class Inputs(NamedTuple):
    """float64 [n] each: orders, and in days the time since the first order, since the last order,
    and ahead, over which the prediction reaches."""

    orders: Floats
    age: Floats
    silence: Floats
    ahead: Floats | float


def inputs_of(x: NDArray[np.float32], season: Season | None, days: Floats | float) -> Inputs:
    """Of rows `x` float32 [n, F], on the clock of `season`, if there is one."""
    orders, age = _bounded(x, _ORDERS), _bounded(x, _AGE)
    silence = np.minimum(_bounded(x, _SILENCE), age)
    if season is None:
        return Inputs(orders, age, silence, days)
    day = _bounded(x, SEASON_FEATURE)
    now = season.clock(day)
    since_first, since_last = now - season.clock(day - age), now - season.clock(day - silence)
    return Inputs(orders, since_first, since_last, season.clock(day + days) - now)


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

    def column(feature: int, output: str = "") -> str:
        found = graph.column(x, feature)
        low, high = _LOWEST[feature], _HIGHEST[feature]
        known = graph("Where", graph("IsNaN", found), low, found)
        return graph("Clip", known, low, high, output=output)

    column(_ORDERS, "base_orders")
    column(_VALUE, "base_value")
    age = column(_AGE, "" if season else "base_age")
    silence = graph("Min", column(_SILENCE), age, output="" if season else "base_silence")
    if season is not None:
        day = column(SEASON_FEATURE)
        now = clock_nodes(graph, season, day)
        for back, output in ((age, "base_age"), (silence, "base_silence")):
            graph("Sub", now, clock_nodes(graph, season, graph("Sub", day, back)), output=output)
        for days in sorted({base.days for base in bases}):
            then = clock_nodes(graph, season, graph("Add", day, days))
            graph("Sub", then, now, output=_ahead(days))
    return graph.nodes


def _there(graph: Graph, days: str | float, leaving: float) -> str | float:
    """`until_left` in ONNX."""
    if not leaving or not isinstance(days, str):
        return days if isinstance(days, str) else float(until_left(days, leaving))
    left = graph("Sub", 1.0, graph("Pow", float(np.exp(-leaving)), days))
    return graph("Div", left, leaving)


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
        orders = graph("Div", graph("Mul", scaled, _there(graph, days, base.leaving)), older)
        alive = graph("Div", orders, graph("Add", dead, 1.0))
        own = graph("Mul", "base_orders", "base_value")
        value = graph("Div", graph("Add", own, base.weight * base.value),
                      graph("Add", "base_orders", base.weight))  # fmt: skip
        wide = graph("Mul", alive, value)
    graph.narrow(wide, output)
    return graph.nodes
