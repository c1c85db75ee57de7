"""Tideline up to a layer: the worker's own Faust app and transport, and the core's work.

    python -m tests.bench.ladder '{"layer": "windows", ...}'

In place of the engine there is `Rung`, which plans as a shard does and runs that work in the
compute thread; nothing is journalled, kept or sent. The layer above the last, ClickHouse, is
`tideline worker` itself (`tests/bench/whole_job.py`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import faust
import msgspec
from faust.types import TP

from models.registry import ScorerStore, artifact_directory
from schemas.features import FEATURE_NAMES
from schemas.lives import position_of
from schemas.messages import JournalledSnapshot
from streams.agents import define_agents
from streams.core.events.records import SOURCES, RecordBatch
from streams.core.plan import next_plan
from streams.core.state.shard_state import ShardState
from streams.core.warm import compile_kernels
from streams.faust_app import Failure, app_options, execute
from streams.settings import Settings, load
from streams.shard.config import core_config
from streams.shard.inbox import Inbox
from streams.stopping import StopRequests
from tests.bench.layers import Work, work_of
from tests.bench.peers.meter import Meter, Spec, spec
from tests.bench.stage import snapshot_of

__all__ = ["run"]

_BUFFER_BATCHES: Final = 4


class Rung:
    """Stands where the engine stands: takes batches, and does one layer's work on them."""

    def __init__(self, settings: Settings, work: Work, meter: Meter, app: Any) -> None:
        names = settings.topic_names
        self._topics = (names.clickstream, names.orders)
        self._settings, self._work, self._meter, self._app = settings, work, meter, app
        self._config = core_config(settings)
        self._compute = ThreadPoolExecutor(1, thread_name_prefix="compute")
        self._states: dict[int, ShardState] = {}
        self._inboxes: dict[int, Inbox] = {}
        self._turn = asyncio.Lock()

    async def offer(self, batch: RecordBatch) -> None:
        shard, source = batch.partition, self._topics.index(batch.topic)
        state = self._states.setdefault(shard, ShardState(shard, len(FEATURE_NAMES)))
        inbox = self._inboxes.setdefault(shard, Inbox((0, 0)))
        inbox.offer(source, batch.records, batch.stop, batch.skipped)
        loop = asyncio.get_running_loop()
        async with self._turn:
            while True:
                ends = [self._app.consumer.log_end(TP(t, shard)) for t in self._topics]
                plan = next_plan(
                    state.meta, inbox.pending(ends), clock="wall",
                    wall_ms=time.time_ns() // 1_000_000,
                    sweep_interval_ms=self._config.sweep_interval_ms,
                    max_records=self._settings.stream.max_batch_records, users=state.sweep_places,
                )  # fmt: skip
                if plan is None:
                    return
                if position_of(plan.seq) == 1:
                    plan = msgspec.structs.replace(plan, learner=self._learner)
                taken = inbox.take(plan)
                await loop.run_in_executor(self._compute, self._work, state, plan, taken)
                if state.meta.seq != plan.seq:  # a layer below the state
                    state.meta.seq, state.meta.offsets = plan.seq, list(plan.stop)
                self._meter.many(sum(len(taken[s]) for s in SOURCES))
                if not any(map(len, taken)):
                    return

    @property
    def _learner(self) -> JournalledSnapshot:
        scorer = ScorerStore(
            artifact_directory(self._settings.model.artifact), self._settings.stream.currency
        ).get("")
        return JournalledSnapshot.of(snapshot_of(scorer))

    async def revoked(self) -> None:
        """Nothing was promised to anybody."""

    async def assigned(self, partitions: Iterable[int]) -> None:
        """Shards are made when their first batch comes."""


def run(given: Spec) -> None:
    """Consume until the meter has seen enough; it ends the process."""
    requests = StopRequests.listen()
    environ = {
        "TIDELINE_KAFKA_BROKER_URL": given.bootstrap, "TIDELINE_KAFKA_APP_ID": given.group,
        "TIDELINE_KAFKA_CLICKSTREAM_TOPIC": given.clickstream,
        "TIDELINE_KAFKA_ORDERS_TOPIC": given.orders,
        "TIDELINE_KAFKA_PARTITIONS": str(given.partitions),
        "TIDELINE_KAFKA_SESSION_TIMEOUT_SECONDS": "6",
        "TIDELINE_MODEL_SHOP_MIN_DAYS": "0",
    }  # fmt: skip
    settings = load(environ, None)
    compile_kernels()
    scorer = ScorerStore(artifact_directory(settings.model.artifact), settings.stream.currency).get(
        ""
    )
    work = work_of(given.layer, core_config(settings), scorer, snapshot_of(scorer))
    total = given.clickstream_events + given.orders_events
    meter = Meter(given, total, warm_events=given.history_events + given.warm_events)
    failure = Failure()
    # What a shard does by pausing: without it, all would be fetched before the clock starts.
    options = {**app_options(settings, given.group), "stream_buffer_maxsize": _BUFFER_BATCHES}
    app = faust.App(**options)
    rung: Any = Rung(settings, work, meter, app)
    define_agents(app, rung, (given.clickstream, given.orders))
    execute(app, failure, requests)


if __name__ == "__main__":
    run(spec())
