"""The made-up shop of clicks: its oracle is right, and its stream says what the law did."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from models.baselines.metrics import auc, log_loss
from schemas.features import FEATURE_NAMES
from tests.core.driving import T0
from tests.core.oracle import DAY_MS
from tests.evaluation.clicks.ceiling import no_order
from tests.evaluation.clicks.law import GONE, SESSIONS, Law, Shop, simulate
from tests.evaluation.clicks.stream import Examples, examples

HORIZON_DAYS = 28


def asked(shop: Shop, every: int = 14) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Customers, days, and whether no order followed: on some days, of those who have come."""
    user, day = np.nonzero(np.arange(shop.days) > shop.came[:, None])
    keep = (day % every == 0) & (day + HORIZON_DAYS <= shop.days)
    user, day = user[keep], day[keep]
    within = day[:, None] + np.arange(HORIZON_DAYS)
    return user, day, ~shop.ordered[user[:, None], within].any(axis=1)


@pytest.fixture(scope="module")
def shop() -> Shop:
    return simulate(Law(), 800, 150, np.random.default_rng(1))


@pytest.fixture(scope="module")
def busy() -> Shop:
    """A small one, whose customers visit every day."""
    return simulate(Law(habits=(1.0,)), 30, 130, np.random.default_rng(5))


@pytest.fixture(scope="module")
def found(busy: Shop) -> Examples:
    return examples(busy, HORIZON_DAYS, np.random.default_rng(6))


class TestOracle:
    def test_it_means_what_it_says(self, shop: Shop) -> None:
        user, day, none = asked(shop)
        p = no_order(Law(), shop, user, day, HORIZON_DAYS, np.random.default_rng(2), draws=20)
        tenths = np.array_split(np.argsort(p), 10)
        off = np.array([none[part].mean() - p[part].mean() for part in tenths])
        # the rows of one customer are alike: some 80 customers in a tenth
        assert np.abs(off).max() < 0.1
        assert np.abs(off).mean() < 0.03

    def test_every_part_of_the_law_helps_it(self, shop: Shop) -> None:
        user, day, none = asked(shop)

        def loss(law: Law) -> float:
            rng = np.random.default_rng(2)
            return log_loss(none, no_order(law, shop, user, day, HORIZON_DAYS, rng, draws=20))

        law = Law()
        best = loss(law)
        assert loss(replace(law, weights=(0.0,) * len(SESSIONS))) > best + 0.003
        assert loss(replace(law, cool=1.0)) > best
        assert loss(replace(law, visits=(1.0, 1.0, 1.0))) > best + 0.02
        assert loss(replace(law, base=10 * law.base)) > best + 0.02

    def test_it_knows_who_bought_is_there(self) -> None:
        law = replace(Law(), paces=(2.0,), habits=(0.01,), base=0.0)
        shop = simulate(law, 20, 60, np.random.default_rng(3))
        user, day, _ = asked(shop)
        p = no_order(law, shop, user, day, HORIZON_DAYS, np.random.default_rng(2), draws=5)
        assert p.max() < 1e-6

    def test_those_who_left_order_no_more_and_what_annoys_makes_them_leave(
        self, shop: Shop
    ) -> None:
        later = np.arange(shop.days) >= shop.left[:, None]
        assert not shop.ordered[later].any()
        assert (shop.mood[later] == GONE).all()
        here = (np.arange(shop.days) > shop.came[:, None]) & (
            np.arange(shop.days) <= shop.left[:, None]
        )
        leaves = (np.arange(shop.days) == shop.left[:, None])[here]
        assert auc(leaves, shop.irritation[here]) > 0.6


class TestStream:
    def test_answers_are_what_happened(self, busy: Shop, found: Examples) -> None:
        assert len(found.x) > 30
        within = found.day[:, None] + np.arange(HORIZON_DAYS)
        ordered = busy.ordered[found.user[:, None], within]
        assert (found.churned == ~ordered.any(axis=1)).all()
        first = (found.first_order_ms - T0) // DAY_MS
        assert (first == found.day + ordered.argmax(axis=1))[~found.churned].all()

    @pytest.mark.parametrize(
        ("feature", "kinds"),
        [
            ("support_30d", ("support",)),
            ("review_30d", ("praise", "low_rating")),
            ("cart_add_30d", ("cart_left", "order")),
        ],
    )
    def test_features_count_what_happened(
        self, busy: Shop, found: Examples, feature: str, kinds: tuple[str, ...]
    ) -> None:
        # 30 tiles of a day, the running one among them: asked at midnight, it is empty
        back = found.day[:, None] - 1 - np.arange(29)
        user, real = found.user[:, None], back >= 0
        counted = np.zeros(back.shape, np.int64)
        for kind in kinds:
            if kind == "order":
                counted += busy.ordered[user, back]
            else:
                counted += busy.sessions[user, back, SESSIONS.index(kind)]
        served = found.x[:, FEATURE_NAMES.index(feature)]
        assert (served == (counted * real).sum(axis=1)).all()
        assert len(np.unique(served)) > 1
