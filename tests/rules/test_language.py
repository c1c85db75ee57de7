"""What the language takes, what it refuses and with which words, and that no text breaks it."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.features import FEATURE_NAMES
from streams.rules import CATALOGUE, Kind, RulesError, compile_rules
from streams.rules.catalogue import LEFT_OUT
from streams.rules.parse import MAX_DEPTH, RESERVED
from tests.rules.drawn import conditions


def check(text: str) -> None:
    compile_rules({"it": text}, {"worth": "2 * expected_spend"}, ["vip", "big_ones"], "EUR")


@pytest.mark.parametrize(
    "text",
    [
        "p_churn > 40%",
        "p_churn > 0.4",
        "1 - p_churn > p_buy_7d",
        "days_since_order > 1h30m",
        "days_since_order > 0.5d",
        "days_since_order > 2 * gap_mean_days",
        "days_since_order / gap_mean_days > 2.5",
        "revenue_30d >= 1_000.50 EUR or revenue_30d<50EUR",
        "revenue_30d / orders_30d > 20 EUR",
        "coupon_orders_90d / orders_90d > 40%",
        "revenue_trend_30d < 150%",
        "p_churn * expected_spend > 5% * revenue_90d",
        "value.worth > 100 EUR",
        "rank(value.worth) > 90%",
        "0.5 * rank(revenue_90d) + 0.3 * rank(orders_90d) > 0.6",
        "segment.vip and not segment.big_ones",
        "alert_open == true and alert_open != false",
        "value_tier in (\"high\", \"medium\") and lifecycle != 'x'".replace("'x'", '"new"'),
        "not value_tier in (\"high\") and value_tier not in (\"low\")",
        "orders in (1, 2, 3)",
        "days_since_order between 10d and 30d and orders > 2",
        "days_since_order not between 10d and 2 * 30d",
        "known(p_churn) and known(rank(orders))",
        "min(p_churn, p_buy_7d, 50%) < 10%",
        "if(orders > 3, 10d, 20d) < days_since_order",
        "-days_since_order < -30d  # a comment\n and # another\n true",
        "true",
    ],
)  # fmt: skip
def test_the_language_takes(text: str) -> None:
    check(text)


REFUSED = [
    block.split("\n") for block in Path(__file__).with_name("refused.txt").read_text().split("\n\n")
]
"""Each expression after `> `, and below it the column and the words of its error."""


def refusal(text: str) -> str:
    """The one problem of an expression, as `refused.txt` has it."""
    with pytest.raises(RulesError) as caught:
        check(text)
    (problem,) = caught.value.problems
    assert problem.line == 1
    return f"column {problem.column}: {problem.what}; {problem.fix}"


@pytest.mark.parametrize(("text", "words"), [block[:2] for block in REFUSED])
def test_the_language_refuses(text: str, words: str) -> None:
    assert refusal(text.removeprefix("> ")) == words


def test_an_error_has_no_control_characters_and_says_when_there_is_nothing() -> None:
    assert "unexpected `\\x1b`" in refusal("orders \x1b[31m > 3")
    assert refusal(" ") == "column 1: the expression is empty; write a condition, or `false`"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("orders * p_churn", Kind.SHARE), ("p_churn * orders", Kind.SHARE),
        ("p_churn * p_buy_7d", Kind.SHARE), ("p_churn / p_buy_7d", Kind.NUMBER),
        ("orders / p_churn", Kind.NUMBER), ("p_churn / orders", Kind.SHARE),
        ("p_churn * expected_spend", Kind.MONEY), ("expected_spend * p_churn", Kind.MONEY),
        ("expected_spend / p_churn", Kind.MONEY), ("expected_spend / orders", Kind.MONEY),
        ("expected_spend / revenue_30d", Kind.NUMBER), ("orders * expected_spend", Kind.MONEY),
        ("2 * gap_mean_days", Kind.DURATION), ("gap_mean_days / 1d", Kind.NUMBER),
        ("orders + 40%", Kind.NUMBER), ("1 - p_churn", Kind.SHARE), ("orders - 1", Kind.NUMBER),
        ("orders / lifetime_orders", Kind.NUMBER), ("-expected_spend", Kind.MONEY),
        ("rank(orders)", Kind.SHARE), ("max(orders, 2)", Kind.NUMBER), ("orders", Kind.COUNT),
        ("if(alert_open, 1d, gap_mean_days)", Kind.DURATION),
    ],
)  # fmt: skip
def test_a_number_has_the_kind_of_its_parts(text: str, kind: Kind) -> None:
    assert compile_rules({}, {"it": text}, [], "EUR").numbers["value.it"][1] is kind


def test_all_errors_are_found_with_their_lines() -> None:
    texts = {
        "a": "p_chrun > 3 and\n  days_since_order > 30\n  or (value_tier == \"x\")",
        "b": "orders >",
        "c": "value.bad > 3 and orders > 1d",
    }  # fmt: skip
    with pytest.raises(RulesError) as caught:
        compile_rules(texts, {"bad": "orders + revenue_30d"}, [], "EUR")
    found = [(p.rule, p.line, p.column) for p in caught.value.problems]
    assert found == [
        ("value.bad", 1, 1), ("a", 1, 1), ("a", 2, 22), ("a", 3, 21), ("b", 1, 9), ("c", 1, 19),
    ]  # fmt: skip


def test_circles_are_found_and_named() -> None:
    texts = {
        "a": "segment.b", "b": "value.x > 1", "c": "orders > 1 or segment.c",
        "value_tier.high": 'lifecycle == "new"', "lifecycle.new": 'value_tier == "high"',
    }  # fmt: skip
    with pytest.raises(RulesError) as caught:
        compile_rules(texts, {"x": "if(segment.a, 1, 2)", "y": "value.y"}, list("abc"), "EUR")
    assert [str(problem) for problem in caught.value.problems] == [
        "value.x, line 1, column 4: `value.x` refers to `segment.a`, which refers to `segment.b`,"
        " which refers to `value.x`: a circle; remove one of these references",
        "value.y, line 1, column 1: `value.y` refers to `value.y`: a circle; remove one of these"
        " references",
        "c, line 1, column 15: `segment.c` refers to `segment.c`: a circle; remove one of these"
        " references",
        "value_tier.high, line 1, column 1: `value_tier` refers to `lifecycle`, which refers to"
        " `value_tier`: a circle; remove one of these references",
    ]


def test_a_long_chain_of_references_is_no_recursion() -> None:
    values = {f"v{i}": f"value.v{i + 1} + value.v{i + 1}" for i in range(2_000)} | {
        "v2000": "orders"
    }
    found = compile_rules({"it": "value.v0 > 1"}, values, [], "EUR")
    assert len(found.instructions) == 2_003  # each is there once, not doubled at each level


@pytest.mark.parametrize(
    "text",
    [
        "(" * 5_000, "(" * 3_900, "not " * 990 + "true", "-" * 3_000 + "1 > 2", "min(" * 990,
        "((" * 24 + "alert_open" + "))" * 24, "if(true, " * 400, "not (" * 700,
        "orders in (" * 300, "orders between (" * 240,
    ],
)  # fmt: skip
def test_what_is_nested_too_deep_is_refused_in_little_stack(text: str) -> None:
    frame, depth = sys._getframe(), 0
    while frame.f_back:
        frame, depth = frame.f_back, depth + 1
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(depth + 400)
    try:
        with pytest.raises(RulesError, match=r"levels deep|characters"):
            check(text) if "alert_open" not in text else check(f"not ({text}) or " + "(" * 60)
    finally:
        sys.setrecursionlimit(limit)


@pytest.mark.parametrize(
    "text",
    [" and ".join(["p_churn>1%"] * 260), "1+" * 1_990 + "orders > 3", "orders > 1" + "*1" * 1_990,
     "(" * (MAX_DEPTH - 1) + "alert_open" + ")" * (MAX_DEPTH - 1)],
)  # fmt: skip
def test_what_is_long_but_flat_is_taken(text: str) -> None:
    check(text)


WORDS = [
    *RESERVED, *"()+-*/,<>=!\"'.%&|#\n", "<=", "orders", "p_churn", "days_since_order", "30d",
    "40%", "50 EUR", "3", '"high"', "value_tier", "segment.vip", "value.worth", "1h30m", "rank(",
]  # fmt: skip


@given(st.text(max_size=200) | st.lists(st.sampled_from(WORDS), max_size=60).map(" ".join))
@settings(max_examples=300, derandomize=True, database=None)
def test_any_text_is_taken_or_refused_with_its_place(text: str) -> None:
    try:
        check(text)
    except RulesError as error:
        for problem in error.problems:
            assert 0 <= problem.start <= problem.end <= len(text)
            assert problem.line >= 1 <= problem.column
            assert problem.what
            assert problem.fix
            assert str(problem).isprintable()


@given(conditions(), st.integers(0, 300), st.sampled_from(WORDS))
@settings(max_examples=150, derandomize=True, database=None)
def test_an_expression_with_a_word_too_many_is_taken_or_refused(
    text: str, at: int, word: str
) -> None:
    with suppress(RulesError):
        check(f"{text[:at]} {word} {text[at:]}")


def test_the_catalogue_has_every_feature_but_those_left_out() -> None:
    assert set(FEATURE_NAMES) - set(CATALOGUE) == set(LEFT_OUT)
    assert not RESERVED & set(CATALOGUE)
    elapsed = {name for name, q in CATALOGUE.items() if q.slope_per_day}
    assert {"tenure_days", "days_since_first_order", "days_since_order", "alert_age",
            "time_to_next_order"} < elapsed  # fmt: skip
    assert all(CATALOGUE[name].kind is Kind.DURATION for name in elapsed)
    assert not any(q.decays and q.slope_per_day for q in CATALOGUE.values())


def test_names_with_a_formula_are_what_they_say() -> None:
    for quantity in CATALOGUE.values():
        if quantity.formula:
            found = compile_rules({}, {"x": quantity.formula, "y": quantity.name}, [], "EUR")
            assert found.numbers["value.x"][0] == found.numbers["value.y"][0]
            assert found.numbers["value.y"][1] is quantity.kind
