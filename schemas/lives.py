"""Numbers of what a shard does one after the other: which life of the shard, and the how many'th.

A life begins with the first step of a shard that has no state: a new shard, or one whose
checkpoints and journal were deleted. The steps of a life are numbered from 1, and so are its
matured examples; the life's beginning stands before that number, so that whatever a later life
writes is higher than all that an earlier one wrote.

    number = life << 32 | position        life: its beginning, in seconds since 1970 UTC

Lives were not counted once: the numbers of those shards are of life 0, and the shards go on in it.
Life and number fit into a UInt64 until 2106. A shard takes at most 50 steps a second, so a life has
numbers for 2.7 years without a pause; after them come those of the life one second later.
"""

from __future__ import annotations

from typing import Final

__all__ = ["POSITION_BITS", "first_of", "follows", "life_beginning", "life_of", "position_of"]

POSITION_BITS: Final = 32
_POSITIONS: Final = (1 << POSITION_BITS) - 1


def life_beginning(wall_ms: int) -> int:
    """The life that begins at a wall clock of `wall_ms` milliseconds since 1970 UTC."""
    return wall_ms // 1000


def first_of(life: int) -> int:
    """The first number of a life.

    >>> first_of(0), first_of(life_beginning(1_790_000_000_500))
    (1, 7687991459840000001)
    """
    return life << POSITION_BITS | 1


def life_of(number: int) -> int:
    """The life that a number belongs to, in seconds since 1970 UTC; 0 before lives were counted.

    >>> life_of(7687991459840000001), life_of(1)
    (1790000000, 0)
    """
    return number >> POSITION_BITS


def position_of(number: int) -> int:
    """Which step or example of its life it is, from 1.

    >>> position_of(first_of(1_790_000_000) + 41), position_of(42)
    (42, 42)
    """
    return number & _POSITIONS


def follows(number: int, before: int) -> bool:
    """Whether a step comes right after step `before`; 0: there is none, and a life begins.

    >>> follows(first_of(9), 0), follows(first_of(9) + 1, first_of(9)), follows(first_of(9), 7)
    (True, True, False)
    """
    return number == before + 1 if before else position_of(number) == 1
