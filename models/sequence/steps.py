"""What training computes again and again, compiled once for each shape: loss, prediction, step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import jax
import jax.numpy as jnp
import numpy as np

from models.baselines.metrics import TWEEDIE_POWER
from models.sequence.network import Scale, Weights, forward

__all__ = ["begin", "gradient", "loss", "predict", "step"]

DECAY: Final = 1e-3
"""Of weights, with each step, times the learning rate (Loshchilov and Hutter 2019)."""
FURTHER: Final = 0.3
"""What a further head counts, beside churn and spend."""
_BETA: Final = (0.9, 0.999)
_SMALLEST: Final = 1e-8
_SPEND: Final = 1  # which head


def _loss(raw: Any, labels: Any, level: Any) -> Any:
    """Log loss of events; of spend the deviance less what no prediction changes, and relative to
    that of a mean of 1, so that currencies are alike."""
    known = ~jnp.isnan(labels)
    y = jnp.where(known, labels, 0.0)
    each = jax.nn.softplus(raw) - y * raw
    a, b = 1.0 - TWEEDIE_POWER, 2.0 - TWEEDIE_POWER
    mu, relative = raw[:, _SPEND] - level[_SPEND], y[:, _SPEND] * jnp.exp(-level[_SPEND])
    each = each.at[:, _SPEND].set(jnp.exp(b * mu) / b - relative * jnp.exp(a * mu) / a)
    means = (each * known).sum(axis=0) / jnp.maximum(known.sum(axis=0), 1)
    weights = jnp.where(jnp.arange(labels.shape[1]) > _SPEND, FURTHER, 1.0)
    return (means * weights).sum()


def _of_batch(
    weights: Weights, scale: Scale, x: Any, events: Any, labels: Any, drop: Sequence[Any]
) -> Any:
    return _loss(forward(weights, scale, x, events, drop), labels, scale.level)


loss = jax.jit(_loss)
"""(raw [n, heads], labels [n, heads] with NaN where not known, level [heads]) -> one number."""

gradient = jax.jit(jax.grad(_of_batch))
"""Of the loss of a batch, by the weights."""

predict = jax.jit(forward)


def _step(
    weights: Weights, state: Any, rate: Any, scale: Scale, x: Any, events: Any, labels: Any,
    drop: Sequence[Any],
) -> Any:  # fmt: skip
    """One step of Adam: the new weights and state. Gradients longer than 1 are made 1 long."""
    found = jax.grad(_of_batch)(weights, scale, x, events, labels, drop)
    count, first, second = state
    count = count + 1
    length = jnp.sqrt(sum((g**2).sum() for g in found.values()))
    found = {name: g / jnp.maximum(length, 1.0) for name, g in found.items()}
    m = {name: _BETA[0] * first[name] + (1.0 - _BETA[0]) * g for name, g in found.items()}
    v = {name: _BETA[1] * second[name] + (1.0 - _BETA[1]) * g**2 for name, g in found.items()}
    of_m, of_v = 1.0 - _BETA[0] ** count, 1.0 - _BETA[1] ** count
    moved = {
        name: w
        - rate * (m[name] / of_m / (jnp.sqrt(v[name] / of_v) + _SMALLEST))
        - rate * DECAY * w * (w.ndim > 1)
        for name, w in weights.items()
    }
    return moved, (count, m, v)


step = jax.jit(_step)
"""As `_step`, compiled."""


def begin(weights: Weights) -> Any:
    """Adam's state before the first step (Kingma and Ba 2015)."""
    nothing = {name: np.zeros_like(value) for name, value in weights.items()}
    return np.float32(0), nothing, dict(nothing)
