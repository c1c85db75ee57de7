"""clickhouse-driver here, chDB in its own process: types, errors, concurrency, cut connections."""

from __future__ import annotations

import contextlib
import datetime as dt
import decimal
import fcntl
import resource
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clickhouse_driver import Client
from clickhouse_driver.errors import ServerException

from streams.local.clickhouse import ChdbServer
from streams.local.native import BLOCK_INFO, WireReader, column_skipper
from streams.local.process import wait_until

pytestmark = pytest.mark.clickhouse

ROW: dict[str, tuple[str, Any]] = {
    "id": ("UUID", uuid.UUID(int=7)),
    "text": ("String", "sé"),
    "low": ("LowCardinality(String)", "gold"),
    "low_null": ("LowCardinality(Nullable(String))", None),
    "at": ("DateTime64(3, 'UTC')", dt.datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=dt.UTC)),
    "f32": ("Float32", 1.5),
    "f64": ("Float64", 0.1),
    "i8": ("Int8", -3),
    "u64": ("UInt64", 2**63),
    "flag": ("Bool", True),
    "fixed": ("FixedString(4)", "abcd"),
    "floats": ("Array(Float32)", [1.0, 2.0]),
    "words": ("Array(LowCardinality(String))", ["p", "q", "p"]),
    "no_words": ("Array(String)", []),
    "maybe": ("Nullable(Int32)", None),
    "counts": ("Map(String, UInt8)", {"a": 1, "b": 2}),
    "enum": ("Enum8('a, (b' = 1, 'it\\'s' = 2)", "it's"),
    "day": ("Date", dt.date(2026, 1, 1)),
    "pair": ("Tuple(x UInt8, `y z` String)", (1, "z")),
    "price": ("Decimal(18, 3)", decimal.Decimal("1.234")),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChdbServer]:
    with ChdbServer(tmp_path_factory.mktemp("chdb") / "data") as server:
        yield server


@pytest.fixture
def client(server: ChdbServer) -> Iterator[Client]:
    with Client(server.host, server.port) as client:
        yield client


def _count(client: Client, table: str) -> int:
    return int(client.execute(f"SELECT count() FROM {table}")[0][0])


def test_every_type_comes_back_as_it_went(client: Client) -> None:
    columns = ", ".join(f"{name} {kind}" for name, (kind, _) in ROW.items())
    client.execute(f"CREATE TABLE types ({columns}) ENGINE = MergeTree ORDER BY id")
    row = tuple(value for _, value in ROW.values())
    assert client.execute("INSERT INTO types VALUES", [row] * 3) == 3
    assert client.execute("SELECT * FROM types") == [row] * 3


def test_merges_give_way_to_whoever_asks(client: Client) -> None:
    found = client.execute(
        "SELECT value FROM system.server_settings WHERE name = 'os_threads_nice_value_merge_mutate'"
    )
    assert found == [("10",)]


def test_a_large_columnar_numpy_insert_comes_back(server: ChdbServer) -> None:
    rows = 100_000
    client = Client(server.host, server.port, settings={"use_numpy": True})
    client.execute(
        "CREATE TABLE scores (n UInt32, user String, at DateTime64(3, 'UTC'), p Float32,"
        " segment LowCardinality(String), day Date MATERIALIZED toDate(at))"
        " ENGINE = MergeTree ORDER BY n"
    )
    n = np.arange(rows, dtype=np.uint32)
    users = np.array([f"user-{i}" for i in n], dtype=object)
    at = np.datetime64("2026-01-01", "ms") + n.astype("m8[ms]")
    columns = [n, users, at, n.astype(np.float32) / rows, np.array(["a", "b"] * (rows // 2))]
    # two blocks, so that the second starts in the middle of what one read received
    settings = {"insert_block_size": 60_000}
    client.execute(
        "INSERT INTO scores (n, user, at, p, segment) VALUES",
        columns, columnar=True, settings=settings,
    )  # fmt: skip
    got = client.execute("SELECT n, user, at, p, segment FROM scores ORDER BY n", columnar=True)
    for sent, back in zip(columns, got, strict=True):
        assert np.array_equal(np.asarray(sent), np.asarray(back))
    client.disconnect()


def test_engine_errors_arrive_with_code_and_message(client: Client) -> None:
    with pytest.raises(ServerException, match="nope") as select:
        client.execute("SELECT nope")
    assert select.value.code == 47
    with pytest.raises(ServerException, match="missing") as insert:
        client.execute("INSERT INTO missing VALUES", [(1,)])
    assert insert.value.code == 60
    with pytest.raises(ServerException) as late:
        client.execute("SELECT throwIf(number = 500000) FROM numbers(1000000)")
    assert late.value.code == 395
    assert client.execute("SELECT 1") == [(1,)]


def test_an_insert_that_the_engine_refuses_leaves_nothing(client: Client) -> None:
    client.execute("CREATE TABLE checked (n UInt8, CONSTRAINT small CHECK n < 10) ENGINE = Memory")
    with pytest.raises(ServerException) as refused:
        client.execute("INSERT INTO checked VALUES", [(1,), (11,)])
    assert refused.value.code == 469
    assert _count(client, "checked") == 0


def test_parameters_settings_and_empty_results(client: Client) -> None:
    assert client.execute("SELECT %(a)s, %(b)s", {"a": "it's", "b": 3}) == [("it's", 3)]
    setting = "SELECT getSetting('max_block_size')"
    default = client.execute(setting)
    assert client.execute(setting, settings={"max_block_size": 7, "no_such": 1}) == [(7,)]
    assert client.execute(setting) == default
    empty = client.execute("SELECT number AS n FROM numbers(9) WHERE n > 9", with_column_types=True)
    assert empty == ([], [("n", "UInt64")])
    one = client.execute("SELECT 7 AS n, ['x'] AS words", with_column_types=True)
    assert one == ([(7, ["x"])], [("n", "UInt8"), ("words", "Array(String)")])
    assert client.execute("SHOW TABLES LIKE 'none such'") == []
    assert client.connection.ping()


def test_the_columns_of_an_insert_are_queried_again_after_a_table_has_changed(
    server: ChdbServer, client: Client
) -> None:
    """By whomever: one client's DDL counts for the others' inserts."""
    client.execute("CREATE TABLE changing (n UInt8) ENGINE = Memory")
    client.execute("INSERT INTO changing (n) VALUES", [(1,)])
    with Client(server.host, server.port) as other:
        other.execute("DROP TABLE changing")
        other.execute("CREATE TABLE changing (n String) ENGINE = Memory")
    client.execute("INSERT INTO changing (n) VALUES", [("one",)])
    assert client.execute("SELECT n FROM changing") == [("one",)]


def test_an_abandoned_query_is_cancelled(client: Client) -> None:
    endless = client.execute_iter("SELECT number FROM system.numbers", chunk_size=1000)
    assert next(endless)[0] == (0,)
    client.cancel()
    assert client.execute("SELECT 1") == [(1,)]


def test_selects_run_while_another_process_inserts(server: ChdbServer, client: Client) -> None:
    client.execute("CREATE TABLE busy (n UInt64) ENGINE = MergeTree ORDER BY n")
    code = (
        "import sys\n"
        "from clickhouse_driver import Client\n"
        "client = Client('127.0.0.1', int(sys.argv[1]))\n"
        "for _ in range(20):\n"
        "    client.execute('INSERT INTO busy VALUES', [(i,) for i in range(1000)])\n"
    )
    with Client(server.host, server.port) as slow:
        # it holds its own connection's chDB for the whole test and must hold up no one else
        running = slow.execute_iter("SELECT number FROM system.numbers", chunk_size=10)
        next(running)
        with subprocess.Popen([sys.executable, "-c", code, str(server.port)]) as writer:
            seen = set()
            while writer.poll() is None:
                seen.add(_count(client, "busy"))
        assert writer.returncode == 0
        assert all(count % 1000 == 0 for count in seen)
        assert _count(client, "busy") == 20_000


def test_a_client_cut_in_the_middle_of_an_insert_leaves_nothing(
    server: ChdbServer, client: Client
) -> None:
    client.execute("CREATE TABLE cut (n UInt64, s String) ENGINE = MergeTree ORDER BY n")
    broken = Client(server.host, server.port)
    broken.execute("SELECT 1")
    connection = broken.connection
    connection.send_query("INSERT INTO cut VALUES")
    connection.send_external_tables(None)
    broken.receive_sample_block()
    # one whole block of a row, then a second that ends in the middle of a string
    block = b"\x02\x01\x01n\x06UInt64" + bytes(8) + b"\x01s\x06String\x05hello"
    connection.socket.sendall(b"\x02\x00" + BLOCK_INFO + block)
    connection.socket.sendall(b"\x02\x00" + BLOCK_INFO + block[:-2])
    connection.disconnect()
    client.execute("INSERT INTO cut VALUES", [(1, "whole")])
    assert client.execute("SELECT * FROM cut") == [(1, "whole")]


@pytest.mark.parametrize("noise", [b"GET / HTTP/1.1\r\n\r\n", b"\x00\xff\xff", b"\xff" * 4096])
def test_noise_closes_its_own_connection_only(
    server: ChdbServer, client: Client, noise: bytes
) -> None:
    with socket.create_connection((server.host, server.port), timeout=60) as peer:
        peer.sendall(noise)
        peer.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):
            assert peer.recv(1) == b""
    assert client.execute("SELECT 1") == [(1,)]


def test_compression_is_refused_in_words(server: ChdbServer) -> None:
    pytest.importorskip("lz4")
    pytest.importorskip("clickhouse_cityhash")
    with (
        Client(server.host, server.port, compression=True) as client,
        pytest.raises(ServerException, match="compression=False"),
    ):
        client.execute("SELECT 1")


def test_committed_rows_survive_a_crash_and_sigterm_exits_cleanly(tmp_path: Path) -> None:
    server = ChdbServer(tmp_path / "data").start()
    with Client(server.host, server.port) as client:
        client.execute("CREATE TABLE kept (n UInt8) ENGINE = MergeTree ORDER BY n")
        client.execute("INSERT INTO kept VALUES", [(1,), (2,)])
    server.kill()
    server.start()
    with Client(server.host, server.port) as client:
        assert _count(client, "kept") == 2
    child = server._child
    assert child is not None
    assert child._popen is not None
    child._popen.send_signal(signal.SIGTERM)
    assert wait_until(lambda: not child.running, timeout_seconds=60)
    assert child._popen.returncode == 0
    server.stop()


def test_a_block_is_found_however_the_network_cuts_it() -> None:
    row = b"\x03abc" + b"\x00"
    near, far = socket.socketpair()
    with near, far:
        reader = WireReader(near)
        skip, _ = column_skipper("String")
        for byte in row * 3:
            far.sendall(bytes([byte]))
        reader.record()
        skip(reader, 6)
        assert reader.recorded() == row * 3


def test_reader_sees_data_on_a_descriptor_beyond_the_limit_of_select() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2_000), hard))
    near, far = socket.socketpair()
    with near, far, socket.socket(fileno=fcntl.fcntl(near, fcntl.F_DUPFD_CLOEXEC, 1_500)) as high:
        reader = WireReader(high)
        assert not reader.more_has_come()
        far.sendall(b"ab")
        assert reader.more_has_come()
        reader.read_one()
        assert reader.more_has_come()
        reader.read_one()
        assert not reader.more_has_come()
        far.close()
        assert reader.more_has_come()
