"""The lag monitor watches whether every record of the last hour is accounted for."""

from __future__ import annotations

import logging

import pytest

from schemas.errors import SinkRefused, TidelineError
from streams.clickhouse.client import ClickHouseTarget, connect
from streams.clickhouse.migrations import migrate
from streams.lag.ledger import LedgerWatch, RecentBooks, RecentLedger
from streams.local.clickhouse import ChdbServer
from streams.telemetry.metrics import Metrics


class _Books:
    def __init__(self) -> None:
        self.next: list[RecentBooks] | TidelineError = []
        self.now = 1_000.0
        self.metrics = Metrics()
        self.watch = LedgerWatch(self._read, lambda: self.now)
        self.watch.feed(self.metrics)

    def _read(self) -> list[RecentBooks]:
        if isinstance(self.next, TidelineError):
            raise self.next
        return self.next

    def look(self, *books: RecentBooks) -> None:
        self.next = list(books)
        self.watch.look()

    def shown(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"tideline_ledger_{name}", labels)


def test_metrics_are_those_of_the_last_look_and_a_shard_that_is_gone_has_none() -> None:
    books = _Books()
    assert books.shown("checked_timestamp_seconds") is None
    books.look(RecentBooks(0, 100, 0, 0, 0), RecentBooks(1, 50, 3, 2, 1))
    assert books.shown("checked_timestamp_seconds") == 1_000
    names = ("accepted_records", "unaccounted_records", "doubled_records", "missing_batches")
    assert [books.shown(name, shard="1") for name in names] == [50, 3, 2, 1]
    assert [books.shown(name, shard="0") for name in names] == [100, 0, 0, 0]
    books.look(RecentBooks(0, 10, 0, 0, 0))
    assert books.shown("unaccounted_records", shard="1") is None


def test_a_ledger_that_can_not_be_read_shows_nothing_and_is_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    books = _Books()
    books.look(RecentBooks(0, 100, 0, 0, 0))
    books.now, books.next = 2_000.0, SinkRefused("no such view: run `tideline migrate`")
    books.watch.look()
    books.watch.look()
    assert books.shown("unaccounted_records", shard="0") is None
    assert books.shown("checked_timestamp_seconds") == 1_000
    assert caplog.text.count("tideline migrate") == 1
    books.look(RecentBooks(0, 100, 0, 0, 0))
    assert books.shown("checked_timestamp_seconds") == 2_000


def test_the_log_says_when_a_ledger_stops_balancing_and_balances_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    books = _Books()
    for unaccounted in (0, 7, 8, 0, 0):
        books.look(RecentBooks(4, 100, unaccounted, 0, 0))
    wrong, right = caplog.records
    assert "7 records unaccounted for" in wrong.getMessage()
    assert (wrong.levelno, right.levelno) == (logging.ERROR, logging.INFO)
    assert [record.shard for record in (wrong, right)] == [4, 4]  # type: ignore[attr-defined]


def test_the_view_is_read_and_its_absence_says_what_to_do(clickhouse: ChdbServer) -> None:
    target = ClickHouseTarget(clickhouse.host, clickhouse.port, database="recent_ledger_test")
    ledger = RecentLedger(target)
    with pytest.raises(TidelineError, match="migrate"):
        ledger.read()
    migrate(target)
    assert ledger.read() == []
    with connect(target) as client:
        client.execute(
            "INSERT INTO batches (shard, seq, clickstream_to, accepted, scored) "
            "VALUES (2, 1, 9, 9, 9)"
        )
    assert ledger.read() == [RecentBooks(2, 9, 0, 0, 0)]
    ledger.close()
