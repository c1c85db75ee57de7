"""How the cost of a step, and memory, grow with partitions, users, windows and time.

    python -m tests.bench.growth '{"what": "partitions", "size": 64}'

The pure core alone, in CPU time, with nothing of Kafka or ClickHouse. Each measurement is a process
of its own, so that memory is its own and the windows can be others than the product's. Events are
drawn uniformly: every event touches another user, which is the most work there is.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    pass

__all__ = ["SIZES", "WHAT", "measure"]

STEP_EVENTS: Final = 10_000
_PARTITION_USERS: Final = 1_000_000
_SMALL_STEP: Final = 2_000
"""So small that nearly every event touches another user, however many there are: else few users
would look cheaper than they are."""
SIZES: Final[dict[str, tuple[int, ...]]] = {
    "partitions": (1, 16, 64),
    "users": (10_000, 200_000, 2_000_000),
    "windows": (5, 10, 20),
    "memory": (1_000_000,),
    "hour": (100_000,),
    "steady": (10_000,),
}
_FILLING_DAYS: Final = 100
_SPAN_DAYS: Final = 80
_ROOT: Final = Path(__file__).parents[2]
_MORE_HOURS: Final = (2, 3, 4, 6, 8, 12, 18, 36, 48, 60, 72, 96, 120, 144, 240)
"""Lengths of windows beyond the product's, in hours; hops of an hour, the shorter ones' tiles."""
_LIMIT_SECONDS: Final = 900.0


def measure(what: str, size: int) -> dict[str, Any]:
    """One measurement, in a separate process. Raises ClickException if that fails."""
    with tempfile.TemporaryDirectory() as directory:
        environ = {**os.environ, "PYTHONPATH": str(_ROOT)}
        if what == "windows":
            # what is compiled with other windows must not be found by anybody else
            environ["NUMBA_CACHE_DIR"] = directory
        done = subprocess.run(
            [sys.executable, "-m", "tests.bench.growth", json.dumps({"what": what, "size": size})],
            cwd=_ROOT, env=environ, capture_output=True, text=True, timeout=_LIMIT_SECONDS,
            check=False,
        )  # fmt: skip
    if done.returncode:
        raise click.ClickException(f"{what} at {size:,}: {done.stderr[-2000:]}")
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


def _champion() -> tuple[Any, Any]:
    """The settings, and the champion that ships. Imports nothing of the core."""
    from models.registry import ScorerStore, artifact_directory  # noqa: PLC0415
    from streams.settings import load  # noqa: PLC0415

    settings = load({"TIDELINE_MODEL_SHOP_MIN_DAYS": "0"}, None)
    return settings, ScorerStore(
        artifact_directory(settings.model.artifact), settings.stream.currency
    ).get("")


def use_windows(count: int) -> None:
    """Give the features `count` windows; to be called before the core is imported. The models must
    be loaded already: they are checked against the product's features."""
    from schemas import features as module  # noqa: PLC0415

    old = module._window_features()
    more = tuple(module.Window(f"{h}h", h * 3_600, 3_600) for h in _MORE_HOURS)
    module.WINDOWS = (*module.WINDOWS, *more)[:count]  # type: ignore[misc, assignment]
    rest = module.FEATURES[len(old) :]
    module.FEATURES = (*module._window_features(), *rest)  # type: ignore[misc]
    module.FEATURE_NAMES = tuple(f.name for f in module.FEATURES)  # type: ignore[misc]


@dataclass
class _Core:
    """Shards fed by the benchmark, each step timed."""

    partitions: int
    now_ms: int
    windows: int = 0
    """0: the product's."""
    step_events: int = STEP_EVENTS

    def __post_init__(self) -> None:
        settings, scorer = _champion()
        known = len(scorer.champion.manifest.features)
        if self.windows:
            use_windows(self.windows)
        from schemas.features import FEATURE_NAMES, FEATURES, WINDOWS  # noqa: PLC0415
        from streams.core.state.shard_state import ShardState  # noqa: PLC0415
        from streams.core.warm import compile_kernels  # noqa: PLC0415
        from streams.replay.partitioner import KeyAssigner  # noqa: PLC0415
        from streams.shard.config import core_config  # noqa: PLC0415

        compile_kernels()
        # As many shards as are measured, whatever the settings say.
        self.config = replace(core_config(settings), partitioner=None)
        self.scorer: Any = _Anyone(scorer, len(FEATURES) - known, len(WINDOWS))
        self.states = [ShardState(shard, len(FEATURE_NAMES)) for shard in range(self.partitions)]
        self._partitioner = KeyAssigner(self.partitions)
        self.cpu_seconds = 0.0
        self.longest_seconds = 0.0
        self.events = 0
        gc.collect()
        gc.freeze()
        gc.set_threshold(100_000, 50, 100)

    def reset(self) -> None:
        """Restart the measurement."""
        self.cpu_seconds = self.longest_seconds = 0.0
        self.events = 0

    def take(self, source: Any) -> None:
        """All of `source`, in steps of `step_events` per shard."""
        waiting: list[list[Any]] = [[] for _ in self.states]
        for block in source:
            owners = self._partitioner.assign([record.key for record in block])
            for record, owner in zip(block, owners, strict=True):
                waiting[owner].append(record)
            for shard, mine in enumerate(waiting):
                while len(mine) >= self.step_events:
                    self._step(shard, mine[: self.step_events])
                    del mine[: self.step_events]
        for shard, mine in enumerate(waiting):
            if mine:
                self._step(shard, mine)

    def _step(self, shard: int, block: list[Any], sweep_rows: int = 0) -> None:
        from streams.core.plan import Plan  # noqa: PLC0415
        from streams.core.step import step  # noqa: PLC0415
        from tests.bench.load import columns  # noqa: PLC0415

        state = self.states[shard]
        start = state.meta.offsets[0], state.meta.offsets[1]
        records = columns(block, start)
        stop = start[0] + len(records[0]), start[1] + len(records[1])
        plan = Plan(state.meta.seq + 1, start, stop, self.now_ms, sweep_rows)
        before, copied = time.process_time(), self.scorer.copying_seconds
        step(state, plan, records, self.config, self.scorer)
        took = time.process_time() - before - (self.scorer.copying_seconds - copied)
        self.cpu_seconds += took
        self.longest_seconds = max(self.longest_seconds, took)
        self.events += len(block)

    def sweep(self) -> None:
        """Every user once, in slices as a worker's."""
        from streams.core.plan import SWEEP_SLICE_ROWS  # noqa: PLC0415

        for shard, state in enumerate(self.states):
            left = state.sweep_places
            while left:
                self._step(shard, [], min(SWEEP_SLICE_ROWS, left))
                # it restarts at its end
                left = state.meta.sweep_row and state.sweep_places - state.meta.sweep_row

    @property
    def us_per_event(self) -> float:
        return self.cpu_seconds / self.events * 1e6

    @property
    def counted_bytes(self) -> int:
        return sum(state.nbytes for state in self.states)


class _Anyone:
    """The champion, for everybody with an order, and for wider rows: it looks at its own columns.

    Features of more windows come after the first windows' ones, and before the others. A model made
    for wider rows would read them where they are, so `copying_seconds` tells what the benchmark
    itself spends on picking the columns out, CPU time so far.
    """

    def __init__(self, scorer: Any, more: int, windows: int) -> None:
        self._scorer = scorer
        self.champion_version, self.horizon_days = scorer.champion_version, scorer.horizon_days
        self.min_orders = 1
        self.copying_seconds = 0.0
        self._more = more
        self._first = 5 * (more // (windows - 5)) if more else 0

    def _cut(self, x: Any) -> Any:
        if not self._more:
            return x
        import numpy as np  # noqa: PLC0415

        before = time.process_time()
        own = np.concatenate([x[:, : self._first], x[:, self._first + self._more :]], axis=1)
        self.copying_seconds += time.process_time() - before
        return own

    def covers(self, orders: Any) -> Any:
        return self._scorer.covers(orders)

    def score(self, x: Any, learner: Any) -> Any:
        return self._scorer.score(self._cut(x), learner)

    def spend_interval(self, orders: Any, p_churn: Any, spend: Any) -> Any:
        return self._scorer.spend_interval(orders, p_churn, spend)

    def forecast(self, x: Any) -> Any:
        return self._scorer.forecast(self._cut(x))

    @property
    def long_seen_days(self) -> Any:
        return self._scorer.long_seen_days

    def long_value(self, x: Any) -> Any:
        return self._scorer.long_value(self._cut(x))

    def reasons(self, x: Any, learner: Any) -> Any:
        return self._scorer.reasons(self._cut(x), learner)


def _core(partitions: int, users: int, windows: int = 0) -> tuple[_Core, Any]:
    """Shards that know every user by one order, and the shape that draws from them."""
    core = _Core(partitions, now_ms := time.time_ns() // 1_000_000, windows)
    from tests.bench.load import UNIFORM  # noqa: PLC0415

    shape = replace(UNIFORM, users=users)
    core.take(replace(shape.history(now_ms), rounds=1))
    core.reset()
    return core, shape


def _cost(core: _Core, shape: Any, events: int, warm: int = 40_000) -> dict[str, Any]:
    """Three measurements of a third of the events each: their spread shows the noise."""
    core.take(shape.source(warm, core.now_ms, seed=2))
    costs = []
    for seed in (3, 4, 5):
        core.reset()
        core.take(shape.source(events // 3, core.now_ms, seed=seed))
        costs.append(core.us_per_event)
    return {"us_per_event": costs, "events": events}


def _partitions(size: int) -> dict[str, Any]:
    core, shape = _core(size, _PARTITION_USERS)
    core.step_events = _SMALL_STEP
    return _cost(core, shape, 3 * 64 * _SMALL_STEP)


def _users(size: int) -> dict[str, Any]:
    core, shape = _core(1, size)
    core.step_events = _SMALL_STEP
    return _cost(core, shape, 300_000)


def _windows(size: int) -> dict[str, Any]:
    return _cost(*_core(1, 200_000, windows=size), 300_000)


def _memory(size: int) -> dict[str, Any]:
    """Bytes per user who was active lately (an order and three more events in 20 days), the cost of
    a full sweep, and bytes per user once all have been silent for 120 days."""
    from tests.bench.load import DAY_MS  # noqa: PLC0415
    from tests.bench.machine import resident_bytes  # noqa: PLC0415

    now_ms = time.time_ns() // 1_000_000
    small, _ = _core(1, 1_000)  # what a process needs before it knows anybody
    gc.collect()
    base = resident_bytes()
    del small
    core, shape = _core(1, size)
    core.take(shape.source(3 * size, now_ms, seed=2, span_ms=20 * DAY_MS))
    gc.collect()
    users = sum(state.known for state in core.states)
    active = {"counted": core.counted_bytes / users, "resident": (resident_bytes() - base) / users}
    core.reset()
    core.now_ms += DAY_MS
    core.sweep()
    sweep = {"cpu_seconds": core.cpu_seconds, "longest_ms": core.longest_seconds * 1000}
    core.now_ms += 120 * DAY_MS
    for _ in range(2):  # what a sweep finds to be forgotten is dropped bit by bit later
        core.sweep()
    gc.collect()
    dormant = {"counted": core.counted_bytes / users, "resident": (resident_bytes() - base) / users}
    return {"users": users, "base": base, "active": active, "sweep": sweep, "dormant": dormant}


def _hour(size: int) -> dict[str, Any]:
    """An hour of event time in a run that takes a fraction of it: 20 events per user.

    The cost in each fifth, what each event adds to memory, what its id alone takes, and what is
    kept of each user's day for as long as the longest window, once the shorter ones are over it.
    """
    core, shape = _core(1, size)
    fifths, hour_ms, total = [], 3_600_000, 20 * size
    end_ms = core.now_ms
    core.take(shape.source(total // 20, end_ms - hour_ms, seed=2, span_ms=hour_ms // 20))
    before, ids, day = core.counted_bytes, *_kept(core)
    source = shape.source(total, end_ms, seed=3)
    for part in _in_parts(source, total // 5):
        core.reset()
        core.now_ms = part[-1].timestamp_ms
        core.take([part])
        fifths.append(core.us_per_event)
    grown, ids_grown = core.counted_bytes - before, _kept(core)[0] - ids
    core.now_ms = end_ms + 2 * 24 * hour_ms
    core._step(0, [])
    return {
        "us_per_event": fifths,
        "events": total,
        "bytes_per_event": grown / total,
        "id_bytes": ids_grown / total,
        "user_day_bytes": (_kept(core)[1] - day) / size,
    }


def _steady(size: int) -> dict[str, Any]:
    """Whether memory is flat once all windows and the ids are full: half an event per user and day,
    and a sweep each night. What is forgotten goes in parts, so memory goes up and down by a tenth:
    `bytes_per_event` compares the most in one span of days with the most in the next."""
    from tests.bench.load import DAY_MS  # noqa: PLC0415

    core, shape = _core(1, size)
    end_ms, kept = core.now_ms, []
    for day in range(_FILLING_DAYS + 2 * _SPAN_DAYS):
        core.now_ms = end_ms + (day + 1) * DAY_MS
        core.take(shape.source(size // 2, core.now_ms, seed=3 + day, span_ms=DAY_MS))
        core.sweep()
        kept.append(core.counted_bytes)
    before, after = max(kept[_FILLING_DAYS:-_SPAN_DAYS]), max(kept[-_SPAN_DAYS:])
    events = _SPAN_DAYS * (size // 2)
    return {"bytes_per_event": (after - before) / events, "bytes": after, "events": events}


def _kept(core: _Core) -> tuple[int, int]:
    """Memory of event ids, and of the logs and pairs behind the windows; bytes."""
    ids = sum(state.seen_ids.nbytes for state in core.states)
    logs = sum(
        state.counts.nbytes(0) + state.money.nbytes(0) + state.pairs.nbytes for state in core.states
    )
    return ids, logs


def _in_parts(source: Any, events: int) -> Iterator[list[Any]]:
    part: list[Any] = []
    for block in source:
        part += block
        if len(part) >= events:
            yield part
            part = []
    if part:
        yield part


WHAT: Final[dict[str, Callable[[int], dict[str, Any]]]] = {
    "partitions": _partitions,
    "users": _users,
    "windows": _windows,
    "memory": _memory,
    "hour": _hour,
    "steady": _steady,
}


def main() -> None:
    given = json.loads(sys.argv[1])
    print(json.dumps(WHAT[given["what"]](given["size"])))


if __name__ == "__main__":
    main()
