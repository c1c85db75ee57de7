"""`tideline deliver` as a process: a reader per destination, what is refused, metrics, health.

start   endpoint ──▶ log of undelivered changes ──▶ a reader for each destination
stop    the readers first: requests under way end, offsets are committed
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from schemas.errors import RetryableError
from schemas.messages import Undelivered
from streams import background
from streams.deliver.courier import Courier
from streams.deliver.destinations import Destination, load_destinations
from streams.deliver.http import Poster
from streams.deliver.lane import Lane
from streams.deliver.reader import Reader
from streams.kafka.access import kafka_access
from streams.kafka.log import KafkaLog
from streams.kafka.topics import require_named
from streams.privacy.erasure_board import ErasureBoard
from streams.process import Failed, Part, background_part, run_parts
from streams.settings import Settings
from streams.stopping import StopRequests
from streams.telemetry.endpoint import endpoint
from streams.telemetry.health import pages
from streams.telemetry.metrics import Metrics
from streams.watch import Standing, Watch

__all__ = ["Deliveries", "run"]

_log = logging.getLogger(__name__)

_LETTER_RETRY_SECONDS: Final = 1.0
_STOP_SECONDS: Final = 20.0


class _Meter:
    """Counts what one destination gets."""

    def __init__(self, metrics: Metrics, name: str) -> None:
        self._metrics, self._name = metrics, name
        metrics.declare_destination(name)

    def tried(self, result: str, seconds: float) -> None:
        self._metrics.delivery_tries.labels(self._name, result).inc()
        self._metrics.delivery_try_seconds.labels(self._name).observe(seconds)

    def done(self, result: str, count: int) -> None:
        self._metrics.deliveries.labels(self._name, result).inc(count)

    def lost(self, count: int) -> None:
        self._metrics.deliveries_lost.labels(self._name).inc(count)


class Deliveries:
    """All destinations of a process."""

    def __init__(
        self, settings: Settings, destinations: Sequence[Destination], metrics: Metrics
    ) -> None:
        self._settings, self._destinations = settings, tuple(destinations)
        self._names = settings.topic_names
        self._log = KafkaLog(kafka_access(settings))
        self._erasures = ErasureBoard(self._log, self._names.erasures)
        self._posters = [Poster(each) for each in self._destinations]
        self._readers: list[Reader] = []
        for where, poster in zip(self._destinations, self._posters, strict=True):
            self._readers.append(self._reader(where, poster, _Meter(metrics, where.name)))
        metrics.delivery_failing_seconds.samples = self.failing_seconds
        self._watch = Watch(
            self._log.listed_ends,
            self.standings,
            (self._names.audiences, 0),
            settings.health.stuck_seconds,
        )
        metrics.live.set_function(lambda: not self._watch.health().dead)
        metrics.ready.set_function(lambda: not self._watch.health().unready)
        self._metrics = metrics

    def _reader(self, where: Destination, poster: Poster, meter: _Meter) -> Reader:
        def lane(partition: int, offset: int) -> Lane:
            courier = Courier(where, poster.send, meter)
            return Lane(
                where, partition, offset, courier, self._write, meter,
                lambda: time.time_ns() // 1_000_000, self._is_erased,
            )  # fmt: skip

        return Reader(
            kafka_access(self._settings),
            self._names.audiences,
            self._names.delivery_group(where.name),
            where,
            lane,
            meter,
            session_timeout_seconds=self._settings.kafka.session_timeout_seconds,
        )

    def _is_erased(self, user_id: str, recorded_at_ms: int) -> bool:
        """With pseudonyms nobody is found: the topic of erasures knows people by their ids."""
        board = self._erasures
        return bool(board.requests) and recorded_at_ms < board.forgotten_until(user_id)

    async def _write(self, letters: Sequence[Undelivered]) -> None:
        """Keep letters; Kafka being away only delays."""
        records = [(each.key, msgspec.json.encode(each)) for each in letters]
        while True:
            try:
                await self._log.append(self._names.undelivered, 0, records)
            except RetryableError as error:
                _log.warning("undelivered changes are not kept yet: %s", error)
                await asyncio.sleep(_LETTER_RETRY_SECONDS)
            else:
                return

    def parts(self, failed: Failed) -> Sequence[Part]:
        """What the process consists of."""
        web = self._settings.web
        return (
            *endpoint(self._metrics, web.metrics_host, web.metrics_port, pages(self._watch.health)),
            Part("log of undelivered changes", self._log.start, self._log.stop),
            Part("erasures", self._erasures.refresh),
            background_part("later erasures", self._erasures.run, failed),
            background_part("progress", self._watch.run, failed),
            *(
                part
                for poster, reader in zip(self._posters, self._readers, strict=True)
                for part in (
                    Part("connections", poster.start, poster.stop),
                    _reader_part(reader, failed),
                )
            ),
        )

    def standings(self) -> Iterable[Standing]:
        """Where each partition stands, by destination. One whose destination fails is excused: a
        restart of this process would not help."""
        patience = self._settings.health.stuck_seconds / 2
        for where, reader in zip(self._destinations, self._readers, strict=True):
            for tp, lane in list(reader.lanes.items()):
                since = lane.courier.failing_since
                failing = since is not None and time.time() - since >= patience
                state = f"not getting through ({lane.courier.trouble})" if failing else "running"
                name = f"destination {where.name}, partition {tp.partition},"
                yield Standing(name, state, ((tp.topic, tp.partition, lane.next_offset),))

    def failing_seconds(self) -> Iterable[tuple[Sequence[str], float]]:
        """((destination,), since when no try succeeded in the partition that waits longest)."""
        now = time.time()
        for where, reader in zip(self._destinations, self._readers, strict=True):
            since = [
                lane.courier.failing_since
                for lane in list(reader.lanes.values())
                if lane.courier.failing_since is not None
            ]
            yield (where.name,), max(0.0, now - min(since)) if since else 0.0


def _reader_part(reader: Reader, failed: Failed) -> Part:
    """A reader that has time to let requests end, where a background part is cancelled."""
    running: list[asyncio.Task[None]] = []

    async def start() -> None:
        running.append(background.start(reader.run(), "reader", failed))

    async def stop() -> None:
        reader.stop()
        if running:
            await asyncio.wait(running, timeout=_STOP_SECONDS)
            running[0].cancel()

    return Part("reader", start, stop)


def run(settings: Settings, requests: StopRequests) -> None:
    """Deliver until a stop request.

    Raises SettingsError, BrokerUnavailable, or FatalError if a topic is missing: a consumer would
    wait for it in silence.
    """
    found = load_destinations(settings.deliver.destinations_file, os.environ)
    names = settings.topic_names
    require_named(settings, (names.audiences, names.undelivered, names.erasures))
    for where in found:
        which = "all audiences" if where.audiences is None else ", ".join(sorted(where.audiences))
        _log.info("destination %s (%s): %s", where.name, where.format, which)
    run_parts(lambda failed: Deliveries(settings, found, Metrics()).parts(failed), requests)
