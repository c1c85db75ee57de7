"""Shuffling a group of features shows what the group gives, and nothing of what it does not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models.artifact import CARD_FILE
from models.concepts import concept_of
from models.training.groups import GROUPS, group_gains
from models.training.train import Summary
from schemas.features import FEATURE_NAMES
from streams.evaluation.rows import CLICK_ONLY
from tests.models.synthetic import at, churn_logit, rows

F = len(FEATURE_NAMES)
EVERYTHING = np.ones(F, np.bool_)


def truth(x: NDArray[np.float32]) -> NDArray[np.bool_]:
    rng = np.random.default_rng(3)
    known: NDArray[np.bool_] = rng.random(len(x)) < probability(x)
    return known


def probability(x: NDArray[np.float32]) -> NDArray[np.float64]:
    return 1.0 / (1.0 + np.exp(-churn_logit(x)))


@pytest.fixture(scope="module")
def gains() -> dict[str, Any]:
    x = rows(3_000)
    return {g.group: g for g in group_gains(probability, EVERYTHING, x, truth(x), seed=1)}


def test_groups_give_what_they_say(gains: dict[str, Any]) -> None:
    """The law looks at silence and orders, and a little at support."""
    assert list(gains)[:3] == ["all of orders", "silence", "orders"]
    assert gains["silence"].log_loss > 10 * gains["silence"].log_loss_spread > 0
    assert gains["silence"].auc > 0.05
    assert 0 < gains["support"].log_loss < gains["orders"].log_loss
    # Nothing else from clicks matters, and all groups are shuffled in the same ways.
    assert gains["all of clicks"].log_loss == gains["support"].log_loss


def test_a_group_that_says_nothing_gives_exactly_nothing(gains: dict[str, Any]) -> None:
    for name in ("view", "basket", "reviews"):
        found = gains[name]
        assert (found.log_loss, found.log_loss_spread, found.auc) == (0.0, 0.0, 0.0)


def test_unused_columns_are_left_alone_and_unused_groups_left_out() -> None:
    x = rows(500)
    used = np.zeros(F, np.bool_)
    used[[at("days_since_order"), at("support_1h")]] = True
    found = {g.group: g for g in group_gains(probability, used, x, truth(x), seed=1)}
    assert set(found) == {"all of orders", "all of clicks", "silence", "support"}
    assert [g.features for g in found.values()] == [1, 1, 1, 1]
    assert found["support"].log_loss == 0.0


def test_the_same_seed_gives_the_same_figures() -> None:
    x = rows(500)
    first, again, other = (
        group_gains(probability, EVERYTHING, x, truth(x), seed=seed) for seed in (1, 1, 2)
    )
    assert first == again != other


def test_one_shuffle_has_no_spread() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        group_gains(probability, EVERYTHING, rows(9), np.arange(9) > 3, 1, shuffles=1)


def test_the_two_halves_are_all_features_and_their_border_is_that_of_order_files() -> None:
    clicks, orders = set(GROUPS["all of clicks"].tolist()), set(GROUPS["all of orders"].tolist())
    assert clicks | orders == set(range(F))
    assert not clicks & orders
    # Order files leave the day of the first click unknown too. It is in one group with that of the
    # first order, and trees see neither.
    unknown = set(np.flatnonzero(CLICK_ONLY).tolist())
    assert unknown - clicks == {at("tenure_days")}
    assert clicks <= unknown
    assert concept_of("tenure_days") == concept_of("days_since_first_order")


def test_every_model_says_it_and_the_card_shows_it(trained: Summary) -> None:
    names = [g.group for g in trained.feature_groups]
    assert names[0] == "all of orders"
    assert {"silence", "orders"} < set(names)
    card = trained.path.read(CARD_FILE).decode()
    for g in trained.feature_groups:
        assert (
            f"| {g.group} | {g.features} | {g.log_loss:+.4f} ({g.log_loss_spread:.4f}) | " in card
        )
