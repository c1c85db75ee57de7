"""Burrow's rules, case by case, and what must hold whatever the offsets are."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.lag.evaluator import Commit, Rule, evaluate, group_status


def window(
    offsets: Sequence[int], lags: Sequence[int | None], times_s: Sequence[float] | None = None
) -> list[Commit]:
    """Commits at 100 s, 200 s, ... unless other times are given."""
    seconds = times_s or [100.0 * (n + 1) for n in range(len(offsets))]
    return [
        Commit(offset, int(at * 1000), lag)
        for offset, lag, at in zip(offsets, lags, seconds, strict=True)
    ]


ADVANCES = [1000, 2000, 3000, 4000, 5000]
GROWING = [50, 100, 150, 200, 250]
FROM_ZERO = [0, 50, 100, 150, 200]
STANDS = [1000] * 5
EACH_SECOND = [float(second) for second in range(618, 633)]
CAUGHT_UP = window(range(748_079, 748_094), [0] * 15, EACH_SECOND)

CASES: dict[str, tuple[list[Commit], list[int], int, float, Rule]] = {
    # name: the window, the log's recent ends, the lag now, the time now in seconds, the status
    "no lag at some commit": (window(ADVANCES, FROM_ZERO), [5200], 200, 600, "ok"),
    "silent for as long as the window, not longer": (
        window(ADVANCES, FROM_ZERO), [5200], 200, 900, "ok",
    ),
    "silent for longer, though there was no lag once": (
        window(ADVANCES, FROM_ZERO), [5200], 200, 1000, "stop",
    ),
    "silent for longer, with lag at every commit": (
        window(ADVANCES, GROWING), [5250], 250, 1000, "stop",
    ),
    "the same offset again, but no lag at the first": (
        window(STANDS, FROM_ZERO), [1200], 200, 600, "ok",
    ),
    "the same offset again, and lag grows": (
        window(STANDS, [100, 150, 200, 250, 300]), [1300], 300, 600, "stall",
    ),
    "the same offset again, and lag stays": (
        window(STANDS, [100] * 5), [1100], 100, 600, "stall",
    ),
    "back, and never again where it was": (
        window([1000, 2000, 3000, 2000, 2500], [100, 150, 200, 1250, 900]), [3400], 900, 600,
        "rewind",
    ),
    "back, and then beyond where it was": (
        window([1000, 2000, 3000, 2000, 4000], [100, 150, 200, 1250, 300]), [4300], 300, 600, "ok",
    ),
    "back, and then exactly where it was": (
        window([1000, 2000, 3000, 2000, 3000], [100, 150, 200, 1250, 300]), [3300], 300, 600, "ok",
    ),
    "back, with no lag before: a rewind comes first": (
        window([1000, 2000, 3000, 2000, 2500], [0, 0, 0, 1250, 900]), [3400], 900, 600, "rewind",
    ),
    "back and silent: the stop comes first": (
        window([1000, 2000, 3000, 2000, 2500], [100, 150, 200, 1250, 900]), [3400], 900, 1000,
        "stop",
    ),
    "no lag now, whatever was": (window(ADVANCES, GROWING), [5250], 0, 1000, "ok"),
    "no lag at any commit, then silent while the log grows": (
        CAUGHT_UP, [749_024, 749_000, 748_800, 748_600, 748_500], 931, 650, "stop",
    ),
    "silent since it had read all, a moment ago": (
        CAUGHT_UP, [748_094, 748_093, 748_093, 748_093], 1, 650, "ok",
    ),
    "commits without a known lag change nothing": (
        window([1000, 1500, 2000, 2500, 3000], [0, None, 50, None, 100],), [3100], 100, 600, "ok",
    ),
    "slower than the log": (window(ADVANCES, GROWING), [5250], 250, 600, "warn"),
    "no slower than the log, but never nearer": (
        window(ADVANCES, [100] * 5), [5100], 100, 600, "warn",
    ),
    "nearer once": (window(ADVANCES, [50, 100, 90, 200, 250]), [5250], 250, 600, "ok"),
    "nearer once, between commits of unknown lag": (
        window(ADVANCES, [100, None, 90, None, 250]), [5250], 250, 600, "ok",
    ),
    "no commits": ([], [10], 10, 600, "ok"),
    "one commit, this very moment": (window([1000], [5]), [1005], 5, 100, "stall"),
    "one commit, and silence": (window([1000], [5]), [1005], 5, 101, "stop"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_status_by_burrows_rules(case: str) -> None:
    commits, ends, lag, now_s, expected = CASES[case]
    assert evaluate(commits, ends, lag, int(now_s * 1000)) == expected


def test_an_allowed_lag_is_none() -> None:
    commits = window(ADVANCES, GROWING)
    assert evaluate(commits, [5250], 250, 600_000, allowed_records=250) == "ok"
    assert evaluate(commits, [5251], 251, 600_000, allowed_records=50) == "ok"  # rule 3
    assert evaluate(commits, [5251], 251, 600_000, allowed_records=49) == "warn"


@given(
    offset=st.integers(0, 1 << 40),
    ends=st.lists(st.integers(1, 1 << 40), min_size=1, max_size=12),
    gaps_ms=st.lists(st.integers(0, 10**7), min_size=1, max_size=12),
    silent_ms=st.integers(0, 10**9),
)
def test_an_offset_that_stood_below_the_end_for_the_whole_window_is_never_ok(
    offset: int, ends: list[int], gaps_ms: list[int], silent_ms: int
) -> None:
    at_ms, commits = 0, []
    for number, gap in enumerate(gaps_ms):
        at_ms += gap
        commits.append(Commit(offset, at_ms, ends[number % len(ends)]))
    recent = [offset + behind for behind in ends]
    found = evaluate(commits, recent, ends[-1], at_ms + silent_ms)
    assert found in {"stop", "stall"}


COMMITS = st.lists(
    st.builds(Commit, st.integers(0, 50), st.integers(0, 10_000), st.none() | st.integers(0, 50)),
    max_size=6,
)


@given(COMMITS, st.lists(st.integers(0, 60), max_size=6), st.integers(-5, 0), st.integers(0, 10**5))
def test_no_lag_is_always_ok(commits: list[Commit], ends: list[int], lag: int, now_ms: int) -> None:
    assert evaluate(commits, ends, lag, now_ms) == "ok"


def test_a_group_is_as_bad_as_its_worst_partition() -> None:
    worst_last = ["ok", "uncommitted", "pending", "warn", "unknown"]
    for number, status in enumerate(worst_last):
        assert group_status(worst_last[: number + 1]) == status
    for status in ("stop", "stall", "rewind"):
        assert group_status([*worst_last, status]) == "error"
    assert group_status([]) == "ok"
