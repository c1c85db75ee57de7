"""The horizon beside how often customers order: gaps, verdict, proposal, and both commands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from models.artifact import CARD_FILE, default_artifact_path
from schemas.errors import SettingsError
from streams.cli import tideline
from streams.core.events.records import Records
from streams.evaluation import protocol, training
from streams.evaluation.history import History
from streams.evaluation.protocol import plan_protocol
from streams.evaluation.rhythm import HorizonFit, judge_horizon, usual_gap_days
from tests.core.driving import T0, bounded
from tests.core.oracle import DAY_MS
from tests.evaluation.shops import subscribers, weekly, write

Shop = list[list[int]]
"""The days of each customer's orders."""


def gaps(shop: Shop) -> list[float]:
    user = np.repeat(np.arange(len(shop)), [len(days) for days in shop])
    ts_ms = T0 + np.array([day for days in shop for day in days], np.int64) * DAY_MS
    return list(usual_gap_days(user, ts_ms))


def fit(gap_days: list[float], horizon: int = 28, **given: int) -> HorizonFit:
    values = {"customers": len(gap_days), "gone_after_days": 84, "longest_days": 365} | given
    return judge_horizon(np.sort(np.array(gap_days)), horizon_days=horizon, **values)


def history(days: int) -> History:
    ts_ms = T0 + np.arange(days + 1, dtype=np.int64) * DAY_MS
    user = np.arange(len(ts_ms)) % 2
    return History(["a", "b"], user, ts_ms, np.ones(len(ts_ms)), Records.empty())


# gaps


def test_a_usual_gap_is_the_median_of_at_least_two() -> None:
    shop = [[0, 30, 60, 90], [0, 10, 30], [5], [5, 50], []]
    assert gaps(shop) == [15.0, 30.0]


def test_orders_of_one_day_are_one() -> None:
    assert gaps([[0, 0, 0, 30, 30, 60]]) == [30.0]
    assert gaps([[0, 0, 0]]) == []
    assert gaps([[0, 0, 7]]) == []


@bounded
@given(st.lists(st.lists(st.integers(0, 400), max_size=12), max_size=12), st.randoms())
def test_usual_gaps_are_those_of_a_plain_recount_in_any_order(shop: Shop, random: Any) -> None:
    expected = []
    for days in shop:
        distinct = np.unique(days)
        if len(distinct) > 2:
            expected.append(float(np.median(np.diff(distinct))))
    mixed = [(u, day) for u, days in enumerate(shop) for day in days]
    random.shuffle(mixed)
    user, day = np.array(mixed, np.int64).reshape(-1, 2).T
    assert usual_gap_days(user, T0 + day * DAY_MS).tolist() == sorted(expected)


# verdict and proposal


def test_a_horizon_below_the_usual_gap_of_most_is_too_short() -> None:
    found = fit([30.0] * 24 + [12.0] * 16)
    assert found.verdict == "too short"
    assert found.fitting_days == 60
    assert found.sentence() == (
        "Half of the customers order every 30 days or less often: a horizon of 28 days calls 60% "
        "of the customers lost after every order that they make (of 40 who ordered on three days "
        "or more)."
    )
    assert fit([30.0] * 24 + [12.0] * 16, 30).verdict == "short"
    assert fit([30.0] * 24 + [12.0] * 16, 60).verdict == "fits"


def test_half_of_the_customers_are_not_most() -> None:
    assert fit([30.0] * 20 + [12.0] * 20).verdict == "short"
    assert fit([30.0] * 21 + [12.0] * 20).verdict == "too short"


def test_slow_customers_count_for_the_proposal() -> None:
    found = fit([5.0] * 80 + [40.0] * 20, 14)
    assert (found.verdict, found.fitting_days) == ("short", 40)
    assert found.sentence() == (
        "Half of the customers order every 5 days or more often, and 20% usually pause for longer "
        "than a horizon of 14 days (of 100 who ordered on three days or more); from 40 days on it "
        "fits."
    )


def test_a_daily_shop_is_content_with_days() -> None:
    found = fit([1.0] * 50, 2)
    assert (found.verdict, found.fitting_days) == ("fits", 2)
    assert "order every day or more often" in found.sentence()


def test_too_few_with_a_usual_gap_give_no_verdict() -> None:
    found = fit([90.0] * 9, customers=4_000)
    assert (found.verdict, found.fitting_days) == ("unknown", None)
    assert found.sentence().startswith(
        "9 of 4,000 customers ordered on three days or more, too few"
    )
    nobody = fit([], customers=3)
    assert (nobody.verdict, nobody.usual_gap_days, nobody.longer_gap_share) == (
        "unknown", None, None,
    )  # fmt: skip
    assert json.dumps(nobody.as_dict())


def test_a_short_history_caps_the_proposal_or_leaves_none() -> None:
    quarterly = [91.0] * 30
    assert fit(quarterly).fitting_days == 182
    capped = fit(quarterly, longest_days=112)
    assert (capped.verdict, capped.fitting_days) == ("too short", 112)
    assert fit(quarterly, 112, longest_days=112).verdict == "fits"
    assert fit(quarterly, longest_days=90).fitting_days is None
    assert fit([400.0] * 30).fitting_days is None  # a year is the longest horizon


def test_customers_who_count_as_gone_before_they_are_due_are_named() -> None:
    assert "84 days after which they count as gone" in fit([91.0] * 30, 182).gone_sentence()
    assert not fit([91.0] * 30, 182, gone_after_days=546).gone_sentence()
    assert not fit([30.0] * 99 + [91.0], 60).gone_sentence()


@bounded
@given(
    st.lists(st.integers(2, 1_600).map(lambda n: n / 2), max_size=40),
    st.integers(1, 365),
    st.integers(0, 365),
)
def test_what_is_proposed_passes_and_fits(
    gap_days: list[float], horizon: int, longest: int
) -> None:
    found = fit(gap_days, horizon, longest_days=longest)
    assert found.sentence()
    if found.verdict == "unknown":
        assert len(gap_days) < 10
        return
    assert (found.verdict == "too short") == (
        sum(gap > horizon for gap in gap_days) > len(gap_days) / 2
    )
    if found.fitting_days is not None:
        assert 1 <= found.fitting_days <= longest
        assert fit(gap_days, found.fitting_days, longest_days=longest).verdict == "fits"
    elif found.verdict == "too short" and longest:
        assert fit(gap_days, longest, longest_days=longest).verdict in ("too short", "short")


@pytest.mark.parametrize("days", [60, 110, 180, 365, 900])
def test_the_longest_horizon_is_the_longest_that_can_be_evaluated(days: int) -> None:
    known = history(days)
    longest = protocol.longest_horizon_days(known)
    assert longest == 0 or plan_protocol(known, longest, 2, None)
    for longer in {min(longest + 1, 366), min(longest + 30, 366)} - {366}:
        with pytest.raises(SettingsError, match="fewer weekly cuts"):
            plan_protocol(known, longer, 2, None)


def trainable_days(days: int) -> int:
    known = history(days)
    return training.longest_horizon_days(known.first_ms, known.last_ms)


def test_the_longest_horizon_to_train_with_leaves_room_for_three() -> None:
    assert trainable_days(20) == 0
    assert trainable_days(118) == 30
    assert trainable_days(4_000) == 365


# the commands


@pytest.fixture(scope="module")
def orders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("subscribers")
    return write(folder / "orders.csv", subscribers(users=120, shoppers=80))


def run(*args: object) -> Result:
    return CliRunner().invoke(tideline, [str(a) for a in args], prog_name="tideline")


def test_both_commands_refuse_it_and_say_what_would_do(orders: Path, tmp_path: Path) -> None:
    for words, remedy in (
        (("train", "--out", tmp_path / "m"), "Use --horizon-days 60, or --horizon-anyway"),
        (("evaluate",), "Use --horizon 60d, or --horizon-anyway"),
    ):
        result = run(*words, "--orders", orders)
        assert result.exit_code == 2, result.output
        assert "Half of the customers order every 30 days or less often" in result.stderr
        assert remedy in result.stderr
    assert not (tmp_path / "m").exists()


@pytest.mark.timeout(600)
def test_the_proposed_horizon_trains_and_is_written_down(orders: Path, tmp_path: Path) -> None:
    result = run("train", "--orders", orders, "--out", tmp_path, "--horizon-days", 60, "--json")
    assert result.exit_code == 0, result.output
    rhythm = json.loads(result.stdout)["rhythm"]
    assert (rhythm["verdict"], rhythm["usual_gap_days"]) == ("fits", 30.0)
    card = default_artifact_path(tmp_path).read(CARD_FILE).decode()
    assert f"- Horizon: {rhythm['says']}" in card


@pytest.mark.full  # test_evaluate.py has the verdict of another shop's horizon
@pytest.mark.timeout(600)
def test_the_proposed_horizon_can_be_evaluated(orders: Path) -> None:
    result = run("evaluate", "--orders", orders, "--horizon", "60d", "--json", "--threads", "1")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["about"]["rhythm"]["verdict"] == "fits"


@pytest.mark.timeout(600)
def test_anyway_trains_and_warns(tmp_path: Path) -> None:
    shop = write(tmp_path / "orders.csv", weekly())
    words = ("train", "--orders", shop, "--out", tmp_path / "m", "--horizon-days", 5, "--json")
    assert run(*words).exit_code == 2
    result = run(*words, "--horizon-anyway")
    assert result.exit_code == 0, result.output
    assert "Warning: Half of the customers order every 7 days or less often" in result.stderr
    assert json.loads(result.stdout)["rhythm"]["verdict"] == "too short"
