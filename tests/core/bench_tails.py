"""What it would cost a shard to keep each user's last events, and to score by them.

    python -m tests.core.bench_tails [USERS]

Prints bytes per user; and the processor time per event let in, per tail read, and per user that the
network scores (of random weights: it takes as long), beside the champion that ships.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import numpy as np

from models.artifact import default_artifact_path, load_artifact
from models.champion import OUTPUTS, open_session
from models.sequence.export import export
from models.sequence.fit import Fitted
from models.sequence.network import Scale, initial
from schemas.features import FEATURE_NAMES
from schemas.tails import TAIL_EVENTS
from streams.core.events.events import Events, Lines
from streams.core.state.tails import Tails
from streams.core.texts import Texts
from tests.core.driving import T0
from tests.core.oracle import DAY_MS

_BATCH = 4_000
_SCORED = 2_000


def _microseconds(work: Callable[[], object], per: int, times: int = 7) -> float:
    """The least processor time of some runs, for each of `per`."""
    found = []
    for _ in range(times):
        started = time.process_time()
        work()
        found.append(time.process_time() - started)
    return 1e6 * min(found) / per


def _batch(users: int, start_ms: int, rng: np.random.Generator) -> tuple[np.ndarray, Events]:
    """Events of users drawn evenly, in time order, half of them with a category."""
    user = rng.integers(1, users + 1, _BATCH).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    touched = np.arange(0, _BATCH, 2, dtype=np.int32)
    hashes = rng.integers(1, 400, len(touched)).astype(np.uint64)
    n = _BATCH
    return user, Events(
        Texts.of(["u"] * n), rng.integers(0, 9, n).astype(np.int8),
        start_ms + np.arange(n, dtype=np.int64) * 10, np.zeros(n, np.uint64),
        np.zeros(n, np.uint64), np.zeros(n, np.uint64), np.zeros(n, np.int32),
        rng.integers(100, 9_999, n), np.zeros(n, np.int64), np.zeros(n, np.bool_),
        np.zeros(n, np.int32), Lines(touched, hashes, hashes), np.arange(n),
    )  # fmt: skip


def main(users: int) -> None:
    rng = np.random.default_rng(1)
    tails, chosen = Tails(), np.arange(_BATCH)
    batches = [_batch(users, T0 + i * 60_000, rng) for i in range(users * TAIL_EVENTS // _BATCH)]
    for user, events in batches:
        tails.remember(user, events, chosen)
    print(f"{len(tails):,} users: {tails.nbytes / len(tails):,.0f} bytes each")
    some = iter(batches)
    cost = _microseconds(lambda: tails.remember(*next(some), chosen), _BATCH)
    print(f"an event let in: {cost:.2f} µs")
    who = batches[-1][0][:_SCORED]
    cost = _microseconds(lambda: tails.of(who, T0 + DAY_MS), _SCORED)
    print(f"a tail read: {cost:.2f} µs")
    f, ones = len(FEATURE_NAMES), np.ones(len(FEATURE_NAMES), np.float32)
    scale = Scale(0 * ones, ones, np.array([3.0, 1.0], np.float32), np.zeros(2, np.float32))
    onnx = export(Fitted(initial(f, 2, 1), scale, OUTPUTS, 1, ()))
    session = open_session(onnx, "bench")
    given = {"x": rng.normal(size=(_SCORED, f)).astype(np.float32), "events": tails.of(who, T0)}
    for rows in (_SCORED, 1):
        part = {name: values[:rows] for name, values in given.items()}
        cost = _microseconds(lambda part=part: session.run(None, part), rows)  # type: ignore[misc]
        print(f"a user scored by the network, {rows} at a time: {cost:.1f} µs")
    champion = load_artifact(default_artifact_path())
    cost = _microseconds(lambda: champion.score(given["x"]), _SCORED)
    print(f"a user scored by the champion that ships, {_SCORED} at a time: {cost:.1f} µs")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20_000)
