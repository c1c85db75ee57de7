"""The wire to a real ClickHouse server breaks at chosen moments, and again and again."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from tests.faults.drill import Drill
from tests.faults.proxy import Fault, Proxy

pytestmark = [pytest.mark.kafka, pytest.mark.clickhouse, pytest.mark.timeout(600)]

INSERT = b"INSERT INTO "
MOMENTS = {
    # The server's first answer to an INSERT is what columns it wants, the second that it is done.
    "cut: insert stored, its reply lost": Fault("cut", after=INSERT, answers=2, times=5),
    "reset: insert stored, its reply lost": Fault("reset", after=INSERT, answers=2, times=5),
    "cut: before the rows are sent": Fault("cut", "up", after=INSERT, times=5),
    "cut: before the server says what it wants": Fault("cut", after=INSERT, times=5),
    "cut: in the middle of the rows": Fault("cut", "up", at_byte=20_000, times=5),
    "half-closed before the rows are sent": Fault("half_close", "up", after=INSERT, times=5),
    "half-closed in the middle of the rows": Fault("half_close", "up", at_byte=15_000, times=5),
    "rows truncated, the connection silent": Fault("truncate", "up", at_byte=30_000, times=1),
    "reply truncated, the connection silent": Fault(
        "truncate", "down", after=INSERT, answers=2, times=1
    ),
    "reply 3 s late": Fault("delay", after=INSERT, answers=2, seconds=3.0, times=3),
}
QUICK = ("cut: insert stored, its reply lost",)


@pytest.mark.fault("wire {moment}")
@pytest.mark.parametrize(
    "moment", [pytest.param(m, marks=() if m in QUICK else pytest.mark.full) for m in MOMENTS]
)
def test_an_insert_with_an_unknown_outcome_counts_once(
    fault: Drill, proxy: Proxy, moment: str
) -> None:
    fault.build(server=proxy, stream_max_batch_records=500)
    worker = fault.worker("worker", old_clickhouse=True, answer_seconds=4)
    trouble = replace(MOMENTS[moment])
    fault.load(5_000, rate=1_200)
    fault.under_load(1_000)
    proxy.add(trouble)
    proxy.cut()  # bytes are counted from the beginning of a connection
    with fault.recovery():
        happened = fault.loaded(lambda: trouble.happened == trouble.times)
        fault.world.wait("all of it", happened, 120)
    assert worker.running
    fault.finish(worker)


@pytest.mark.full
@pytest.mark.fault("wire: random faults, one after the other")
@pytest.mark.parametrize("run", range(2))
def test_random_trouble_on_the_wire(fault: Drill, proxy: Proxy, run: int) -> None:
    fault.build(server=proxy, stream_max_batch_records=500)
    worker = fault.worker("worker", old_clickhouse=True, answer_seconds=4)
    rng = random.Random(fault.seed)
    fault.load(1_000, rate=800).join()
    fault.under_load(500)
    spoils: list[Fault] = []
    # The rarer ones may find nothing that they could spoil, so it goes on until enough have.
    while len(spoils) < 20 or (len(spoils) < 60 and sum(s.happened for s in spoils) <= 10):
        kind: Any = rng.choice(("cut", "reset", "half_close", "delay"))
        way: Any = rng.choice(("up", "down"))
        if rng.random() < 0.7:
            answers = rng.choice((1, 2))
            spoils.append(Fault(kind, way, after=INSERT, answers=answers, seconds=0.5))
        else:
            spoils.append(Fault(kind, way, at_byte=rng.randrange(50_000), seconds=0.5))
            proxy.cut()  # bytes are counted from the beginning of a connection
        proxy.add(spoils[-1])
        fault.load(200, rate=rng.choice((200, 1_000)), span_days=1.0).join()
    assert sum(s.happened for s in spoils) > 10
    # On a slow machine many are still to come: each holds an insert up for its 4 s and a wait that
    # grows to 10 s, and together they would outlast the time that a recovery has.
    print(f"{proxy.heal()} of {len(spoils)} faults were still waiting")
    with fault.recovery():
        fault.load(500, rate=1_000, span_days=1.0)
    assert worker.running
    fault.finish(worker)
