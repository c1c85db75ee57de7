"""One broker and one ClickHouse, and the topics that every contender reads, filled once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec

from models.registry import ExplainingScorer, ScorerStore, artifact_directory
from schemas.definitions import Definitions
from schemas.features import FEATURE_NAMES
from schemas.messages import LearnerSnapshot
from streams.campaigns.published import publish
from streams.clickhouse import migrations
from streams.clickhouse.client import clickhouse_target
from streams.kafka.log import KafkaLog
from streams.kafka.topics import create_missing
from streams.learner.service import SNAPSHOT_KEY
from streams.local.stack import LocalStack
from streams.replay.producer import ProduceSummary, produce
from streams.replay.target import InputTopics
from streams.settings import Settings, load
from tests.bench.load import Shape
from tests.bench.machine import LAST_CORE, pin
from tests.bench.peers.meter import Spec

__all__ = ["PARTITIONS", "Filled", "Stage", "snapshot_of"]

PARTITIONS = 4


@dataclass(frozen=True)
class Filled:
    """What the topics of one shape hold. `history` records are the first ones of `orders`."""

    shape: Shape
    topics: InputTopics
    clickstream: int
    orders: int
    history: int
    load_bytes: int
    """As sent: record batches, uncompressed; without the history."""

    @property
    def total(self) -> int:
        return self.clickstream + self.orders

    @property
    def warm(self) -> int:
        """Of the load: handled before the clock starts. By then every user was swept once, as a
        worker does to which all are new."""
        return self.load // 4

    @property
    def load(self) -> int:
        """Records behind the history."""
        return self.total - self.history


class Stage:
    """A started local stack, with its servers on the last core."""

    def __init__(self, broker: Any, directory: Path) -> None:
        self.directory = directory
        self._stack = LocalStack(broker, directory)
        self._filled: dict[str, Filled] = {}
        self._runs = 0

    def __enter__(self) -> Stage:
        self._stack.start()
        for pid in (self.broker_pid, self.clickhouse_pid):
            pin(pid, {LAST_CORE})
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.stop()

    @property
    def broker_pid(self) -> int | None:
        process = self._stack.broker.process
        return process.pid if process else None

    @property
    def clickhouse_pid(self) -> int | None:
        process = self._stack.clickhouse.process
        return process.pid if process else None

    def fresh_name(self, name: str) -> str:
        """A consumer group, application id or database that nobody has used yet."""
        self._runs += 1
        return f"bench_{name}_{self._runs}"

    def settings(self, topics: InputTopics, app_id: str, **more: str) -> Settings:
        """Of a worker on these input topics, with separate topics for the rest.

        The history is young, so the shop may be: what is measured includes the scores.
        """
        environ = {
            "TIDELINE_KAFKA_BROKER_URL": self._stack.bootstrap,
            "TIDELINE_CLICKHOUSE_HOST": self._stack.clickhouse_host,
            "TIDELINE_CLICKHOUSE_PORT": str(self._stack.clickhouse_port),
            "TIDELINE_CLICKHOUSE_DATABASE": app_id,
            "TIDELINE_KAFKA_APP_ID": app_id,
            "TIDELINE_KAFKA_CLICKSTREAM_TOPIC": topics.clickstream,
            "TIDELINE_KAFKA_ORDERS_TOPIC": topics.orders,
            "TIDELINE_KAFKA_PARTITIONS": str(PARTITIONS),
            "TIDELINE_KAFKA_SESSION_TIMEOUT_SECONDS": "6",
            "TIDELINE_MODEL_SHOP_MIN_DAYS": "0",
            **more,
        }
        return load(environ, None)

    def has(self, shape: Shape) -> bool:
        """Whether `fill` has made this shape's topics already."""
        return shape.name in self._filled

    def fill(
        self, shape: Shape, events: int, progress: Callable[[int], None] = lambda _: None
    ) -> Filled:
        """Topics with the history and `events` records of the last hour; made on first use."""
        if shape.name in self._filled:
            return self._filled[shape.name]
        topics = InputTopics(f"clickstream_{shape.name}", f"orders_{shape.name}")
        settings = self.settings(topics, "bench")
        create_missing(settings)
        now_ms = time.time_ns() // 1_000_000

        def send(source: Any, before: int) -> ProduceSummary:
            return asyncio.run(
                produce(source, settings.kafka.broker_url, topics,
                        progress=lambda done: progress(before + done.records))
            )  # fmt: skip

        history = send(shape.history(now_ms), 0)
        load = send(shape.source(events, now_ms), history.records)
        filled = Filled(
            shape, topics, sum(load.clickstream), sum(history.orders) + sum(load.orders),
            history.records, load.bytes,
        )  # fmt: skip
        self._filled[shape.name] = filled
        return filled

    def spec(
        self, filled: Filled, name: str, *, warm_seconds: float, seconds: float, layer: str = ""
    ) -> Spec:
        """The parameters of a contender in a separate process."""
        group = self.fresh_name(name)
        directory = self.directory / group
        directory.mkdir(parents=True)
        return Spec(
            self._stack.bootstrap, group, filled.topics.clickstream, filled.topics.orders,
            PARTITIONS, str(directory), filled.clickstream, filled.orders, filled.history,
            filled.warm, warm_seconds, seconds, layer,
        )  # fmt: skip

    def prepare(self, settings: Settings, definitions: Definitions | None = None) -> None:
        """Topics, tables, a learner snapshot and `definitions` for a worker with these settings."""
        create_missing(settings)
        migrations.migrate(clickhouse_target(settings))
        scorer = ScorerStore(
            artifact_directory(settings.model.artifact), settings.stream.currency
        ).get("")
        asyncio.run(_publish(settings, snapshot_of(scorer), definitions))


def snapshot_of(scorer: ExplainingScorer) -> LearnerSnapshot:
    """A learner that has learned a little of every feature, so that scoring with it costs its
    full price."""
    n = len(FEATURE_NAMES)
    return LearnerSnapshot(
        version=1, champion_version=scorer.champion_version, features=list(FEATURE_NAMES),
        labels=1_000, blend_weight=0.5, intercept=0.0, logit_weight=1.0,
        weights=[0.001] * n, mean=[0.0] * n, scale=[1.0] * n,
    )  # fmt: skip


async def _publish(
    settings: Settings, snapshot: LearnerSnapshot, definitions: Definitions | None
) -> None:
    log = KafkaLog(settings.kafka.brokers)
    await log.start()
    try:
        message = [(SNAPSHOT_KEY, msgspec.msgpack.encode(snapshot))]
        await log.append(settings.topic_names.learner, 0, message)
        if definitions is not None:
            await publish(log, settings.topic_names.definitions, definitions)
    finally:
        await log.stop()
