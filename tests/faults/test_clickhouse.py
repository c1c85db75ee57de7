"""ClickHouse goes away, comes back, refuses, hangs: rows wait, and each arrives once."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.lag.monitor import poll_once
from streams.local.clickhouse import ChdbServer
from streams.local.process import wait_until
from tests.faults.drill import Drill
from tests.faults.old_clickhouse import OldClickHouse
from tests.faults.proxy import Proxy
from tests.integration.world import WAIT_SECONDS, Worker, World

pytestmark = [pytest.mark.kafka, pytest.mark.clickhouse, pytest.mark.timeout(600)]


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[ChdbServer]:
    with ChdbServer(tmp_path / "own" / "data") as server:
        yield server


@pytest.mark.fault("ClickHouse killed, restarted seconds later (chDB)")
def test_clickhouse_away_for_seconds_loses_and_doubles_nothing(
    fault: Drill, own_server: ChdbServer
) -> None:
    fault.build(server=own_server, stream_max_batch_records=500)
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


DOWN_SECONDS = 60.0  # it stands for ten minutes: all that grows with time is bounded well before
PENDING_ROWS = 8_000  # and this for the half million rows that may wait


@pytest.mark.full
@pytest.mark.fault("ClickHouse down for a minute: bounded memory, paused, lag reported")
def test_clickhouse_down_for_long_is_waited_for_in_bounded_memory(
    fault: Drill, own_server: ChdbServer
) -> None:
    here = fault.build(
        server=own_server, stream_max_batch_records=500, stream_checkpoint_interval_seconds=1.0
    )
    worker = fault.worker("worker", pending_rows=PENDING_ROWS)
    here.own(worker)
    fault.load(3_000, rate=1_500).join()
    here.wait_accepted(fault.sent.total)
    here.wait("no lag", lambda: lag(here) == (0, "ok"))
    before = here.accepted
    own_server.kill()
    down_since = time.monotonic()
    load = fault.load(40_000, rate=1_500, span_days=5.0)
    here.wait("the partitions are paused", lambda: paused(worker, here.inputs.clickstream) == 4)
    accepted, behind, memory = worker.ledger_metric()["accepted"], lag(here), resident(worker)
    load.join()
    time.sleep(max(0.0, DOWN_SECONDS - (time.monotonic() - down_since)))  # so long it is away
    ((_, pending),) = worker.metrics("tideline_sink_pending_rows")
    assert PENDING_ROWS / 2 <= pending <= PENDING_ROWS
    assert worker.ledger_metric()["accepted"] - accepted <= 4 * 500  # a step each was under way
    assert resident(worker) - memory < 30 * 2**20
    assert behind[1] == "pending"  # one look can't judge
    records, status = lag(here)
    assert status == "pending"
    assert records > behind[0]
    with fault.recovery(before):
        own_server.start()
    here.wait_accepted(fault.sent.total)
    here.wait("it has caught up", lambda: lag(here) == (0, "ok"))
    assert paused(worker, here.inputs.clickstream) == 0
    fault.finish(worker)


def lag(here: World) -> tuple[int, str]:
    """Records and status of the workers' group, as the lag monitor reports them."""
    report = poll_once(here.settings)
    (group,) = (g for g in report.groups if g.consumer_group == here.settings.kafka.app_id)
    return group.total_records or 0, group.status


def paused(worker: Worker, topic: str) -> int:
    """Of how many partitions of a topic the worker fetches no more for now."""
    samples = worker.metrics("tideline_partition_paused")
    return sum(bool(value) for labels, value in samples if f'topic="{topic}"' in labels)


def resident(worker: Worker) -> int:
    """Bytes of memory."""
    return int(Path(f"/proc/{worker.pid}/statm").read_text().split()[1]) * 4096


@pytest.mark.full
@pytest.mark.fault("ClickHouse: {what}: stops, says why, loses nothing")
@pytest.mark.parametrize(
    ("what", "spoil", "mend"),
    [
        ("a table is gone", "DETACH TABLE alerts", "ATTACH TABLE alerts"),
        ("a column is gone", "ALTER TABLE batches RENAME COLUMN accepted TO taken",
         "ALTER TABLE batches RENAME COLUMN taken TO accepted"),
    ],
)  # fmt: skip
def test_a_wrong_schema_stops_the_worker_with_the_reason(
    fault: Drill, what: str, spoil: str, mend: str
) -> None:
    here = fault.build(stream_max_batch_records=500)
    worker = fault.worker("worker")
    here.own(worker)
    fault.load(6_000, rate=1_000)
    fault.under_load(1_000)
    here.sql(spoil)
    ended = wait_until(fault.loaded(lambda: not worker.running), WAIT_SECONDS)
    assert ended, "it goes on, with nowhere to write"
    assert worker.stop()[0] == 1
    assert "run `tideline migrate`" in worker.log
    here.sql(mend)
    with fault.recovery():
        again = fault.worker("again")
    fault.finish(again)


@pytest.mark.full
@pytest.mark.fault("ClickHouse: password changed: stops, says why, loses nothing (18.16)")
def test_a_user_who_is_let_in_no_more_stops_with_the_reason(
    fault: Drill, proxy: Proxy, old_clickhouse: OldClickHouse
) -> None:
    here = fault.build(server=proxy)
    worker = fault.worker("worker", old_clickhouse=True)
    fault.load(6_000, rate=1_000)
    fault.under_load(1_000)
    old_clickhouse.configure_user(password="another")
    here.wait("nobody gets in", lambda: not _writes(here))
    proxy.cut()  # an old connection keeps its rights
    ended = wait_until(fault.loaded(lambda: not worker.running), WAIT_SECONDS)
    assert ended, "it goes on, with nowhere to write"
    assert "check TIDELINE_CLICKHOUSE_USER and TIDELINE_CLICKHOUSE_PASSWORD" in worker.log
    assert worker.stop()[0] == 1
    old_clickhouse.configure_user()
    here.wait("the server lets it in", lambda: _writes(here))
    with fault.recovery():
        again = fault.worker("again", old_clickhouse=True)
    fault.finish(again)


@pytest.mark.full
@pytest.mark.fault("ClickHouse killed again and again (18.16)")
def test_a_server_that_dies_again_and_again(
    fault: Drill, proxy: Proxy, old_clickhouse: OldClickHouse
) -> None:
    here = fault.build(server=proxy, stream_max_batch_records=500)
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
    assert wait_until(lambda: "TimeoutError: " in worker.log, WAIT_SECONDS)
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
    old_clickhouse.configure_user(readonly=True)
    here.wait("new connections may only read", lambda: not _writes(here))
    proxy.cut()  # an old connection keeps its rights
    ended = wait_until(fault.loaded(lambda: not worker.running), WAIT_SECONDS)
    assert ended, "it goes on, with nowhere to write"
    assert "readonly" in worker.log
    assert "give the user a profile that is not readonly" in worker.log
    assert worker.stop()[0] == 1
    old_clickhouse.configure_user()
    with fault.recovery():
        here.wait("the server writes again", lambda: _writes(here))
        again = fault.worker("again", old_clickhouse=True)
    fault.finish(again)


def _writes(here: World) -> bool:
    client = here.client
    client.disconnect()
    try:
        client.execute("INSERT INTO consumer_lag (topic) VALUES", [("probe",)])
    except Exception:
        return False
    return True
