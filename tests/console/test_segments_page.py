"""Segments: what the page makes of sizes, moves and definitions, and of an edited document."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from schemas.definitions import STANDARD, Definitions, Expected, SegmentDefinition
from streams.campaigns import read_definitions, written
from streams.console.access import LOCAL
from streams.console.pages.segment_plan import change_rows, planned, problem_rows, segment_rows
from streams.console.pages.segments import own_rows, size_state, standard_rows, summary
from tests.console.doubles import NOW_MS, Answers, Away, rows, served

FILE = (Path(__file__).parent / "segments.yaml").read_text()
NOW = msgspec.structs.replace(
    read_definitions(FILE.encode(), file="x", currency="USD"),
    applied_by="ada",
    applied_at_ms=NOW_MS,
)
SIZES = ("dimension", "segment", "users", "expected_spend")
MOVES = ("dimension", "from_segment", "to_segment", "moves")
MEMBERS = (
    "user_id", "expected_spend", "p_churn", "value_tier", "lifecycle", "lifetime_orders",
    "last_order_ms", "rank", "candidates",
)  # fmt: skip


def shop(members: int = 1, applied: Definitions | None = NOW) -> Answers:
    history = [] if applied is None else [(applied.number, msgspec.json.encode(applied).decode())]

    def people(given: dict[str, Any]) -> Any:
        found = [
            (f"u{n:03}", 90.0 - n, 0.6, "high", "at_risk", 4, NOW_MS, 90.0 - n, members)
            for n in range(min(members, int(given["limit"])))
        ]
        return rows(MEMBERS, found)

    return Answers(
        {
            "definitions_history": rows(["number", "document"], history),
            "ifNull(expected_spend": people,
            "user_id IN %(all_user_id)s": rows(["user_id", "since_ms"], [("u000", NOW_MS)]),
            "dimension = 'rfm'": rows(["recency", "frequency", "users"], [("R5", "F5", 9)]),
            "argMax(users, hour)": rows(["day_s", "users"], [(NOW_MS // 1000, 12)]),
            "AS entered": rows(["day_s", "entered", "gone"], [(NOW_MS // 1000, 3, 1)]),
            "segment_flow_hours": rows(
                MOVES,
                [
                    ("leaving", "out", "in", 5), ("leaving", "in", "out", 2),
                    ("lifecycle", "active", "lapsed", 4), ("lifecycle", "", "visitor", 6),
                ],
            ),
            "WHERE segment = 'in'": rows(["dimension", "users"], [("leaving", 12)]),
            "SELECT users, expected_spend": rows(["users", "expected_spend"], [(12, 300.0)]),
            "segment_sizes_now": rows(
                SIZES,
                [
                    ("leaving", "in", 12, 300.0), ("gone", "in", 3, 1.0),
                    ("lifecycle", "active", 90, 800.0), ("lifecycle", "lapsed", 10, 0.0),
                ],
            ),
        }
    )  # fmt: skip


def test_segments_have_size_flow_owner_and_what_is_expected() -> None:
    with served(shop()) as console:
        page = console.get("/segments")
        assert page.status == 200
        table = console.get("/segments.json").json["tables"]["segments"]["rows"]
        leaving = next(row for row in table if row["segment"][0] == "leaving")
        assert (leaving["users"], leaving["entered"], leaving["left"]) == (12, 5, 2)
        assert (leaving["share"], leaving["expected"]) == (0.12, "20 to 120")
        assert leaving["state"] == "too small"
        assert table[-1]["segment"][0] == "gone"
        assert table[-1]["state"] == "no longer defined"
        assert "leaving has 12 users, too small for its owner" in page.text
        assert "<svg" in page.text
        assert "Look, and do not buy &lt;b&gt;yet&lt;/b&gt;" in page.text
        assert 'style="' not in page.text
        assert console.get("/segments.csv").text.splitlines()[0].startswith("segment,title,owner")


def test_the_picture_is_of_the_dimension_that_is_asked_for() -> None:
    with served(shop()) as console:
        flow = console.get("/segments.json").json["tables"]["flow"]["rows"]
        assert [(row["from_segment"], row["moves"]) for row in flow] == [("", 6), ("active", 4)]
        own = console.get("/segments.json?dimension=leaving").json["tables"]["flow"]["rows"]
        assert [row["moves"] for row in own] == [5, 2]
        assert console.get("/segments?dimension=nothing").status == 400
        assert console.get("/segments?days=3").status == 400


def test_a_shop_without_definitions_of_its_own_is_told_what_to_do() -> None:
    reader = shop(applied=None)
    reader.answers["segment_sizes_now"] = rows(SIZES)
    with served(reader) as console:
        page = console.get("/segments").text
        assert "tideline segments example" in page
        assert "what ships" in page
        preview = console.get("/segments/plan-preview").text
        assert "orders &gt; 0 and rank(expected_spend) &gt;= 90%" in preview


def test_members_are_paged_and_exported_whole() -> None:
    reader = shop(members=70)
    with served(reader) as console:
        found = console.get("/segments/leaving.json").json["tables"]["members"]
        assert len(found["rows"]) == 50
        assert found["rows"][0]["since_ms"] == NOW_MS
        assert found["rows"][1]["since_ms"] is None
        console.get(found["next"])
        given = [each for _, each in reader.asked if "is_first" in each][-1]
        assert (given["rank"], given["after_user_id"], given["is_first"]) == (41.0, "u049", 0)
        lines = console.get("/segments/leaving.csv").text.splitlines()
        assert len(lines) == 71
        assert lines[0].startswith("user_id,expected_spend")


@pytest.mark.parametrize(
    "path", ["nothing_of_the_kind", "lifecycle/x", "lifecycle", "leaving/in", "..%2f..%2fetc"]
)
def test_a_segment_that_is_none_is_not_found(path: str) -> None:
    reader = shop()
    reader.answers["SELECT users, expected_spend"] = rows(["users", "expected_spend"])
    with served(reader) as console:
        assert console.get(f"/segments/{path}").status == 404


def test_clickhouse_away_is_a_page_that_says_so() -> None:
    with served(Away()) as console:
        for path in ("/segments", "/campaigns", "/models", "/pipeline"):
            page = console.get(path)
            assert page.status == 503
            assert "check that it is up" in page.text


# -- the preview


def test_the_document_in_force_changes_nothing() -> None:
    plan = planned(written(NOW, "USD"), [NOW], "USD", NOW_MS)
    assert plan.problems == ()
    assert plan.changes == ()


def test_a_change_is_shown_by_field_with_before_and_after() -> None:
    document = written(NOW, "USD").replace("p_churn > 45%", "p_churn > 50%")
    document = document.replace("horizon: 7d", "horizon: 21d").replace("rfm: on\n", "")
    plan = planned(document, [NOW], "USD", NOW_MS)
    assert plan.found is not None
    found = {(row[2], row[3]): row[4:] for row in change_rows(plan.changes)}
    assert found["leaving", "when"] == (
        "p_churn > 45% and orders >= 2", "p_churn > 50% and orders >= 2"
    )  # fmt: skip
    assert found["second_order", "horizon"] == ("7d", "21d")
    sizes = segment_rows(plan.found, "USD", {"leaving": 12})
    assert sizes[0][:3] == ("leaving", 12, "20 to 120")
    assert sizes[0][3] > 0


def test_problems_have_line_and_column_and_what_to_do() -> None:
    document = written(NOW, "USD").replace("p_churn > 45%", "p_chrun > 45%")
    (problem,) = problem_rows(planned(document, [NOW], "USD", NOW_MS).problems)
    line, column, text, what, fix = problem
    assert document.split("\n")[line - 1][column - 1 :].startswith("p_chrun")
    assert text.startswith("when: p_chrun")
    assert "p_chrun" in what
    assert "p_churn" in fix


def test_a_salt_that_was_ever_used_is_refused() -> None:
    first = msgspec.structs.replace(NOW, number=1)
    second = msgspec.structs.replace(NOW, number=2, audiences=())
    document = written(second, "USD") + (
        "audiences:\n  again:\n    segment: leaving\n    salt: win_back-1\n"
    )
    assert "used before" in planned(document, [first, second], "USD", NOW_MS).problems[0].what


@pytest.mark.parametrize(
    "document", ["", "\ufffd\x00", "- a\n" * 3, "x: {" * 400, "\ud800", "a" * 9]
)
def test_any_document_is_answered(document: str) -> None:
    with served(shop()) as console:
        csrf = console.console.guard.csrf(LOCAL)
        page = console.post(
            "/segments/plan-preview",
            {"csrf": csrf, "document": document.encode("utf-8", "replace").decode()},
        )
        assert page.status == 200
        assert "What is wrong" in page.text


def test_a_preview_needs_the_form_of_this_console() -> None:
    with served(shop()) as console:
        assert console.post("/segments/plan-preview", {"document": "version: 1"}).status == 403


# -- rows


def test_sizes_beside_what_is_expected() -> None:
    assert [size_state(n, (5, 9)) for n in (4, 5, 9, 10)] == [
        "too small", "as expected", "as expected", "too large"
    ]  # fmt: skip
    assert size_state(4, None) == ""


def test_an_empty_shop_has_rows_of_zeros() -> None:
    rows_of = standard_rows([], [])
    assert [row[2] for row in rows_of] == [0] * 9
    assert [row[3] for row in rows_of] == [None] * 9
    one = Definitions(1, "v", (SegmentDefinition("a", "true", expect=Expected((1, 2))),))
    assert own_rows(one, [], [], 0)[0][3:5] == (0, None)
    assert summary(0, own_rows(STANDARD, [], [], 0), "2026-01-01").startswith("0 users")
