"""How much history a score needs, and how much to trust the learner.

Enough data: a user gets a score only where the champion was trained on similar users.

- A customer needs as many orders as the champion's training required (`eligibility` in its
  manifest; `USER_MIN_ORDERS` unless trained otherwise): two, so that there is one gap to compare
  silence to. Users with fewer, and visitors, need a champion that has models of theirs
  (`models.bands`).
- A shop needs `SHOP_MIN_DAYS` since its first order. Before that every customer looks new, whatever
  the champion has learned elsewhere, and nobody could have been silent for a horizon.

All other users have "not enough data" in place of a score.

How much the learner counts: faded log losses, and the blend weight they justify.
Losses are prequential with fading factors (Gama, Sebastião & Rodrigues 2013, "On evaluating
stream learning algorithms", Machine Learning 90(3), section 4): S = loss + f S, B = 1 + f B,
and the faded loss is S / B, so that about the last 1 / (1 - f) labels count.
"""

from __future__ import annotations

import math
from typing import Final

import msgspec

__all__ = ["FADED_LABELS", "SHOP_MIN_DAYS", "USER_MIN_ORDERS", "Evidence", "log_loss_one"]

USER_MIN_ORDERS: Final = 2
SHOP_MIN_DAYS: Final = 28.0

FADED_LABELS: Final = 2_000
_FADING: Final = 1.0 - 1.0 / FADED_LABELS
_P_MIN: Final = 1e-6


def log_loss_one(p: float, happened: bool) -> float:
    """Log loss of one prediction in nats; `p` is kept 1e-6 away from 0 and 1.

    >>> round(log_loss_one(0.8, True), 4)
    0.2231
    """
    p = min(max(p, _P_MIN), 1.0 - _P_MIN)
    return -math.log(p if happened else 1.0 - p)


class Evidence(msgspec.Struct):
    """Faded sums of the losses of champion, learner and blend, on the same labels.

    >>> e = Evidence()
    >>> e.blend_weight, e.mean(e.champion)
    (0.0, None)
    >>> for _ in range(20):
    ...     e.add(churned=True, p_champion=0.5, p_learner=0.6, p_blend=0.5)
    >>> round(e.blend_weight, 3)
    0.948
    """

    labels: float = 0.0
    champion: float = 0.0
    learner: float = 0.0
    blend: float = 0.0

    def add(self, *, churned: bool, p_champion: float, p_learner: float, p_blend: float) -> None:
        """Counts one label against the three predictions that were made for it."""
        self.labels = 1.0 + _FADING * self.labels
        self.champion = log_loss_one(p_champion, churned) + _FADING * self.champion
        self.learner = log_loss_one(p_learner, churned) + _FADING * self.learner
        self.blend = log_loss_one(p_blend, churned) + _FADING * self.blend

    def mean(self, total: float) -> float | None:
        """One of the sums as nats per label; None before the first label."""
        return total / self.labels if self.labels else None

    @property
    def blend_weight(self) -> float:
        """The learner's share of the blend, in [0, 1).

        Two experts under Hedge with learning rate 1, the rate at which log loss is mixable
        (Cesa-Bianchi & Lugosi 2006, "Prediction, Learning, and Games", section 3.3): the learner's
        posterior is q = sigmoid(D), D being the nats it saved. The blend uses what exceeds the even
        prior, 2 q - 1 = tanh(D / 2), and 0 where that is negative: without evidence the learner has
        no weight.
        """
        return max(0.0, math.tanh((self.champion - self.learner) / 2.0))
