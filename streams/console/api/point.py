"""What `customer_points` has of one customer, and the answer that is made of it.

The text is made as a score is inserted (migration 025), where the views derive the same values; so
nothing is derived here, but for how JSON writes numbers and times.
"""

from __future__ import annotations

import struct
from typing import Final

import msgspec

from streams.console.api.answers import Scores, User, time_text

__all__ = ["Point", "read_point"]

_FLOAT32: Final = struct.Struct("<f")


class Point(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One row, in the order of migration 025.

    What a later migration adds comes at the end, with a default: rows from before it are shorter. A
    console that is older than a row leaves the rest of it.
    """

    shard: int
    life: int
    number: int
    """Of the batch within the life."""
    p_churn: float | None
    expected_spend: float | None
    spend_low: float | None
    spend_high: float | None
    p_buy_7d: float | None
    p_buy_30d: float | None
    value_365d: float | None
    value_365d_low: float | None
    value_365d_high: float | None
    horizon_days: int
    status: str
    evidence: str
    value_tier: str
    lifecycle: str
    segments: list[str]
    next_order_at_ms: int
    at_risk: int
    lifetime_orders: int
    last_order_at_ms: int
    scored_at_ms: int
    inserted_at_ms: int
    champion_version: str
    learner_version: int

    def is_newer_than(self, other: Point | None) -> bool:
        """Whether a later batch wrote it."""
        return other is None or (self.life, self.number) > (other.life, other.number)

    def answer(self, user_id: str) -> User:
        """What `/v1/users/{id}` says; `user_id` as whoever asks may see it."""
        return User(
            user_id=user_id,
            scores=Scores(
                _float32(self.p_churn), _float32(self.expected_spend), _float32(self.spend_low),
                _float32(self.spend_high), _float32(self.p_buy_7d), _float32(self.p_buy_30d),
                _float32(self.value_365d), _float32(self.value_365d_low),
                _float32(self.value_365d_high), self.horizon_days, self.status, self.evidence,
            ),
            value_tier=self.value_tier, lifecycle=self.lifecycle, segments=self.segments,
            next_order_at=time_text(self.next_order_at_ms), at_risk=bool(self.at_risk),
            lifetime_orders=self.lifetime_orders, last_order_at=time_text(self.last_order_at_ms),
            scored_at=time_text(self.scored_at_ms) or "",
            written_at=time_text(self.inserted_at_ms) or "",
            champion_version=self.champion_version, learner_version=self.learner_version,
        )  # fmt: skip


read_point: Final = msgspec.json.Decoder(Point).decode
"""A row's text, read. Raises msgspec.DecodeError for one that is none of ours."""


def _float32(value: float | None) -> float | None:
    """The number that ClickHouse has. The text has as many digits as tell it from its neighbours,
    which read as a double are another number than a view gives."""
    return None if value is None else float(_FLOAT32.unpack(_FLOAT32.pack(value))[0])
