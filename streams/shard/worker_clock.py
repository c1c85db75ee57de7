"""The worker's wall clock, trusted only as far as it agrees with the brokers' and with itself.

By the wall clock a step refuses events from the future, ages every customer and asks questions; the
journal keeps it, so a wrong one can't be taken back. Two things are known about it without asking
anybody. A broker stamps each journal record with its own time (`LogAppendTime`), which must lie
between our sending and its answer (the bound of Cristian, "Probabilistic clock synchronization",
1989). And between two looks, wall and monotonic clock must advance alike; a machine that slept is
an exception, and is compared with the broker again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from schemas.errors import ClockWrong

__all__ = ["LEAST_TOLERANCE_MS", "WorkerClock", "clock_lead_ms", "wall_clock_ms"]

LEAST_TOLERANCE_MS: Final = 10_000  # clocks are corrected by seconds while all is well


def wall_clock_ms() -> int:
    """The system's clock, in milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def _monotonic_ms() -> int:
    return time.monotonic_ns() // 1_000_000


def clock_lead_ms(sent_ms: int, answered_ms: int, stamped_ms: int) -> int:
    """By how much our clock is certainly ahead of a broker's (negative: behind).

    sent_ms and answered_ms are by our clock, stamped_ms is the broker's in between; 0: they may
    agree.

    >>> clock_lead_ms(1_000, 1_020, 1_010)
    0
    >>> clock_lead_ms(1_000, 1_020, 700), clock_lead_ms(1_000, 1_020, 1_500)
    (300, -480)
    """
    return max(0, sent_ms - stamped_ms) or min(0, answered_ms - stamped_ms)


class WorkerClock:
    """Gives the time, or says why it should not be believed. Used on one event loop.

    tolerance_ms: how far it may be off; at least `LEAST_TOLERANCE_MS` are.
    """

    def __init__(
        self,
        tolerance_ms: int,
        wall_ms: Callable[[], int] = wall_clock_ms,
        monotonic_ms: Callable[[], int] = _monotonic_ms,
    ) -> None:
        self._tolerance_ms = max(tolerance_ms, LEAST_TOLERANCE_MS)
        self._wall_ms = wall_ms
        self._monotonic_ms = monotonic_ms
        self._seen: tuple[int, int] | None = None  # wall and monotonic, when last believed
        self._lead_ms = 0  # ahead of the brokers' clocks, when last compared
        self._broker_stamps = False
        self._jump_ms = 0  # that no comparison has followed yet

    def compare(self, sent_ms: int, answered_ms: int, stamped_ms: int) -> int:
        """Take note of a broker's time, and return the lead that it shows, as `clock_lead_ms`. An
        answer that a jump came before says nothing, and neither does one that took too long."""
        if 0 <= answered_ms - sent_ms <= self._tolerance_ms:
            self._lead_ms = clock_lead_ms(sent_ms, answered_ms, stamped_ms)
            self._broker_stamps, self._jump_ms = True, 0
        return self._lead_ms

    def trusted_ms(self) -> int:
        """The time to take steps by. Raises ClockWrong if the clock is further off than an event
        may be ahead."""
        wall_ms, monotonic_ms = self._wall_ms(), self._monotonic_ms()
        before, self._seen = self._seen, (wall_ms, monotonic_ms)
        if before is not None:
            jump_ms = (wall_ms - before[0]) - (monotonic_ms - before[1])
            if abs(jump_ms) > self._tolerance_ms:
                self._jump_ms = jump_ms
        if self._jump_ms:
            words = _far(self._jump_ms, "forward", "back")
            if not self._broker_stamps:
                self._jump_ms = 0  # nothing will ever confirm it: it is said once
            raise ClockWrong(
                f"This machine's clock jumped {words}, or the machine slept; it is compared with "
                "the broker's before the next batch. If it is wrong, set it (by NTP)."
            )
        if abs(self._lead_ms) > self._tolerance_ms:
            raise ClockWrong(
                f"This machine's clock is {_far(self._lead_ms, 'ahead of', 'behind')} the Kafka "
                "broker's. Set the one that is wrong (by NTP): no batch is taken until they agree "
                f"within {self._tolerance_ms / 1000:,.0f} s (TIDELINE_STREAM_MAX_FUTURE_SECONDS)."
            )
        return wall_ms


def _far(ms: int, ahead: str, behind: str) -> str:
    return f"{abs(ms) / 1000:,.0f} s {ahead if ms > 0 else behind}"
