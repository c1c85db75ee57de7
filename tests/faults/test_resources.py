"""The machine runs out of something: memory, file descriptors."""

from __future__ import annotations

import resource

import pytest

from streams.local.process import wait_until
from tests.faults.drill import Drill
from tests.faults.proxy import Proxy
from tests.integration.world import WAIT_SECONDS, Worker

pytestmark = [
    pytest.mark.kafka, pytest.mark.clickhouse, pytest.mark.full, pytest.mark.timeout(600),
    pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="limits of others need Linux"),
]  # fmt: skip


def limit(worker: Worker, what: int, soft: int) -> tuple[int, int]:
    """Set a limit of a running process; returns what it was."""
    assert worker.pid is not None
    before = resource.prlimit(worker.pid, what)
    resource.prlimit(worker.pid, what, (soft, before[1]))
    return before


@pytest.mark.fault("out of memory: refused all it asks for, then killed")
def test_a_worker_without_memory_is_harmless_and_its_successor_recovers(fault: Drill) -> None:
    here = fault.build(stream_max_batch_records=20_000)
    starved = fault.worker("starved")
    here.own(starved)
    fault.load(1_000, rate=500, span_days=1.0).join()
    here.wait_accepted(1_000)
    # Whatever it asks for from now on is refused. It may end by that, or get by on what it has.
    limit(starved, resource.RLIMIT_AS, 2**20)
    limit(starved, resource.RLIMIT_DATA, 2**20)
    load = fault.load(40_000, rate=0)
    here.wait("it ends or does it all", lambda: not starved.running or here.accepted == 41_000)
    load.join()
    starved.kill()  # as the kernel does
    fault.load(500, rate=500)
    with fault.recovery():
        second = fault.worker("second")
    fault.finish(second)


@pytest.mark.fault("out of file descriptors while ClickHouse is reconnected")
def test_a_worker_without_file_descriptors_waits_and_goes_on(fault: Drill, proxy: Proxy) -> None:
    fault.build(server=proxy, stream_max_batch_records=500)
    worker = fault.worker("worker", old_clickhouse=True)
    fault.load(6_000, rate=800)
    fault.under_load(1_000)
    before = limit(worker, resource.RLIMIT_NOFILE, 3)
    proxy.cut()
    assert wait_until(lambda: "Too many open files" in worker.log, WAIT_SECONDS), worker.log[-2000:]
    with fault.recovery():
        limit(worker, resource.RLIMIT_NOFILE, before[0])
    assert worker.running
    fault.finish(worker)
