"""The core's work up to a layer, on the core's own functions: what each layer adds is seen so.

Up to the learner these do what `streams.core.step.step` does and stop there; `decisions` is `step`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from schemas.messages import LearnerSnapshot
from streams.core.apply import admit, apply
from streams.core.config import CoreConfig, Scorer
from streams.core.events.decode import decode
from streams.core.events.records import SOURCES, Records
from streams.core.features import features
from streams.core.plan import Plan
from streams.core.state.shard_state import ShardState
from streams.core.step import step

__all__ = ["LAYERS", "Work", "work_of"]

LAYERS: Final = ("transport", "decode", "windows", "champion", "learner", "decisions")
Work = Callable[[ShardState, Plan, Sequence[Records]], None]


def work_of(layer: str, config: CoreConfig, scorer: Scorer, snapshot: LearnerSnapshot) -> Work:
    """The work of every layer up to `layer`, for one plan. Raises ValueError for other names."""
    if layer == "transport":
        return lambda state, plan, records: None
    if layer == "decode":
        return lambda state, plan, records: _decode(records, config)
    if layer == "decisions":
        return lambda state, plan, records: _decide(state, plan, records, config, scorer)
    if layer not in LAYERS:
        raise ValueError(f"no layer {layer!r}; there are {', '.join(LAYERS)}")
    scored = layer != "windows"
    learner = snapshot if layer == "learner" else None

    def work(state: ShardState, plan: Plan, records: Sequence[Records]) -> None:
        x = _windows(state, plan, records, config)
        if scored and len(x):
            scorer.score(x, learner)

    return work


def _decode(records: Sequence[Records], config: CoreConfig) -> None:
    for source in SOURCES:
        decode(records[source], source, config.decode)


def _windows(
    state: ShardState, plan: Plan, records: Sequence[Records], config: CoreConfig
) -> np.ndarray:
    """Decode, drop duplicates, count into the windows, and compute the features of the touched."""
    meta = state.meta
    decoded = [decode(records[s], s, config.decode) for s in SOURCES]
    admitted = [admit(state, events, config.lateness_ms) for events in decoded]
    meta.clock_ms = max(meta.clock_ms, plan.clock_ms)
    state.counts.advance(meta.clock_ms)
    state.money.advance(meta.clock_ms)
    rows = [apply(state, e, a).rows for e, a in zip(decoded, admitted, strict=True)]
    meta.seq, meta.offsets = plan.seq, list(plan.stop)
    return features(state, np.unique(np.concatenate(rows)), meta.clock_ms)


def _decide(
    state: ShardState,
    plan: Plan,
    records: Sequence[Records],
    config: CoreConfig,
    scorer: Scorer,
) -> None:
    step(state, plan, records, config, scorer)
