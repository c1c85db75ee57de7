"""Status of a partition from a sliding window of its commits: Burrow's rules, without thresholds.

The rules, in Burrow's order (core/internal/evaluator/caching.go of linkedin/Burrow); the first that
applies decides:

    0. The present lag is allowed                                               ok
    1. No commit for longer than the window is long, and the last commit
       reached none of the log's recent ends                                    stop
    2. A commit is below the one before it, and none since has reached it       rewind
    3. Some commit in the window had an allowed lag                             ok
    4. All commits in the window have the same offset                           stall
    5. The lag never shrank from one commit to the next                         warn
    6.                                                                          ok

Pure: offsets and times in, a status out.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

__all__ = ["GROUP_ORDER", "Commit", "GroupStatus", "Rule", "evaluate", "group_status"]

Rule = Literal["ok", "warn", "stop", "stall", "rewind"]
"""What Burrow says of a partition."""

GroupStatus = Literal["ok", "uncommitted", "pending", "warn", "unknown", "error"]

GROUP_ORDER: Final[tuple[GroupStatus, ...]] = (
    "ok", "uncommitted", "pending", "warn", "unknown", "error",
)  # fmt: skip
"""From the best to the worst. Blindness is worse than a warning that can be seen."""


@dataclass(frozen=True, slots=True)
class Commit:
    """One commit in the window. `lag_records` is the lag when it was made; None: not known."""

    offset: int
    at_ms: int
    lag_records: int | None


def evaluate(
    window: Sequence[Commit],
    recent_ends: Iterable[int],
    lag_records: int,
    now_ms: int,
    allowed_records: int = 0,
) -> Rule:
    """A partition's status.

    window: its commits, the oldest first; an empty one says nothing and is ok, as in Burrow.
    recent_ends: the log's last end offsets, in any order.
    lag_records: the lag now.

    >>> commits = [Commit(5, 1_000 * t, 3 + t) for t in range(4)]
    >>> evaluate(commits, [12], 7, now_ms=4_000)
    'stall'
    >>> evaluate(commits, [12], 7, now_ms=7_000)
    'stop'
    """
    if not window:
        return "ok"
    case = _Case(window, tuple(recent_ends), lag_records, now_ms, allowed_records)
    return next((status for applies, status in _RULES if applies(case)), "ok")


def group_status(statuses: Iterable[str]) -> GroupStatus:
    """A group is as bad as its worst partition; stop, stall and rewind are an error, as in Burrow.

    >>> group_status(["ok", "stall", "warn"])
    'error'
    """
    errors = ("stop", "stall", "rewind")
    seen = {"error" if status in errors else status for status in statuses}
    return next((status for status in reversed(GROUP_ORDER) if status in seen), "ok")


@dataclass(frozen=True, slots=True)
class _Case:
    window: Sequence[Commit]
    recent_ends: tuple[int, ...]
    lag_records: int
    now_ms: int
    allowed_records: int

    @property
    def lags(self) -> list[int]:
        return [each.lag_records for each in self.window if each.lag_records is not None]


def _is_allowed(case: _Case) -> bool:
    return case.lag_records <= case.allowed_records


def _has_stopped(case: _Case) -> bool:
    first_ms, last_ms = case.window[0].at_ms, case.window[-1].at_ms
    if case.now_ms - last_ms <= last_ms - first_ms:
        return False
    # A consumer that had read all had nothing to commit.
    return all(case.window[-1].offset < end for end in case.recent_ends)


def _has_rewound(case: _Case) -> bool:
    for index, (before, commit) in enumerate(itertools.pairwise(case.window)):
        if commit.offset < before.offset:
            return all(each.offset < before.offset for each in case.window[index + 1 :])
    return False


def _was_allowed(case: _Case) -> bool:
    return any(lag <= case.allowed_records for lag in case.lags)


def _has_stalled(case: _Case) -> bool:
    return all(each.offset == case.window[0].offset for each in case.window)


def _never_shrank(case: _Case) -> bool:
    return all(later >= earlier for earlier, later in itertools.pairwise(case.lags))


_RULES: Final[tuple[tuple[Callable[[_Case], bool], Rule], ...]] = (
    (_is_allowed, "ok"),
    (_has_stopped, "stop"),
    (_has_rewound, "rewind"),
    (_was_allowed, "ok"),
    (_has_stalled, "stall"),
    (_never_shrank, "warn"),
)
