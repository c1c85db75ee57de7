"""How long to wait before the next try: longer each time, up to a cap, and never in step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Backoff"]


@dataclass(frozen=True)
class Backoff:
    """Capped exponential backoff with jitter.

    The wait doubles with every failed try; half of it is random, so that workers which lost the
    same server don't all reconnect in the same moment.
    """

    first_seconds: float = 0.2
    cap_seconds: float = 10.0

    def delay_seconds(self, failures: int, random: Callable[[], float]) -> float:
        """The wait after `failures` (>= 1) failed tries; `random` gives numbers in [0, 1).

        >>> [Backoff().delay_seconds(n, lambda: 1.0) for n in (1, 2, 3, 50)]
        [0.2, 0.4, 0.8, 10.0]
        """
        # The exponent is capped as well: 2.0 ** 1024 overflows.
        full = min(self.cap_seconds, self.first_seconds * 2.0 ** min(failures - 1, 64))
        return full * (0.5 + 0.5 * random())
