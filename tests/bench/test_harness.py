"""Contenders run and are measured, on a small topic: what breaks one shows before `make bench`."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest

from tests.bench.contenders import WHOLE, Contender, chosen, run, take_turns
from tests.bench.load import Shape
from tests.bench.stage import Filled, Stage
from tests.bench.whole_job import Outcome

pytestmark = [pytest.mark.slow, pytest.mark.kafka, pytest.mark.clickhouse, pytest.mark.timeout(600)]

SHAPE = Shape("small", 300, 1.1, 8.0, "few users")
EVENTS = 300_000


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with Stage("tansu", tmp_path_factory.mktemp("bench")) as stage:
        yield stage


@pytest.fixture(scope="module")
def filled(stage: Stage) -> Filled:
    found = stage.fill(SHAPE, EVENTS)
    assert stage.has(SHAPE)
    assert found.history == 3 * SHAPE.users
    assert found.load == EVENTS
    return found


@pytest.mark.parametrize("name", ["fetch_decode", "tideline_transport", "tideline_learner"])
def test_a_program_reads_everything_and_reports_how_long_it_took(
    stage: Stage, filled: Filled, name: str
) -> None:
    (contender,) = chosen({name}, ())
    outcome = run(stage, filled, contender, lambda _: None)
    measured = filled.total if contender.from_start else filled.load - filled.warm
    assert 0 < outcome.events <= measured
    assert outcome.seconds > 0
    assert outcome.cpu_seconds > 0


def test_the_whole_job_is_measured_from_kafka_to_clickhouse(stage: Stage, filled: Filled) -> None:
    outcome = _measured(stage, filled)
    assert 0 < outcome.events <= filled.load - filled.warm
    assert outcome.seconds > 0
    assert outcome.costs["worker_cpu_us"] > 0
    assert outcome.costs["fetch_bytes"] > 100
    assert outcome.costs["journal_bytes"] > 0
    assert outcome.costs["row_bytes"] > 0


def _measured(stage: Stage, filled: Filled) -> Outcome:
    """The whole job takes this load in half a second. Where tests share the cores, all of it may be
    through between two looks at the metrics; that is refused, never measured, so it is run again.
    """
    (contender,) = chosen({WHOLE}, ())
    for _ in range(4):
        try:
            return run(stage, filled, contender, lambda _: None)
        except click.ClickException as error:
            if "all events were taken before the clock started" not in error.message:
                raise
    return run(stage, filled, contender, lambda _: None)


def test_a_peer_that_fails_is_left_out_and_the_others_go_on(
    stage: Stage, filled: Filled, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.bench.contenders._START_SECONDS", 5.0)
    broken = Contender("broken", "Broken", "peer", module="tests.bench.no_such_module")
    (floor,) = chosen({"fetch"}, ())
    messages: list[str] = []
    outcomes, left_out = take_turns(
        stage, lambda _: filled, [broken, floor], 2, tell=messages.append, done=lambda c, o: None
    )
    assert len(outcomes["fetch"]) == 2
    assert "broken" not in outcomes
    assert "no_such_module" in left_out["broken"]
    assert "--without broken" in left_out["broken"]
    assert any("left out" in line for line in messages)
