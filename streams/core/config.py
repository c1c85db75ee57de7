"""What the core is given from outside: rules that don't change during a run, and the scorer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from schemas.messages import LearnerSnapshot
from streams.core.events.events import DecodeRules
from streams.core.partitioning import Partitioner

__all__ = ["CoreConfig", "Forecast", "LongValue", "Scorer", "Scores"]


class Scores(Protocol):
    """Scores of k users, float32 [k] each. p: no order within the horizon; spend: within it, in
    currency, net of cancellations and returns."""

    @property
    def p_churn(self) -> NDArray[np.float32]: ...
    @property
    def p_champion(self) -> NDArray[np.float32]: ...
    @property
    def p_learner(self) -> NDArray[np.float32]: ...
    @property
    def spend(self) -> NDArray[np.float32]: ...


class Forecast(Protocol):
    """Forecasts of the next order of k users, [k] each; NaN where it is unknown."""

    @property
    def p_buy_7d(self) -> NDArray[np.float32]: ...
    @property
    def p_buy_30d(self) -> NDArray[np.float32]: ...
    @property
    def next_order_days(self) -> NDArray[np.float64]:
        """Until the next order, as likely as not."""
        ...


class LongValue(Protocol):
    """What k users will spend within 365 days, and between which amounts with a chance of 80 %:
    float32 [k] each, in currency; NaN where it is unknown."""

    @property
    def value(self) -> NDArray[np.float32]: ...
    @property
    def low(self) -> NDArray[np.float32]: ...
    @property
    def high(self) -> NDArray[np.float32]: ...


class Scorer(Protocol):
    """A champion, blended with a learner snapshot. `models.registry.ExplainingScorer` is the real
    one."""

    @property
    def champion_version(self) -> str: ...
    @property
    def horizon_days(self) -> int: ...
    @property
    def min_orders(self) -> int:
        """Orders that a user needs to be like the customers that the champion learned from. Others
        have no alerts, and the learner does not learn from them."""
        ...

    @property
    def typical(self) -> NDArray[np.float32]:
        """The features of the champion's typical customer, float32 [F]."""
        ...

    def covers(self, orders: NDArray[np.integer]) -> NDArray[np.bool_]:
        """For which users with so many orders, [k], it has a number: bool [k]."""
        ...

    def score(self, x: NDArray[np.float32], learner: LearnerSnapshot | None) -> Scores:
        """x: float32 [k, F]. Each row's scores depend on that row alone, bit for bit. A row that
        the model has no number for has NaN in all of them."""
        ...

    def spend_interval(
        self,
        orders: NDArray[np.integer],
        p_churn: NDArray[np.float32],
        spend: NDArray[np.float32],
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Between which amounts k users with so many orders and these scores spend, with a chance
        of 80 %: float32 [k] each, NaN where that is unknown."""
        ...

    def forecast(self, x: NDArray[np.float32]) -> Forecast:
        """x: float32 [k, F]. It costs as much as `score`, so it is called rarely."""
        ...

    @property
    def long_seen_days(self) -> int:
        """How far ahead labels reached from which `long_value` was learned; 0: it knows none."""
        ...

    def long_value(self, x: NDArray[np.float32]) -> LongValue:
        """x: float32 [k, F]. As rare as `forecast`."""
        ...

    def reasons(
        self, x: NDArray[np.float32], learner: LearnerSnapshot | None
    ) -> Sequence[Sequence[str]]:
        """In plain words, what moved each of the k rows' churn risk most."""
        ...


@dataclass(frozen=True)
class CoreConfig:
    """The rules of one application. Durations in milliseconds, probabilities in 0..1."""

    topics: tuple[str, str]
    """Names of the clickstream and orders topics, as dead letters name them."""
    decode: DecodeRules
    lateness_ms: int
    sweep_interval_ms: int
    alert_enter: float
    alert_leave: float
    alert_cooldown_ms: int
    alert_overdue_ratio: float
    """So many times their usual gap customers are silent before an alert."""
    min_orders: int
    active_within_ms: int
    """Enough data for an alert: so many orders, the last one not longer ago than this."""
    holdout_share: float
    shop_min_ms: int = 0
    """No user is scored before the shard's first order is this long ago."""
    sample_share: float = 0.0
    """Share of scores logged with their features, for `tideline skew`."""
    keep_examples: bool = False
    """Whether matured questions are kept with their features, for `tideline train --live`."""
    keep_events_days: int = 0
    """For how many days events that counted are kept to be looked at; 0: they are not."""
    keep_features_days: int = 0
    """For how many days the features of each user's newest score row are kept; 0: they are not."""
    partitioner: Partitioner | None = None
    """How producers choose a key's partition; None: that is not checked."""
    misplaced: Literal["refuse", "dead_letter"] = "refuse"
    """What happens to a record in another partition: the shard stops before it, or it becomes a
    dead letter. A step that has one makes it a dead letter in any case."""
