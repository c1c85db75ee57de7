"""What the API answers, as types: the OpenAPI document is made from them.

Times are texts such as 2026-11-30T14:05:09.123Z, money is in the shop's currency, probabilities go
from 0 to 1. null is unknown.
"""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

__all__ = [
    "Alert",
    "Alerts",
    "AudienceMember",
    "AudienceMembers",
    "Day",
    "Member",
    "Members",
    "OpenAlert",
    "OpenAlerts",
    "Problem",
    "Scores",
    "Segment",
    "SegmentDays",
    "Segments",
    "User",
    "time_text",
]


def time_text(at_ms: int) -> str | None:
    """Unix ms as a text; None for what never was, which ClickHouse has as 1970.

    >>> time_text(1_780_000_000_123), time_text(0)
    ('2026-05-28T20:26:40.123Z', None)
    """
    if at_ms <= 0:
        return None
    seconds, ms = divmod(at_ms, 1000)
    return f"{datetime.fromtimestamp(seconds, UTC).isoformat()[:19]}.{ms:03d}Z"


class Problem(msgspec.Struct, frozen=True):
    """Why there is no answer."""

    status: int
    """The HTTP status."""
    error: str
    why: str
    """What happened, and what to do about it."""


class Scores(msgspec.Struct, frozen=True):
    """What is expected of a customer."""

    p_churn: float | None
    """Probability of no order within `horizon_days`."""
    expected_spend: float | None
    """Within `horizon_days`."""
    spend_low: float | None
    """With a chance of 80 % the spend is from here …"""
    spend_high: float | None
    """… to here."""
    p_buy_7d: float | None
    p_buy_30d: float | None
    value_365d: float | None
    """Expected spend within a year."""
    value_365d_low: float | None
    """With a chance of 80 % it is from here …"""
    value_365d_high: float | None
    """… to here."""
    horizon_days: int
    status: str
    """`scored` or `not enough data`."""
    evidence: str
    """How much is behind it: `no order`, `one order`, `few orders`, `many orders`."""


class User(msgspec.Struct, frozen=True):
    """One customer now."""

    user_id: str
    scores: Scores
    value_tier: str
    """`none`, `low`, `medium` or `high`."""
    lifecycle: str
    """`visitor`, `new`, `active`, `at_risk` or `lapsed`."""
    segments: list[str]
    """Segments of the shop's own that the customer is in."""
    next_order_at: str | None
    """When the next order is due, as likely before as after."""
    at_risk: bool
    """Whether a churn alert is open."""
    lifetime_orders: int
    last_order_at: str | None
    scored_at: str
    """By the stream's clock."""
    written_at: str
    """When the row came into ClickHouse."""
    champion_version: str
    learner_version: int


class Alert(msgspec.Struct, frozen=True):
    """One churn alert, open or closed."""

    alert_id: str
    user_id: str
    raised_at: str
    closed_at: str | None
    closed_why: str
    """`ordered`, `score_fell`, `lapsed`, `suppressed`, `started_over`; empty while open."""
    priority: float
    """Spend at stake when it was raised."""
    p_churn: float
    expected_spend: float
    reasons: list[str]
    action: str
    arm: str
    """`treat`, or `holdout`: contact nobody in the holdout."""


class Alerts(msgspec.Struct, frozen=True):
    """All alerts of one customer, the newest first."""

    alerts: list[Alert]


class OpenAlert(msgspec.Struct, frozen=True):
    """One alert that is open now."""

    alert_id: str
    user_id: str
    raised_at: str
    priority: float
    p_churn: float
    expected_spend: float
    reasons: list[str]
    action: str
    value_tier: str
    lifecycle: str


class OpenAlerts(msgspec.Struct, frozen=True):
    """Open alerts whose customers may be contacted, the most at stake first."""

    alerts: list[OpenAlert]
    next: str | None
    """`after` of the next part; null: this was the last."""


class Segment(msgspec.Struct, frozen=True):
    """One segment now. A tier or stage is named `value_tier:high`, `lifecycle:at_risk`; a segment
    of the shop's own by its name."""

    name: str
    users: int
    expected_spend: float
    """Of all of them together."""
    as_of: str


class Segments(msgspec.Struct, frozen=True):
    """All segments."""

    segments: list[Segment]


class Day(msgspec.Struct, frozen=True):
    """A segment on one day, UTC."""

    day: str
    users: int | None
    """At the end of the day; null: the shards did not say."""
    entered: int
    left: int


class SegmentDays(msgspec.Struct, frozen=True):
    """One segment now, and its last 28 days."""

    segment: Segment
    days: list[Day]


class Member(msgspec.Struct, frozen=True):
    """One member of a segment."""

    user_id: str
    p_churn: float | None
    expected_spend: float | None
    value_tier: str
    lifecycle: str


class Members(msgspec.Struct, frozen=True):
    """Members of a segment now, by id. Whom a campaign may contact says the audience, not this."""

    members: list[Member]
    next: str | None


class AudienceMember(msgspec.Struct, frozen=True):
    """One person whom a campaign may contact."""

    user_id: str
    entered_at: str
    p_churn: float | None
    """When the person entered, as the rest."""
    expected_spend: float | None
    value_tier: str
    lifecycle: str


class AudienceMembers(msgspec.Struct, frozen=True):
    """Who is in an audience now and may be contacted: nobody who is held out or left alone; by
    id."""

    members: list[AudienceMember]
    next: str | None
