"""What a shard keeps of the owners' definitions: which bit is whose, and each campaign's sums.

Users remember their memberships as bits. A segment or audience keeps its bit for as long as it is
defined. When it no longer is, its members leave as they are looked at, and once a sweep has looked
at everybody the bit is free for another.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, TypeVar

import msgspec

from schemas.definitions import MAX_AUDIENCES, MAX_SEGMENTS, Audience, Definitions

__all__ = [
    "ARMS",
    "AUDIENCE_BITS",
    "GLOBAL_HOLDOUT",
    "HOLDOUT",
    "SEGMENT_BITS",
    "TREAT",
    "ArmSums",
    "AudienceSlot",
    "Campaign",
    "SegmentSlot",
    "enough_room",
    "free_ended",
    "seat_audiences",
    "seat_segments",
]

SEGMENT_BITS: Final = 2 * MAX_SEGMENTS
AUDIENCE_BITS: Final = 2 * MAX_AUDIENCES
"""Twice as many as one file may have: another file can take over at once, whatever it has."""

ARMS: Final = ("treat", "holdout", "global_holdout")
TREAT, HOLDOUT, GLOBAL_HOLDOUT = range(len(ARMS))


class SegmentSlot(msgspec.Struct, frozen=True):
    """A bit of the column `segments`."""

    name: str
    taken: int
    """`Meta.rules_taken` when it got the bit: tells it from an earlier segment of this name."""
    ended: bool = False


class AudienceSlot(msgspec.Struct, frozen=True):
    """A bit of the columns `audiences` and `feeds`."""

    audience: Audience
    ended: bool = False


class ArmSums(msgspec.Struct):
    """What followed from being in an audience, over everybody in one arm. Whole numbers: sums of
    partitions, in any order, give the same. x is the spend before, y the spend after."""

    exposed: int = 0
    """People who entered and are counted, each once per horizon."""
    answered: int = 0
    """Those whose horizon has passed; the sums below are over these."""
    buyers: int = 0
    orders: int = 0
    y_cents: int = 0
    x_cents: int = 0
    y_squared: str = "0"
    """In cents squared, as the next two. Decimal digits: they may need more than 64 bits, which a
    checkpoint has no number for."""
    x_squared: str = "0"
    x_times_y: str = "0"


class Campaign(msgspec.Struct):
    """An audience with one salt, and its sums by arm. Kept for good: it is the record."""

    audience: str
    salt: str
    horizon_ms: int
    arms: list[ArmSums] = msgspec.field(default_factory=lambda: [ArmSums() for _ in ARMS])


_Slot = TypeVar("_Slot", SegmentSlot, AudienceSlot)
Slots = Sequence[SegmentSlot | None]


def enough_room(
    segments: Sequence[SegmentSlot | None],
    audiences: Sequence[AudienceSlot | None],
    new: Definitions,
) -> bool:
    """Whether there is a bit for everything in `new`. If not, it waits for the sweep that frees
    those of what ended before."""
    kept = {slot.name for slot in segments if slot is not None}
    added = sum(each.name not in kept for each in new.segments)
    salts = {slot.audience.salt for slot in audiences if slot is not None}
    more = sum(each.salt not in salts for each in new.audiences)
    return (
        added + sum(slot is not None for slot in segments) <= SEGMENT_BITS
        and more + sum(slot is not None for slot in audiences) <= AUDIENCE_BITS
    )


def seat_segments(
    slots: Sequence[SegmentSlot | None], names: Iterable[str], taken: int
) -> list[SegmentSlot | None]:
    """The slots once exactly `names` are defined."""
    wanted = dict.fromkeys(names)
    found: list[SegmentSlot | None] = [
        slot and msgspec.structs.replace(slot, ended=slot.name not in wanted) for slot in slots
    ]
    present = {slot.name for slot in found if slot is not None}
    for name in wanted:
        if name not in present:
            _put(found, SegmentSlot(name, taken))
    return found


def seat_audiences(
    slots: Sequence[AudienceSlot | None], audiences: Iterable[Audience]
) -> list[AudienceSlot | None]:
    """The slots once exactly `audiences` are defined. A salt's holdout share never changes, or some
    would be in a feed first and held out later."""
    wanted = {each.salt: each for each in audiences}
    found: list[AudienceSlot | None] = []
    for slot in slots:
        if slot is None:
            found.append(None)
            continue
        new = wanted.pop(slot.audience.salt, None)
        if new is None:
            found.append(AudienceSlot(slot.audience, ended=True))
        else:
            share = slot.audience.holdout_share
            found.append(AudienceSlot(msgspec.structs.replace(new, holdout_share=share)))
    for each in wanted.values():
        _put(found, AudienceSlot(each))
    return found


def free_ended(slots: Sequence[_Slot | None]) -> list[_Slot | None]:
    """The slots once a sweep has looked at everybody since the last ones ended."""
    found = [None if slot is None or slot.ended else slot for slot in slots]
    while found and found[-1] is None:
        found.pop()
    return found


def _put(slots: list[_Slot | None], new: _Slot) -> None:
    if None in slots:
        slots[slots.index(None)] = new
    else:
        slots.append(new)
