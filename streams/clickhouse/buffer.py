"""The buffer of micro-batches to be written, bounded, between the event loop and the sink.

`put` never blocks, since it runs on the event loop; it raises when there is no room. Await
`wait_for_room` before it. `take` blocks, on the sink's thread.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Final

from schemas.errors import SinkRefused, SinkUnavailable, TidelineError
from schemas.tables import TABLES
from streams.clickhouse.blocks import Column

__all__ = ["URGENT", "Abandoned", "Blocks", "RowBuffer", "Submitted", "checked_rows"]

URGENT: Final = "alerts"
"""The table whose rows are inserted ahead of the others'."""

Blocks = Mapping[str, Mapping[str, Column]]
"""The rows of one micro-batch: table -> column -> values; `streams.clickhouse.blocks.Column` has
the forms."""


class Abandoned(Exception):
    """Raised on the sink's thread when it must end with rows left."""


@dataclass(frozen=True)
class Submitted:
    """One micro-batch in the buffer."""

    blocks: Blocks
    rows: Mapping[str, int]
    """By table."""
    at_seconds: float
    done: Future[None]
    on_urgent: Callable[[], None] | None = None
    """To be called when its rows of `URGENT` are acknowledged, if it has any."""


class RowBuffer:
    """A bounded queue of micro-batches that counts rows.

    Args:
        max_rows: `take` returns when any table has this many rows.
        linger_seconds: or when the oldest micro-batch has waited this long.
        urgent_interval_seconds: or when there are rows of `URGENT` and none were taken for this
            long.
        max_pending_rows: what is queued or in flight never exceeds this, or one micro-batch where
            that alone is larger.
        clock: seconds that only go forward.
    """

    def __init__(
        self,
        max_rows: int,
        linger_seconds: float,
        urgent_interval_seconds: float,
        max_pending_rows: int,
        clock: Callable[[], float],
    ) -> None:
        self._max_rows = max_rows
        self._linger_seconds = linger_seconds
        self._urgent_interval_seconds = urgent_interval_seconds
        self._max_pending_rows = max_pending_rows
        self._clock = clock
        self._changed = threading.Condition()
        # The rest is guarded by the lock in `_changed`.
        self._queue: deque[Submitted] = deque()
        self._urgent: list[Submitted] = []  # with rows of URGENT that were not taken yet
        self._urgent_due_seconds = float("-inf")
        self._in_flight: list[Submitted] = []
        self._queued_rows: Counter[str] = Counter()
        self._pending_rows = 0
        self._room_waiters: list[Future[None]] = []
        self._stopped: TidelineError | None = None
        self._closing = False
        self._abandoned = False

    # From the event loop, or any thread

    def put(self, blocks: Blocks, on_urgent: Callable[[], None] | None = None) -> Future[None]:
        """Queue one micro-batch; the future resolves at `settle`, or fails at `stop`.

        Raises:
            SinkRefused: a table or column is unknown or missing, or lengths differ.
            SinkUnavailable: there is no room, or the buffer is closed.
            TidelineError: as given to `stop`.
        """
        rows = {name: checked_rows(name, columns) for name, columns in blocks.items()}
        new_rows = sum(rows.values())
        done: Future[None] = Future()
        done.set_running_or_notify_cancel()  # submitted rows can't be cancelled
        with self._changed:
            self._raise_if_closed()
            if self._pending_rows and self._pending_rows + new_rows > self._max_pending_rows:
                raise SinkUnavailable(
                    f"{self._pending_rows} rows wait to be written; {new_rows} more would exceed "
                    f"{self._max_pending_rows}. Await wait_for_room() before submitting."
                )
            submitted = Submitted(blocks, rows, self._clock(), done, on_urgent)
            self._queue.append(submitted)
            if rows.get(URGENT):
                self._urgent.append(submitted)
            self._queued_rows.update(rows)
            self._pending_rows += new_rows
            self._changed.notify_all()
        return done

    @property
    def pending_rows(self) -> int:
        """Rows queued or in flight."""
        return self._pending_rows

    @property
    def oldest_seconds(self) -> float:
        """For how long the oldest micro-batch that is queued or in flight has waited; 0: none."""
        with self._changed:
            for waiting in (self._in_flight, self._queue):
                if waiting:
                    return self._clock() - waiting[0].at_seconds
        return 0.0

    @property
    def overloaded(self) -> bool:
        """Whether more than half of the room is taken: backpressure begins."""
        # Half, so that micro-batches already under way still find room after this turns true.
        return self._pending_rows * 2 > self._max_pending_rows

    async def wait_for_room(self) -> None:
        """Return when the buffer is not overloaded, at once if it is not.

        Raises:
            SinkUnavailable, TidelineError: as `put`, also if that happens meanwhile.
        """
        with self._changed:
            self._raise_if_closed()
            if not self.overloaded:
                return
            room: Future[None] = Future()
            self._room_waiters.append(room)
        await asyncio.wrap_future(room)

    def close(self) -> None:
        """Accept no more; `take` returns what is left."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()

    def abandon(self) -> None:
        """Make `take` and `pause` raise Abandoned, now or at their next call."""
        with self._changed:
            self._abandoned = True
            self._changed.notify_all()

    # From the sink's thread

    def take(self) -> list[Submitted] | None:
        """Wait until a flush is due and take its micro-batches, oldest first.

        Returns: none of them when only `take_urgent` is due; None when the buffer is closed and
        everything was taken.
        """
        with self._changed:
            while True:
                if self._abandoned:
                    raise Abandoned
                if self._closing and not self._queue:
                    return None
                wait = self._seconds_until_due()
                if wait is not None and wait <= 0:
                    return self._take_one_flush()
                urgent = self._seconds_until_urgent()
                if urgent is not None and urgent <= 0:
                    return []
                self._changed.wait(min((w for w in (wait, urgent) if w is not None), default=None))

    def take_urgent(self, *, only_due: bool = False) -> list[Submitted]:
        """The micro-batches with rows of `URGENT` that this has not returned yet, oldest first.
        They are taken as a whole later, or were already.

        Args:
            only_due: none, if some were taken less than `urgent_interval_seconds` ago.
        """
        with self._changed:
            now = self._clock()
            if not self._urgent or (only_due and now < self._urgent_due_seconds):
                return []
            self._urgent_due_seconds = now + self._urgent_interval_seconds
            taken, self._urgent = self._urgent, []
            return taken

    def _seconds_until_due(self) -> float | None:
        if not self._queue:
            return None
        if self._closing or max(self._queued_rows.values(), default=0) >= self._max_rows:
            return 0.0
        return self._queue[0].at_seconds + self._linger_seconds - self._clock()

    def _seconds_until_urgent(self) -> float | None:
        if not self._urgent:
            return None
        return self._urgent_due_seconds - self._clock()

    def _take_one_flush(self) -> list[Submitted]:
        taken_rows: Counter[str] = Counter()
        while self._queue and max(taken_rows.values(), default=0) < self._max_rows:
            submitted = self._queue.popleft()
            taken_rows.update(submitted.rows)
            self._in_flight.append(submitted)
        self._queued_rows.subtract(taken_rows)
        return list(self._in_flight)

    def settle(self, taken: Sequence[Submitted]) -> None:
        """All rows of `taken` are acknowledged: resolve their futures and make room."""
        with self._changed:
            self._in_flight.clear()
            self._pending_rows -= sum(sum(submitted.rows.values()) for submitted in taken)
            waiters: list[Future[None]] = []
            if not self.overloaded:
                waiters, self._room_waiters = self._room_waiters, []
        # Outside the lock: callbacks may call us.
        for future in (*(submitted.done for submitted in taken), *waiters):
            _resolve(future, None)

    def stop(self, why: TidelineError) -> None:
        """Fail everything that waits, and every later `put`, with `why`. Later calls do nothing."""
        with self._changed:
            if self._stopped is not None:
                return
            self._stopped = why
            left = [submitted.done for submitted in (*self._in_flight, *self._queue)]
            left += self._room_waiters
            self._in_flight.clear()
            self._queue.clear()
            self._urgent.clear()
            self._queued_rows.clear()
            self._room_waiters = []
            self._pending_rows = 0
        for future in left:
            _resolve(future, why)

    def pause(self, seconds: float) -> None:
        """Sleep, but wake up and raise Abandoned as soon as `abandon` is called."""
        with self._changed:
            if self._changed.wait_for(lambda: self._abandoned, seconds):
                raise Abandoned

    def _raise_if_closed(self) -> None:
        if self._stopped is not None:
            raise self._stopped
        if self._closing:
            raise SinkUnavailable("The ClickHouse sink is closed; this worker is shutting down.")


def _resolve(future: Future[None], error: TidelineError | None) -> None:
    # A waiter for room may have been cancelled meanwhile; the future of rows never is.
    if future.running() or future.set_running_or_notify_cancel():
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)


def checked_rows(name: str, columns: Mapping[str, Column]) -> int:
    """The number of rows. Raises SinkRefused: a wrong block is a bug, and no retry mends it."""
    table = TABLES.get(name)
    if table is None:
        raise SinkRefused(f"There is no table {name!r}; see schemas/tables.py.")
    if columns.keys() != table.columns.keys():
        odd = sorted(columns.keys() ^ table.columns.keys())
        raise SinkRefused(f"Columns missing from {name}, or too many: {', '.join(odd)}.")
    lengths = {column: len(values) for column, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise SinkRefused(f"Columns of {name} differ in length: {lengths}.")
    return next(iter(lengths.values()))
