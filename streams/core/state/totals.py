"""How many users each tier, stage and segment of a shard has, what they are worth, and who moved.

Totals are of the users' newest score rows: a user counts from the first row on, as the row said.
So they equal what a query over everybody's newest row would find, to the cent. Whole numbers: the
totals of shards can be added in any order, and a replay comes to the same ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from schemas.segments import DIMENSIONS, LIFECYCLE, VALUE_TIERS
from streams.core.state.slots import SegmentSlot

__all__ = ["MEMBER", "Stands", "Totals", "add", "key_of", "parts_of"]

MEMBER: Final = "in"
"""What a segment of the shop's own is called where a tier or stage would have its name."""


class Totals(msgspec.Struct):
    """A shard's totals, and what of them was told last."""

    counted: bool = False
    """Whether `users` and `cents` are those of the whole state. Not in a checkpoint that is older
    than totals, nor after a split: then the next step counts everybody."""
    users: dict[str, int] = {}
    """By `key_of` dimension and segment; the keys are sorted."""
    cents: dict[str, int] = {}
    """Expected spend, in hundredths of the shop's currency; who has no score counts 0."""
    hour: int = 0
    """Hours since 1970 UTC; `moves` are of this one."""
    moves: dict[str, int] = {}
    """By `key_of` dimension, segment left and segment entered."""
    told_ms: int = 0
    """The clock when they were told last."""
    untold: bool = False
    """Whether `cents` changed since then."""


def key_of(*names: str) -> str:
    """Names of dimensions and segments as one key.

    >>> key_of("value_tier", "low", "high"), parts_of("vip/in")
    ('value_tier/low/high', ['vip', 'in'])
    """
    return "/".join(names)


def parts_of(key: str) -> list[str]:
    """The names in a key."""
    return key.split("/")


@dataclass(frozen=True)
class Stands:
    """Where k users stand: places in `DIMENSIONS`, int8 [k] each; bits of segments, uint64 [k]."""

    value_tier: NDArray[np.int8]
    lifecycle: NDArray[np.int8]
    segments: NDArray[np.uint64]

    @staticmethod
    def of(columns: Any, rows: NDArray[np.int64]) -> Stands:
        """Copies, of the users in `rows` (int64 [k]) of columns, or of records of `ROW`."""
        return Stands(columns.value_tier[rows], columns.lifecycle[rows], columns.segments[rows])

    def at(self, chosen: NDArray[np.int64]) -> Stands:
        return Stands(self.value_tier[chosen], self.lifecycle[chosen], self.segments[chosen])


def cents_of(spend: NDArray[np.float32]) -> NDArray[np.float64]:
    """Amounts in the shop's currency (float32 [k], NaN: unknown) as whole hundredths, float64."""
    return np.rint(np.nan_to_num(spend.astype(np.float64), posinf=0.0, neginf=0.0) * 100)


def add(
    totals: Totals,
    stands: Stands,
    spend: NDArray[np.float32],
    slots: Sequence[SegmentSlot | None],
    sign: int,
) -> None:
    """Add k users with this expected spend (float32 [k]) to `users` and `cents`, or take them away
    with sign -1."""
    if not len(spend):
        return
    cents = cents_of(spend)
    found: dict[str, tuple[int, int]] = {}
    for dimension, codes, names in (
        ("value_tier", stands.value_tier, VALUE_TIERS),
        ("lifecycle", stands.lifecycle, LIFECYCLE),
    ):
        people = np.bincount(codes, minlength=len(names))
        worth = np.bincount(codes, cents, minlength=len(names))  # whole numbers below 2^53
        for name, n, c in zip(names, people.tolist(), worth.tolist(), strict=True):
            found[key_of(dimension, name)] = n, int(c)
    for bit, slot in enumerate(slots):
        if slot is not None:
            member = (stands.segments >> np.uint64(bit)) & np.uint64(1) != 0
            found[key_of(slot.name, MEMBER)] = (
                int(np.count_nonzero(member)), int(cents[member].sum())
            )  # fmt: skip
    totals.users = _sum(totals.users, {key: sign * n for key, (n, _) in found.items()})
    totals.cents = _sum(totals.cents, {key: sign * c for key, (_, c) in found.items()})


def keep(totals: Totals, slots: Iterable[SegmentSlot | None]) -> None:
    """Forget segments that nobody is in and that have no bit any more."""
    known = {key_of(slot.name, MEMBER) for slot in slots if slot is not None}
    for key, n in list(totals.users.items()):
        if not n and key not in known and parts_of(key)[0] not in DIMENSIONS:
            del totals.users[key]
            totals.cents.pop(key, None)


def _sum(before: Mapping[str, int], more: Mapping[str, int]) -> dict[str, int]:
    """With sorted keys, so that equal totals are equal in a checkpoint, whatever their past."""
    if before.keys() >= more.keys():
        return {key: n + more.get(key, 0) for key, n in before.items()}
    return {key: before.get(key, 0) + more.get(key, 0) for key in sorted({*before, *more})}


def count_moves(totals: Totals, hour: int, more: Mapping[str, int]) -> None:
    """Add moves of an hour; those of an earlier hour are forgotten."""
    if totals.hour != hour:
        totals.hour, totals.moves = hour, {}
    totals.moves = _sum(totals.moves, more)
