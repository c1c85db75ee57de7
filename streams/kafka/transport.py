"""A Faust transport that hands an agent whole record batches: scheme `tideline://`.

Faust's own consumer makes four asyncio tasks per message, and more work follows in the conductor,
the stream iterator, the acks and the sensors. Here one poll of one partition is one message, whose
value is a `RecordBatch`; all of that is then paid once per batch, and Faust still owns worker
lifecycle, group membership, assignment, rebalancing, sensors and web.

Four things differ from `kafka://`:
- only records of committed transactions are read;
- `getmany` yields a batch per partition, for every subscribed topic;
- partitions are assigned by range, so partition p of both inputs goes to the same worker;
- offsets are committed by `commit_offsets` only: agents must not ack (`topic(acks=False)`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any, cast

import aiokafka
import faust
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import ConsumerStoppedError
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage

from streams.core.events.records import RecordBatch
from streams.kafka.commits import commit_assigned
from streams.kafka.committed import Committed
from streams.kafka.fetch import Fetched, fetched_columns, keep_fetched_bytes

__all__ = ["BatchSchema", "Consumer", "Transport"]

# How long a fetch may wait for the first byte of any partition. Kafka answers as soon as there is
# one, the in-memory local broker when it looks again, after half of that.
FETCH_MAX_WAIT_MS = 50
MAX_POLL_RECORDS = 50_000  # bounds one poll, so that a backlog can't fill memory in one go


class BatchSchema(faust.Schema):  # type: ignore[misc]
    """Makes the batch the event's value: there is nothing for Faust to decode."""

    def compile(self, app: Any, **_kwargs: Any) -> Any:
        create_event = app.create_event

        async def decode(message: Any, *, propagate: bool = False) -> Any:
            return create_event(None, message.value, message.headers, message)

        return decode


class ConsumerThread(driver.AIOKafkaConsumerThread):  # type: ignore[misc]
    """The thread that polls Kafka and keeps the group membership alive."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._resumed = asyncio.Event()  # waited for on this thread only

    def look_again(self) -> None:
        """Wake up: partitions were resumed. Call it from any thread."""
        with contextlib.suppress(RuntimeError):  # closed: the worker is stopping
            self.thread_loop.call_soon_threadsafe(self._resumed.set)

    def _create_worker_consumer(self, transport: Any) -> Any:
        keep_fetched_bytes()
        consumer = super()._create_worker_consumer(transport)
        # Faust has no setting for these; aiokafka reads them when the consumer starts.
        consumer._partition_assignment_strategy = (RangePartitionAssignor,)  # noqa: SLF001
        consumer._fetch_max_wait_ms = FETCH_MAX_WAIT_MS  # noqa: SLF001
        consumer._isolation_level = "read_committed"  # noqa: SLF001
        return consumer

    async def _fetch_records(
        self, consumer: Any, active_partitions: Any, timeout: float | None = None, **_: Any
    ) -> dict[TP, Fetched]:
        """Called on this thread by Faust's `getmany`; columns in place of lists of records."""
        if not self.consumer.flow_active:
            return {}
        fetcher = consumer._fetcher  # noqa: SLF001
        if consumer._closed or fetcher._closed:  # noqa: SLF001
            raise ConsumerStoppedError
        with fetcher._subscriptions.fetch_context():  # noqa: SLF001
            return await fetched_columns(fetcher, active_partitions, timeout or 0.0, self._resumed)

    def log_end(self, tp: TP) -> int | None:
        """Where the partition ends for us: the high watermark, or the last stable offset while a
        transaction is open. None before the first fetch."""
        consumer = self._ensure_consumer()
        mark, stable = consumer.highwater(tp), consumer.last_stable_offset(tp)
        if mark is None or stable is None or stable < 0:
            return cast(int | None, mark)
        return int(min(mark, stable))

    async def _commit(self, offsets: Mapping[TP, int | Committed]) -> bool:
        return await commit_assigned(self._ensure_consumer(), offsets)


class Consumer(driver.Consumer):  # type: ignore[misc]
    """Yields one message per partition and poll; its offset is that of the batch's last record."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._resumed = asyncio.Event()

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def _wait_next_records(self, timeout: float) -> tuple[Any, Any]:
        """As Faust's, which sleeps for a second when every partition is paused: by then the shards
        that paused them have nothing left to do."""
        self._resumed.clear()
        if self.flow_active and not self._get_active_partitions():
            await self.wait(self._resumed, timeout=timeout)
            return {}, set()
        return cast(tuple[Any, Any], await super()._wait_next_records(timeout))

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, ConsumerMessage]]:
        polled, _ = await self._wait_next_records(timeout)
        generation = self.app.consumer_generation_id
        if not polled or self.should_stop:
            return
        if not self.flow_active:  # a rebalance began while we were waiting
            await self.perform_seek()
            return
        for tp, fetched in cast(Mapping[TP, Fetched], polled).items():
            if not self.flow_active or self.app.consumer_generation_id != generation:
                return
            # Also when it was paused meanwhile: the position is past these records already, and
            # if they were the last ones nothing would show that they are missing.
            yield tp, self._batch_message(tp, fetched)

    def _batch_message(self, tp: TP, fetched: Fetched) -> ConsumerMessage:
        log_end = self.highwater(tp)
        if self.app.monitor is not None and log_end is not None:
            self.app.monitor.track_tp_end_offset(tp, log_end)
        records = fetched.records
        batch = RecordBatch(tp.topic, tp.partition, *fetched)
        return ConsumerMessage(
            tp.topic,
            tp.partition,
            fetched.stop - 1,
            float(records.timestamps_ms[-1]) / 1000.0 if len(records) else 0.0,
            0,
            (),
            None,
            batch,
            None,
            0,
            0,
            tp,
            generation_id=self.app.consumer_generation_id,
        )

    async def _seek(self, partition: TP, offset: int) -> None:
        # Faust would seek from its own thread while aiokafka's thread returns records.
        await self._thread.call_thread(self._thread.seek, partition, offset)

    async def commit_offsets(self, offsets: Mapping[TP, int | Committed]) -> bool:
        """Commit the next offset to read of each partition; False if a rebalance came first."""
        return bool(await self._commit(offsets))

    def log_end(self, tp: TP) -> int | None:
        """As `ConsumerThread.log_end`; None also when the partition is not ours."""
        return self._thread.log_end(tp) if tp in self.assignment() else None

    def pause(self, tps: Iterable[TP]) -> None:
        """Stop fetching from these partitions until `resume`."""
        self.pause_partitions(tps)

    def resume(self, tps: Iterable[TP]) -> None:
        self.resume_partitions(tps)
        self._resumed.set()
        self._thread.look_again()


class Transport(driver.Transport):  # type: ignore[misc]
    """`tideline://host:port;host:port`."""

    Consumer = Consumer
    driver_version = f"aiokafka={aiokafka.__version__} (record batches)"
