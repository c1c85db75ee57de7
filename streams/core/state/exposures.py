"""The people on whom a campaign's effect is being counted: what was known when they entered.

A `U64Map` with a record of `EXPOSURE` for each is keyed by a mix of the user's hash and the
campaign's; its value is the day on which the horizon ends.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from streams.core.state.u64map import U64Map

__all__ = ["EXPOSURE", "NEVER", "forget_exposures"]

NEVER: Final = np.iinfo(np.int32).min
"""Older than any day: the entry is done, and dropped with the next ones that are."""

EXPOSURE: Final = np.dtype(
    [
        ("owner", "u8"),  # hash of the user id
        ("campaign", "u8"),  # hash of its salt
        ("due_ms", "i8"),
        ("x_cents", "i8"),  # spend before
        ("cents", "i8"),  # lifetime spend when they entered
        ("orders", "i4"),  # lifetime orders when they entered
        ("arm", "i4"),  # `streams.core.state.slots.ARMS`
    ],
    align=True,
)


def forget_exposures(exposures: U64Map, user_hash: Any) -> None:
    """Overwrite the records of one user; their keys, hashes that lead to no name, are dropped with
    those that are done."""
    at = np.flatnonzero(exposures.records["owner"] == user_hash)
    exposures.before_change(at)
    exposures.words[at] = 0
    exposures.values[at] = NEVER
