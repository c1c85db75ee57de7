"""How far results have come: what tells a page that it is out of date, and the shop's own time."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

from streams.console.reads import Reader

__all__ = ["QUERY", "Position", "read_position"]

QUERY: Final = """
SELECT sum(accepted) AS accepted, sum(batches) AS batches,
    max(toUnixTimestamp64Milli(newest_clock)) AS clock_ms
FROM recent_ledger
"""


@dataclass(frozen=True)
class Position:
    """Where the results are. Two with the same `name` show the same."""

    name: str
    clock_ms: int | None
    """The newest batch's clock, Unix ms; None: no batch has arrived within the last hour."""

    def now_ms(self, clock: str) -> int:
        """The shop's time: in a replay ([stream] clock is event) it is the newest batch's clock."""
        if clock == "event" and self.clock_ms:
            return self.clock_ms
        return time.time_ns() // 1_000_000


async def read_position(reader: Reader) -> Position:
    """Raises ReadFailed."""
    row = (await reader.rows(QUERY)).first() or {}
    clock_ms = int(row.get("clock_ms") or 0) or None
    name = f"{clock_ms or 0}-{row.get('batches', 0)}-{row.get('accepted', 0)}"
    return Position(name, clock_ms)
