"""Counts what Faust's watchdogs say: they only log.

They look at every partition every 7 seconds (by `broker_commit_interval`), also at one that is
paused, so a few are no failure. Of ours `tideline_shard_stuck_seconds` is the exact one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

__all__ = ["WATCHDOGS", "WatchdogCounter"]

WATCHDOGS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "no_fetch": "Aiokafka has not sent fetch request for",
        "fetch_stopped": "Aiokafka stopped fetching from",
        "no_response": "Aiokafka has not received fetch response for",
        "responses_stopped": "Broker stopped responding to fetch requests for",
        "no_highwater": "Highwater not yet available for",
        "stream_not_started": "Stream has not started processing",
        "stream_stopped": "Stream stopped processing, or is slow for",
        "no_commit": "at all since worker start",
        "commits_stopped": "(last commit ",
    }
)
"""Watchdog -> a piece of what it logs."""

_LOGGER: Final = "faust.transport.drivers.aiokafka"


class WatchdogCounter(logging.Filter):
    """Lets every line of Faust's consumer pass; calls `count` with the watchdog that wrote it."""

    def __init__(self, count: Callable[[str], None]) -> None:
        super().__init__()
        self._count = count

    def install(self) -> None:
        logging.getLogger(_LOGGER).addFilter(self)

    def remove(self) -> None:
        logging.getLogger(_LOGGER).removeFilter(self)

    def filter(self, record: logging.LogRecord) -> bool:
        text = str(record.msg)
        for watchdog, piece in WATCHDOGS.items():
            if piece in text:
                self._count(watchdog)
                break
        return True
