"""What a shop's owners define in a reviewed file: segments, tiers, values, audiences, policy.

`tideline segments apply` checks the file and writes it as one `Definitions` to Kafka; shards take
it with a step, journal it whole and keep it in their checkpoints, so that a replay needs no file.
Expressions are texts of the language in `streams/rules`; times are integers in milliseconds.
"""

from __future__ import annotations

from typing import Final

import msgspec

__all__ = [
    "ALERTS",
    "MAX_AUDIENCES",
    "MAX_RANKS",
    "MAX_SEGMENTS",
    "STANDARD",
    "Audience",
    "Case",
    "Definitions",
    "Expected",
    "PolicyRow",
    "SegmentDefinition",
]

ALERTS: Final = "alerts"
"""What an audience names as its segment to have the customers in an open churn alert."""
MAX_SEGMENTS: Final = 32
MAX_AUDIENCES: Final = 16
"""A user's memberships are bits, and there are twice as many (`streams.core.state.slots`)."""
MAX_RANKS: Final = 16
"""Different quantities in `rank(...)`: for each of them a shard keeps two histograms."""


class Expected(msgspec.Struct, frozen=True):
    """What the owner expects; outside of it the plan, metrics and console warn. Both inclusive."""

    size: tuple[int, int] | None = None
    """Members, shop-wide."""
    per_day: tuple[int, int] | None = None
    """Entries per day, shop-wide."""


class SegmentDefinition(msgspec.Struct, frozen=True):
    """One segment: who is in it, and who answers for it."""

    name: str
    when: str
    """Members enter while this is true."""
    leave: str = ""
    """Members leave once this is true; empty: once `when` is not."""
    hold_ms: int = 0
    """`when` must be true for so long, without a break, before a user enters."""
    title: str = ""
    owner: str = ""
    expect: Expected = Expected()


class Case(msgspec.Struct, frozen=True):
    """One name of a dimension; the first case whose `when` is true applies."""

    name: str
    when: str


class Audience(msgspec.Struct, frozen=True):
    """Members of a segment, or customers in an open churn alert, who may be contacted."""

    name: str
    segment: str
    """A segment's name, or `alerts`."""
    salt: str
    """Of this campaign alone: who is held out follows from hash(salt, user). Never reused."""
    holdout_share: float = 0.0
    """So many of the members are in no feed, so that the effect can be measured."""
    priority: int = 0
    """Within `priority_list` a person goes to the lowest number only."""
    priority_list: str = ""
    """Empty: this audience stands alone."""
    title: str = ""
    owner: str = ""
    horizon_ms: int = 28 * 86_400_000
    """Responses count for so long after a person entered."""


class PolicyRow(msgspec.Struct, frozen=True):
    """What to do about an alert; the first row whose `when` is true applies."""

    when: str
    action: str
    """`call`, `coupon`, `voucher`, `message` or `nothing`, or a text of the shop's own."""
    cost: float = 0.0
    """Of one contact, in the shop's currency; `nothing` may have a price too."""
    uplift: float | None = None
    """By how much the action lowers the probability of leaving; None: not known yet."""


class Definitions(msgspec.Struct, frozen=True):
    """Everything in force at one time."""

    number: int
    """Counts what was applied, from 1; 0: what ships."""
    version: str
    """The first 16 hex digits of SHA-256 over the content."""
    segments: tuple[SegmentDefinition, ...] = ()
    values: tuple[tuple[str, str], ...] = ()
    """Numbers with a name of the shop's own, and their expressions."""
    value_tier: tuple[Case, ...] = ()
    lifecycle: tuple[Case, ...] = ()
    lapsed_after_ms: int = 90 * 86_400_000
    """Who has not ordered for so long is no live customer; `rank` is among live customers."""
    audiences: tuple[Audience, ...] = ()
    policy: tuple[PolicyRow, ...] = ()
    global_holdout_share: float = 0.0
    """So many of all users are in no feed and in no alert's audience, ever."""
    global_salt: str = ""
    applied_at_ms: int = 0
    applied_by: str = ""
    note: str = ""


STANDARD: Final = Definitions(
    number=0,
    version="standard",
    value_tier=(
        Case("high", "orders > 0 and rank(expected_spend) >= 90%"),
        Case("medium", "orders > 0 and rank(expected_spend) >= 60%"),
        Case("low", "orders > 0 and known(expected_spend)"),
    ),
    lifecycle=(
        Case("visitor", "orders == 0"),
        Case("lapsed", "order_age >= 90d"),
        Case("at_risk", "alert_open"),
        Case("new", "orders == 1"),
        Case("active", "true"),
    ),
    policy=(
        PolicyRow('value_tier == "high"', "call or personal offer"),
        PolicyRow('value_tier == "medium"', "win-back coupon"),
        PolicyRow("true", "reminder e-mail"),
    ),
)
"""What ships, and is in force until a shop applies definitions of its own.
`streams/campaigns/standard.yaml` says the same, for people."""
