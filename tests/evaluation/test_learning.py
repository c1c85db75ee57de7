"""The learner on a shop that the shipped champion has never seen, and after a change."""

from __future__ import annotations

import numpy as np
import pytest

from models.artifact import default_artifact_path, load_artifact
from tests.evaluation import shops
from tests.evaluation.learning import (
    Drift,
    after_a_change,
    cold_start,
    followed,
    weekly_rows,
)

pytestmark = pytest.mark.timeout(900)


def test_the_learner_has_gone_half_of_the_way_before_a_local_champion_exists() -> None:
    cuts = weekly_rows(shops.weekly(500, 180, seed=5))
    found = cold_start(cuts, load_artifact(default_artifact_path()))
    assert found.before["local"] < found.before["champion"] - 0.02  # there is something to gain
    assert found.closed > 0.5
    assert found.local_day > 56


def test_nothing_is_learned_from_a_label_before_it_is_known() -> None:
    """Labels are those of four weeks ago: what happens later changes nothing said before."""
    cuts = weekly_rows(shops.weekly(60, 150, seed=6))
    shipped = load_artifact(default_artifact_path())
    before = followed(cuts[:5], shipped)
    assert all((said["blend"] == said["champion"]).all() for said in before[:4])
    for said, again in zip(before, followed(cuts, shipped)[:5], strict=True):
        assert (said["blend"] == again["blend"]).all()


@pytest.mark.full
def test_after_a_change_the_learner_is_back_sooner_than_retraining() -> None:
    at = shops.START_MS + int(0.55 * 420) * 86_400_000
    found = after_a_change(weekly_rows(shops.changed(800, 420, 5, 0.55)), at)
    assert found.weeks("blend") < found.weeks("retrained")
    assert found.weeks("blend") < 12
    assert found.weeks("local") == np.inf


def test_the_loss_is_back_when_it_stays_back() -> None:
    def week(loss: float) -> dict[str, float]:
        return {"blend": loss, "hindsight": 0.5}

    found = Drift({}, {0: week(0.7), 1: week(0.5), 2: week(0.6), 3: week(0.51), 4: week(0.5)})
    assert found.weeks("blend") == 3
    assert Drift({}, {0: week(0.5)}).weeks("blend") == 0
    assert Drift({}, {0: week(0.5), 1: week(0.7)}).weeks("blend") == np.inf
