"""The made-up shop where order matters: its oracle is right, and its stream says what it did."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from models.baselines.metrics import auc, log_loss
from schemas.features import FEATURE_NAMES
from schemas.tails import EVENT_KINDS
from tests.evaluation.turns.ceiling import no_order
from tests.evaluation.turns.law import BROWSED, NOTHING_FOUND, SUPPORT, Law, Shop, simulate
from tests.evaluation.turns.measure import SCORES, measured
from tests.evaluation.turns.stream import questions

HORIZON_DAYS = 28


@pytest.fixture(scope="module")
def shop() -> Shop:
    return simulate(Law(), 1_000, 200, np.random.default_rng(1))


def asked(shop: Shop) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of customers who ordered lately: who, when, and whether no order followed."""
    user, day = np.nonzero(np.arange(shop.days) > shop.came[:, None] + 40)
    keep = (day % 20 == 0) & (day + HORIZON_DAYS <= shop.days)
    user, day = user[keep], day[keep]
    lately = shop.ordered[user[:, None], day[:, None] - 1 - np.arange(28)].any(axis=1)
    user, day = user[lately], day[lately]
    return user, day, ~shop.ordered[user[:, None], day[:, None] + np.arange(28)].any(axis=1)


def test_the_oracle_means_what_it_says(shop: Shop) -> None:
    user, day, none = asked(shop)
    p = no_order(Law(), shop, user, day, HORIZON_DAYS, np.random.default_rng(2), draws=20)
    tenths = np.array_split(np.argsort(p), 10)
    off = np.array([none[part].mean() - p[part].mean() for part in tenths])
    assert np.abs(off).max() < 0.1
    assert np.abs(off).mean() < 0.03


def test_both_parts_of_the_law_help_it(shop: Shop) -> None:
    user, day, none = asked(shop)

    def loss(law: Law) -> float:
        rng = np.random.default_rng(2)
        return log_loss(none, no_order(law, shop, user, day, HORIZON_DAYS, rng, draws=20))

    best = loss(Law())
    assert loss(replace(Law(), let_down=0.0)) > best + 0.002
    assert loss(replace(Law(), wavering=1.0)) > best + 0.003
    assert loss(replace(Law(), noise=0.5)) > best + 0.003


def test_only_support_right_after_a_search_irritates() -> None:
    law = replace(Law(), habits=(0.9,))
    shop = simulate(law, 200, 120, np.random.default_rng(3))
    rises = np.diff(shop.irritation, axis=1) > 0
    let_down = (shop.session == SUPPORT) & (shop.before == NOTHING_FOUND)
    assert (rises == let_down[:, :-1]).all()
    assert rises.any()
    here = np.arange(shop.days) <= shop.left[:, None]
    leaves = (np.arange(shop.days) == shop.left[:, None])[here]
    assert auc(leaves, shop.irritation[here]) > 0.6


def test_the_stream_says_what_happened() -> None:
    shop = simulate(Law(), 40, 130, np.random.default_rng(5))
    found = questions(shop, HORIZON_DAYS, np.random.default_rng(6))
    assert len(found.user) > 40
    within = found.day[:, None] + np.arange(HORIZON_DAYS)
    none = ~shop.ordered[found.user[:, None], within].any(axis=1)
    assert (found.data.churned == none).all()
    events, kind = found.data.events, 1 + EVENT_KINDS.index("support")
    assert events is not None
    for i, (user, day) in enumerate(zip(found.user.tolist(), found.day.tolist(), strict=True)):
        before = shop.session[user, :day]
        seen = np.count_nonzero(before) + np.count_nonzero(before == BROWSED)  # two views each
        assert (events[i, :, 0] > 0).sum() == min(seen, 64)
        if seen <= 64:
            assert (events[i, :, 0] == kind).sum() == (before == SUPPORT).sum()
    served = found.data.x[:, FEATURE_NAMES.index("support_90d")]
    assert len(np.unique(served)) > 1


@pytest.mark.full
@pytest.mark.timeout(1_800)
def test_the_network_sees_what_the_trees_do_not() -> None:
    found = measured(Law(), 1_000, 280, 1)
    assert set(found.log_loss) == set(SCORES)
    assert found.log_loss["ceiling"] == min(found.log_loss.values())
    assert found.closed("pooled") > 0.1
    assert found.verdicts["pooled"].promote
