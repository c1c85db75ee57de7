"""ClickHouse 18.16 acknowledges an insert of nothing where its client's side has ended.

It is the one answer that must not be believed: an insert counts once the connection still answers
after it (`streams/clickhouse/insert.py`).
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from clickhouse_driver.connection import Connection
from clickhouse_driver.settings import available as driver_settings

from schemas.errors import SinkUnavailable
from schemas.tables import TABLES
from streams.clickhouse.blocks import Block
from streams.clickhouse.client import ClickHouseTarget, connect
from streams.clickhouse.errors import classify
from streams.clickhouse.insert import insert_block
from tests.faults.old_clickhouse import OldClickHouse, prepare
from tests.faults.proxy import Fault, Proxy

pytestmark = [pytest.mark.clickhouse, pytest.mark.timeout(300)]

ROWS = 3
HALF_CLOSED = Fault("half_close", "up", after=b"INSERT INTO ")
"""At the client's next bytes: the server has the statement, and hears no more."""


def lag_rows() -> Block:
    values = {
        name: ["group"] * ROWS if "String" in kind else list(range(ROWS))
        for name, kind in TABLES["consumer_lag"].columns.items()
    }
    return Block(TABLES["consumer_lag"], [values])


@pytest.fixture
def target(old_clickhouse: OldClickHouse, monkeypatch: pytest.MonkeyPatch) -> ClickHouseTarget:
    """The server itself, with our tables, and a driver that knows how old it is."""
    monkeypatch.delitem(
        driver_settings.settings, "deduplicate_blocks_in_dependent_materialized_views"
    )
    found = ClickHouseTarget(old_clickhouse.host, old_clickhouse.port, database="half")
    prepare(found)
    return found


def stored(target: ClickHouseTarget) -> int:
    with connect(target) as client:
        return int(client.execute("SELECT count() FROM consumer_lag")[0][0])


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_an_acknowledged_insert_of_nothing_is_an_error_and_the_next_try_counts(
    target: ClickHouseTarget, proxy: Proxy
) -> None:
    proxy.add(replace(HALF_CLOSED))
    with connect(replace(target, port=proxy.port)) as client:
        with pytest.raises((EOFError, OSError)) as raised:
            insert_block(client, lag_rows())
        assert classify(raised.value) is SinkUnavailable
        assert stored(target) == 0
        insert_block(client, lag_rows())
    assert stored(target) == ROWS


def test_without_asking_again_the_rows_would_be_lost(
    target: ClickHouseTarget, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test above is worth something only as long as this holds for this server."""
    monkeypatch.setattr(Connection, "ping", lambda _: True)
    proxy.add(replace(HALF_CLOSED))
    with connect(replace(target, port=proxy.port)) as client:
        insert_block(client, lag_rows())  # acknowledged
    assert stored(target) == 0
