"""`tideline train --as-of`: a challenger is promoted only on the strength of later labels."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from models.artifact import CARD_FILE, default_artifact_path, load_artifact, versions
from models.baselines.metrics import tweedie_deviance
from models.manifest import Eligibility
from models.places import Place
from models.training.dataset import Dataset
from models.training.promotion import MIN_ROWS, judge
from streams.cli import tideline
from tests.evaluation.shops import weekly, write
from tests.models.s3 import serving
from tests.models.synthetic import dataset

pytestmark = pytest.mark.timeout(600)  # several trainings, on a machine that may be busy


def train(orders: Path, root: Path | Place, *more: str) -> dict[str, Any]:
    result = CliRunner().invoke(
        tideline,
        ["train", "--orders", str(orders), "--horizon-days", "14", "--out", str(root), "--json",
         *more],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


@pytest.fixture(scope="module")
def orders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("shop") / "orders.csv", weekly())


def test_a_challenger_is_judged_on_what_came_later(orders: Path, tmp_path: Path) -> None:
    first = train(orders, tmp_path, "--as-of", "2020-05-01")
    assert first["promoted"]  # there was nobody to beat
    assert "no champion to beat" in first["why"]
    champion = load_artifact(default_artifact_path(tmp_path))
    assert champion.version == first["version"]
    until = champion.manifest.training["labels_until_ms"]
    assert isinstance(until, int)
    assert until <= 1_588_291_200_000  # 2020-05-01: nothing that was known later taught it

    second = train(orders, tmp_path, "--as-of", "2020-06-15")
    assert "log loss" in second["why"]
    current = default_artifact_path(tmp_path).name
    assert current == (second["version"] if second["promoted"] else first["version"])
    assert (tmp_path / second["version"]).is_dir()  # kept, to be looked at


def test_with_nothing_later_nothing_is_promoted(orders: Path) -> None:
    """In a bucket, where training, judging and promoting are the same as in a directory."""
    with serving() as s3:
        root = s3.bucket("models")
        first = train(orders, root)
        assert first["promoted"]
        assert first["path"] == f"s3://models/models/{first['version']}"
        second = train(orders, root, "--as-of", "2020-06-15", "--seed", "8")

        assert not second["promoted"]
        assert "no label became known" in second["why"]
        assert default_artifact_path(root).name == first["version"]
        assert versions(root) == sorted([first["version"], second["version"]])
        with s3.away():
            result = CliRunner().invoke(
                tideline, ["train", "--orders", str(orders), "--out", str(root)]
            )
        assert result.exit_code == 1
        assert "AWS_ENDPOINT_URL" in result.output


def test_the_card_compares_with_baselines(orders: Path, tmp_path: Path) -> None:
    found = train(orders, tmp_path)
    card = (Path(found["path"]) / CARD_FILE).read_text()

    assert {"champion", "recency", "rfm", "bgnbd", "bgnbd_gg"} <= set(found["comparison"])
    assert "| bgnbd |" in card
    for heading in ("## Data", "## Metrics", "## Features", "## Limits"):
        assert heading in card


def test_too_early_a_date_says_so(orders: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(
        tideline,
        ["train", "--orders", str(orders), "--out", str(tmp_path), "--as-of", "2020-01-20"],
    )
    assert result.exit_code == 2
    assert "No label was known by 2020-01-20" in result.stderr


class _Fixed:
    """A model that says the same of everybody."""

    def __init__(self, p: float, spend: float) -> None:
        self._p, self._spend = p, spend
        self.manifest = SimpleNamespace(eligibility=Eligibility(2, 84))

    def score(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.full(len(x), self._p), np.full(len(x), self._spend)


def later(n: int) -> Dataset:
    data = dataset(2_000)
    keep = np.zeros(2_000, bool)
    keep[:n] = True
    return data.take(keep)


def test_the_better_one_wins_whichever_side_it_is_on() -> None:
    data = later(1_000)
    good: Any = _Fixed(float(data.churned.mean()), float(data.spend.mean()))
    bad: Any = _Fixed(0.95, 500.0)

    assert judge(bad, good, data).promote
    assert not judge(good, bad, data).promote
    assert not judge(good, good, data).promote


def test_few_rows_promote_nobody() -> None:
    good: Any = _Fixed(0.3, 20.0)
    verdict = judge(_Fixed(0.99, 1.0), good, later(MIN_ROWS - 1))  # type: ignore[arg-type]
    assert not verdict.promote
    assert "decide nothing" in verdict.why


def test_deviance_is_least_at_the_mean() -> None:
    y = np.array([0.0, 0.0, 3.0, 9.0], np.float32)
    at = {m: tweedie_deviance(y, np.full(4, m, np.float32)) for m in (1.0, 2.0, 3.0, 4.0, 6.0)}
    assert min(at, key=lambda m: at[m]) == 3.0
