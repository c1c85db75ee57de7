"""How much CPU time a step takes, as a multiple of a fixed piece of numpy work in the same process.

Both are measured in turn and the least of each counts, so a busy machine, a slow one or a hot one
changes the ratio little. `tests/bench/test_guard.py` holds it against `BASELINE`.

    python -m tests.bench.guard     what to write into BASELINE after the step became faster
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import numpy as np

from models.registry import ScorerStore, artifact_directory
from schemas.features import FEATURE_NAMES
from schemas.messages import JournalledSnapshot
from streams.core.plan import Plan
from streams.core.state.shard_state import ShardState
from streams.core.step import step
from streams.core.warm import compile_kernels
from streams.settings import load
from streams.shard.config import core_config
from tests.bench.load import UNIFORM, Shape, columns
from tests.bench.stage import snapshot_of

__all__ = ["BASELINE", "TOLERANCE", "measured_ratio", "verdict"]

BASELINE: Final = 1.55
"""The ratio on 2026-11-27."""
TOLERANCE: Final = 1.4
"""The ratio may be so many times the baseline, or so many times less. Twice as slow fails even just
before the baseline would have had to be lowered."""

_SHAPE: Final[Shape] = replace(UNIFORM, users=20_000)
_STEP_EVENTS: Final = 8_000
_ROUNDS: Final = 12
_NOW_MS: Final = 1_795_600_000_000


class _Steps:
    """Steps of one shard that knows everybody, all of the same size, decoded to scored."""

    def __init__(self) -> None:
        compile_kernels()
        environ = {
            "TIDELINE_MODEL_SHOP_MIN_DAYS": "0",
            "TIDELINE_KAFKA_PARTITIONER": "unchecked",  # one shard has everybody
        }
        settings = load(environ, None)
        self._config = core_config(settings)
        self._scorer = ScorerStore(
            artifact_directory(settings.model.artifact), settings.stream.currency
        ).get("")
        self._state = ShardState(0, len(FEATURE_NAMES))
        for block in _SHAPE.history(_NOW_MS):
            self._prepare(block)()
        source = _SHAPE.source(_STEP_EVENTS * (_ROUNDS + 2), _NOW_MS)
        source.block_events = _STEP_EVENTS
        self._blocks = iter(source)
        for _ in range(2):
            self.next()()

    def next(self) -> Callable[[], Any]:
        """The next step, ready to be run."""
        return self._prepare(next(self._blocks))

    def _prepare(self, block: Any) -> Callable[[], Any]:
        meta = self._state.meta
        start = meta.offsets[0], meta.offsets[1]
        records = columns(block, start)
        stop = start[0] + len(records[0]), start[1] + len(records[1])
        learner = None if meta.seq else JournalledSnapshot.of(snapshot_of(self._scorer))
        plan = Plan(meta.seq + 1, start, stop, _NOW_MS, 0, learner=learner)
        return lambda: step(self._state, plan, records, self._config, self._scorer)


def _reference() -> Callable[[], Any]:
    """Work of the kind that a step does, and of about its size: it must never be changed without
    measuring BASELINE again."""
    rng = np.random.default_rng(0)
    keys = rng.integers(0, 1 << 40, 120_000)
    values = rng.random((20_000, 120))
    rows = rng.integers(0, 20_000, 8_000)

    def work() -> float:
        order = np.argsort(keys, kind="stable")
        total = float(np.bincount(keys[order] & 0xFFFF).sum())
        for _ in range(2):
            total += float(np.log1p(np.exp2(-values[rows])).sum())
        return total

    return work


def measured_ratio(times: int = 1) -> float:
    """The least CPU time of a step over the least of the reference; with `times`, of so many equal
    steps: what it would be if a step took so many times as long."""
    steps, reference = [_Steps() for _ in range(times)], _reference()
    reference()
    least_step = least_reference = float("inf")
    gc.collect()
    gc.disable()
    try:
        for _ in range(_ROUNDS):
            runs = [one.next() for one in steps]
            before = time.process_time()
            for run in runs:
                run()
            least_step = min(least_step, time.process_time() - before)
            before = time.process_time()
            reference()
            least_reference = min(least_reference, time.process_time() - before)
    finally:
        gc.enable()
    return least_step / least_reference


def verdict(ratio: float) -> str:
    """What is wrong with a ratio, and what to do; empty if nothing is."""
    if ratio > BASELINE * TOLERANCE:
        return (
            f"a step takes {ratio / BASELINE:.2f} times as long as on record; find out why. If it "
            f"has to be so, write {ratio:.2f} into BASELINE of tests/bench/guard.py and say why."
        )
    if ratio < BASELINE / TOLERANCE:
        return (
            f"a step takes {ratio / BASELINE:.2f} of what it took on record. So that this is kept, "
            f"write {ratio:.2f} into BASELINE of tests/bench/guard.py."
        )
    return ""


if __name__ == "__main__":
    print(f"{measured_ratio():.3f}")
