"""Sends canaries to Kafka and looks for their rows in ClickHouse, each in a thread of its own.

Neither stops the monitor: what fails is counted, is said once, and is tried again.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

import msgspec
from clickhouse_driver import Client
from kafka.errors import AuthorizationError, KafkaError, UnknownTopicOrPartitionError

from schemas.canary import Canary
from schemas.errors import TidelineError
from streams.clickhouse.client import ClickHouseTarget, clickhouse_target, connect
from streams.clickhouse.errors import sink_error
from streams.kafka import clients
from streams.kafka.access import kafka_access
from streams.kafka.canary_keys import canary_keys
from streams.lag.canary import CanaryRow, CanaryWatch, OnItsWay
from streams.process import Failed, Part, thread_part
from streams.settings import Settings
from streams.telemetry.metrics import Metrics

__all__ = ["CanaryTable", "Looks", "Sender", "canary_parts"]

_log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 1.0
_SEND_SECONDS: Final = 10.0  # a leader is elected within it
_OFF: Final = "TIDELINE_LAG_CANARY_INTERVAL_SECONDS=0 sends none; lag is watched all the same"


def canary_parts(
    settings: Settings, metrics: Metrics, watch: CanaryWatch, failed: Failed
) -> tuple[Part, ...]:
    """The two threads; none if the interval is 0."""
    interval_seconds = settings.lag.canary_interval_seconds
    if not interval_seconds:
        return ()
    stopping = threading.Event()
    sender = Sender(settings, metrics, watch, stopping)
    table = CanaryTable(clickhouse_target(settings))
    looks = Looks(table, metrics, watch)

    def send() -> None:
        while not stopping.is_set():
            started = time.monotonic()
            sender.send()
            stopping.wait(max(0.0, interval_seconds - (time.monotonic() - started)))
        sender.close()

    def look() -> None:
        while not stopping.is_set():
            looks.look()
            stopping.wait(LOOK_SECONDS)
        table.close()

    return (
        thread_part("canaries", send, stopping.set, failed),
        thread_part("looks at canaries", look, stopping.set, failed),
    )


class _Troubles:
    """Counts what fails, and says it once, until it works again or is something else."""

    def __init__(self, what: str, metrics: Metrics, watch: CanaryWatch) -> None:
        self._what, self._metrics, self._watch = what, metrics, watch

    def failed(self, error: Exception, words: str) -> None:
        self._metrics.canary_errors.labels(type(error).__name__).inc()
        if self._watch.troubles.get(self._what) != words:
            self._watch.troubles[self._what] = words
            _log.warning("%s", words, extra={"fact": "canary_trouble"})

    def over(self) -> None:
        if self._watch.troubles.pop(self._what, None) is not None:
            _log.info("canaries: %s works again", self._what, extra={"fact": "canary_trouble_over"})


class Sender:
    """Sends one canary to each partition, over a producer that is made with the first."""

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        watch: CanaryWatch,
        stopping: threading.Event,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        kafka = settings.kafka
        self._settings, self._metrics, self._watch = settings, metrics, watch
        self._stopping, self._now_ms = stopping, now_ms
        self._topic = settings.topic_names.clickstream
        self._keys = canary_keys(kafka.partitioner, kafka.partitions)
        self._troubles = _Troubles("send", metrics, watch)
        self._producer: Any = None

    def send(self) -> None:
        """One to each partition; returns when all are answered, or a stop was asked for."""
        try:
            if self._producer is None:
                self._producer = self._connect()
            there = self._producer.partitions_for(self._topic)  # none: there is no such topic
            places = [number for number in range(len(self._keys)) if number in there]
            self._watch.keep(places)
            sent = {number: self._sent(number) for number in places}
        except (KafkaError, OSError, TidelineError) as error:
            self._failed(error)
            return
        deadline, problem = time.monotonic() + _SEND_SECONDS + 1.0, len(places) < len(self._keys)
        if problem:
            self._failed(UnknownTopicOrPartitionError())
        for number, (future, sent_ms) in sent.items():
            while not future.is_done and time.monotonic() < deadline:
                if self._stopping.wait(0.01):
                    return
            try:
                record = future.get(timeout=0.01)
            except KafkaError as error:
                problem = True
                self._failed(error)
                continue
            # a topic that stamps records itself has another time than ours
            recorded_ms = record.timestamp if record.timestamp >= 0 else sent_ms
            self._watch.sent(number, record.offset, recorded_ms, sent_ms)
            self._metrics.canaries_sent.inc()
        if not problem:
            self._troubles.over()

    def _sent(self, number: int) -> tuple[Any, int]:
        key, now_ms = self._keys[number], self._now_ms()
        value = msgspec.json.encode(Canary("canary", key.decode(), now_ms))
        future = self._producer.send(
            self._topic, key=key, value=value, partition=number, timestamp_ms=now_ms
        )
        return future, now_ms

    def _connect(self) -> Any:
        return clients.producer(
            kafka_access(self._settings),
            client_id="tideline-canary",
            allow_auto_create_topics=False,
            enable_idempotence=False,  # a repeat is another canary, and needs no right of its own
            bootstrap_timeout_ms=2_000,
            max_block_ms=2_000,
            request_timeout_ms=5_000,
            delivery_timeout_ms=int(_SEND_SECONDS * 1000),
        )

    def _failed(self, error: Exception) -> None:
        if isinstance(error, AuthorizationError):
            fix = f"grant this user WRITE on it. {_OFF}"
        elif isinstance(error, UnknownTopicOrPartitionError):
            fix = (
                f"it lacks some of the {len(self._keys)} partitions of TIDELINE_KAFKA_PARTITIONS; "
                f"run `tideline topics --create`. {_OFF}"
            )
        else:
            fix = f"see that Kafka runs, and `tideline topics` that the topic is there. {_OFF}"
        name = type(error).__name__
        words = f"no canary can be sent to topic {self._topic} ({name}): {fix}"
        self._troubles.failed(error, words)

    def close(self) -> None:
        if self._producer is not None:
            with contextlib.suppress(KafkaError):
                self._producer.close(timeout=1)


class CanaryTable:
    """Reads `canaries`, over one connection that is made again after an error."""

    def __init__(self, target: ClickHouseTarget) -> None:
        self._target = target
        self._client: Client = connect(target)

    def newest(self) -> list[tuple[int, int]]:
        """Partition and record time of the newest row of each. Raises SinkUnavailable,
        SinkRefused."""
        rows = self._rows("SELECT shard, max(recorded_at) FROM canaries GROUP BY shard")
        return [(shard, _ms(recorded_at)) for shard, recorded_at in rows]

    def among(self, ways: list[OnItsWay]) -> list[CanaryRow]:
        """The rows between these offsets. Raises SinkUnavailable, SinkRefused."""
        if not ways:
            return []
        wanted = " OR ".join(
            f"(shard = {way.partition} AND offset >= {way.first_offset} "
            f"AND offset <= {way.last_offset})"
            for way in ways
        )
        rows = self._rows(f"SELECT shard, offset, recorded_at FROM canaries WHERE {wanted}")  # noqa: S608 (numbers)
        return [CanaryRow(shard, offset, _ms(recorded_at)) for shard, offset, recorded_at in rows]

    def _rows(self, query: str) -> list[tuple[Any, ...]]:
        try:
            rows: list[tuple[Any, ...]] = self._client.execute(query)
        except Exception as error:
            self._client.disconnect()
            raise sink_error(error, "reading canaries", self._target) from error
        return rows

    def close(self) -> None:
        self._client.disconnect()


class Looks:
    """Looks for the canaries that are on their way."""

    def __init__(self, table: CanaryTable, metrics: Metrics, watch: CanaryWatch) -> None:
        self._table, self._metrics, self._watch = table, metrics, watch
        self._troubles = _Troubles("read", metrics, watch)
        self._started = False

    def look(self) -> None:
        """Read once what has come."""
        try:
            if not self._started:
                self._watch.known_before(self._table.newest())
                self._started = True
            ways, lost = self._watch.on_their_way()
            self._metrics.canary_errors.labels("lost").inc(lost)
            took = self._watch.read(self._table.among(ways))
        except TidelineError as error:
            self._troubles.failed(error, f"canaries can't be looked for: {error}")
            return
        self._troubles.over()
        for seconds in took:
            self._metrics.canary_seconds.observe(seconds)


def _ms(time_: datetime) -> int:
    return round(time_.timestamp() * 1000)
