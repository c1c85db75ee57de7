"""Visitors of a made-up shop: a short form of `python -m tests.evaluation.visitors`."""

from __future__ import annotations

import pytest

from tests.evaluation.visitors import measured


@pytest.mark.full
@pytest.mark.timeout(600)
def test_visitors_are_ranked_and_their_chance_is_calibrated() -> None:
    found = measured(8_000, 240, seed=9)
    assert found.judged > 800
    assert found.auc["Tideline"] > max(found.auc["views"], 0.85)
    assert found.log_loss["Tideline"] < 0.85 * found.log_loss["constant"]
    assert 0.6 < found.predicted / found.rate < 1.6
    assert found.ece < 0.02
