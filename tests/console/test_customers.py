"""Customers: who has the most at stake, the search, and one profile."""

from __future__ import annotations

from typing import Any

from streams.console.pages.customers import MATCHES, ROWS
from tests.console.doubles import NOW_MS, Answers, rows, served
from tests.console.people import everything

COLUMNS = (
    "user_id", "p_churn", "expected_spend", "at_stake", "value_tier", "lifecycle", "segments",
    "lifetime_orders", "status", "last_order_ms", "scored_ms", "candidates",
)  # fmt: skip


def crowd(count: int) -> Answers:
    def found(given: dict[str, Any]) -> Any:
        return rows(
            COLUMNS,
            [
                (f"u-{n}", 0.5, 10.0, 5.0 - n / 100, "high", "active", ["vip"], 3, "scored", 0,
                 NOW_MS - 60_000, count)
                for n in range(min(count, given["limit"]))
            ],
        )  # fmt: skip

    return Answers(
        {
            "AS visitors": rows(["customers", "visitors", "spend"], [(count, 0, 9.0)]),
            "AS at_risk": rows(["at_risk"], [(1,)]),
            "AS at_stake": found,
        }
    )


def test_the_most_at_stake_come_first_and_the_list_goes_on() -> None:
    reader = crowd(ROWS + 1)
    with served(reader, stream_clock="event") as console:
        table = console.get("/customers.json").json["tables"]["customers"]
        assert len(table["rows"]) == ROWS
        assert table["rows"][0]["scored_seconds"] == 60.0
        assert table["rows"][0]["last_order_ms"] is None
        console.get(table["next"])
        given = reader.asked[-1][1]
        assert (given["rank"], given["after_user_id"]) == (
            5.0 - (ROWS - 1) / 100,
            f"u-{ROWS - 1}",
        )


def test_a_search_goes_by_the_beginning_and_says_when_there_are_more() -> None:
    reader = crowd(MATCHES + 1)
    with served(reader) as console:
        page = console.get("/customers?q=u-").text
        assert reader.asked[-1][1]["prefix"] == "u-"
        assert f"More than {MATCHES} begin so" in page
        assert "after=" not in page


def test_a_profile_says_what_such_scores_were_worth() -> None:
    with served(everything("x")) as console:
        page = console.get("/customers/ann").text
        assert "Of 100 scores between 70 % and 75 %" in page
        assert "60 % did not order; 65 % were predicted" in page
        facts = console.get("/customers/ann.json").json
        assert facts["summary"].endswith("70 % likely not to order within 28 days.")
        assert facts["as_of_ms"] == NOW_MS
        assert {"alerts", "segments", "audiences", "timeline"} <= facts["tables"].keys()


def test_somebody_unknown_and_a_shop_without_scores_are_told_why() -> None:
    nobody = Answers({"spend_low": rows(["user_id"])})
    with served(nobody) as console:
        answer = console.get("/customers/nobody")
        assert answer.status == 404
        assert "were erased" in answer.text
    with served(crowd(0)) as console:
        assert "tideline doctor" in console.get("/customers").text
        assert "Nobody is known under that id" in console.get("/customers?q=zz").text
    known = crowd(0)
    known.answers["AS visitors"] = rows(["customers", "visitors", "spend"], [(9, 4, 0.0)])
    with served(known) as console:
        page = console.get("/customers").text
        assert "5 customers, and 4 visitors" in page
        assert "shop_min_days" in page
        assert "Clear the filters" in console.get("/customers?tier=high").text
