"""Promotion on a running worker, and live scores recomputed from the log."""

from __future__ import annotations

import json
import shutil
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from prometheus_client.parser import text_string_to_metric_families

from models.artifact import CURRENT_FILE, current_version
from models.champion import SCORES_FILE
from models.manifest import Eligibility
from models.training.train import train
from schemas.features import FEATURE_NAMES
from schemas.tables import TABLES
from streams.cli import tideline
from streams.local.process import LOOPBACK
from streams.settings import as_environ
from tests.integration.test_pipeline import DAY_MS, shop
from tests.integration.world import Worker, World
from tests.models.synthetic import dataset

pytestmark = [pytest.mark.kafka, pytest.mark.clickhouse, pytest.mark.timeout(600)]

Worlds = Callable[..., World]
BUSY_SECONDS = 150  # two workers, a broker, ClickHouse and the oracle share the machine


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with two champions, of 28 and 14 days; the first is current."""
    root = tmp_path_factory.mktemp("trained")
    for seed, horizon_days in ((2, 14), (1, 28)):
        train(
            dataset(2_000, seed), root=root, date=f"2026-11-{seed:02d}", horizon_days=horizon_days,
            eligibility=Eligibility(2, 84), source="made-up users", threads=1,
        )  # fmt: skip
    return root


@pytest.fixture
def artifacts(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "artifacts"))


def run(world: World, *args: str) -> Result:
    return CliRunner().invoke(tideline, args, env=as_environ(world.settings))


def metric(worker: Worker, name: str) -> dict[str, float]:
    """Samples of a metric by their labels' values, joined."""
    url = f"http://{LOOPBACK}:{worker.metrics_port}/metrics"
    with urllib.request.urlopen(url, timeout=5) as answer:
        text = answer.read().decode()
    return {
        ",".join(sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    }


def versions(world: World) -> set[str]:
    return {v for (v,) in world.sql("SELECT DISTINCT champion_version FROM score_history")}


@pytest.mark.slow
def test_a_promoted_champion_is_picked_up_and_a_crash_after_it_replays_exactly(
    world: Worlds, artifacts: Path
) -> None:
    first = current_version(artifacts)
    (second,) = {p.name for p in artifacts.iterdir() if p.is_dir()} - {first}
    here = world(
        model_artifact=artifacts,
        model_score_sample_share=0.2,
        stream_checkpoint_interval_seconds=60,
    )
    worker = here.worker("first")
    early = shop(1_500, span_days=40.0)
    sent = here.produce(early).records
    here.wait_accepted(sent, BUSY_SECONDS)
    assert versions(here) == {first}

    promoted = run(here, "models", "promote", second)
    assert promoted.exit_code == 0, promoted.output
    here.wait(
        "the promoted champion",
        lambda: metric(worker, "tideline_champion_info") == {second: 1.0},
        BUSY_SECONDS,
    )
    later = shop(1_500, start_ms=early.start_ms + 41 * DAY_MS, span_days=40.0, seed=12)
    load = here.load(later, rate=900)
    here.wait("scores of the new champion", lambda: versions(here) == {first, second}, BUSY_SECONDS)
    worker.kill()
    worker = here.worker("second")
    sent += load.join().records
    here.wait_accepted(sent, BUSY_SECONDS)
    # Questions that the first champion was asked still mature by its horizon.
    horizons = {first: 28, second: 14}
    asked = here.sql(
        "SELECT DISTINCT champion_version, horizon_days, "
        "dateDiff('day', asked_at, matured_at) FROM matured_predictions"
    )
    assert set(asked) == {(v, h, h) for v, h in horizons.items()}

    # A damaged artifact: promote refuses it, and a worker that is made to look at it too.
    bad = Path(shutil.copytree(artifacts / second, artifacts / "2026-11-03-damaged"))
    content = bytearray((bad / SCORES_FILE).read_bytes())
    content[len(content) // 2] ^= 1
    (bad / SCORES_FILE).write_bytes(content)
    refused = run(here, "models", "promote", bad.name)
    assert refused.exit_code == 1
    assert "was altered" in refused.output
    assert current_version(artifacts) == second
    listed = json.loads(run(here, "models", "list", "--json").stdout)
    assert [(m["version"], m["current"], "problem" in m) for m in listed["models"]] == sorted(
        [(first, False, False), (second, True, False), (bad.name, False, True)]
    )
    (artifacts / CURRENT_FILE).write_text(bad.name)
    here.wait(
        "the refusal",
        lambda: metric(worker, "tideline_champions_refused_total") == {"": 1.0},
        BUSY_SECONDS,
    )
    assert f"champion {bad.name} is refused, {second} stays in use" in worker.log
    more = shop(200, start_ms=early.start_ms + 82 * DAY_MS, span_days=2.0, seed=13)
    sent += here.produce(more).records
    here.wait_accepted(sent, BUSY_SECONDS)
    assert versions(here) == {first, second}
    assert metric(worker, "tideline_champion_info") == {second: 1.0}
    assert worker.stop()[0] == 0
    (artifacts / CURRENT_FILE).write_text(second)
    oracles = here.check_oracle()
    used = {plan.champion for oracle in oracles.values() for plan in oracle.plans}
    assert used == {first, second}

    check_skew(here)

    # Without the old model its steps can't be scored again; the error says what to do.
    (artifacts / first).rename(artifacts / ".gone")
    lost = run(here, "skew")
    assert lost.exit_code == 1
    assert f"Model {first}" in lost.output
    assert "Put that artifact back" in lost.output


def check_skew(here: World) -> None:
    """Nothing differs; then one row is made to differ, by one bit in one feature."""
    clean = run(here, "skew", "--json")
    assert clean.exit_code == 0, clean.output
    found = json.loads(clean.stdout)
    assert found["checked"] == found["sampled"] > 100
    assert (found["mismatched"], found["by_column"], found["unchecked"]) == (0, {}, {})

    columns = ", ".join(name for name in TABLES["score_samples"].columns if name != "features")
    position = FEATURE_NAMES.index("orders_decayed_30d") + 1
    here.sql(
        f"INSERT INTO score_samples ({columns}, features) SELECT {columns}, "
        f"arrayMap((v, i) -> if(i = {position}, reinterpretAsFloat32("
        "reinterpretAsUInt32(v) + 1), v), features, arrayEnumerate(features)) "
        "FROM score_samples FINAL ORDER BY shard, seq, user_id LIMIT 1"
    )
    skewed = run(here, "skew")
    assert skewed.exit_code == 1, skewed.output
    assert "orders_decayed_30d" in skewed.output
    n = f"{found['checked']:,}"
    assert f"{n} of {n} sampled scores recomputed, 1 differ." in skewed.output


def test_without_samples_nothing_is_proved(world: Worlds) -> None:
    here = world(model_score_sample_share=0)
    empty = run(here, "skew")
    assert empty.exit_code == 1
    assert "TIDELINE_MODEL_SCORE_SAMPLE_SHARE" in empty.output
