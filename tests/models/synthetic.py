"""Made-up users: correlated, skewed, partly unknown, with churn that depends on a few."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.training.dataset import Dataset
from schemas.events import CLICK_TYPES
from schemas.features import FEATURE_NAMES, PACKED_FEATURE_NAMES
from schemas.messages import Example, LearnerSnapshot

DAY_MS = 86_400_000
F = len(FEATURE_NAMES)
HORIZON_DAYS = 28
at = FEATURE_NAMES.index


def rows(n: int, seed: int = 0) -> NDArray[np.float32]:
    """float32 [n, F] with counts, zeros and NaN as real features have them."""
    rng = np.random.default_rng(seed)
    activity = rng.gamma(1.0, 1.0, (n, 1))
    x = rng.poisson(3.0 * activity, (n, F)).astype(np.float32)
    x[:, at("days_since_order")] = rng.exponential(20.0, n) / (0.3 + activity[:, 0])
    x[:, at("revenue_30d")] = x[:, at("orders_30d")] * rng.gamma(2.0, 10.0, n)
    x[:, at("support_1h")] = 0.0
    x[:, at("lifetime_orders")] += 2.0  # customers
    for kind in CLICK_TYPES:
        x[np.arange(n) % 5 < 3, at(f"{kind}_90d")] = 0.0  # most rows are without clicks
    orders = x[:, at("lifetime_orders")].copy()
    x[rng.random((n, F)) < 0.05] = np.nan
    x[:, at("lifetime_orders")] = orders
    x[:, at("days_since_return")] = np.where(rng.random(n) < 0.8, np.nan, rng.exponential(30.0, n))
    return x


def churn_logit(x: NDArray[np.float32]) -> NDArray[np.float64]:
    """The true log-odds of churn."""
    known = np.nan_to_num(x).astype(np.float64)
    return (
        0.05 * known[:, at("days_since_order")]
        - 0.35 * known[:, at("orders_30d")]
        + 0.1 * known[:, at("support_30d")]
        - 0.3
    )


def dataset(n: int = 6_000, seed: int = 0) -> Dataset:
    """Rows at 12 weekly as-of times."""
    rng = np.random.default_rng(seed + 1)
    x = rows(n, seed)
    churned = rng.random(n) < 1.0 / (1.0 + np.exp(-churn_logit(x)))
    spend = rng.gamma(2.0, 10.0, n) * (1.0 + np.nan_to_num(x[:, at("orders_30d")]))
    return Dataset(
        x=x,
        churned=churned,
        spend=np.where(churned, 0.0, spend).astype(np.float32),
        as_of_ms=1_700_000_000_000 + rng.integers(0, 12, n) * 7 * DAY_MS,
        user=rng.integers(0, n // 6, n),
    )


def example(  # one matured question, valid by default
    x: NDArray[np.float32],
    churned: bool,
    *,
    ordinal: int,
    champion_version: str,
    p_champion: float,
    p_learner: float | None = None,
    p_churn: float | None = None,
    shard: int = 0,
) -> Example:
    return Example(
        shard=shard,
        ordinal=ordinal,
        asked_at_ms=0,
        matured_at_ms=HORIZON_DAYS * DAY_MS,
        horizon_days=HORIZON_DAYS,
        x=x.astype("<f4").tobytes(),
        p_champion=p_champion,
        p_learner=p_champion if p_learner is None else p_learner,
        p_churn=p_champion if p_churn is None else p_churn,
        spend_predicted=0.0,
        churned=churned,
        spend=0.0,
        champion_version=champion_version,
        learner_version=0,
        features=PACKED_FEATURE_NAMES,
    )


def snapshot(champion_version: str, *, seed: int = 0, blend_weight: float = 0.4) -> LearnerSnapshot:
    """A snapshot with made-up weights, some of them 0."""
    rng = np.random.default_rng(seed)
    weights = np.where(rng.random(F) < 0.1, 0.0, rng.normal(0.0, 0.1, F))
    return LearnerSnapshot(
        version=1,
        champion_version=champion_version,
        features=list(FEATURE_NAMES),
        labels=10,
        blend_weight=blend_weight,
        intercept=0.1,
        logit_weight=0.9,
        weights=weights.tolist(),
        mean=rng.normal(3.0, 1.0, F).tolist(),
        scale=rng.uniform(0.5, 3.0, F).tolist(),
    )
