"""How many of the kept events a page reads: a fair sample of the users, as large as there is time.

Users are in 1,024 groups by a hash of their id, and the table `events` is ordered by group. The
first g groups are a sample of g / 1,024 of the users with all that they did, and only they are
read. Shares in it have Wilson's interval.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from streams.console import words
from streams.console.page import Ask

__all__ = ["ANY", "OFF", "Sample", "sample_of", "wilson"]

OFF: Final = (
    "Single events are not kept: that is off by default. Set "
    "`TIDELINE_CLICKHOUSE_KEEP_EVENTS_DAYS=14`, say, for the workers, and start them again; from "
    "then on they are shown here."
)
ANY: Final = "SELECT 1 FROM event_groups LIMIT 1"
GROUPS: Final = 1_024
MOST_EVENTS: Final = 500_000
"""That a question reads: what it has time for (docs/console.md)."""
_PROBED: Final = 8
"""Groups from which the size of the others is guessed."""
_Z: Final = 1.959964  # of 95 %

SIZE: Final = """
SELECT count() AS events, toUnixTimestamp64Milli(min(taken_at)) AS since_ms
FROM event_groups WHERE user_group < %(groups)s
"""


@dataclass(frozen=True)
class Sample:
    """The first `groups` of the 1,024 groups of users."""

    groups: int
    since_ms: int
    """When the first event that is kept was taken in: before that they are not complete."""

    @property
    def is_everybody(self) -> bool:
        return self.groups == GROUPS

    @property
    def share(self) -> float:
        """Of all groups, 0 to 1."""
        return self.groups / GROUPS

    @property
    def said(self) -> str:
        """Of whom the numbers are."""
        if self.is_everybody:
            return "Of everybody."
        return (
            f"Of a sample: {words.count(self.groups)} of {words.count(GROUPS)} groups of users, by "
            "a hash of their id."
        )


async def sample_of(ask: Ask) -> Sample | None:
    """As many groups as there is time for; None if no event is kept. Raises ReadFailed."""
    probed = (await ask.reader.rows(SIZE, groups=_PROBED)).first()
    events = int(probed["events"]) if probed else 0
    if events * GROUPS > MOST_EVENTS * _PROBED and probed:
        return Sample(max(1, min(GROUPS, MOST_EVENTS * _PROBED // events)), int(probed["since_ms"]))
    whole = (await ask.reader.rows(SIZE, groups=GROUPS)).first()
    if whole is None or not whole["events"]:
        return None
    return Sample(GROUPS, int(whole["since_ms"]))


def wilson(hits: int, of: int) -> tuple[float, float] | None:
    """Between which shares the true one is with 95 %, by a sample (E. B. Wilson, 1927); None of
    nobody.

    >>> [round(each, 3) for each in wilson(10, 100)]
    [0.055, 0.174]
    """
    if not of:
        return None
    share, z2 = hits / of, _Z * _Z
    middle = (share + z2 / (2 * of)) / (1 + z2 / of)
    half = _Z / (1 + z2 / of) * math.sqrt(share * (1 - share) / of + z2 / (4 * of * of))
    return max(0.0, middle - half), min(1.0, middle + half)
