"""Decides whether what a shard reports is in order: ok, a warning or a failure, with the remedy.

Figures and limits go in, sentences come out; whoever shows them (`tideline doctor`, the log, the
metrics) decides nothing. A share that is watched has one field in `Figures`, one limit in
`Limits`, and one entry in `SHARES`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

__all__ = [
    "LEAST_RECORDS",
    "SHARES",
    "STATES",
    "Figures",
    "Limit",
    "Limits",
    "Recent",
    "State",
    "Verdict",
    "judge",
    "worst",
]

State = Literal["ok", "warn", "fail"]
STATES: Final[tuple[State, ...]] = ("ok", "warn", "fail")

LEAST_RECORDS: Final = 100
"""Of fewer records a share says nothing: one bad one among ten would be a failure."""
RECENT_MINUTES: Final = 60


@dataclass(frozen=True)
class Limit:
    """Shares, 0 to 1, from which on something is a warning and a failure."""

    warn: float
    fail: float

    def state(self, share: float) -> State:
        """
        >>> Limit(0.01, 0.1).state(0.05), Limit(0.0, 0.0).state(0.0)
        ('warn', 'ok')
        """
        if share <= 0 or share < self.warn:
            return "ok"
        return "warn" if share < self.fail else "fail"


@dataclass(frozen=True)
class Limits:
    """The limit of each share."""

    late: Limit = Limit(0.01, 0.1)
    dead_letters: Limit = Limit(0.01, 0.1)
    misplaced: Limit = Limit(0.0, 0.01)
    """One producer is wrong if there is any."""
    from_future: Limit = Limit(0.001, 0.01)


@dataclass(frozen=True)
class Figures:
    """What became of the records of one shard in one period."""

    accepted: int = 0
    late: int = 0
    dead_letters: int = 0
    misplaced: int = 0
    """Dead letters with the reason wrong_partition. In the ledger they are not counted apart."""
    from_future: int = 0
    """Dead letters with the reason future_timestamp, likewise."""

    def share(self, name: str) -> float:
        """Of the accepted records, 0 to 1."""
        count: int = getattr(self, name)
        return count / self.accepted if self.accepted else 0.0

    def __add__(self, other: Figures) -> Figures:
        return Figures(*(getattr(self, n) + getattr(other, n) for n in self.__dataclass_fields__))

    def __sub__(self, other: Figures) -> Figures:
        return Figures(*(getattr(self, n) - getattr(other, n) for n in self.__dataclass_fields__))


@dataclass(frozen=True)
class Verdict:
    """One finding about one shard; `remedy` is empty if nothing needs to be done."""

    check: str
    state: State
    detail: str
    remedy: str = ""


@dataclass(frozen=True)
class _Share:
    noun: str
    remedy: str


SHARES: Final[Mapping[str, _Share]] = {
    "late": _Share(
        "are too old for the windows",
        "Find the producer that sends late or has a slow clock; for a backfill, set "
        "TIDELINE_STREAM_LATENESS_DAYS before it, or load the history with TIDELINE_STREAM_CLOCK="
        "event before live traffic",
    ),
    "dead_letters": _Share(
        "could not be used",
        "See why with `tideline dlq list`, mend the producer, then send them again with "
        "`tideline dlq replay`",
    ),
    "misplaced": _Share(
        "are in a partition that their key does not belong to",
        "Set that producer's partitioner (docs/events.md), then send them again with `tideline dlq "
        "replay --reason wrong_partition`",
    ),
    "from_future": _Share(
        "are ahead of the clock", "Set the clocks of the producers that `tideline doctor` names"
    ),
}
"""Share -> how its records are called, and what to do if there are too many. The names are those of
`Figures` and `Limits`."""


def judge(recent: Figures, life: Figures, limits: Limits) -> Iterator[Verdict]:
    """A verdict for each of `SHARES`: of the last hour, by both limits; and of the shard's life as
    a warning at most, since no remedy makes undone what was.

    >>> [v.state for v in judge(Figures(1000, late=200), Figures(10**6, late=200), Limits())]
    ['fail', 'ok', 'ok', 'ok']
    """
    for name, share in SHARES.items():
        limit: Limit = getattr(limits, name)
        found: list[tuple[State, str]] = []
        for figures, period, most in (
            (recent, "of the last hour", "fail"),
            (life, "since the shard was started", "warn"),
        ):
            state = limit.state(figures.share(name))
            if figures.accepted < LEAST_RECORDS:
                state = "ok"
            if state == "fail" and most == "warn":
                state = "warn"
            count = getattr(figures, name)
            found.append(
                (
                    state,
                    f"{count:,} of {figures.accepted:,} records {period} {share.noun} "
                    f"({figures.share(name):.2%})",
                )
            )
        state = worst(state for state, _ in found)
        detail = next(words for each, words in found if each == state)
        remedy = "" if state == "ok" else share.remedy
        yield Verdict(name, state, detail, remedy)


def worst(states: Iterable[State]) -> State:
    """The worst of several states; ok if there are none.

    >>> worst(("ok", "fail", "warn")), worst(())
    ('fail', 'ok')
    """
    return max(states, key=STATES.index, default="ok")


@dataclass
class Recent:
    """Figures of the last hour, by the minute. Minutes are whole numbers that never go back."""

    _minutes: deque[tuple[int, Figures]] = field(default_factory=deque)
    _total: Figures = Figures()

    def add(self, minute: int, figures: Figures) -> Figures:
        """Count `figures` in `minute`; returns the last hour's."""
        self._total += figures
        if self._minutes and self._minutes[-1][0] == minute:
            figures = self._minutes.pop()[1] + figures
        self._minutes.append((minute, figures))
        while self._minutes[0][0] <= minute - RECENT_MINUTES:
            self._total -= self._minutes.popleft()[1]
        return self._total
