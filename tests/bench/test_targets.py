"""What counts as met, missed, and missed by more than the spread."""

from __future__ import annotations

from typing import Any

import pytest

from tests.bench.contenders import BASE, WHOLE
from tests.bench.figures import Figure
from tests.bench.targets import TARGETS, Target, Verdict, judge, latency_curve, rates, ratios


def target(kind: Any, goal: float, at_least: bool) -> Target:
    return Target("t", "t", kind, goal, at_least, "x", lambda parts: None)


def rounds(**rates_by_name: tuple[float, ...]) -> dict[str, Any]:
    """A contenders part with these rates, one second each."""
    return {
        "contenders": {
            "rounds": {
                name: [{"events": rate, "seconds": 1.0, "cpu_seconds": 1.0} for rate in found]
                for name, found in rates_by_name.items()
            }
        }
    }


@pytest.mark.parametrize(
    ("kind", "values", "state", "fails"),
    [
        ("ratio", (11.0, 12.0, 9.0), "met", False),
        ("ratio", (9.0, 8.0, 10.5), "missed", False),  # one round reached it
        ("ratio", (9.0, 8.0, 9.9), "missed", True),
        ("figure", (9.0, 8.0, 9.9), "missed", False),  # the machine may be slow
    ],
)
def test_a_ratio_fails_only_if_every_round_misses_it(
    kind: str, values: tuple[float, ...], state: str, fails: bool
) -> None:
    verdict = Verdict(target(kind, 10.0, True), Figure(values))
    assert (verdict.state, verdict.fails) == (state, fails)


def test_a_cost_fails_if_even_its_lowest_round_is_above_the_goal() -> None:
    assert Verdict(target("ratio", 1.15, False), Figure((1.2, 1.3))).fails
    assert not Verdict(target("ratio", 1.15, False), Figure((1.1, 1.3))).fails


def test_what_was_not_measured_is_neither_met_nor_missed() -> None:
    assert {verdict.state for verdict in judge({})} == {"not measured"}
    assert not any(verdict.fails for verdict in judge({}))


def test_rates_are_events_over_seconds() -> None:
    parts = {"contenders": {"rounds": {WHOLE: [{"events": 50, "seconds": 2.0}], BASE: []}}}
    assert rates(parts) == {WHOLE: Figure((25.0,))}


def test_the_best_peer_is_the_one_to_beat() -> None:
    parts = rounds(**{WHOLE: (100.0,), BASE: (1.0,), "quix_hopping": (10.0,), "fetch": (500.0,)})
    found = ratios(parts)
    assert found["over_faust"].median == 100.0
    assert found["over_best_peer"].median == 10.0


def test_growth_is_the_largest_over_the_smallest() -> None:
    parts = {"growth": {"partitions": {"1": [4.0, 5.0], "64": [6.0, 5.0]}}}
    assert ratios(parts)["partitions"].values == (1.5, 1.0)


def test_an_hour_is_its_last_fifth_over_its_first_in_each_round() -> None:
    parts = {"hour": {"us_per_event": [[4.0, 4.0, 5.0], [4.0, 5.0, 4.2]]}}
    assert ratios(parts)["hour"].values == (1.25, 1.05)


def test_an_alert_that_never_came_misses_the_latency_target() -> None:
    parts = {"latency": {"curve": [{"fraction": 0.5, "rate": 1, "p50_ms": 90.0, "p99_ms": None}]}}
    states = {v.target.name: v.state for v in judge(parts)}
    assert states["alert_p50"] == "met"
    assert states["alert_p99"] == "missed"


def test_latency_is_the_median_of_its_turns() -> None:
    """One of which may have met the machine at its slowest, or lost a probe."""
    turns = [(1, 90.0), (1, None), (1, 120.0), (2, 50.0)]
    curve = [
        {"fraction": 0.5 / rate, "rate": rate, "p50_ms": ms, "p99_ms": 1.0} for rate, ms in turns
    ]
    found = dict(latency_curve({"latency": {"curve": curve}}, "p50_ms"))
    assert {rate: figure.median for rate, figure in found.items()} == {1: 120.0, 2: 50.0}
    verdict = {v.target.name: v for v in judge({"latency": {"curve": curve}})}["alert_p50"]
    assert verdict.measured is not None
    assert verdict.measured.values == (90.0, float("inf"), 120.0)


def test_names_of_targets_are_unique() -> None:
    assert len({t.name for t in TARGETS}) == len(TARGETS)


def test_what_was_measured_with_few_users_says_nothing_of_a_million() -> None:
    few = {"recovery": {"users": 100_000, "restart_seconds": 5.0}}
    assert {v.target.name: v.state for v in judge(few)}["restart"] == "not measured"
    many = {"recovery": {"users": 980_000, "restart_seconds": 5.0}}
    assert {v.target.name: v.state for v in judge(many)}["restart"] == "met"
