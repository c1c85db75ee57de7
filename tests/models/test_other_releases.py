"""A champion that another release trained is served by the names of its features."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

import models.artifact as artifact_module
from models.artifact import MANIFEST_FILE, default_artifact_path, golden_error, load_artifact
from models.champion import Champion
from models.explain import Explainer, TreeValues
from models.onnx.trees import Leaves
from schemas.errors import ArtifactError
from schemas.features import FEATURE_NAMES
from tests.models.synthetic import F, at, rows

GONE = ("orders_30d", "view_24h")
"""Features that the other release has no more; the model reads them."""


@pytest.fixture(scope="module")
def shipped() -> Champion:
    return load_artifact(default_artifact_path())


def others() -> list[str]:
    """The features of another release: in another order, without some, with new ones."""
    mixed = np.random.default_rng(4).permutation(F).tolist()
    names = [FEATURE_NAMES[f] for f in mixed if FEATURE_NAMES[f] not in GONE]
    return ["of_theirs", *names, "another", "a third"]


def as_theirs(x: Any) -> tuple[Any, Any]:
    """The same customers as the other release sees them, and as this one would without `GONE`."""
    names = others()
    theirs = np.full((len(x), len(names)), 7.0, np.float32)
    for column, name in enumerate(names):
        if name in FEATURE_NAMES:
            theirs[:, column] = x[:, at(name)]
    mine = x.copy()
    mine[:, [at(name) for name in GONE]] = np.nan
    return theirs, mine


def test_champion_with_this_builds_features_is_served_unchanged(shipped: Champion) -> None:
    assert shipped.serving(FEATURE_NAMES) is shipped
    assert shipped.serving(others()).serving(FEATURE_NAMES).manifest is shipped.trained


def test_champion_served_by_name_gives_the_same_scores_and_forecasts(shipped: Champion) -> None:
    theirs, mine = as_theirs(rows(300, seed=3))
    served = shipped.serving(others())
    for one, other in zip(served.score(theirs), shipped.score(mine), strict=True):
        assert one.tobytes() == other.tobytes()
    assert served.curve(theirs).tobytes() == shipped.curve(mine).tobytes()
    forecast, wanted = served.outlook(theirs), shipped.outlook(mine)
    assert forecast.p_buy_30d.tobytes() == wanted.p_buy_30d.tobytes()
    with pytest.raises(ValueError, match=rf"\[n, {len(others())}\]"):
        served.score(mine)


def test_golden_vectors_are_checked_with_the_features_of_training(shipped: Champion) -> None:
    assert golden_error(shipped.serving(others())) == golden_error(shipped) < 1e-5


def test_tree_conditions_follow_their_features_to_other_columns() -> None:
    """A condition on a feature that is gone holds for the unknown, or never."""
    leaves = Leaves(
        feature=np.array([[0, 1], [0, 1], [1, 1]], np.int32),
        low=np.array([[1, 2], [-np.inf, 2], [-np.inf, -np.inf]], np.float32),
        high=np.array([[np.inf, 5], [1, np.inf], [np.inf, np.inf]], np.float32),
        nan=np.array([[False, True], [True, False], [True, True]]),
        value=np.array([1.0, 2.0, 4.0]),
        part=np.zeros(3, np.int32),
    )
    x = np.array([[3.0, 0.0], [0.0, 9.0]], np.float32)
    gone = replace(leaves).of_columns([0, -1])
    unknown = np.array([[3.0, np.nan], [0.0, np.nan]], np.float32)
    assert gone.inside(x).tolist() == leaves.inside(unknown).tolist()
    swapped = leaves.of_columns([1, 0])
    assert swapped.inside(x[:, ::-1]).tolist() == leaves.inside(x).tolist()
    phi = TreeValues(swapped, leaves.value, x[0, ::-1])(x[1:, ::-1])
    assert phi[:, ::-1].tolist() == TreeValues(leaves, leaves.value, x[0])(x[1:]).tolist()


def test_artifact_of_another_release_loads_and_names_its_missing_features(
    shipped: Champion, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As the build sees it that computes `others`."""
    monkeypatch.setattr(artifact_module, "FEATURE_NAMES", tuple(others()))
    monkeypatch.setattr(artifact_module, "FEATURES_HASH", "theirs")
    with caplog.at_level(logging.WARNING):
        champion = load_artifact(default_artifact_path())
    assert "needs 2 features that this version does not compute" in caplog.text
    assert all(name in caplog.text for name in GONE)
    assert champion.manifest.features == others()
    theirs, mine = as_theirs(rows(20, seed=3))
    assert champion.score(theirs)[0].tobytes() == shipped.score(mine)[0].tobytes()


def test_artifact_whose_feature_names_have_another_meaning_is_refused(tmp_path: Path) -> None:
    for file in Path(str(default_artifact_path())).iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    manifest = msgspec.json.decode((tmp_path / MANIFEST_FILE).read_bytes())
    manifest["features_hash"] = "0" * 64
    (tmp_path / MANIFEST_FILE).write_bytes(msgspec.json.encode(manifest))
    with pytest.raises(ArtifactError, match="other features of the same names"):
        load_artifact(tmp_path)


def test_reasons_of_a_served_champion_add_up(shipped: Champion) -> None:
    """Where nothing is gone they are the same; the explainer works on this build's own columns."""
    theirs = shipped.serving([*FEATURE_NAMES, "of_theirs"])
    assert theirs.manifest.typical.median_array()[:F].tobytes() == (
        shipped.manifest.typical.median_array().tobytes()
    )
    x = rows(9, seed=6)
    wide = np.c_[x, np.ones(len(x), np.float32)].astype(np.float32)
    values = Explainer(theirs, "USD").values(wide, None)
    np.testing.assert_allclose(values[:, :F], Explainer(shipped, "USD").values(x, None), atol=1e-12)
    assert not values[:, F].any()
