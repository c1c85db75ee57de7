"""Rules over columns: the same as a plain walk over the tree, and timers that are never late."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from streams.rules import RulesError, RuleSet, compile_rules, ruleset
from streams.rules.parse import parsed
from tests.rules import oracle
from tests.rules.columns import Columns
from tests.rules.drawn import conditions, users


def rules(**texts: str) -> RuleSet:
    return compile_rules(texts, {}, ["vip", "big"], "EUR")


def of(texts: list[dict[str, Any]]) -> Columns:
    return Columns({name: [user[name] for user in texts] for name in texts[0]})


def compiled(text: str) -> RuleSet:
    """The rule `it`; what only a check of units or constants refuses is not drawn."""
    try:
        return rules(it=text)
    except RulesError as error:
        assert all(  # noqa: PT017
            any(words in problem.what for words in ("0% to 100%", "division by zero", "elapsed",
                                                    "levels deep", "plain number", "share"))
            for problem in error.problems
        ), error  # fmt: skip
        assume(False)
        raise


QUICK = settings(max_examples=100, derandomize=True, database=None)
MANY = settings(max_examples=1_000, database=None)
some_users = st.lists(users(), min_size=1, max_size=4)


def says_what_the_tree_says(text: str, drawn: list[dict[str, Any]]) -> None:
    outcome = compiled(text).evaluate(of(drawn))["it"]
    wanted = [oracle.truth(parsed(text), user) for user in drawn]
    assert outcome.true.tolist() == [truth is True for truth in wanted]
    assert outcome.known.tolist() == [truth is not None for truth in wanted]
    assert outcome.true.dtype == outcome.known.dtype == np.bool_
    assert outcome.flips_in_days.dtype == np.float64
    assert (outcome.flips_in_days >= 0).all()


def changes_not_before_it_flips(text: str, drawn: list[dict[str, Any]], part: float) -> None:
    rule, columns = compiled(text), of(drawn)
    now = rule.evaluate(columns)["it"]
    for row, flip in enumerate(now.flips_in_days.tolist()):
        later = columns.after((1_000.0 if math.isinf(flip) else flip) * part)
        then = rule.evaluate(later)["it"]
        assert (then.true[row], then.known[row]) == (now.true[row], now.known[row])


@given(conditions(), some_users)
@QUICK
def test_a_rule_over_columns_says_what_a_walk_over_its_tree_says(
    text: str, drawn: list[dict[str, Any]]
) -> None:
    says_what_the_tree_says(text, drawn)


@given(conditions(), some_users, st.floats(0.01, 0.999))
@QUICK
def test_nothing_changes_by_time_alone_before_the_time_of_the_flip(
    text: str, drawn: list[dict[str, Any]], part: float
) -> None:
    changes_not_before_it_flips(text, drawn, part)


def follows_the_clock_by_timers(text: str, user: dict[str, Any]) -> None:
    """Evaluated only when a timer says so, a rule is out of date for a millisecond at the most."""
    rule, columns = compiled(text), of([user])
    day_ms, now_ms, known = 86_400_000, 0, {}
    for _ in range(60):
        outcome = rule.evaluate(columns.after(now_ms / day_ms))["it"]
        known[now_ms] = bool(outcome.true[0])
        flip = float(outcome.flips_in_days[0])
        if math.isinf(flip) or now_ms > 400 * day_ms:
            break
        now_ms += math.floor(flip * day_ms) + 1
    else:
        raise AssertionError("timers that go off without end")
    for at_ms in range(0, now_ms, max(1, now_ms // 50)):
        if at_ms + 1 in known:
            continue  # reached in this very millisecond, and looked at in the next
        latest = max(then for then in known if then <= at_ms)
        now = rule.evaluate(columns.after(at_ms / day_ms))["it"].true[0]
        assert bool(now) is known[latest], (at_ms, known)


@given(conditions(), users())
@settings(max_examples=40, derandomize=True, database=None)
def test_a_rule_that_is_evaluated_by_its_timers_is_up_to_date(
    text: str, user: dict[str, Any]
) -> None:
    follows_the_clock_by_timers(text, user)


@pytest.mark.full
@given(conditions(), users())
@MANY
def test_many_rules_are_up_to_date(text: str, user: dict[str, Any]) -> None:
    follows_the_clock_by_timers(text, user)


@pytest.mark.full
@given(conditions(), some_users, st.floats(0.01, 0.999))
@MANY
def test_both_of_many_rules(text: str, drawn: list[dict[str, Any]], part: float) -> None:
    says_what_the_tree_says(text, drawn)
    changes_not_before_it_flips(text, drawn, part)


@pytest.mark.parametrize(
    ("text", "now", "true", "flip"),
    [
        ("days_since_order > 30d", 20.0, False, 10.0),
        ("days_since_order > 30d", 30.0, False, 0.0),  # right after now
        ("days_since_order >= 30d", 30.0, True, math.inf),
        ("days_since_order > 30d", 31.0, True, math.inf),
        ("days_since_order < 30d", 20.0, True, 10.0),
        ("days_since_order <= 30d", 30.0, True, 0.0),
        ("days_since_order < 30d", 30.0, False, math.inf),
        ("30d < days_since_order", 20.0, False, 10.0),
        ("not days_since_order > 30d", 20.0, True, 10.0),
        ("days_since_order between 10d and 30d", 20.0, True, 10.0),
        ("days_since_order between 10d and 30d", 4.0, False, 6.0),
        ("days_since_order between 10d and 30d", 31.0, False, math.inf),
        ("days_since_order * 2 > 30d", 10.0, False, 5.0),
        ("days_since_order / 2 > 30d", 10.0, False, 50.0),
        ("100d - days_since_order < 30d", 10.0, False, 60.0),
        ("-days_since_order < -30d", 10.0, False, 20.0),
        ("max(days_since_order - 10d, 5d) > 20d", 8.0, False, 7.0),  # there the line bends
        ("min(days_since_order, 20d) > 30d", 8.0, False, 12.0),
        ("min(days_since_order, 20d) > 30d", 21.0, False, math.inf),
        ("max(days_since_order, 5d) > 20d", 8.0, False, 12.0),  # the rising one is chosen already
        ("min(days_since_order, 100d) > 30d", 20.0, False, 10.0),
        ("max(days_since_order, 20d) > 25d", 20.0, False, 5.0),  # of two alike, what rises next
        ("min(40d - days_since_order, 20d) < 15d", 20.0, False, 5.0),
        ("min(days_since_order, 20d) > 25d", 20.0, False, math.inf),
        ("if(days_since_order > 0d, days_since_order, 5d) > 30d", 20.0, False, 10.0),
        ("if(true, days_since_order, 5d) > 30d", 20.0, False, 10.0),
        ("days_since_order * 2 < 30d", 10.0, True, 5.0),
        ("if(days_since_order > 30d, 2, 1) > 1.5", 20.0, False, 10.0),
        ("days_since_order / 1d > 30", 20.0, False, 10.0),
        ("days_since_order - days_since_order > 1d", 20.0, False, math.inf),
        ("days_since_order > 30d", math.nan, False, math.inf),
        ("days_since_order > 30d and days_since_order > 40d", 20.0, False, 20.0),
        ("days_since_order > 30d or days_since_order > 40d", 20.0, False, 10.0),
        ("days_since_order < 30d or days_since_order > 40d", 20.0, True, 10.0),
        ("days_since_order < 30d or days_since_order < 40d", 20.0, True, 20.0),
    ],
)
def test_a_comparison_with_elapsed_time_knows_when_it_flips(
    text: str, now: float, true: bool, flip: float
) -> None:
    outcome = rules(it=text).evaluate(Columns({"days_since_order": [now]}))["it"]
    assert (outcome.true[0], outcome.flips_in_days[0]) == (true, flip)


def test_what_falls_with_time_flips_too() -> None:
    columns = Columns({"time_to_next_order": [3.0, -1.0], "days_since_order": [1.0, 2.0]})
    texts = {"a": "time_to_next_order < 1d", "b": "time_to_next_order < days_since_order"}
    found = rules(**texts).evaluate(columns)
    assert found["a"].flips_in_days.tolist() == [2.0, math.inf]
    assert found["b"].flips_in_days.tolist() == [1.0, math.inf]  # they approach by two a day


def test_a_side_that_is_false_for_good_needs_no_timer() -> None:
    text = 'value_tier == "high" and days_since_order > 30d'
    columns = Columns({"value_tier": ["high", "low", None], "days_since_order": [20.0] * 3})
    assert rules(it=text).evaluate(columns)["it"].flips_in_days.tolist() == [10.0, math.inf, 10.0]


K = {"t": "true", "f": "false", "u": "gap_mean_days > 1d"}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("{t} and {u}", None), ("{f} and {u}", False), ("{u} and {u}", None),
        ("{t} or {u}", True), ("{f} or {u}", None), ("not {u}", None),
        ("{u} or not {u}", None), ("{u} and not {u}", None), ("known(gap_mean_days)", False),
        ("gap_mean_days in (1d)", None), ("gap_mean_days != 1d", None),
        ("gap_mean_days not between 1d and 2d", None), ("min(gap_mean_days, 2d) < 3d", None),
        ("if({u}, 1, 2) > 0", None), ("if({t}, 1, gap_mean_days / 1d) > 0", True),
    ],
)  # fmt: skip
def test_truth_is_kleenes(text: str, wanted: bool | None) -> None:
    unknown = Columns({"gap_mean_days": [math.nan]})
    outcome = rules(it=text.format(**K)).evaluate(unknown)["it"]
    assert (bool(outcome.true[0]), bool(outcome.known[0])) == (wanted is True, wanted is not None)


def test_a_division_by_zero_is_unknown_and_not_endless() -> None:
    columns = Columns({"orders": [1.0, 0.0], "lifetime_orders": [0.0, 0.0]})
    outcome = rules(it="orders / lifetime_orders > 1").evaluate(columns)["it"]
    assert outcome.known.tolist() == [False, False]


def test_a_set_of_rules_asks_for_each_column_once() -> None:
    texts = {f"r{i}": f'p_churn > {i}% and value_tier == "low" and alert_open' for i in range(9)}
    columns = Columns({"p_churn": [0.05], "value_tier": ["low"], "alert_open": [True]})
    found = rules(**texts).evaluate(columns)
    assert [bool(found[f"r{i}"].true[0]) for i in range(9)] == [True] * 5 + [False] * 4
    assert columns.asked == {"p_churn": 1, "value_tier": 1, "alert_open": 1}


@given(conditions(), st.lists(users(), min_size=5, max_size=5))
@settings(max_examples=30, derandomize=True, database=None)
def test_users_are_computed_in_blocks_and_nobody_is_lost(
    text: str, drawn: list[dict[str, Any]]
) -> None:
    rule, columns = compiled(text), of(drawn)
    at_once = rule.evaluate(columns)["it"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ruleset, "BLOCK_ROWS", 2)
        in_blocks = rule.evaluate(columns)["it"]
    for whole, parts in zip(vars(at_once).values(), vars(in_blocks).values(), strict=True):
        np.testing.assert_array_equal(whole, parts)


def test_columns_in_float32_are_computed_in_float64() -> None:
    class Narrow(Columns):
        def number(self, name: str) -> np.ndarray[Any, np.dtype[np.float64]]:
            return super().number(name).astype(np.float32)

    outcome = rules(it="p_churn > 10%").evaluate(Narrow({"p_churn": [0.1]}))["it"]
    assert outcome.true.tolist() == [bool(np.float64(np.float32(0.1)) > 0.1)] == [True]


def test_no_users_have_no_outcomes() -> None:
    outcome = rules(it="days_since_order > 30d or true").evaluate(Columns({"orders": []}))["it"]
    assert outcome.true.shape == outcome.known.shape == outcome.flips_in_days.shape == (0,)


def test_what_is_the_same_for_everybody_is_there_for_each() -> None:
    outcome = rules(it="1 < 2").evaluate(Columns({"orders": [1.0, 2.0]}))["it"]
    assert outcome.true.tolist() == outcome.known.tolist() == [True, True]
    assert outcome.flips_in_days.tolist() == [math.inf, math.inf]


def test_rules_come_after_those_that_they_refer_to() -> None:
    found = compile_rules(
        {"small": "segment.vip and value.worth > 1", "vip.leave": "orders > 3", "vip": "orders > 2",
         "policy.1": "segment.small", "value_tier.high": "rank(expected_spend) > 90%"},
        {"worth": 'if(value_tier == "high", 2, 1)'}, ["vip", "small"], "EUR",
    )  # fmt: skip
    order = found.order
    assert set(order) == {"small", "vip", "vip.leave", "policy.1", "value_tier.high"}
    assert order.index("small") > max(map(order.index, ("vip", "vip.leave", "value_tier.high")))
    assert order.index("policy.1") > order.index("small")
    assert found.ranks == ("expected_spend",)
    assert found.names == ("expected_spend", "orders", "segment.small", "segment.vip", "value_tier")


def test_flags_of_a_segment_are_asked_for_after_its_own_rule() -> None:
    found = compile_rules(
        {"small": "segment.vip", "vip": "orders > 2"}, {}, ["vip", "small"], "EUR"
    )
    columns = Columns({"orders": [3.0, 1.0], "segment.vip": [False, False]})
    evaluation = found.begin(columns)
    for name in found.order:
        outcome = evaluation.outcome(name)
        columns.columns[f"segment.{name}"] = outcome.true.tolist()
    assert columns.columns["segment.small"] == [True, False]


def test_values_and_what_is_ranked_are_numbers_of_their_own() -> None:
    found = compile_rules(
        {"top": "rank(value.worth) > 90% or rank(value_at_stake) > 90%"},
        {"worth": "2 * expected_spend"}, [], "EUR",
    )  # fmt: skip
    columns = Columns({"expected_spend": [10.0, math.nan], "p_churn": [0.5, 0.5]})
    evaluation = found.begin(columns)
    np.testing.assert_array_equal(evaluation.number("value.worth"), [20.0, math.nan])
    np.testing.assert_array_equal(evaluation.number("value_at_stake"), [5.0, math.nan])
    assert found.numbers["value.worth"][1] == "money"
    assert found.ranks == ("value.worth", "value_at_stake")


def test_the_longest_literal_beside_elapsed_time_is_told() -> None:
    texts = {"a": "days_since_order > 4w", "b": "gap_mean_days > 400d", "c": "orders > 99"}
    assert rules(**texts).longest_days == 28.0
    assert rules(it="days_since_order - 10d > 2 * 30d").longest_days == 60.0
    assert rules(it="orders > 1").longest_days == 0.0


def test_a_rule_costs_what_its_parts_cost() -> None:
    found = rules(a="p_churn > 1%", b="p_churn > 1% and days_since_order > 3d")
    assert 0 < found.cost_ns("a") < found.cost_ns("b") < 100


def test_a_rule_is_explained_by_what_each_comparison_saw() -> None:
    found = rules(vip='p_churn > 40% and\n  value_tier in ("high", "low")  # the best\n'
                      "  and days_since_order > 30d and not alert_open")  # fmt: skip
    columns = Columns({"p_churn": [0.0, 0.5], "value_tier": ["none", "high"], "alert_open": [1, 0],
                       "days_since_order": [math.nan, 20.25]})  # fmt: skip
    assert found.explain("vip", columns, 1) == [
        "yes      p_churn > 40%  (p_churn is 50.00%)",
        'yes      value_tier in ("high", "low")  (value_tier is "high")',
        "no       days_since_order > 30d  (days_since_order is 20d 6h)",
        "no       alert_open",
        "no       vip  (stays so for 9d 18h if nothing happens)",
    ]
    assert found.explain("vip", columns, 0) == [
        "no       p_churn > 40%  (p_churn is 0.00%)",
        'no       value_tier in ("high", "low")  (value_tier is "none")',
        "unknown  days_since_order > 30d  (days_since_order is unknown)",
        "yes      alert_open",
        "no       vip",
    ]
