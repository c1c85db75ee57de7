"""Says in the log that records are refused or late: at once, and then not more than once a minute.

Values of the shop's own are left out: a line names the place of a record, and its customer by a
hash. `tideline dlq show` has the record.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from schemas.messages import DeadLetter
from streams.core.hashing import key_pseudonym

__all__ = ["DeadLetterLog"]

_log = logging.getLogger(__name__)

EVERY_SECONDS: Final = 60.0
_REMEDIES: Final = {
    "future_timestamp": "Set the clock of the producer (by NTP); `tideline dlq replay --reason "
    "future_timestamp` sends events again whose time has come",
    "wrong_partition": "Set that producer's partitioner (docs/events.md); `tideline dlq replay "
    "--reason wrong_partition` sends them to the partitions of their keys",
    "late": "An older event than [stream] lateness_days allows; if it is a clock that was wrong, "
    "set it and run `tideline dlq replay --reason late`",
}
_OTHERWISE: Final = "`tideline dlq list` shows what is wrong with them"


@dataclass
class _Waiting:
    said_at: float
    letters: int = 0


class DeadLetterLog:
    """Counts dead letters by topic, partition and reason, and logs them."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._waiting: dict[tuple[str, int, str], _Waiting] = {}

    def report(self, letters: Iterable[DeadLetter]) -> None:
        """Take note of the dead letters of one step; log those of places not heard of lately."""
        now = self._monotonic()
        firsts: dict[tuple[str, int, str], DeadLetter] = {}
        for letter in letters:
            place = letter.topic, letter.partition, letter.reason
            firsts.setdefault(place, letter)
            self._waiting.setdefault(place, _Waiting(now - EVERY_SECONDS)).letters += 1
        for place, letter in firsts.items():
            waiting = self._waiting[place]
            if now - waiting.said_at >= EVERY_SECONDS:
                self._say(letter, waiting.letters)
                waiting.said_at, waiting.letters = now, 0

    def _say(self, letter: DeadLetter, count: int) -> None:
        # Details of other reasons may quote the shop's text.
        detail = f": {letter.detail}" if letter.reason in _REMEDIES else ""
        _log.warning(
            "%s/%s: %s dead letters (%s), the first of them at offset %s of customer %s%s. %s",
            letter.topic, letter.partition, count, letter.reason, letter.offset,
            key_pseudonym(letter.key), detail, _REMEDIES.get(letter.reason, _OTHERWISE),
            extra={
                "fact": "dead_letters", "topic": letter.topic, "partition": letter.partition,
                "offset": letter.offset, "records": count, "reason": letter.reason,
            },
        )  # fmt: skip
