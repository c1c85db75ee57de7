"""What a command needs to work on the shards itself, while no worker of the group runs."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

from aiokafka import TopicPartition
from kafka.errors import CoordinatorNotAvailableError, KafkaError

from models.registry import ScorerStore, artifact_place
from schemas.errors import FatalError
from streams.clickhouse.client import clickhouse_target
from streams.clickhouse.sink import ClickHouseSink
from streams.core.ages import Ages
from streams.core.events.records import SOURCES
from streams.core.stages import Stage
from streams.core.state.shard_state import ShardState
from streams.core.step import Outputs
from streams.core.warm import compile_kernels
from streams.kafka import clients
from streams.kafka.access import kafka_access
from streams.kafka.admin import connect
from streams.kafka.log import KafkaLog
from streams.memory import release_memory
from streams.privacy.erasure_board import ErasureBoard
from streams.privacy.pseudonyms import pseudonyms
from streams.settings import Settings
from streams.shard.config import core_config
from streams.shard.services import Services
from streams.shard.worker_clock import wall_clock_ms

__all__ = ["group_members", "offline_services", "wait_until_workers_stopped"]

POLL_SECONDS = 0.5
COORDINATOR_SECONDS = 10.0


def group_members(settings: Settings) -> list[str] | None:
    """The members of the workers' group, as their clients name themselves; None: the broker does
    not say (the local broker). Raises BrokerUnavailable."""
    started = time.monotonic()
    with connect(kafka_access(settings)) as admin:
        while True:
            try:
                group = admin.describe_groups([settings.kafka.app_id])[settings.kafka.app_id]
                break
            except CoordinatorNotAvailableError:  # the cluster's first group: give it a moment
                if time.monotonic() - started > COORDINATOR_SECONDS:
                    return None
                time.sleep(POLL_SECONDS)
            except (KafkaError, ValueError, KeyError):
                return None
    return sorted(
        f"{member['client_id']} at {str(member['client_host']).lstrip('/')}"
        for member in group["members"]
    )


async def wait_until_workers_stopped(
    settings: Settings,
    seconds: float | None,
    on_wait: Callable[[list[str]], object] = lambda members: None,
) -> bool:
    """Return once no worker is in the group; False if the broker does not say who is.

    `on_wait` is called with the members again and again until then. Raises FatalError after
    `seconds` (None: it waits for ever).
    """
    started = time.monotonic()
    while members := await asyncio.to_thread(group_members, settings):
        if seconds is not None and time.monotonic() - started >= seconds:
            raise FatalError(
                f"Workers of {settings.kafka.app_id} run ({', '.join(members)}). "
                "Stop them, and run the command again."
            )
        on_wait(members)
        await asyncio.sleep(POLL_SECONDS)
    return members is not None


class _GroupOffsets:
    """`streams.shard.services.Inputs` without a consumer: nothing is fetched, only committed."""

    def __init__(self, settings: Settings) -> None:
        names = settings.topic_names
        self._topics = (names.clickstream, names.orders)
        self._access = kafka_access(settings)
        self._group = settings.kafka.app_id

    async def seek(self, source: int, shard: int, offset: int) -> None:
        """There is nothing to fetch."""

    def pause(self, source: int, shard: int, paused: bool) -> None:
        """There is nothing to fetch."""

    def log_end(self, source: int, shard: int) -> int | None:
        return None

    async def commit(
        self, shard: int, offsets: tuple[int, int], applied_ms: tuple[int, int]
    ) -> None:
        places = {TopicPartition(self._topics[s], shard): offsets[s] for s in SOURCES}
        consumer = clients.async_consumer(self._access, group_id=self._group)
        await consumer.start()
        try:
            consumer.assign(list(places))
            await consumer.commit(places)
        finally:
            await consumer.stop()


class _NoMetrics:
    """`streams.shard.services.Monitor` of a command: it shows its own progress."""

    def stepped(
        self,
        shard: int,
        outputs: Outputs,
        state: ShardState,
        seconds: float,
        stages: Mapping[Stage, float],
    ) -> None: ...
    def journalled(self, seconds: float) -> None: ...
    def recovering(self, shard: int, steps_left: int, records_left: int) -> None: ...
    def checkpoint_took(self, seconds: float) -> None: ...
    def checkpoint_written(self, shard: int, nbytes: int) -> None: ...
    def state(self, shard: int, name: str) -> None: ...
    def forget(self, shard: int) -> None: ...
    def alert_readable(self, seconds: float) -> None: ...
    def stored(self, seconds: float, ages: Ages | None, *, replayed: bool) -> None: ...


@contextlib.asynccontextmanager
async def offline_services(settings: Settings) -> AsyncIterator[Services]:
    """What shards share, without a consumer of the input topics, for `streams.shard.offline`.

    Raises BrokerUnavailable, SettingsError, or ArtifactError if the model can't be used.
    """
    await asyncio.to_thread(compile_kernels)  # up to a minute once, so before workers have to stop
    names = settings.topic_names
    log, page_log = KafkaLog(kafka_access(settings)), KafkaLog(kafka_access(settings))
    scorers = ScorerStore(artifact_place(settings.model.artifact), settings.stream.currency)
    sink = ClickHouseSink(clickhouse_target(settings))
    async with contextlib.AsyncExitStack() as stack:
        compute = stack.enter_context(ThreadPoolExecutor(1, thread_name_prefix="compute"))
        for each in (log, page_log):
            await each.start()
            stack.push_async_callback(each.stop)
        sink.start()
        stack.push_async_callback(asyncio.to_thread, sink.close)
        yield Services(
            log=log,
            page_log=page_log,
            sink=sink,
            topics=names,
            config=core_config(settings),
            clock=settings.stream.clock,
            scorer=scorers.get,
            compute=compute,
            wall_ms=wall_clock_ms,
            inputs=_GroupOffsets(settings),
            learner=lambda: None,
            definitions=lambda: None,
            erasures=ErasureBoard(log, names.erasures),
            monitor=_NoMetrics(),
            max_records=settings.stream.max_batch_records,
            checkpoint_seconds=settings.stream.checkpoint_interval_seconds,
            conceal=pseudonyms(settings),
            release_memory=release_memory,
        )
