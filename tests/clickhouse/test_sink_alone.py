"""The sink's thread without a server: its order of inserts, its further tries, and its end."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from clickhouse_driver.errors import ServerException

from schemas.errors import SinkRefused, SinkUnavailable
from schemas.tables import TABLES
from streams.clickhouse import sink
from streams.clickhouse.backoff import Backoff
from streams.clickhouse.blocks import Block
from streams.clickhouse.client import ClickHouseTarget
from streams.clickhouse.sink import INSERT_ORDER, ClickHouseSink

Columns = Callable[..., dict[str, list[Any]]]
WAIT_SECONDS = 100.0
TARGET = ClickHouseTarget("db")
BUSY, NO_TABLE = 252, 60


class Server:
    """Takes inserts, or raises what it is given for the next ones. Observes the sink, too."""

    def __init__(self) -> None:
        self.errors: list[Exception] = []
        self.tries: list[tuple[str, int, str]] = []
        self.events: list[tuple[Any, ...]] = []
        self.failures: list[int] = []
        self.statuses: list[str] = []
        self.disconnected = 0
        self.sink: ClickHouseSink | None = None
        self.on_insert: Callable[[str], None] = lambda _table: None

    # as `insert_block` and a client
    def insert(self, client: object, block: Block) -> None:
        assert client is self
        self.tries.append((block.table.name, block.rows, block.token))
        self.on_insert(block.table.name)
        if self.errors:
            raise self.errors.pop(0)

    def disconnect(self) -> None:
        self.disconnected += 1

    # as an observer
    def inserted(self, table: str, rows: int, seconds: float) -> None:
        self.events.append((table, rows))
        assert self.sink is not None
        self.statuses.append(self.sink.status.state)

    def retry(self, error_type: str) -> None:
        self.events.append((error_type,))
        assert self.sink is not None
        self.statuses.append(self.sink.status.state)

    # as a backoff
    def delay_seconds(self, failures: int, random: Callable[[], float]) -> float:
        assert random() == 0.5
        self.failures.append(failures)
        return 0.0

    @property
    def inserted_rows(self) -> list[tuple[str, int]]:
        return [(table, rows) for table, rows, _ in self.tries]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    made = Server()
    monkeypatch.setattr(sink, "connect", lambda target: made)
    monkeypatch.setattr(sink, "insert_block", made.insert)
    return made


@pytest.fixture
def made(server: Server) -> Iterator[ClickHouseSink]:
    """A sink that was not started."""
    backoff: Any = server
    server.sink = ClickHouseSink(
        TARGET, linger_seconds=0.0, observer=server, backoff=backoff, random=lambda: 0.5
    )
    yield server.sink
    server.sink.close(WAIT_SECONDS)


def test_a_flush_goes_through_every_table_with_alerts_first_and_batches_last(
    server: Server, made: ClickHouseSink, columns: Columns
) -> None:
    assert sorted(INSERT_ORDER) == sorted(TABLES)
    done = [made.submit({name: columns(name, n) for name in TABLES}) for n in (1, 2, 0)]
    made.start()
    for future in done:
        future.result(WAIT_SECONDS)
    others = [name for name in INSERT_ORDER if name != "alerts"]
    assert server.inserted_rows == [("alerts", 3), *((name, 3) for name in others)]
    assert server.inserted_rows[-1] == ("batches", 3)
    assert server.events == server.inserted_rows
    assert set(server.statuses) == {"ok"}


def test_futures_resolve_when_the_last_table_is_in(
    server: Server, made: ClickHouseSink, columns: Columns
) -> None:
    done = made.submit(
        {"dead_letters": columns("dead_letters", 1), "batches": columns("batches", 1)}
    )
    early: list[bool] = []
    server.on_insert = lambda _table: early.append(done.done())
    made.start()
    done.result(WAIT_SECONDS)
    assert early == [False, False]


def test_an_insert_is_tried_again_with_the_same_bytes_until_it_is_taken(
    server: Server, made: ClickHouseSink, columns: Columns, caplog: pytest.LogCaptureFixture
) -> None:
    server.errors = [EOFError("cut off"), ServerException("busy", BUSY), TimeoutError()]
    done = made.submit({"batches": columns("batches", 2)})
    made.start()
    done.result(WAIT_SECONDS)
    assert server.inserted_rows == [("batches", 2)] * 4
    assert len({token for _, _, token in server.tries}) == 1
    assert server.events == [("EOFError",), ("ServerException",), ("TimeoutError",), ("batches", 2)]
    assert server.statuses == ["retrying"] * 3 + ["ok"]
    assert server.failures == [1, 2, 3]
    assert made.status.state == "ok"
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert len(warnings) == 2, "of the first failure, and of the end"
    assert "inserting 2 rows into batches at db:9000" in warnings[0]
    assert "took batches again" in warnings[1]


def test_an_insert_that_goes_well_is_no_news(
    server: Server, made: ClickHouseSink, columns: Columns, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    made.start().submit({"batches": columns("batches", 2)}).result(WAIT_SECONDS)
    (record,) = [r for r in caplog.records if r.name == sink.__name__]
    assert (record.levelno, record.__dict__["table"], record.__dict__["rows"]) == (
        logging.DEBUG, "batches", 2
    )  # fmt: skip


def test_how_long_an_insert_took_counts_from_its_first_try(
    server: Server, columns: Columns, monkeypatch: pytest.MonkeyPatch
) -> None:
    took: list[float] = []
    monkeypatch.setattr(server, "inserted", lambda table, rows, seconds: took.append(seconds))
    now = [100.0]

    def passing(_table: str) -> None:
        now[0] += 2.0

    server.on_insert = passing
    server.errors = [EOFError()]
    server.sink = ClickHouseSink(
        TARGET, linger_seconds=0.0, observer=server, clock=lambda: now[0],
        backoff=Backoff(first_seconds=0.0), random=lambda: 0.5,
    )  # fmt: skip
    server.sink.start().submit({"batches": columns("batches", 1)}).result(WAIT_SECONDS)
    server.sink.close(WAIT_SECONDS)
    assert took == [4.0]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ServerException("no such table", NO_TABLE), "inserting 1 rows into dead_letters"),
        (ZeroDivisionError("a bug"), "inserting 1 rows into dead_letters"),
    ],
)
def test_what_is_refused_stops_the_sink_before_the_tables_that_follow(
    server: Server,
    made: ClickHouseSink,
    columns: Columns,
    error: Exception,
    message: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    server.errors = [error]
    assert made.failed is None
    rows = {"dead_letters": columns("dead_letters", 1), "batches": columns("batches", 1)}
    done = [made.submit(rows), made.submit({})]
    made.start()
    for future in done:
        assert isinstance(future.exception(WAIT_SECONDS), SinkRefused)
    assert server.inserted_rows == [("dead_letters", 1)]
    made._thread.join(WAIT_SECONDS)
    assert made.failed is done[0].exception(0)
    assert (made.status.state, made.status.pending_rows) == ("failed", 0)
    assert message in made.status.error
    with pytest.raises(SinkRefused, match=message):
        made.submit({})
    assert [r.levelno for r in caplog.records if "stops" in r.getMessage()] == [logging.ERROR]
    assert server.disconnected == 1


def test_a_bug_outside_an_insert_stops_the_sink_too(
    server: Server, made: ClickHouseSink, columns: Columns
) -> None:
    def fail() -> None:
        raise ZeroDivisionError("a bug")

    done = made.submit({"alerts": columns("alerts", 1)}, fail)
    made.start()
    error = done.exception(WAIT_SECONDS)
    assert isinstance(error, SinkRefused)
    assert "ClickHouse sink: ZeroDivisionError" in str(error)
    made._thread.join(WAIT_SECONDS)
    assert made.failed is error


def test_on_alerts_is_called_once_its_alerts_are_in_and_only_if_there_are_any(
    server: Server, made: ClickHouseSink, columns: Columns
) -> None:
    called: list[tuple[str, list[str]]] = []

    def note(name: str) -> Callable[[], None]:
        return lambda: called.append((name, [table for table, _ in server.events]))

    done = [
        made.submit({"alerts": columns("alerts", 1)}, note("one")),
        made.submit({"alerts": columns("alerts", 0)}, note("none")),
        made.submit({"alerts": columns("alerts", 2), "batches": columns("batches", 1)}),
        made.submit({"batches": columns("batches", 1)}, note("no table")),
    ]
    made.start()
    for future in done:
        future.result(WAIT_SECONDS)
    assert called == [("one", ["alerts"])]
    assert server.inserted_rows == [("alerts", 3), ("batches", 2)]


def test_closing_writes_what_waits_and_then_takes_no_more(server: Server, columns: Columns) -> None:
    server.sink = here = ClickHouseSink(TARGET, linger_seconds=3_600.0, observer=server)
    states = [here.status.state]
    here.start()
    states.append(here.status.state)
    assert states == ["closed", "ok"]
    done = here.submit({"batches": columns("batches", 1)})
    assert here.status.pending_rows == 1
    for _ in range(2):
        here.close(WAIT_SECONDS)
        assert done.done()
        assert (here.status.state, here.status.pending_rows) == ("closed", 0)
    with pytest.raises(SinkUnavailable, match="closed"):
        here.submit({})
    assert (server.disconnected, here.failed) == (1, None)


def test_closing_before_the_start_takes_no_more(server: Server) -> None:
    here = ClickHouseSink(TARGET)
    here.close(WAIT_SECONDS)
    with pytest.raises(SinkUnavailable, match="closed"):
        here.submit({})


def test_closing_gives_up_what_keeps_failing(server: Server, columns: Columns) -> None:
    class Wire:
        socket = None

    failing = threading.Event()
    server.connection = Wire()  # type: ignore[attr-defined]
    server.errors = [ServerException("busy", BUSY)] * 1_000
    server.on_insert = lambda _table: failing.set()
    here = server.sink = ClickHouseSink(
        TARGET, linger_seconds=0.0, observer=server, backoff=Backoff(600.0, 600.0)
    )
    done = here.start().submit({"batches": columns("batches", 1)})
    assert failing.wait(WAIT_SECONDS)
    here.close(0.0)
    assert not here._thread.is_alive()
    error = done.exception(0)
    assert isinstance(error, SinkUnavailable)
    assert "closed before db:9000/tideline took all rows" in str(error)
    assert (here.status.state, here.status.error, here.failed) == ("closed", "", None)
    assert server.disconnected == 1


def test_a_sink_is_overloaded_and_has_room_as_its_buffer_says(
    server: Server, columns: Columns
) -> None:
    here = ClickHouseSink(TARGET, max_pending_rows=10)
    here.submit({"batches": columns("batches", 5)})
    half = here.overloaded
    here.submit({"batches": columns("batches", 1)})
    assert (half, here.overloaded) == (False, True)
    here.close(0.0)
