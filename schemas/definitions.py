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
    "MAX_CONTACTS",
    "MAX_CONTACT_DAYS",
    "MAX_RANKS",
    "MAX_SEGMENTS",
    "STANDARD",
    "AlertRules",
    "Audience",
    "Case",
    "ContactCap",
    "Definitions",
    "Expected",
    "PolicyRow",
    "SegmentDefinition",
    "alert_problems",
]

ALERTS: Final = "alerts"
"""What an audience names as its segment to have the customers in an open churn alert."""
MAX_SEGMENTS: Final = 32
MAX_AUDIENCES: Final = 16
"""A user's memberships are bits, and there are twice as many (`streams.core.state.slots`)."""
MAX_RANKS: Final = 16
"""Different quantities in `rank(...)`: for each of them a shard keeps two histograms."""

MAX_CONTACTS: Final = 10
MAX_CONTACT_DAYS: Final = 90
"""Of each contacted user so many of the newest contacts are remembered, for so long."""
DAY_MINUTES: Final = 1_440
_DAY_MS: Final = 86_400_000


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
    """What to do about an alert: the first row whose `when` is true applies, unless uplifts say
    which one gains most."""

    when: str
    action: str
    """`call`, `coupon`, `voucher`, `message` or `nothing`, or a text of the shop's own."""
    cost: float = 0.0
    """Of one contact, in the shop's currency; `nothing` may have a price too."""
    uplift: float | None = None
    """By which share the action lowers the value at stake; None: not known yet. Where a true row
    has an uplift, the row with the most uplift x value at stake - cost applies."""


class AlertRules(msgspec.Struct, frozen=True):
    """Who gets an alert, how many a day, and when not. None, 0 and empty: as the settings say."""

    enter: float | None = None
    """A probability of leaving at which an alert opens; with a budget it is needed as well."""
    leave: float | None = None
    """A probability below which it closes; None: the setting's, or `enter` if that is lower."""
    cooldown_ms: int | None = None
    per_day: int = 0
    """Of each day's candidates about the so many with the most value at stake get an alert, over
    all partitions and never more; 0: all of them."""
    quiet: tuple[int, int] | None = None
    """From which minute of the day to before which one no alert opens; may be over midnight."""
    zone: str = "UTC"
    """The shop's time zone, by which days begin and quiet hours are; events don't have one."""
    utc_offsets: tuple[tuple[int, int], ...] = ()
    """The zone as numbers (`schemas.zones.utc_offsets`), so that a replay needs no tables of zones:
    from which time on (ms since 1970 UTC, ascending) local time is how many minutes ahead of UTC;
    empty: it is UTC."""


class ContactCap(msgspec.Struct, frozen=True):
    """Who was contacted so often within so long is left alone, over all campaigns."""

    contacts: int
    per_ms: int


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
    alerts: AlertRules = AlertRules()
    caps: ContactCap | None = None
    rfm: bool = False
    """Whether customers have RFM cells, and their moves are written."""
    suppress: str = ""
    """For whom this is true there is no alert and no feed; empty: for nobody."""
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


def alert_problems(definitions: Definitions) -> list[str]:
    """What is wrong with the rules of alerts and contacts: a sentence for each, with its remedy.

    >>> alert_problems(Definitions(1, "v", alerts=AlertRules(enter=0.2, leave=0.5)))
    ['alerts.leave is 0.5, above alerts.enter, 0.2: set it lower, so that alerts do not flicker.']
    """
    rules, cap = definitions.alerts, definitions.caps
    found = []
    for name, share in (("enter", rules.enter), ("leave", rules.leave)):
        if share is not None and not 0 < share < 1:
            found.append(f"alerts.{name} is {share:g}: set a probability between 0 and 1.")
    if rules.enter is not None and rules.leave is not None and rules.leave > rules.enter:
        found.append(
            f"alerts.leave is {rules.leave:g}, above alerts.enter, {rules.enter:g}: set it lower, "
            "so that alerts do not flicker."
        )
    if rules.cooldown_ms is not None and rules.cooldown_ms < 0:
        found.append("alerts.cooldown is below 0: set a duration such as 14d.")
    if rules.per_day < 0:
        found.append(f"alerts.per_day is {rules.per_day}: set a number of alerts, or leave it out.")
    if rules.quiet is not None:
        start, end = rules.quiet
        if not (0 <= start < DAY_MINUTES and 0 <= end < DAY_MINUTES) or start == end:
            found.append("alerts.quiet needs two different times of the day, such as 21:00, 08:00.")
    times = [since for since, _ in rules.utc_offsets]
    if times != sorted(set(times)) or any(abs(m) >= DAY_MINUTES for _, m in rules.utc_offsets):
        found.append(
            "alerts.utc_offsets is no table of a zone: let `tideline segments apply` make it."
        )
    if cap is not None and not 1 <= cap.contacts <= MAX_CONTACTS:
        found.append(f"caps.contacts is {cap.contacts}: set 1 to {MAX_CONTACTS}.")
    if cap is not None and not 0 < cap.per_ms <= MAX_CONTACT_DAYS * _DAY_MS:
        found.append(f"caps.per is too short or too long: set up to {MAX_CONTACT_DAYS}d.")
    return found
