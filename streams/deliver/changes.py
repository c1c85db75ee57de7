"""Decides what becomes of each record of the topic of audiences, for one destination. Pure.

A record is skipped (another destination's, an audience that this one does not get, the entry of
somebody who was erased since), delivered, or refused here: `unreadable`, `unknown_change`,
`held_out`. Somebody who was erased is still taken out of where they are. The shards see to it that
nobody who is held out is in a record, and who delivers can't know the arms; but a record that says
another arm than `treat` goes nowhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from schemas.messages import AudienceChange, Undelivered
from streams.deliver.destinations import Destination
from streams.deliver.exchange import Refusal

__all__ = ["FOR_DESTINATION", "IsErased", "Piece", "Record", "letter", "nobody", "pieces"]

FOR_DESTINATION: Final = "tideline-destination"
"""Header of a record that was sent again: the one destination that it is for."""

_KEPT_BYTES: Final = 64 * 1024

Record = Any
"""As aiokafka gives it: topic, partition, offset, key, value, headers."""


IsErased = Callable[[str, int], bool]
"""Whether a person was erased after a time, in milliseconds since 1970."""


class _Arm(msgspec.Struct, frozen=True):
    arm: str = "treat"


_change = msgspec.json.Decoder(AudienceChange)
_arm = msgspec.json.Decoder(_Arm)


@dataclass(frozen=True)
class Piece:
    """Consecutive records that are delivered together.

    changes: with the record of each; refused: those that can't be delivered; next_offset: the first
    one behind the piece.
    """

    changes: Sequence[tuple[Record, AudienceChange]]
    refused: Sequence[tuple[Record, Refusal]]
    skipped: int
    next_offset: int


def nobody(user_id: str, recorded_at_ms: int) -> bool:
    """An `IsErased` of a shop where nobody ever was."""
    return False


def pieces(
    records: Iterable[Record], where: Destination, most: int, is_erased: IsErased = nobody
) -> Iterable[Piece]:
    """The records of a partition, in order, in pieces of at most so many changes."""
    changes: list[tuple[Record, AudienceChange]] = []
    refused: list[tuple[Record, Refusal]] = []
    skipped = 0
    record: Record = None
    for record in records:
        found = _read(record, where, is_erased)
        if found is None:
            skipped += 1
        elif isinstance(found, Refusal):
            refused.append((record, found))
        else:
            changes.append((record, found))
        if len(changes) >= most or len(refused) >= most:
            yield Piece(changes, refused, skipped, record.offset + 1)
            changes, refused, skipped = [], [], 0
    if changes or refused or skipped:
        yield Piece(changes, refused, skipped, record.offset + 1)


def _read(
    record: Record, where: Destination, is_erased: IsErased
) -> AudienceChange | Refusal | None:
    meant = [value for name, value in record.headers or () if name == FOR_DESTINATION]
    if meant and where.name.encode() not in meant:
        return None
    try:
        change = _change.decode(record.value or b"")
        arm = _arm.decode(record.value or b"").arm
    except msgspec.MsgspecError as error:
        return Refusal("unreadable", str(error)[:300])
    if not where.takes(change.audience):
        return None
    refusal = _wrong(change, arm)
    if refusal is None and change.change == "entered":
        return None if is_erased(change.user_id, record.timestamp) else change
    return refusal or change


def _wrong(change: AudienceChange, arm: str) -> Refusal | None:
    if arm != "treat":
        return Refusal("held_out", "the record says that this person is held out")
    if change.change not in ("entered", "left"):
        return Refusal("unknown_change", f"neither entered nor left: {change.change[:40]}")
    return None


def letter(
    where: Destination, record: Record, refusal: Refusal, recorded_at_ms: int
) -> Undelivered:
    """What is kept of a record that was not delivered."""
    return Undelivered(
        destination=where.name,
        reason=refusal.reason,
        detail=refusal.detail,
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        recorded_at_ms=recorded_at_ms,
        key=record.key,
        payload=None if record.value is None else record.value[:_KEPT_BYTES],
    )
