"""Campaigns: who is in an audience by arm, and plain rates with counts; no guess at an effect."""

from __future__ import annotations

from typing import Any

import msgspec

from streams.console.pages.audiences import audience_rows, result_rows
from streams.console.pages.campaigns import outcome_rows
from tests.console.doubles import NOW_MS, Answers, rows, served
from tests.console.test_segments_page import NOW

ARMS = ("audience", "arm", "users", "expected_spend", "newest_ms")
RESULTS = (
    "audience", "salt", "arm", "horizon_days", "exposed", "answered", "buyers", "orders",
    "spend_mean", "spend_before",
)  # fmt: skip
PEOPLE = (
    "user_id", "arm", "fed", "entered_ms", "p_churn", "expected_spend", "value_tier", "lifecycle",
)  # fmt: skip


def shop(members: int = 1, defined: bool = True) -> Answers:
    def people(given: dict[str, Any]) -> Any:
        found = [
            (f"u{n:03}", given["arm"] or "treat", 1, NOW_MS, 0.6, 12.5, "high", "at_risk")
            for n in range(min(members, int(given["limit"])))
        ]
        return rows(PEOPLE, found)

    applied = [(1, msgspec.json.encode(NOW).decode())] if defined else []
    return Answers(
        {
            "definitions_history": rows(["number", "document"], applied),
            "audience_arms": rows(
                ARMS,
                [
                    ("win_back", "treat", 80, 900.0, NOW_MS), ("win_back", "holdout", 20, 90.0, 1),
                    ("win_back", "global_holdout", 2, 9.0, 1), ("old", "treat", 1, 1.0, 1),
                    ("left_by_all", "treat", 0, 0.0, 1),
                ],
            ),
            "campaign_results": rows(
                RESULTS,
                [
                    ("win_back", "win_back-1", "holdout", 14.0, 25, 20, 5, 6, 3.0, 70.0),
                    ("win_back", "win_back-1", "treat", 14.0, 100, 0, 0, 0, float("nan"), 0.0),
                    ("win_back", "win_back-1", "global_holdout", 14.0, 0, 0, 0, 0, 0.0, 0.0),
                ],
            ),
            "alert_outcomes": rows(
                ["arm", "outcome", "episodes"],
                [("treat", "won back", 2), ("treat", "lost", 6), ("holdout", "ordered", 1)],
            ),
            "audience_people": people,
        }
    )  # fmt: skip


def test_audiences_show_who_may_be_contacted_and_who_is_held_out() -> None:
    with served(shop()) as console:
        facts = console.get("/campaigns.json").json
        first = facts["tables"]["audiences"]["rows"][0]
        assert first["audience"] == ["win_back", "/campaigns/win_back"]
        assert (first["treat"], first["holdout"], first["global_holdout"]) == (80, 20, 2)
        assert (first["held_share"], first["planned_share"]) == (0.2, 0.15)
        names = [row["audience"][0] for row in facts["tables"]["audiences"]["rows"]]
        assert names == ["win_back", "thanks", "second_order", "calls", "old"]
        assert facts["summary"] == "81 people may be contacted, in 5 audiences."
        page = console.get("/campaigns").text
        assert "do not read a difference between two rates as an effect" in page
        assert 'href="/segments/leaving"' in page


def test_rates_stand_beside_their_counts_and_nobody_has_no_rate() -> None:
    with served(shop()) as console:
        treat, holdout = console.get("/campaigns.json").json["tables"]["results"]["rows"]
        assert (treat["arm"], treat["answered"], treat["buyer_share"]) == ("treat", 0, None)
        assert treat["spend_mean"] is None
        assert (holdout["buyers"], holdout["answered"]) == (5, 20)
        assert holdout["buyer_share"] == 0.25
        assert (holdout["effect"], holdout["interval"]) == (None, "")


def test_outcomes_are_by_arm_and_only_what_is_over_counts() -> None:
    with served(shop()) as console:
        treat, holdout = console.get("/campaigns.json").json["tables"]["outcomes"]["rows"]
        assert (treat["alerts"], treat["won_back"], treat["lost"]) == (8, 2, 6)
        assert treat["share_ordered"] == 0.25
        assert holdout["share_ordered"] == 1.0
    assert outcome_rows([{"arm": "treat", "outcome": "opened", "episodes": 3}])[0][-1] is None


def test_an_audience_shows_members_of_all_arms_and_why() -> None:
    reader = shop(members=70)
    with served(reader) as console:
        page = console.get("/campaigns/win_back").text
        assert "p_churn &gt; 45% and orders &gt;= 2" in page
        assert "tideline segments explain leaving USER" in page
        found = console.get("/campaigns/win_back.json?arm=holdout").json["tables"]["members"]
        assert {row["arm"] for row in found["rows"]} == {"holdout"}
        console.get(found["next"])
        given = [each for _, each in reader.asked if "after_user_id" in each][-1]
        assert (given["after_user_id"], given["arm"]) == ("u049", "holdout")
        assert len(console.get("/campaigns/win_back.csv").text.splitlines()) == 71
        assert console.get("/campaigns/calls").status == 200
        assert console.get("/campaigns/old").status == 200
        assert console.get("/campaigns/nothing").status == 404
        assert console.get("/campaigns/left_by_all").status == 404
        assert console.get("/campaigns/win_back?arm=both").status == 400


def test_a_shop_without_audiences_is_told_what_to_do() -> None:
    reader = shop(defined=False)
    for view in ("audience_arms", "campaign_results", "alert_outcomes"):
        reader.answers[view] = rows(ARMS)
    with served(reader) as console:
        page = console.get("/campaigns").text
        assert "No audience is defined." in page
        assert "docs/audiences.md" in page
    assert audience_rows(NOW, [])[0][3:6] == (0, 0, 0)
    assert result_rows([]) == []
