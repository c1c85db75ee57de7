"""Writes the rows of micro-batches to ClickHouse, on a separate thread.

How rows get there:
1. `submit` checks the blocks of one micro-batch and queues them; it never waits.
2. The thread takes what is queued once a table has `max_rows`, or the oldest has waited
   `linger_seconds`. All rows of one table become one INSERT of one block.
3. Alerts go ahead: those of all queued micro-batches are inserted at once, or, if others just
   were, `urgent_interval_seconds` after them; during a flush, between its tables. The other tables
   go in the order of `INSERT_ORDER`. `batches` is last: a row there promises that the effects of
   its micro-batch are in the other tables already.
4. An insert that fails for a reason that may pass, or whose outcome is unknown, is tried again
   without end, with the same bytes and token, so that ClickHouse keeps the rows once.
5. When all tables have acknowledged, the futures of these micro-batches resolve. Only then may
   their offsets be committed.
6. An insert that ClickHouse refuses fails these futures and all later ones: `failed`.
"""

from __future__ import annotations

import contextlib
import logging
import random as random_module
import socket
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from clickhouse_driver import Client

from schemas.errors import SinkRefused, SinkUnavailable
from schemas.tables import TABLES
from streams.clickhouse.backoff import Backoff
from streams.clickhouse.blocks import Block, Column
from streams.clickhouse.buffer import URGENT, Abandoned, Blocks, RowBuffer, Submitted
from streams.clickhouse.client import ClickHouseTarget, connect
from streams.clickhouse.errors import sink_error
from streams.clickhouse.insert import insert_block

__all__ = ["INSERT_ORDER", "Blocks", "ClickHouseSink", "SinkObserver", "SinkStatus"]

_log = logging.getLogger(__name__)

INSERT_ORDER: Final = (
    "score_history",
    "segment_changes",
    "segment_moves",
    "segment_totals",
    "definitions_taken",
    "audience_changes",
    "campaign_sums",
    "alerts",
    "alert_budget",
    "contacts",
    "matured_predictions",
    "examples",
    "model_drift",
    "trainer_log",
    "score_samples",
    "events",
    "user_features",
    "dead_letters",
    "consumer_lag",
    "console_actions",
    "canaries",
    "batches",
)


class SinkObserver(Protocol):
    """Gets what the sink does, on the sink's thread: for metrics."""

    def inserted(self, table: str, rows: int, seconds: float) -> None:
        """One INSERT was acknowledged, `seconds` after its first try began."""

    def retry(self, error_type: str) -> None:
        """An INSERT failed and will be tried again; `error_type` names what was raised."""


@dataclass(frozen=True)
class SinkStatus:
    """What the sink is doing, for health checks and people."""

    state: Literal["ok", "retrying", "failed", "closed"]
    pending_rows: int
    oldest_seconds: float
    """For how long the oldest of them has waited."""
    error: str
    """The last error while retrying or failed, else ''."""


class ClickHouseSink:
    """Batches, retries and acknowledges inserts; see the module for the steps.

    Args:
        target: where the tables are.
        max_rows: a flush starts when any table has this many rows.
        linger_seconds: or when the oldest rows have waited this long: within the second that a
            score may take, and long enough that small inserts don't cost ClickHouse a core.
        urgent_interval_seconds: from one insert of alerts to the next, at least: the first goes at
            once, those behind it together. So however many there are, they make twenty inserts a
            second, besides one with each flush.
        max_pending_rows: what is queued or in flight never exceeds this, or one micro-batch where
            that alone is larger.
        observer: gets inserts and retries.
        backoff: the waits between tries.
        clock: seconds that only go forward.
        random: numbers in [0, 1), for jitter.
    """

    def __init__(
        self,
        target: ClickHouseTarget,
        *,
        max_rows: int = 50_000,
        linger_seconds: float = 0.5,
        urgent_interval_seconds: float = 0.05,
        max_pending_rows: int = 500_000,
        observer: SinkObserver | None = None,
        backoff: Backoff | None = None,
        clock: Callable[[], float] = time.monotonic,
        random: Callable[[], float] = random_module.random,
    ) -> None:
        self._target = target
        self._observer = observer
        self._backoff = backoff or Backoff()
        self._clock = clock
        self._random = random
        self._client: Client = connect(target)
        self._buffer = RowBuffer(
            max_rows, linger_seconds, urgent_interval_seconds, max_pending_rows, clock
        )
        self._trouble: str | None = None  # the last error of an insert that keeps failing
        self._failed: SinkRefused | None = None
        self._thread = threading.Thread(target=self._run, name="clickhouse-sink", daemon=True)

    def start(self) -> ClickHouseSink:
        """Start the thread. ClickHouse need not be up yet."""
        self._thread.start()
        return self

    def submit(self, blocks: Blocks, on_alerts: Callable[[], None] | None = None) -> Future[None]:
        """Queue the rows of one micro-batch; returns at once.

        The future resolves when ClickHouse has acknowledged every row. It can't be cancelled.
        The arrays must not be changed any more.

        Args:
            on_alerts: called on the sink's thread once its alerts are acknowledged, if it has any.

        Raises:
            SinkRefused: a table or column is unknown or missing, or lengths differ; or the sink
                failed earlier.
            SinkUnavailable: there is no room (`await wait_for_room()` first), or the sink closed.
        """
        return self._buffer.put(blocks, on_alerts)

    @property
    def overloaded(self) -> bool:
        """Backpressure: more than half the buffer is in use. Pause partitions until `wait_for_room`
        returns."""
        return self._buffer.overloaded

    async def wait_for_room(self) -> None:
        """Return when the sink is not overloaded, at once if it is not.

        Raises:
            SinkRefused, SinkUnavailable: the sink failed or closed, before or meanwhile.
        """
        await self._buffer.wait_for_room()

    @property
    def failed(self) -> SinkRefused | None:
        """Why the sink has stopped; None while it works."""
        return self._failed

    @property
    def status(self) -> SinkStatus:
        """What the sink is doing now."""
        pending, oldest = self._buffer.pending_rows, self._buffer.oldest_seconds
        failed, trouble = self._failed, self._trouble
        if failed is not None:
            return SinkStatus("failed", pending, oldest, str(failed))
        if trouble is not None:
            return SinkStatus("retrying", pending, oldest, trouble)
        return SinkStatus("ok" if self._thread.is_alive() else "closed", pending, oldest, "")

    def close(self, drain_seconds: float = 10.0) -> None:
        """Stop accepting, write what is queued for at most `drain_seconds`, and disconnect.

        What could not be written fails with SinkUnavailable: its offsets stay uncommitted, and the
        next owner of the shard writes the same rows again. Safe to call twice.
        """
        self._buffer.close()
        if not self._thread.is_alive():
            return
        self._thread.join(drain_seconds)
        if self._thread.is_alive():
            self._buffer.abandon()
            self._hang_up()
            self._thread.join(self._target.connect_timeout_seconds + 1.0)

    def _run(self) -> None:
        try:
            while (taken := self._buffer.take()) is not None:
                self._flush(taken)
                self._buffer.settle(taken)
            self._buffer.stop(SinkUnavailable("The ClickHouse sink is closed."))
        except Abandoned:
            self._buffer.stop(
                SinkUnavailable(
                    f"The sink closed before {self._target} took all rows. They are written again "
                    "by the next owner of the shard; check that ClickHouse is up."
                )
            )
        except Exception as exc:
            # Any error that is not known to be temporary stops the sink: `sink_error` refuses it.
            failure = (
                exc if isinstance(exc, SinkRefused) else SinkRefused(f"ClickHouse sink: {exc!r}")
            )
            _log.error("The ClickHouse sink stops: %s", failure, exc_info=exc)
            self._failed = failure
            self._buffer.stop(failure)
        finally:
            self._trouble = None
            self._client.disconnect()

    def _flush(self, taken: list[Submitted]) -> None:
        """Insert all that was taken, and before each table the alerts that wait by then."""
        self._insert_alerts(self._buffer.take_urgent())
        for name in INSERT_ORDER if taken else ():
            if name != URGENT:  # its rows were inserted first
                self._insert_of(name, taken)
                self._insert_alerts(self._buffer.take_urgent(only_due=True))

    def _insert_alerts(self, micro_batches: list[Submitted]) -> None:
        self._insert_of(URGENT, micro_batches)
        for submitted in micro_batches:
            if submitted.on_urgent is not None:
                submitted.on_urgent()

    def _insert_of(self, name: str, micro_batches: list[Submitted]) -> None:
        parts: list[Mapping[str, Column]] = [
            submitted.blocks[name] for submitted in micro_batches if submitted.rows.get(name)
        ]
        if parts:
            self._insert(Block(TABLES[name], parts))

    def _insert(self, block: Block) -> None:
        """Insert until acknowledged. Raises SinkRefused, Abandoned."""
        name = block.table.name
        failures = 0
        start = self._clock()
        while True:
            try:
                insert_block(self._client, block)
            except Exception as exc:
                doing = f"inserting {block.rows} rows into {name}"
                error = sink_error(exc, doing, self._target)
                if isinstance(error, SinkRefused):
                    raise error from exc
                failures += 1
                self._trouble = str(error)
                if failures == 1:
                    fields = {"fact": "insert_failed", "table": name, "rows": block.rows,
                              "error_type": type(exc).__name__}  # fmt: skip
                    _log.warning("%s", error, extra=fields)
                if self._observer is not None:
                    self._observer.retry(type(exc).__name__)
            else:
                break
            self._buffer.pause(self._backoff.delay_seconds(failures, self._random))
        self._trouble = None
        seconds = self._clock() - start
        if failures:
            fields = {"fact": "insert_again", "table": name, "seconds": round(seconds, 3)}
            _log.warning("ClickHouse took %s again after %.1f s", name, seconds, extra=fields)
        inserted = {"fact": "inserted", "table": name, "rows": block.rows,
                    "seconds": round(seconds, 6)}  # fmt: skip
        _log.debug("inserted", extra=inserted)
        if self._observer is not None:
            self._observer.inserted(name, block.rows, seconds)

    def _hang_up(self) -> None:
        """Wake the thread up if it waits for an answer: the insert fails and is abandoned."""
        wire: socket.socket | None = self._client.connection.socket
        if wire is not None:
            with contextlib.suppress(OSError):  # it closed by itself meanwhile
                wire.shutdown(socket.SHUT_RDWR)
