"""The network, as jax computes it: last events and window features in, one number a head out.

    events [64]  -> what each is -> GRU -> attention over its outputs -.
                                              ^ asked by the windows   gate -> heads
    windows [F], and which are known -> two layers ------------------ -'

Whatever is missing has a mask: places without an event, gaps, amounts and categories that are not
known, features that are not known, and the whole of the events of somebody without any, for whom
the gate leaves only the windows. `models.sequence.export` writes the same as ONNX, gate by gate:
the GRU is ONNX's, with `linear_before_reset` (Cho et al. 2014; gates in the order z, r, h).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from numpy.typing import NDArray

from schemas.tails import EVENT_KINDS, TAIL_CHANNELS

__all__ = ["SCALARS", "Scale", "Weights", "forward", "initial"]

Weights = Mapping[str, Any]
"""Arrays by name, of jax or numpy."""

UNITS: Final = 32
WIDE: Final = 64
CATEGORY_GROUPS: Final = 32
"""Categories are embedded by so many groups; whether two are the same is known better than that."""
SCALARS: Final = 7
"""Of each event: gap, is it known, age, amount, is it known, same category, is it known."""
_FEW: Final = -1e9
_UNROLL: Final = 1
KIND, GAP, AGE, AMOUNT, CATEGORY, SAME = range(len(TAIL_CHANNELS))
GAP_SCALE, AGE_SCALE = 5.0, 4.0
"""Of log(1 + hours) and log(1 + days): about their spread."""
Z_MOST: Final = 4.0


class Scale(NamedTuple):
    """How inputs become about as large as 1. `mean`, `scale` float32 [F]: of `sign(x) log(1+|x|)`;
    `amount` float32 [2] likewise, of events' log(1 + amount); `level` float32 [heads]: what each
    head says if the network says 0, in log-odds or log currency."""

    mean: NDArray[np.float32]
    scale: NDArray[np.float32]
    amount: NDArray[np.float32]
    level: NDArray[np.float32]


def initial(features: int, heads: int, seed: int) -> dict[str, NDArray[np.float32]]:
    """Weights to begin with, float32 by name (Glorot and Bengio 2010; recurrent ones orthogonal).
    Heads begin at 0."""
    rng = np.random.default_rng(seed)

    def dense(rows: int, columns: int) -> NDArray[np.float32]:
        most = np.sqrt(6.0 / (rows + columns))
        return rng.uniform(-most, most, (rows, columns)).astype(np.float32)

    def zeros(*shape: int) -> NDArray[np.float32]:
        return np.zeros(shape, np.float32)

    turns = [np.linalg.qr(rng.normal(size=(UNITS, UNITS)))[0] for _ in range(3)]
    return {
        "kind": rng.normal(0.0, 0.5, (len(EVENT_KINDS) + 1, UNITS)).astype(np.float32),
        "category": rng.normal(0.0, 0.1, (CATEGORY_GROUPS + 1, UNITS)).astype(np.float32),
        "event_w": dense(SCALARS, UNITS),
        "event_b": zeros(UNITS),
        "gru_w": np.concatenate([dense(UNITS, UNITS) for _ in range(3)], axis=1),
        "gru_r": np.concatenate(turns, axis=1).astype(np.float32),
        "gru_wb": zeros(3 * UNITS),
        "gru_rb": zeros(3 * UNITS),
        "windows_w1": dense(2 * features, WIDE),
        "windows_b1": zeros(WIDE),
        "windows_w2": dense(WIDE, UNITS),
        "windows_b2": zeros(UNITS),
        "ask_w": dense(UNITS, UNITS),
        "ask_b": zeros(UNITS),
        "events_w": dense(2 * UNITS, UNITS),
        "events_b": zeros(UNITS),
        "gate_w": dense(2 * UNITS, UNITS),
        "gate_b": zeros(UNITS),
        "deep_w": dense(UNITS, UNITS),
        "deep_b": zeros(UNITS),
        "heads_w": zeros(2 * UNITS, heads),
        "heads_b": zeros(heads),
    }  # fmt: skip


def forward(w: Weights, scale: Scale, x: Any, events: Any, drop: Sequence[Any] = ()) -> Any:
    """x float32 [n, F] (NaN: unknown), events float32 [n, TAIL_EVENTS, channels] -> [n, heads]:
    log-odds, and logs of amounts. `drop`: factors for the windows' and the fused units, which
    training draws, [n, WIDE] and [n, UNITS]."""
    there = events[..., KIND] > 0  # [n, T]
    windows = _windows(w, scale, x, drop[0] if drop else 1.0)
    hidden = _gru(w, _events(w, scale, events), there)  # [n, T, UNITS]
    asked = windows @ w["ask_w"] + w["ask_b"]
    fits = jnp.einsum("ntu,nu->nt", hidden, asked) / np.float32(np.sqrt(UNITS))
    attention = jax.nn.softmax(jnp.where(there, fits, _FEW), axis=1)
    seen = jnp.einsum("nt,ntu->nu", attention, hidden)
    last = hidden[:, -1]  # carried on over the places without events
    tail = jnp.tanh(jnp.concatenate([seen, last], axis=1) @ w["events_w"] + w["events_b"])
    both = jnp.concatenate([tail, windows], axis=1)
    gate = jax.nn.sigmoid(both @ w["gate_w"] + w["gate_b"]) * there.any(axis=1, keepdims=True)
    fused = (gate * tail + (1.0 - gate) * windows) * (drop[1] if drop else 1.0)
    deep = jax.nn.relu(fused @ w["deep_w"] + w["deep_b"])
    return jnp.concatenate([fused, deep], axis=1) @ w["heads_w"] + w["heads_b"] + scale.level


def _windows(w: Weights, scale: Scale, x: Any, drop: Any) -> Any:
    known = ~jnp.isnan(x)
    z = (jnp.sign(x) * jnp.log1p(jnp.abs(x)) - scale.mean) / scale.scale
    z = jnp.where(known, jnp.clip(z, -Z_MOST, Z_MOST), 0.0)
    both = jnp.concatenate([z, known.astype(z.dtype)], axis=1)
    wide = jax.nn.relu(both @ w["windows_w1"] + w["windows_b1"]) * drop
    return jnp.tanh(wide @ w["windows_w2"] + w["windows_b2"])


def _events(w: Weights, scale: Scale, events: Any) -> Any:
    def known(values: Any) -> tuple[Any, Any]:
        is_known = ~jnp.isnan(values)
        return jnp.where(is_known, values, 0.0), is_known.astype(values.dtype)

    gap, gap_known = known(jnp.log1p(events[..., GAP] * 24.0) / GAP_SCALE)
    age = jnp.log1p(events[..., AGE]) / AGE_SCALE
    of_amount = (jnp.log1p(events[..., AMOUNT]) - scale.amount[0]) / scale.amount[1]
    amount, amount_known = known(of_amount)
    same, same_known = known(events[..., SAME])
    scalars = jnp.stack([gap, gap_known, age, amount, amount_known, same, same_known], axis=-1)
    # one-hot times table, and no lookup, whose gradient is slow on a processor
    kinds, number = (events[..., at].astype(jnp.int32) for at in (KIND, CATEGORY))
    kind = jax.nn.one_hot(kinds, len(EVENT_KINDS) + 1) @ w["kind"]
    group = jnp.where(number > 0, number % CATEGORY_GROUPS + 1, 0)
    category = jax.nn.one_hot(group, CATEGORY_GROUPS + 1) @ w["category"]
    summed = kind + category + scalars @ w["event_w"] + w["event_b"]
    return jax.nn.relu(summed)


def _gru(w: Weights, events: Any, there: Any) -> Any:
    """The hidden state after each place, [n, T, UNITS]; places without an event change nothing."""
    inputs = events @ w["gru_w"] + w["gru_wb"]

    def step(h: Any, now: tuple[Any, Any]) -> tuple[Any, Any]:
        given, is_there = now
        back = h @ w["gru_r"] + w["gru_rb"]
        z = jax.nn.sigmoid(given[:, :UNITS] + back[:, :UNITS])
        r = jax.nn.sigmoid(given[:, UNITS : 2 * UNITS] + back[:, UNITS : 2 * UNITS])
        new = jnp.tanh(given[:, 2 * UNITS :] + r * back[:, 2 * UNITS :])
        h = jnp.where(is_there[:, None], (1.0 - z) * new + z * h, h)
        return h, h

    start = jnp.zeros((events.shape[0], UNITS), jnp.float32)
    along = (jnp.swapaxes(inputs, 0, 1), jnp.swapaxes(there, 0, 1))
    _, hidden = lax.scan(step, start, along, unroll=_UNROLL)
    return jnp.swapaxes(hidden, 0, 1)
