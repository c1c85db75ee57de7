"""Shares of a shard's records, against their limits."""

from __future__ import annotations

from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.core.health import (
    LEAST_RECORDS,
    RECENT_MINUTES,
    SHARES,
    Figures,
    Limit,
    Limits,
    Recent,
    State,
    judge,
)

LIMITS = Limits(late=Limit(0.01, 0.1), dead_letters=Limit(0.02, 0.2))
NONE = Figures()


@pytest.mark.parametrize(
    ("recent", "life", "late", "dead"),
    [
        (Figures(1000, 9, 19), Figures(1000, 9, 19), "ok", "ok"),
        (Figures(1000, 10, 20), NONE, "warn", "warn"),
        (Figures(1000, 100, 200), NONE, "fail", "fail"),
        (Figures(1000), Figures(10_000, 9_000, 150), "warn", "ok"),  # what was can't be mended
        (Figures(LEAST_RECORDS - 1, 99, 99), NONE, "ok", "ok"),  # too few to say
        (Figures(LEAST_RECORDS - 1, 99, 0), Figures(10_000, 200, 0), "warn", "ok"),
        (NONE, NONE, "ok", "ok"),
    ],
)
def test_a_share_is_judged_by_the_last_hour_and_then_by_the_life(
    recent: Figures, life: Figures, late: State, dead: State
) -> None:
    found = {verdict.check: verdict for verdict in judge(recent, life, LIMITS)}
    assert (found["late"].state, found["dead_letters"].state) == (late, dead)
    for verdict in found.values():
        assert bool(verdict.remedy) == (verdict.state != "ok")


def test_a_verdict_says_how_many_of_which_period_and_what_to_do() -> None:
    late, dead, *_ = judge(Figures(2_000, 0, 500), Figures(50_000, 5_000, 600), LIMITS)
    assert late.detail == (
        "5,000 of 50,000 records since the shard was started are too old for the windows (10.00%)"
    )
    assert dead.detail == "500 of 2,000 records of the last hour could not be used (25.00%)"
    assert "TIDELINE_STREAM_LATENESS_DAYS" in late.remedy
    assert "tideline dlq list" in dead.remedy


def test_every_watched_share_has_a_figure_a_limit_and_a_verdict() -> None:
    assert {f.name for f in fields(Figures)} == {"accepted", *SHARES}
    assert {f.name for f in fields(Limits)} == set(SHARES)
    assert [verdict.check for verdict in judge(NONE, NONE, LIMITS)] == list(SHARES)


steps = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 1000), st.integers(0, 1000)))


@given(steps)
def test_the_last_hour_is_a_recount_of_its_minutes(taken: list[tuple[int, int, int]]) -> None:
    recent, minute = Recent(), 7
    before: list[tuple[int, Figures]] = []
    for pause, accepted, late in taken:
        minute += pause
        before.append((minute, Figures(accepted, late, accepted // 2)))
        now = recent.add(*before[-1])
        within = [f for at, f in before if at > minute - RECENT_MINUTES]
        assert now == sum(within, Figures())


def test_one_misplaced_record_is_a_warning_and_some_are_a_failure() -> None:
    def state(misplaced: int) -> State:
        found = judge(Figures(1_000, 0, misplaced, misplaced), Figures(), Limits())
        return next(v.state for v in found if v.check == "misplaced")

    assert [state(n) for n in (0, 1, 9, 10)] == ["ok", "warn", "warn", "fail"]
