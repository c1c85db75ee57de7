"""Measures how fast a contender handles events, from inside its process. Standard library only.

The clock starts when `warm_seconds` have passed since the first event and `warm_events` are done;
it stops after `seconds` more, or with the last event. Then `result.json` is written, and the
process ends at once: how long a framework takes to shut down is not what is measured.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

__all__ = ["RESULT", "Meter", "Spec", "spec"]

RESULT = "result.json"  # in the directory that the benchmark gave
_LOOK_EVERY = 64  # events between two looks at the clock, where events come one by one


@dataclass(frozen=True)
class Spec:
    """A contender's parameters, as JSON in its first argument."""

    bootstrap: str
    group: str
    clickstream: str
    orders: str
    partitions: int
    directory: str
    clickstream_events: int
    orders_events: int
    history_events: int
    """How many of the orders are history, at the topic's beginning."""
    warm_events: int
    """Of the load: handled before the clock starts, by those who read the history too."""
    warm_seconds: float
    seconds: float
    layer: str = ""


def spec() -> Spec:
    return Spec(**json.loads(sys.argv[1]))


class Meter:
    """Counts events. `total`: how many there are; `packages`: whose versions are reported."""

    def __init__(self, given: Spec, total: int, warm_events: int = 0, packages: Any = ()) -> None:
        self.events = 0
        self._spec = given
        self._total = total
        self._warm_events = warm_events
        self._packages = packages
        self._first = 0.0
        self._mark: tuple[int, float, float] | None = None
        self._next_look = 0

    def one(self) -> None:
        """One more event was handled."""
        self.events += 1
        if self.events >= self._next_look:
            self._next_look = self.events + _LOOK_EVERY
            self._look()

    def many(self, events: int) -> None:
        """So many more events were handled."""
        self.events += events
        self._look()

    def reached(self, events: int) -> None:
        """The number of events handled so far, in total."""
        self.events = max(self.events, events)
        self._look()

    def _look(self) -> None:
        now = time.monotonic()
        if not self._first:
            self._first = now
        if self._mark is None:
            warm = now - self._first >= self._spec.warm_seconds
            if warm and self.events >= self._warm_events:
                self._mark = (self.events, now, _cpu_seconds())
        elif now - self._mark[1] >= self._spec.seconds or self.events > self._total - _LOOK_EVERY:
            self._tell(now)

    def _tell(self, now: float) -> None:
        assert self._mark is not None
        events, started, cpu = self._mark
        measured = self.events - events
        result = {
            "events": measured,
            "seconds": now - started,
            "cpu_seconds": _cpu_seconds() - cpu,
            "versions": {name: version(name) for name in self._packages},
        }
        Path(self._spec.directory, RESULT).write_text(json.dumps(result))
        os._exit(0)


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
