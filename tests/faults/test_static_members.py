"""A worker that the group knows by name comes back after a crash, and moves nobody's shards."""

from __future__ import annotations

import pytest

from streams.local.process import wait_until
from tests.faults.drill import Drill
from tests.integration.world import WAIT_SECONDS

pytestmark = [pytest.mark.full, pytest.mark.kafka, pytest.mark.clickhouse, pytest.mark.timeout(600)]


@pytest.mark.fault("SIGKILL of a static member, which comes back")
def test_a_named_worker_comes_back_to_its_shards_and_the_others_keep_theirs(fault: Drill) -> None:
    # The session is longer than the restart: only the name can give it its shards back.
    here = fault.build(kafka_session_timeout_seconds=60)
    first, other = (here.worker(name, kafka_instance_id=name) for name in ("first", "other"))
    here.own(first, other)
    fault.load(10_000, rate=1_000)
    fault.under_load(1_500)
    shards, terms = first.shards, other.log.count("ready in")
    first.kill()
    with fault.recovery():
        again = here.worker("again", kafka_instance_id="first")
        here.own(again, other)
    assert again.shards == shards
    assert other.log.count("ready in") == terms
    fault.finish(again, other)


@pytest.mark.fault("two workers with one name: one at least says so and ends")
def test_of_two_workers_with_one_name_one_at_least_says_so(fault: Drill) -> None:
    here = fault.build()
    a = here.worker("a", kafka_instance_id="same")
    here.own(a)
    fault.load(6_000, rate=500)
    b = here.worker("b", kafka_instance_id="same")
    assert wait_until(lambda: not (a.running and b.running), WAIT_SECONDS)
    assert any("TIDELINE_KAFKA_INSTANCE_ID, same" in worker.log for worker in (a, b))
    for worker in (a, b):  # the other one may be about to end as well
        worker.kill()
    nameless = here.worker("nameless")
    here.own(nameless)  # it has all that the two left undone, and leaves a checkpoint of it
    fault.finish(nameless)
