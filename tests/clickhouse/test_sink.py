"""The sink writes every row once, whatever ClickHouse does meanwhile, or says loudly why not."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from clickhouse_driver import Client

from schemas.errors import SinkRefused, SinkUnavailable
from schemas.tables import TABLES
from streams.clickhouse.backoff import Backoff
from streams.clickhouse.client import ClickHouseTarget, connect
from streams.clickhouse.migrations import migrate
from streams.clickhouse.sink import ClickHouseSink
from streams.core.texts import Coded
from streams.local.clickhouse import ChdbServer
from streams.local.process import free_port

pytestmark = pytest.mark.clickhouse

Columns = Callable[..., dict[str, list[Any]]]
SOON = Backoff(first_seconds=0.02, cap_seconds=0.1)
WAIT_SECONDS = 100.0  # for what takes a moment on a machine that has nothing else to do


class Log:
    """Observes a sink; events say when something happened first."""

    def __init__(self) -> None:
        self.inserts: list[tuple[str, int]] = []
        self.errors: Counter[str] = Counter()
        self.retried = threading.Event()

    def inserted(self, table: str, rows: int, seconds: float) -> None:
        assert seconds >= 0
        self.inserts.append((table, rows))

    def retry(self, error_type: str) -> None:
        self.errors[error_type] += 1
        self.retried.set()


@pytest.fixture
def log() -> Log:
    return Log()


@contextlib.contextmanager
def closing(sink: ClickHouseSink, drain_seconds: float = WAIT_SECONDS) -> Iterator[ClickHouseSink]:
    try:
        yield sink
    finally:
        sink.close(drain_seconds)


VALUES: dict[str, list[Any]] = {
    "String": ["", "plain", "żółć 🛒 'quoted' \\ \0 end"],
    "LowCardinality(String)": ["a", "", "ü"],
    "Array(String)": [[], ["no order for 40 days", "ü"], [""]],
    "Array(Float32)": [[], [0.5, -1.25], [0.0]],
    "DateTime64(3, 'UTC')": [0, 1, 1_700_000_000_123],
    "Float32": [0.0, 0.5, -1.25],
    "Float64": [0.0, 0.5, -1.25],
    "Int64": [-1, 0, 2**62],
    "UInt8": [0, 1, 255],
    "UInt16": [0, 1, 65_535],
    "UInt32": [0, 1, 2**32 - 1],
    "UInt64": [0, 1, 2**64 - 1],
}


def as_read(kind: str, value: Any) -> Any:
    return datetime.fromtimestamp(value / 1000, UTC) if kind.startswith("DateTime") else value


@pytest.mark.parametrize("table", TABLES)
def test_every_table_comes_back_as_it_went_in(
    client: Client, target: ClickHouseTarget, table: str
) -> None:
    kinds = TABLES[table].columns
    given = {name: VALUES[kind] for name, kind in kinds.items()}
    if "keep_days" in given:  # rows that are to be kept for no time are gone at once
        given["keep_days"] = [1, 2, 400]
    with closing(ClickHouseSink(target, linger_seconds=0).start()) as sink:
        sink.submit({table: given}).result(WAIT_SECONDS)
    expected = [tuple(as_read(k, given[n][i]) for n, k in kinds.items()) for i in range(3)]
    names = ", ".join(f"`{name}`" for name in kinds)
    rows = client.execute(f"SELECT {names} FROM {table}")
    assert sorted(rows) == sorted(expected)


def test_numpy_columns_and_coded_strings_are_taken(
    client: Client, target: ClickHouseTarget, columns: Columns
) -> None:
    rows: dict[str, Any] = {
        **columns("segment_changes", 3),
        "user_id": np.array(["ann", "bob", "eve"], dtype=object),
        "shard": np.array([1, 2, 3], dtype=np.int64),
        "to_segment": Coded(np.array([1, 0, 1]), ["low", "high"]),
        "changed_at": np.array([0, 1, 2], dtype="datetime64[s]"),
    }
    with closing(ClickHouseSink(target, linger_seconds=0).start()) as sink:
        sink.submit({"segment_changes": rows}).result(WAIT_SECONDS)
    query = "SELECT user_id, shard, to_segment, toUnixTimestamp(changed_at) FROM segment_changes"
    assert sorted(client.execute(query)) == [
        ("ann", 1, "high", 0), ("bob", 2, "low", 1), ("eve", 3, "high", 2),
    ]  # fmt: skip


def test_a_dictionary_that_just_fits_its_keys_is_taken(
    client: Client, target: ClickHouseTarget, columns: Columns
) -> None:
    names = sorted(f"reason-{n}" for n in range(256))
    with closing(ClickHouseSink(target, linger_seconds=0).start()) as sink:
        rows = columns("dead_letters", 256, reason=names, offset=list(range(256)))
        sink.submit({"dead_letters": rows}).result(WAIT_SECONDS)
    assert client.execute("SELECT offset, reason FROM dead_letters ORDER BY offset") == list(
        enumerate(names)
    )


def numbered(columns: Columns, first: int, n: int) -> dict[str, dict[str, list[Any]]]:
    """One micro-batch: n letters and its row in batches."""
    letters = columns("dead_letters", n, offset=list(range(first, first + n)))
    return {"batches": columns("batches", 1, seq=[first]), "dead_letters": letters}


def offsets(client: Client) -> list[int]:
    query = "SELECT offset FROM dead_letters FINAL ORDER BY offset"
    return [offset for (offset,) in client.execute(query)]


def test_micro_batches_share_inserts_and_batches_come_last(
    client: Client, target: ClickHouseTarget, columns: Columns, log: Log
) -> None:
    with closing(ClickHouseSink(target, observer=log)) as sink:
        done = [sink.submit(numbered(columns, 10 * i, 10)) for i in range(5)]
        done.append(sink.submit({}))
        sink.start()
        for future in done:
            future.result(WAIT_SECONDS)
    assert log.inserts == [("dead_letters", 50), ("batches", 5)]
    assert offsets(client) == list(range(50))


def test_alerts_do_not_wait_for_the_others(
    client: Client, target: ClickHouseTarget, columns: Columns, log: Log
) -> None:
    """They are readable long before the rest is due, as `on_alerts` reports, and are
    inserted once."""
    raised = {**numbered(columns, 0, 3), "alerts": columns("alerts", 2, alert_id=["a", "b"])}
    with closing(ClickHouseSink(target, linger_seconds=600, observer=log).start()) as sink:
        notified = threading.Event()
        done = sink.submit(raised, notified.set)
        assert notified.wait(WAIT_SECONDS)
        assert log.inserts == [("alerts", 2)]
        assert client.execute("SELECT count() FROM alerts") == [(2,)]
        assert not done.done()
    done.result(0)  # closing flushes
    assert log.inserts == [("alerts", 2), ("dead_letters", 3), ("batches", 1)]


def test_alerts_that_come_during_a_flush_go_between_its_tables(
    client: Client, target: ClickHouseTarget, columns: Columns
) -> None:
    class Raising(Log):
        """Submits an alert as soon as the first table of the first flush is in."""

        def inserted(self, table: str, rows: int, seconds: float) -> None:
            super().inserted(table, rows, seconds)
            if table == "dead_letters" and rows == 3:
                later.append(sink.submit({"alerts": columns("alerts", 1)}))

    later: list[Any] = []
    log = Raising()
    with closing(ClickHouseSink(target, linger_seconds=0.0, observer=log)) as sink:
        first = sink.submit(numbered(columns, 0, 3))
        sink.start()
        first.result(WAIT_SECONDS)
        later[0].result(WAIT_SECONDS)
    assert log.inserts == [("dead_letters", 3), ("alerts", 1), ("batches", 1)]


def test_a_flush_starts_at_max_rows_without_waiting(
    target: ClickHouseTarget, columns: Columns, log: Log
) -> None:
    sink = ClickHouseSink(target, max_rows=10, linger_seconds=3600, observer=log)
    with closing(sink):
        done = [sink.submit(numbered(columns, 4 * i, 4)) for i in range(4)]
        sink.start()
        for future in done[:3]:
            future.result(WAIT_SECONDS)
        assert not done[3].done()
    assert done[3].result(0) is None  # close writes what lingers
    assert [rows for table, rows in log.inserts if table == "dead_letters"] == [12, 4]


def test_the_buffer_is_bounded_and_signals_when_there_is_room(
    client: Client, target: ClickHouseTarget, columns: Columns
) -> None:
    sink = ClickHouseSink(target, max_pending_rows=100, linger_seconds=0)

    async def fill_and_wait() -> None:
        await sink.wait_for_room()  # at once: nothing waits
        sink.submit(numbered(columns, 0, 49))
        before = sink.overloaded
        sink.submit(numbered(columns, 49, 19))
        assert (before, sink.overloaded) == (False, True)
        with pytest.raises(SinkUnavailable, match=r"wait_for_room\(\)"):
            sink.submit(numbered(columns, 68, 31))
        assert sink.status.pending_rows == 70
        cancelled = asyncio.ensure_future(sink.wait_for_room())
        waiting = asyncio.ensure_future(sink.wait_for_room())
        await asyncio.sleep(0)
        cancelled.cancel()
        assert not waiting.done()
        sink.start()
        await asyncio.wait_for(waiting, WAIT_SECONDS)
        await asyncio.wrap_future(sink.submit(numbered(columns, 68, 31)))

    with closing(sink):
        asyncio.run(fill_and_wait())
    assert sink.status.pending_rows == 0
    assert offsets(client) == list(range(99))


def test_a_micro_batch_larger_than_the_buffer_goes_in_alone(
    client: Client, target: ClickHouseTarget, columns: Columns
) -> None:
    with closing(ClickHouseSink(target, max_pending_rows=5)) as sink:
        future = sink.submit(numbered(columns, 0, 20))
        with pytest.raises(SinkUnavailable):
            sink.submit(numbered(columns, 20, 1))
        sink.start()
        future.result(WAIT_SECONDS)
    assert offsets(client) == list(range(20))


def test_a_killed_server_loses_and_doubles_nothing(
    private_server: ChdbServer, columns: Columns, log: Log
) -> None:
    target = ClickHouseTarget(private_server.host, private_server.port)
    migrate(target)
    sink = ClickHouseSink(target, max_rows=100, linger_seconds=0, observer=log, backoff=SOON)
    with closing(sink.start()):
        done = [sink.submit(numbered(columns, 50 * i, 50)) for i in range(20)]
        done[2].result(WAIT_SECONDS)
        private_server.kill()  # somewhere in the middle of the rest
        done += [sink.submit(numbered(columns, 50 * i, 50)) for i in range(20, 40)]
        assert log.retried.wait(WAIT_SECONDS)
        status = sink.status
        assert status.state == "retrying"
        assert "dead_letters" in status.error or "batches" in status.error
        assert not done[-1].done()
        private_server.start()
        for future in done:
            future.result(WAIT_SECONDS)
        assert sink.status.state == "ok"
    with connect(target) as client:
        assert offsets(client) == list(range(2000))
        seqs = client.execute("SELECT seq FROM batches FINAL ORDER BY seq")
    assert seqs == [(50 * i,) for i in range(40)]


class CuttingProxy:
    """Passes everything on, but drops the first acknowledgement of an insert and hangs up."""

    END_OF_STREAM = b"\x05"

    def __init__(self, upstream_port: int) -> None:
        self._upstream_port = upstream_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.cuts = 0
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # the listener was closed
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._upstream_port))
                pumps = [
                    threading.Thread(target=self._pump, args=pair)
                    for pair in ((near, far, False), (far, near, True))
                ]
                self._threads += pumps
                for pump in pumps:
                    pump.start()

    def _pump(self, source: socket.socket, sink: socket.socket, answers: bool) -> None:
        with source, contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if answers and data == self.END_OF_STREAM and not self.cuts:
                    self.cuts += 1
                    break
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(WAIT_SECONDS)


def test_an_insert_whose_answer_is_lost_is_sent_again_and_kept_once(
    client: Client, target: ClickHouseTarget, columns: Columns, log: Log
) -> None:
    proxy = CuttingProxy(target.port)
    sink = ClickHouseSink(replace(target, port=proxy.port), observer=log, backoff=SOON)
    try:
        with closing(sink.start()):
            score = columns("score_history", 3, user_id=["ann", "bob", "eve"], seq=1)
            sink.submit({"score_history": score}).result(WAIT_SECONDS)
    finally:
        proxy.close()
    assert (proxy.cuts, sum(log.errors.values())) == (1, 1)
    # Without FINAL: the token alone kept the second insert out, of the view's target as well.
    assert client.execute("SELECT count() FROM score_history") == [(3,)]
    assert client.execute("SELECT count() FROM users_now") == [(3,)]
    assert client.execute("SELECT count() FROM user_points") == [(3,)]


def test_a_refused_insert_fails_its_rows_and_stops_the_sink(
    client: Client, target: ClickHouseTarget, columns: Columns, caplog: pytest.LogCaptureFixture
) -> None:
    client.execute("DROP TABLE dead_letters")
    with closing(ClickHouseSink(target, max_rows=1, max_pending_rows=10)) as sink:

        async def overload() -> None:
            done = [sink.submit(numbered(columns, i, 4)) for i in (0, 4)]
            waiting = asyncio.ensure_future(sink.wait_for_room())
            await asyncio.sleep(0)
            sink.start()
            for future in (*map(asyncio.wrap_future, done), waiting):
                with pytest.raises(SinkRefused, match=r"dead_letters.*run `tideline migrate`"):
                    await asyncio.wait_for(future, WAIT_SECONDS)
            with pytest.raises(SinkRefused):
                await sink.wait_for_room()

        asyncio.run(overload())
        with pytest.raises(SinkRefused, match="tideline migrate"):
            sink.submit({})
        assert isinstance(sink.failed, SinkRefused)
        assert sink.status.state == "failed"
        assert "dead_letters" in sink.status.error
    # A batch row promises its effects: it must not be there without them.
    assert client.execute("SELECT count() FROM batches") == [(0,)]
    assert "stops" in caplog.text


def test_a_value_that_does_not_fit_is_refused_by_column(
    target: ClickHouseTarget, columns: Columns
) -> None:
    with closing(ClickHouseSink(target).start()) as sink:
        future = sink.submit({"batches": columns("batches", 1, shard=70_000)})
        with pytest.raises(SinkRefused, match=r"batches\.shard"):
            future.result(WAIT_SECONDS)


def test_wrong_tables_and_columns_are_refused_at_once(columns: Columns) -> None:
    with closing(ClickHouseSink(ClickHouseTarget("127.0.0.1", free_port()))) as sink:
        rows = columns("batches", 2)
        with pytest.raises(SinkRefused, match="no table 'scores'"):
            sink.submit({"scores": rows})
        with pytest.raises(SinkRefused, match=r"batches.*: extra, late"):
            sink.submit(
                {"batches": {**{k: v for k, v in rows.items() if k != "late"}, "extra": []}}
            )
        with pytest.raises(SinkRefused, match="differ in length"):
            sink.submit({"batches": {**rows, "late": [1]}})


def test_closing_gives_up_in_time_when_the_server_is_down(columns: Columns, log: Log) -> None:
    sink = ClickHouseSink(
        ClickHouseTarget("127.0.0.1", free_port()), linger_seconds=0, observer=log
    ).start()
    future = sink.submit(numbered(columns, 0, 1))
    assert log.retried.wait(WAIT_SECONDS)
    sink.close(drain_seconds=0)
    with pytest.raises(SinkUnavailable, match="closed before"):
        future.result(0)
    with pytest.raises(SinkUnavailable, match="closed before"):
        sink.submit({})
    sink.close()
    assert sink.status.state == "closed"


def test_closing_gives_up_in_time_when_the_server_does_not_answer(columns: Columns) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        target = ClickHouseTarget("127.0.0.1", silent.getsockname()[1])
        sink = ClickHouseSink(target, linger_seconds=0).start()
        future = sink.submit(numbered(columns, 0, 1))
        connection, _ = silent.accept()
        with connection:
            assert connection.recv(1)  # the sink's greeting: from now on it waits for ours
            sink.close(drain_seconds=0)
            with pytest.raises(SinkUnavailable, match="closed before"):
                future.result(0)
