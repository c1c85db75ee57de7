"""Times the stages of a step."""

from __future__ import annotations

import time

from streams.core.stages import Stage

__all__ = ["Stopwatch"]


class Stopwatch:
    """Called with each stage as it ends; `seconds` has the wall time of each."""

    def __init__(self) -> None:
        self.seconds: dict[Stage, float] = {}
        self.started_ns = time.time_ns()
        self._since = time.perf_counter()

    def __call__(self, stage: Stage) -> None:
        now = time.perf_counter()
        self.seconds[stage] = now - self._since
        self._since = now
