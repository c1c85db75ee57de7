"""The curve of a customer who buys at a rate of their own and may have left: a few numbers.

Trees need rows; a shop that has few, or whose customers grow older than any that the trees have
seen, is described better by BG/NBD's handful of parameters (Fader, Hardie & Lee 2005, "Counting
your customers the easy way"). So a head is both, pooled with a weight `w` that training chooses:

    log-odds = w * curve + (1 - w) * trees      mean spend = w * curve + (1 - w) * trees

The curve's parameters are not BG/NBD's maximum likelihood: they are fitted to the head's own
labels, together with a shift and a stretch, to be the best of this form for what is asked.

With x repeat orders, the last one `recency` after the first, `age` since the first (days):

    dead  = a / (b + max(x, 1) - 1) * ((alpha + age) / (alpha + recency)) ^ (r + x)
    quiet = ((alpha + age) / (alpha + age + days)) ^ (r + x)
    P(no order within `days`) = (quiet + dead) / (1 + dead)
    mean orders               = (r + x) / (alpha + age) * days / (1 + dead)
    mean order value          = (k * m + n * own mean) / (k + n), over n orders (as Gamma-Gamma)

The formulas are here twice, in numpy for fitting and in ONNX for scoring; a test and the golden
vectors compare them. ONNX has the curve in float64, and in `Pow` only: `Log` of ONNX Runtime gives
a row other bits depending on its place in the batch.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from schemas.errors import ArtifactError
from schemas.features import FEATURE_NAMES

__all__ = [
    "BASE_FEATURES",
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
"""What an `EventBase` reads: positions in `schemas.features.FEATURES`."""
_ORDERS, _AGE, _SILENCE = BASE_FEATURES
_VALUE: Final = FEATURE_NAMES.index("mean_order_value")
_HIGHEST: Final = {_ORDERS: 1e4, _AGE: 1e5, _SILENCE: 1e5, _VALUE: 1e12}
_LOWEST: Final = {_ORDERS: 1.0, _AGE: 1.0, _SILENCE: 0.0, _VALUE: 0.0}
"""Inputs are cut off here; what is unknown counts as the lowest."""
_MOST_DEAD: Final = 1e9
_ROWS: Final = 15_000
"""Fitted to so many rows, spread evenly: seven numbers need no more."""
_PULL: Final = 1e-4  # towards the start, where the labels don't say
_STEPS: Final = 200
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

    def dead(self, orders: Floats, age: Floats, silence: Floats) -> Floats:
        ratio = (self.alpha + age) / (self.alpha + age - silence)
        with np.errstate(over="ignore"):
            grown = self.a / (self.b + np.maximum(orders - 2.0, 0.0)) * ratio ** self.rate(orders)
        return np.minimum(grown, _MOST_DEAD)


@dataclass(frozen=True)
class EventBase:
    """Log-odds of no order within `days`; of an order, with a negative `slope`."""

    curve: _Curve
    days: float
    slope: float
    intercept: float

    def log_odds(self, x: NDArray[np.float32]) -> Floats:
        """x float32 [n, F] -> float64 [n]."""
        orders, age, silence = _inputs(x)
        return self.intercept + self.slope * self._curve_log_odds(orders, age, silence)

    def times(self, weight: float) -> EventBase:
        """Its log-odds multiplied."""
        return replace(self, slope=self.slope * weight, intercept=self.intercept * weight)

    def _curve_log_odds(self, orders: Floats, age: Floats, silence: Floats) -> Floats:
        c = self.curve
        quiet = ((c.alpha + age) / (c.alpha + age + self.days)) ** c.rate(orders)
        return np.log(quiet + c.dead(orders, age, silence)) - np.log(1.0 - quiet)


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

    def log_mean(self, x: NDArray[np.float32]) -> Floats:
        """x float32 [n, F] -> float64 [n]."""
        orders, age, silence = _inputs(x)
        own = _bounded(x, _VALUE)
        c = self.curve
        rate = c.rate(orders) * self.days / (c.alpha + age) / (1.0 + c.dead(orders, age, silence))
        value = (self.weight * self.value + orders * own) / (self.weight + orders)
        return self.intercept + np.log(rate) + np.log(value)

    def times(self, weight: float) -> SpendBase:
        """Its mean multiplied."""
        return replace(self, intercept=self.intercept + float(np.log(weight)))


def _bounded(x: NDArray[np.float32], feature: int) -> Floats:
    low, high = _LOWEST[feature], _HIGHEST[feature]
    return np.clip(np.nan_to_num(x[:, feature].astype(np.float64), nan=low), low, high)


def _inputs(x: NDArray[np.float32]) -> tuple[Floats, Floats, Floats]:
    """Orders, age and silence, float64 [n] each."""
    age = _bounded(x, _AGE)
    return _bounded(x, _ORDERS), age, np.minimum(_bounded(x, _SILENCE), age)


def fit_event_base(
    x: NDArray[np.float32], happened: NDArray[Any], days: float, *, order: bool
) -> EventBase:
    """The curve whose log loss is least. `happened` [n]: an order within `days` if `order`, else
    none (or something that goes with none)."""
    some = _spread(len(x))
    inputs = _inputs(x[some])
    signs = 2.0 * (happened[some] > 0) - 1.0
    start = np.array([0.0, np.log(max(float(np.median(inputs[1])) / 2.0, 1.0)), 0.0, 1.0])
    start = np.r_[start, -1.0 if order else 1.0, 0.0]

    def base(p: Floats) -> EventBase:
        return EventBase(_Curve(*np.exp(p[:4]).tolist()), days, float(p[4]), float(p[5]))

    def loss(p: Floats) -> float:
        told = base(p)
        z = told.intercept + told.slope * told._curve_log_odds(*inputs)  # noqa: SLF001
        return float(np.logaddexp(0.0, -signs * z).mean() + _PULL * ((p - start) ** 2).sum())

    return base(_least(loss, start))


def fit_spend_base(x: NDArray[np.float32], spend: NDArray[Any], days: float) -> SpendBase:
    """The mean whose Tweedie deviance is least, shifted so that the sum of all rows is right."""
    some = _spread(len(x))
    rows, amount = x[some], spend[some].astype(np.float64)
    mean = max(float(amount.mean()), 1e-9)
    own = max(float(_bounded(rows, _VALUE).mean()), 1e-9)
    age = max(float(np.median(_bounded(rows, _AGE))) / 2.0, 1.0)
    start = np.array([0.0, np.log(age), 0.0, 1.0, np.log(2.0), np.log(own), 0.0])

    def base(p: Floats) -> SpendBase:
        curve, (weight, value) = _Curve(*np.exp(p[:4]).tolist()), np.exp(p[4:6]).tolist()
        return SpendBase(curve, days, weight, value, float(p[6]))

    def loss(p: Floats) -> float:
        told = np.exp(np.clip(base(p).log_mean(rows) - np.log(mean), -25.0, 25.0))
        y = amount / mean
        deviance = y * told ** (1.0 - _POWER) / (_POWER - 1.0)
        deviance += told ** (2.0 - _POWER) / (2.0 - _POWER)
        return float(deviance.mean() + _PULL * ((p - start) ** 2).sum())

    found = _least(loss, start)
    found[6] += np.log(mean / np.exp(base(found).log_mean(rows)).mean())
    return base(found)


def _spread(n: int) -> NDArray[np.int64]:
    return np.linspace(0, n - 1, min(n, _ROWS)).astype(np.int64)


def _least(loss: Any, start: Floats) -> Floats:
    try:
        minimize = importlib.import_module("scipy.optimize").minimize
    except ImportError as error:
        raise ArtifactError(
            "Training needs scipy, which is not installed. Run `pip install tideline[train]`."
        ) from error
    # |log parameter| <= 12: where nobody ever leaves, some of them have no best value
    bounds = [(-12.0, 12.0)] * 4 + [(None, None)] * (len(start) - 4)
    found = minimize(loss, start, method="L-BFGS-B", bounds=bounds, options={"maxiter": _STEPS})
    return np.asarray(found.x, np.float64).copy()


class _Graph:
    """Writes nodes on float64 [N]; a float is a constant."""

    def __init__(self, helper: Any, tensor: Any, prefix: str) -> None:
        self._helper, self._tensor, self._prefix = helper, tensor, prefix
        self.nodes: list[Any] = []

    def __call__(self, op: str, *inputs: str | float, output: str = "", **attributes: Any) -> str:
        names = [i if isinstance(i, str) else self._constant(i) for i in inputs]
        name = output or f"{self._prefix}_{len(self.nodes)}"
        self.nodes.append(self._helper.make_node(op, names, [name], **attributes))
        return name

    def _constant(self, value: float) -> str:
        name = f"{self._prefix}_{len(self.nodes)}"
        number = self._helper.make_tensor(name, self._tensor.DOUBLE, [], [value])
        self.nodes.append(self._helper.make_node("Constant", [], [name], value=number))
        return name


def input_nodes(helper: Any, tensor: Any, x: str) -> list[Any]:
    """Nodes that all bases share: `base_orders`, `base_age`, `base_silence` and `base_value`,
    float64 [N], from the matrix `x`."""
    graph = _Graph(helper, tensor, "base_input")
    for name, feature in (
        ("base_orders", _ORDERS), ("base_age", _AGE), ("silence", _SILENCE), ("base_value", _VALUE)
    ):  # fmt: skip
        at = helper.make_tensor(f"{name}_at", tensor.INT64, [], [feature])
        graph.nodes.append(helper.make_node("Constant", [], [f"{name}_at"], value=at))
        wide = graph("Cast", graph("Gather", x, f"{name}_at", axis=1), to=tensor.DOUBLE)
        low, high = _LOWEST[feature], _HIGHEST[feature]
        known = graph("Where", graph("IsNaN", wide), low, wide)
        graph("Clip", known, low, high, output=name)
    graph("Min", "silence", "base_age", output="base_silence")
    return graph.nodes


def base_nodes(helper: Any, tensor: Any, base: EventBase | SpendBase, output: str) -> list[Any]:
    """Nodes that compute `output` float32 [N]: odds to the minus one, or mean spend."""
    graph = _Graph(helper, tensor, output)
    c = base.curve
    rate = graph("Add", "base_orders", c.r - 1.0)
    older = graph("Add", "base_age", c.alpha)
    ratio = graph("Div", older, graph("Sub", older, "base_silence"))
    stays = graph("Add", graph("Max", graph("Sub", "base_orders", 2.0), 0.0), c.b)
    odds = graph("Mul", graph("Div", c.a, stays), graph("Pow", ratio, rate))
    dead = graph("Min", odds, _MOST_DEAD)
    if isinstance(base, EventBase):
        quiet = graph("Pow", graph("Div", older, graph("Add", older, base.days)), rate)
        upside_down = graph("Div", graph("Sub", 1.0, quiet), graph("Add", quiet, dead))
        wide = graph("Pow", upside_down, base.slope)
        wide = graph("Mul", wide, float(np.exp(-base.intercept)))
    else:
        orders = graph("Div", graph("Mul", rate, base.days * float(np.exp(base.intercept))), older)
        alive = graph("Div", orders, graph("Add", dead, 1.0))
        own = graph("Mul", "base_orders", "base_value")
        value = graph("Div", graph("Add", own, base.weight * base.value),
                      graph("Add", "base_orders", base.weight))  # fmt: skip
        wide = graph("Mul", alive, value)
    graph("Cast", wide, to=tensor.FLOAT, output=output)
    return graph.nodes
