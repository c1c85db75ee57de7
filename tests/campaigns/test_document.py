"""`segments.yaml`: what it becomes, which salts it gets, and how each mistake is told."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.definitions import (
    MAX_RANKS,
    MAX_SEGMENTS,
    STANDARD,
    Audience,
    Case,
    Definitions,
    Expected,
    PolicyRow,
    SegmentDefinition,
)
from streams.campaigns import DocumentError, read_definitions
from streams.rules import CATALOGUE, rules_of

HERE = Path(__file__).parent
DAY_MS = 86_400_000
BAD = sorted((HERE / "bad").glob("*.yaml"))


def read(text: str | bytes, *earlier: Definitions, currency: str = "EUR") -> Definitions:
    content = text.encode() if isinstance(text, str) else text
    return read_definitions(content, file="segments.yaml", currency=currency, earlier=earlier)


def whole(*earlier: Definitions) -> Definitions:
    return read((HERE / "whole.yaml").read_bytes(), *earlier)


def test_a_file_becomes_definitions() -> None:
    found = whole()
    assert found.number == 1
    assert re.fullmatch("[0-9a-f]{16}", found.version)
    assert found.segments == (
        SegmentDefinition(
            name="save_now",
            when='p_churn > 40% and value_tier == "high" and cart_add_24h >= 2',
            leave="p_churn < 30%",
            hold_ms=600_000,
            title="High value, leaving, still reachable",
            owner="retention@shop",
            expect=Expected(size=(200, 5000), per_day=(10, 400)),
        ),
        SegmentDefinition(name="best", when="value.worth > 80% and not segment.save_now"),
    )
    assert found.values == (("worth", "0.5 * rank(revenue_90d) + 0.5 * rank(expected_spend)"),)
    assert [case.name for case in found.value_tier] == ["high", "low"]
    assert found.lifecycle == (
        Case("visitor", "orders == 0"),
        Case("lapsed", "days_since_order >= 120d"),
        Case("active", "true"),
    )
    assert found.lapsed_after_ms == 120 * DAY_MS
    assert found.audiences == (
        Audience("save_now", "save_now", "save_now-1", 0.1, 10, "default",
                 "High value, leaving, still reachable", "retention@shop"),
        Audience("thanks", "best", "thanks_spring", 0.2, 0, "", "Say thank you", "", 56 * DAY_MS),
        Audience("calls", "alerts", "calls-1", 0.0, 20, "default"),
    )  # fmt: skip
    assert found.policy == (
        PolicyRow('value_tier == "high" and value_at_stake > 100 EUR', "call", 5.0, 0.08),
        PolicyRow("true", "nothing"),
    )
    assert (found.global_holdout_share, found.global_salt) == (0.01, "global-1")


def test_definitions_become_rules() -> None:
    rules = rules_of(whole(), "EUR")
    assert set(rules.order) == {
        "save_now", "save_now.leave", "best", "value_tier.0", "value_tier.1", "lifecycle.0",
        "lifecycle.1", "lifecycle.2", "policy.0", "policy.1",
    }  # fmt: skip
    assert rules.order.index("best") > rules.order.index("save_now")
    assert rules.ranks == ("expected_spend", "revenue_90d", "value.worth")


def test_the_version_is_of_the_content_and_not_of_its_layout() -> None:
    text = (HERE / "whole.yaml").read_text()
    same = text.replace("p_churn > 40% and", "p_churn  >  40%\n      and").replace("# of", "# Of")
    assert same != text
    assert read(same).version == whole().version
    assert read(text.replace("40%", "41%")).version != whole().version
    again = msgspec.json.decode(msgspec.json.encode(whole()), type=Definitions)
    assert again == whole()


def test_salts_are_kept_and_never_used_again() -> None:
    text = "version: 1\nsegments:\n  a:\n    when: alert_open\n"
    held = text + "    holdout: 10%\nglobal_holdout: 1%\n"
    first = read(held)
    assert (first.audiences[0].salt, first.global_salt) == ("a-1", "global-1")
    kept = read(held.replace("10%", "20%"), first)
    assert (kept.number, kept.audiences[0].salt, kept.global_salt) == (2, "a-1", "global-1")
    without = read(text, first, kept)
    assert (without.audiences, without.global_salt) == ((), "")
    back = read(held, first, kept, without)
    assert (back.audiences[0].salt, back.global_salt) == ("a-2", "global-2")
    chosen = read(held.replace("holdout: 10%", "holdout: 10%\n    salt: mine"), first)
    assert chosen.audiences[0].salt == "mine"
    for reused in ("a-1", "global-1"):
        with pytest.raises(DocumentError, match=f"the salt `{reused}` was used before, by"):
            read(held.replace("holdout: 10%", f"holdout: 10%\n    salt: {reused}"), first, chosen)
    taken = held + "global_salt: a-1\n"
    with pytest.raises(DocumentError, match="the salt `a-1` was used before, by `a`"):
        read(taken, first, chosen)


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_a_bad_file_is_told_with_the_line_and_what_to_do(path: Path) -> None:
    before = msgspec.structs.replace(
        STANDARD, number=1, audiences=(Audience("xmas", "big", "last_year"),)
    )
    with pytest.raises(DocumentError) as caught:
        read_definitions(path.read_bytes(), file=path.name, currency="EUR", earlier=[before])
    assert str(caught.value) + "\n" == path.with_suffix(".txt").read_text()
    assert all(problem.fix for problem in caught.value.problems)


def test_each_bad_file_has_its_words_and_no_words_are_left_over() -> None:
    assert {p.stem for p in BAD} == {p.stem for p in (HERE / "bad").glob("*.txt")}
    assert len(BAD) >= 10


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("version: 1\nlapsed_after: 0d", "`lapsed_after` is no time at all"),
        ("version: 1\nsegments: 3", "`segments` must be keys with values"),
        ("version: 1\nsegments: {a: {when: alert_open, title: [a]}}", "`title` must be one value"),
        ("version: 1\nsegments: {a: {when: alert_open, priority: 1.5}}", "is no whole number"),
        ("version: 1\nsegments: {a: {when: alert_open, hold: 99999d}}", "longer than 3660d"),
        ("version: 1\nsegments: {a: {when: alert_open, expect: {size: 9..2}}}", "is no range"),
        ("version: 1\nsegments: {a: {when: alert_open, expect: {sizes: 9..2}}}",
         "`expect` has no key `sizes`"),
        ("version: 1\nsegments: {a: {when: alert_open, holdout: 1%}}\n"
         "audiences: {a: {segment: a}}", "makes an audience of this name already"),
        ("version: 1\naudiences: {a: {}}", "the audience `a` has no `segment`"),
        ("version: 1\naudiences: {a: {segment: alerts, salt: 'a b'}}", "`a b` is no salt"),
        ("version: 1\npolicy: [{when: alert_open}]", "row 1 of the policy has no `action`"),
        ("version: 1\npolicy: [call]", "row 1 of the policy must be keys with values"),
        ("version: 1\nvalues: {x: orders, y: segment.z}", "unknown name `segment.z`"),
        ("version: 1\nvalues: {x: [1]}", "the value `x` must be one value"),
        ("segments: {}", "the file has no `version`"),
        ("- version: 1", "the file must be keys with values"),
        ('version: 1\nsegments:\n  a: {when: value_tier in ("high", "low")}',
         "3:41: this is no YAML: expected ',' or '}', but got '<scalar>'; close it; in brackets and"
         " braces, put a text with commas into quotes"),
        ('version: 1\nsegments:\n  a:\n    when: "high" == value_tier', "4:18: this is no YAML:"
         " expected <block end>, but found '<scalar>'; write a text of several lines, or one that"
         " begins with a quote, below `|`"),
        ('version: 1\nsegments:\n  a:\n    when: "orders > 3\n', "4:11: this is no YAML: found"
         " unexpected end of stream; close the quote"),
        ("version: 1\n---\nversion: 1", "a second document begins here"),
        ("version: 1\n? [a]\n: b", "a key must be a name"),
        ("version: 1\n" + "a: " + "[" * 50_000, "nested more than 8 levels deep"),
        ('version: "\\U99999999"', "an escape names a character that does not exist"),
        ("version: 1\x00", "the character U+0000 can't be in YAML"),
        ("version: 1\n#" + "x" * 262_144, "262,156 bytes, and 262,144 are allowed"),
        ("version: 1\nsegments:\n" + "".join(f"  s{i}: {{when: alert_open}}\n" for i in range(65)),
         f"there are more than {MAX_SEGMENTS} segments"),
        ("version: 1\nsegments:\n"
         + "".join(f"  s{i}: {{when: rank({name}) > 1%}}\n"
                   for i, name in enumerate(n for n in CATALOGUE if n.endswith("_7d"))),
         f"different names, and {MAX_RANKS} are allowed"),
    ],
)  # fmt: skip
def test_the_file_refuses(text: str, what: str) -> None:
    with pytest.raises(DocumentError) as caught:
        read(text)
    assert what in str(caught.value)


@pytest.mark.parametrize(
    ("head", "line", "what", "most"),
    [
        ("values:", "  n{}: orders", "values", 128),
        ("audiences:", "  n{}: {{segment: alerts}}", "audiences", 16),
        ("policy:", "  - {{when: orders > {}, action: call}}", "rows in the policy", 128),
    ],
)
def test_there_is_a_limit_to_all_that_is_listed(head: str, line: str, what: str, most: int) -> None:
    lines = [line.format(at) for at in range(most)]
    read("\n".join(["version: 1", head, *lines]))
    with pytest.raises(DocumentError) as caught:
        read("\n".join(["version: 1", head, *lines, line.format(most), line.format(most + 1)]))
    (problem,) = caught.value.problems
    assert (problem.line, problem.what) == (
        most + 3, f"there are more than {most} {what}",
    )  # fmt: skip


def test_ranks_of_the_standard_tiers_count_too() -> None:
    names = [name for name in CATALOGUE if name.endswith("_7d")][:MAX_RANKS]
    rules = [f"  s{at}: {{when: rank({name}) > 1%}}" for at, name in enumerate(names)]
    text = "\n".join(["version: 1", "segments:", *rules, "tiers: {low: orders > 0}"])
    assert len(rules_of(read(text), "EUR").ranks) == MAX_RANKS
    with pytest.raises(DocumentError, match="has 17 different names, and 16 are allowed"):
        read(text.replace("tiers", "# tiers"))


def test_a_file_of_nothing_but_mistakes_is_told_in_part_and_soon() -> None:
    lines = [f"  v{i}: " + " + ".join(f"ordrs{j}" for j in range(100)) for i in range(30)]
    with pytest.raises(DocumentError) as caught:
        read("\n".join(["version: 1", "values:", *lines]))
    assert len(caught.value.problems) == 50
    assert str(caught.value).endswith("And 550 more.")


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_places_are_those_of_an_editor(newline: str, mark: str) -> None:
    lines = ["version: 1", "segments:", "  a:", "    when: >-", "", "      orders > 1", "", "",
             "      and é > 3"]  # fmt: skip
    with pytest.raises(DocumentError) as caught:
        read(mark + newline.join(lines))
    (problem,) = caught.value.problems
    assert (problem.line, problem.column) == (9, 11)
    assert problem.shown == "     9 |       and é > 3\n       |           ^"


WORDS = [
    "version: 1", "segments:", "  a:", "    when: alert_open", "audiences:", "  b: {segment: a}",
    "policy:", "  - when: true", "    action: call", "- ", "[", "]", "{", "}", "&a", "*a", "!!x",
    "'", '"', "|", ">", "%", "#", "\t", ": ", "? ", "<<: *a", "hold: 3d", "\\", "---", "...",
]  # fmt: skip


@given(
    st.text(max_size=100)
    | st.lists(st.sampled_from(WORDS), max_size=20).map("\n".join)
    | st.lists(st.sampled_from(WORDS), max_size=20).map(" ".join)
)
@settings(max_examples=300, derandomize=True, database=None)
def test_any_file_is_taken_or_told(text: str) -> None:
    try:
        read(text.encode("utf-8", "surrogatepass"))
    except DocumentError as error:
        assert [problem for problem in error.problems if problem.what and problem.fix]  # noqa: PT017


@given(st.binary(max_size=60))
@settings(max_examples=100, derandomize=True, database=None)
def test_any_bytes_are_taken_or_told(content: bytes) -> None:
    with pytest.raises(DocumentError):
        read(content)


def test_the_pages_example_and_its_mistake_are_true() -> None:
    page = (HERE.parents[1] / "docs" / "segments.md").read_text()
    example = page.split("```yaml\n")[1].split("```")[0]
    found = read(example)
    assert [audience.name for audience in found.audiences] == ["save_now_calls", "overdue_mail"]
    assert rules_of(found, "EUR").longest_days == 90.0  # the standard stage `lapsed`
    head = "version: 1\nsegments:\n  save_now:\n    title: A\n"
    with pytest.raises(DocumentError) as caught:
        read(head + '    when: p_chrun > 40% and value_tier == "high"')
    assert str(caught.value.problems[0]) + "\n" == page.split("```text\n")[1].split("```")[0]


def test_what_ships_is_in_force_in_every_currency() -> None:
    found = STANDARD
    assert (found.number, found.segments, found.audiences) == (0, (), ())
    assert found.lapsed_after_ms == 90 * DAY_MS
    assert rules_of(found, "JPY").ranks == ("expected_spend",)
    plain = read("version: 1")
    assert (plain.value_tier, plain.lifecycle) == (found.value_tier, found.lifecycle)
