"""ClickHouse goes away, comes back, refuses, hangs: rows wait, and each arrives once."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.local.clickhouse import ChdbServer
from streams.local.process import wait_until
from tests.faults.drill import Drill
from tests.faults.old_clickhouse import OldClickHouse
from tests.faults.proxy import Proxy
from tests.integration.world import WAIT_SECONDS

pytestmark = [pytest.mark.kafka, pytest.mark.clickhouse, pytest.mark.timeout(600)]


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[ChdbServer]:
    with ChdbServer(tmp_path / "own" / "data") as server:
        yield server


@pytest.mark.fault("ClickHouse killed, restarted seconds later (chDB)")
def test_clickhouse_away_for_seconds_loses_and_doubles_nothing(
    fault: Drill, own_server: ChdbServer
) -> None:
    fault.build(server=own_server, max_batch_records=500)
    worker = fault.worker("worker")
    load = fault.load(9_000, rate=1_000)
    fault.under_load(1_500)
    before = fault.world.accepted
    own_server.kill()
    load.join()  # the load goes on while it is away
    assert worker.running
    with fault.recovery(before):
        own_server.start()
    assert "took" in worker.log  # it said that ClickHouse answers again
    fault.finish(worker)


@pytest.mark.full
@pytest.mark.fault("ClickHouse killed again and again (18.16)")
def test_a_server_that_dies_again_and_again(
    fault: Drill, proxy: Proxy, old_clickhouse: OldClickHouse
) -> None:
    here = fault.build(server=proxy, max_batch_records=500)
    worker = fault.worker("worker", old_clickhouse=True)
    fault.load(9_000, rate=600)
    fault.under_load(500)
    for _ in range(5):
        before = here.accepted
        old_clickhouse.kill()
        with fault.recovery(before):
            old_clickhouse.start()
    assert worker.running
    fault.finish(worker)


@pytest.mark.full
@pytest.mark.fault("ClickHouse frozen past the time-out (18.16)")
def test_a_server_that_hangs(fault: Drill, proxy: Proxy, old_clickhouse: OldClickHouse) -> None:
    fault.build(server=proxy)
    worker = fault.worker("worker", old_clickhouse=True, answer_seconds=2)
    load = fault.load(6_000, rate=1_000)
    fault.under_load(1_000)
    before = fault.world.accepted
    old_clickhouse.send(signal.SIGSTOP)
    load.join()
    assert wait_until(lambda: "SocketTimeoutError" in worker.log, WAIT_SECONDS)
    with fault.recovery(before):
        old_clickhouse.send(signal.SIGCONT)
    fault.finish(worker)


@pytest.mark.full
@pytest.mark.fault("ClickHouse read-only: stops, says why, loses nothing (18.16)")
def test_a_server_that_refuses_to_write_stops_the_worker_with_the_reason(
    fault: Drill, proxy: Proxy, old_clickhouse: OldClickHouse
) -> None:
    here = fault.build(server=proxy)
    worker = fault.worker("worker", old_clickhouse=True)
    fault.load(6_000, rate=1_000)
    fault.under_load(1_000)
    old_clickhouse.set_readonly(True)
    here.wait("new connections may only read", lambda: not _writes(here))
    proxy.cut()  # an old connection keeps its rights
    assert wait_until(lambda: not worker.running, WAIT_SECONDS), "it goes on, with nowhere to write"
    assert "readonly" in worker.log
    assert "give the user a profile that is not readonly" in worker.log
    assert worker.stop()[0] == 1
    old_clickhouse.set_readonly(False)
    with fault.recovery():
        here.wait("the server writes again", lambda: _writes(here))
        again = fault.worker("again", old_clickhouse=True)
    fault.finish(again)


def _writes(here: object) -> bool:
    client = here.client  # type: ignore[attr-defined]
    client.disconnect()
    try:
        client.execute("INSERT INTO consumer_lag (topic) VALUES", [("probe",)])
    except Exception:
        return False
    return True
