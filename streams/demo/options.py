"""What one demo is asked to do; imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

__all__ = [
    "BROKER_NAMES",
    "CHECKED_DAYS",
    "CHECKED_DEADLINE_SECONDS",
    "YEAR_DAYS",
    "Broker",
    "Options",
]

Broker = Literal["tansu", "kafka"]
BROKER_NAMES: Final[dict[str, str]] = {"tansu": "Tansu", "kafka": "Apache Kafka"}

YEAR_DAYS: Final = 366
"""Complete Journey ends in the first hours of day 366."""
CHECKED_DAYS: Final = 161
"""What `--until-done` replays: long enough to show everything. Nobody has lapsed before 90 days
without an order, the first questions mature after the model's horizon, and a model can be trained
on them after four of these months, and judged two weeks later."""
CHECKED_DEADLINE_SECONDS: Final = 600.0
"""Several times what the checked days take on two busy cores."""


@dataclass(frozen=True)
class Options:
    """As on the command line."""

    broker: Broker
    days: tuple[int, int]
    until_done: bool
    as_json: bool
    directory: Path
    keep: bool
    speed: float
    deadline_seconds: float
    """From the start of the replay; 0 is none."""
