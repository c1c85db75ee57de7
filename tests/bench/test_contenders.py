"""Contenders have unique names, are pinned and measured alike; the ladder does what a step does."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from models.registry import ScorerStore, artifact_directory
from schemas.errors import LocalStackError
from schemas.features import FEATURE_NAMES
from streams.core.plan import Plan
from streams.core.state.shard_state import ShardState
from streams.settings import load
from streams.shard.config import core_config
from tests.bench import environments, run
from tests.bench.__main__ import bench
from tests.bench.contenders import CONTENDERS, WHOLE, chosen
from tests.bench.growth import SIZES, WHAT
from tests.bench.layers import LAYERS, work_of
from tests.bench.load import UNIFORM, columns
from tests.bench.peers.meter import RESULT, Spec
from tests.bench.stage import snapshot_of

NOW_MS = 1_795_600_000_000
PINS = sorted(environments.PEERS.glob("*.txt"))


def test_names_are_unique_and_no_part_has_one_of_them() -> None:
    names = [c.name for c in CONTENDERS]
    assert len(set(names)) == len(names)
    assert not {n for c in CONTENDERS for n in (c.name, c.kind, c.environment)} & set(run.PARTS)
    assert WHAT.keys() == SIZES.keys()


@pytest.mark.parametrize("pins", PINS, ids=lambda path: path.stem)
def test_every_peer_is_pinned_completely(pins: Path) -> None:
    lines = [line for line in pins.read_text().splitlines() if not line.startswith("#")]
    assert lines
    assert all(re.fullmatch(r"[\w.-]+==[\w.+]+", line) for line in lines)


def test_every_peer_has_its_program_and_pins() -> None:
    peers = [c for c in CONTENDERS if c.kind == "peer"]
    assert {c.environment for c in peers} == {path.stem for path in PINS}
    assert all((environments.PEERS / c.program).exists() for c in peers)


def test_faust_is_measured_in_the_version_that_tideline_runs_on() -> None:
    lock = (Path(__file__).parents[2] / "requirements.lock").read_text()
    for line in (environments.PEERS / "faust.txt").read_text().splitlines():
        if line.startswith(("faust-streaming==", "aiokafka==", "msgspec==")):
            assert f"{line} \\" in lock


def test_contenders_are_chosen_by_name_kind_and_environment() -> None:
    assert [c.name for c in chosen({WHOLE}, ())] == [WHOLE]
    assert {c.kind for c in chosen({"floor"}, ())} == {"floor"}
    assert not {"faust_table", "faust_take"} & {c.name for c in chosen((), {"faust"})}
    assert chosen((), ()) == list(CONTENDERS)


def test_parts_are_chosen_by_name_and_a_contender_stands_for_its_part() -> None:
    assert run._parts({"growth", "latency"}, False) == ["latency", "growth"]
    assert run._parts({WHOLE, "start"}, False) == ["contenders", "start"]
    assert run._parts((), False) == list(run.PARTS)


def test_the_help_names_every_part_and_command() -> None:
    shown = CliRunner().invoke(bench, ["--help"])
    assert shown.exit_code == 0
    assert all(f"  {name} " in shown.output for name in (*run.PARTS, *bench.commands))


def test_a_name_that_is_not_known_is_a_usage_error() -> None:
    shown = CliRunner().invoke(bench, ["--only", "flink"])
    assert shown.exit_code == 2
    assert "there is no flink; there are" in shown.output


def test_a_peer_that_can_not_be_installed_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "odd.txt").write_text("no-such-package-at-all @ file:///nowhere\n")
    monkeypatch.setattr(environments, "PEERS", tmp_path)
    monkeypatch.setenv("TIDELINE_CACHE", str(tmp_path / "cache"))
    with pytest.raises(LocalStackError, match=r"odd can't be installed .*--without odd"):
        environments.python_of("odd")
    assert not environments.ready("odd")


def measured(tmp_path: Path, program: str, **changes: object) -> dict[str, float]:
    """What a program that uses the meter wrote."""
    given = asdict(
        Spec("", "g", "c", "o", 4, str(tmp_path), 10_000, 0, 0, 0, 0.0, 60.0)
    ) | changes  # fmt: skip
    code = f"from meter import *\ngiven = spec()\n{program}"
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(given)], cwd=environments.PEERS, check=False,
        timeout=60,
    )  # fmt: skip
    assert done.returncode == 0
    found: dict[str, float] = json.loads((tmp_path / RESULT).read_text())
    return found


def test_the_meter_counts_from_after_the_warm_up_to_the_last_event(tmp_path: Path) -> None:
    program = "meter = Meter(given, 10_000, warm_events=4_000)\nwhile True: meter.many(1_000)"
    found = measured(tmp_path, program)
    assert found["events"] == 6_000
    assert 0 < found["seconds"] < 60  # what it was given at most
    assert found["cpu_seconds"] >= 0


def test_the_meter_stops_when_its_time_is_up(tmp_path: Path) -> None:
    program = "meter = Meter(given, 10**12)\nwhile True: meter.one()"
    found = measured(tmp_path, program, warm_seconds=0.1, seconds=0.2)
    assert 0.2 <= found["seconds"] < 60  # at the first event after them, not at its end
    assert found["events"] > 0


def after(layer: str) -> ShardState:
    """A state after a history and some load, worked on up to a layer."""
    environ = {"TIDELINE_MODEL_SHOP_MIN_DAYS": "0", "TIDELINE_KAFKA_PARTITIONER": "unchecked"}
    settings = load(environ, None)
    scorer = ScorerStore(artifact_directory(settings.model.artifact), "USD").get("")
    work = work_of(layer, core_config(settings), scorer, snapshot_of(scorer))
    state = ShardState(0, len(FEATURE_NAMES))
    shape = type(UNIFORM)("small", 200, 0.0, 1.0, "")
    for source in (shape.history(NOW_MS), shape.source(2_000, NOW_MS)):
        for block in source:
            start = state.meta.offsets[0], state.meta.offsets[1]
            records = columns(block, start)
            stop = start[0] + len(records[0]), start[1] + len(records[1])
            work(state, Plan(state.meta.seq + 1, start, stop, NOW_MS, 0), records)
    return state


@pytest.mark.parametrize("layer", ["windows", "champion", "learner"])
def test_up_to_a_layer_a_state_has_the_windows_that_a_step_gives_it(layer: str) -> None:
    found, whole = after(layer), after("decisions")
    assert found.n == whole.n == 200
    assert found.meta.offsets == whole.meta.offsets
    assert (found.counts.table.sum(axis=(0, 1)) > 0).all()
    np.testing.assert_array_equal(found.counts.table, whole.counts.table)


def test_only_the_whole_step_decides() -> None:
    assert np.isnan(after("learner").columns.p_churn[:200]).all()
    assert not np.isnan(after("decisions").columns.p_churn[:200]).any()


def test_layers_below_the_windows_touch_no_state() -> None:
    settings = load({}, None)
    scorer = ScorerStore(artifact_directory(settings.model.artifact), "USD").get("")
    state = ShardState(0, len(FEATURE_NAMES))
    (block,) = type(UNIFORM)("small", 20, 0.0, 1.0, "").source(100, NOW_MS)
    for layer in ("transport", "decode"):
        work = work_of(layer, core_config(settings), scorer, snapshot_of(scorer))
        work(state, Plan(1, (0, 0), (1, 1), NOW_MS, 0), columns(block, (0, 0)))
    assert state.n == 0


def test_a_layer_that_does_not_exist_is_refused() -> None:
    settings = load({}, None)
    scorer = ScorerStore(artifact_directory(settings.model.artifact), "USD").get("")
    with pytest.raises(ValueError, match="no layer 'magic'"):
        work_of("magic", core_config(settings), scorer, snapshot_of(scorer))
    assert LAYERS[0] == "transport"
