"""Watches the ledger of the last hour: whether every record is accounted for, once.

The lag monitor does it and no worker: what a worker counts in its memory is complete by the way in
which it is counted. Only the database shows what arrived, and only somebody else sees what a worker
lost when it died.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from clickhouse_driver import Client

from schemas.errors import TidelineError
from streams.clickhouse.client import ClickHouseTarget, connect
from streams.clickhouse.errors import sink_error
from streams.telemetry.metrics import Metrics

__all__ = ["LedgerWatch", "RecentBooks", "RecentLedger"]

_log = logging.getLogger(__name__)


class RecentBooks(NamedTuple):
    """One shard's row of the view `recent_ledger`."""

    shard: int
    accepted: int
    unaccounted_records: int
    doubled_records: int
    missing_batches: int

    @property
    def balanced(self) -> bool:
        return not (self.unaccounted_records or self.doubled_records or self.missing_batches)


_QUERY: Final = f"SELECT {', '.join(RecentBooks._fields)} FROM recent_ledger ORDER BY shard"  # noqa: S608 (names of ours)


class RecentLedger:
    """Reads the view, over one connection that is made again after an error."""

    def __init__(self, target: ClickHouseTarget) -> None:
        self._target = target
        self._client: Client = connect(target)

    def read(self) -> list[RecentBooks]:
        """The shards that had batches. Raises SinkUnavailable, SinkRefused."""
        try:
            return [RecentBooks(*row) for row in self._client.execute(_QUERY)]
        except Exception as error:
            self._client.disconnect()
            raise sink_error(error, "reading recent_ledger", self._target) from error

    def close(self) -> None:
        self._client.disconnect()


class LedgerWatch:
    """What the ledger's last look found, as metrics, and in the log when it gets better or worse.

    read: the shards' books; may raise TidelineError, and then nothing is shown until it succeeds.
    now_seconds: Unix time.
    """

    def __init__(
        self, read: Callable[[], list[RecentBooks]], now_seconds: Callable[[], float]
    ) -> None:
        self._read, self._now_seconds = read, now_seconds
        self._books: list[RecentBooks] = []
        self._checked_seconds: float | None = None
        self._said: dict[int, RecentBooks] = {}
        self._trouble = ""

    def look(self) -> None:
        """Read the ledger once."""
        try:
            self._books = self._read()
        except TidelineError as error:
            self._books = []
            if str(error) != self._trouble:  # said once
                self._trouble = str(error)
                _log.warning("the ledger can't be watched: %s", error)
            return
        self._trouble = ""
        self._checked_seconds = self._now_seconds()
        for books in self._books:
            self._say(books)

    def _say(self, books: RecentBooks) -> None:
        before = self._said.pop(books.shard, None)
        fields = {"fact": "ledger_unbalanced", "shard": books.shard}
        if not books.balanced:
            self._said[books.shard] = books
            if before is None:
                _log.error(
                    "the ledger of the last hour does not balance: %s records unaccounted for, %s "
                    "doubled, %s batches missing. `tideline doctor` says what it means",
                    books.unaccounted_records, books.doubled_records, books.missing_batches,
                    extra=fields,
                )  # fmt: skip
        elif before is not None:
            fields["fact"] = "ledger_balanced"
            _log.info("the ledger of the last hour balances again", extra=fields)

    def feed(self, metrics: Metrics) -> None:
        """From now on the metrics show the last look."""

        def each(name: str) -> Callable[[], Iterable[tuple[Sequence[str], float]]]:
            return lambda: [((str(b.shard),), getattr(b, name)) for b in self._books]

        metrics.ledger_accepted_records.samples = each("accepted")
        metrics.ledger_unaccounted_records.samples = each("unaccounted_records")
        metrics.ledger_doubled_records.samples = each("doubled_records")
        metrics.ledger_missing_batches.samples = each("missing_batches")
        metrics.ledger_checked_timestamp_seconds.samples = lambda: (
            [] if self._checked_seconds is None else [((), self._checked_seconds)]
        )
