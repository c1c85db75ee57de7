"""What customers did: a profile's events, the funnel, retention; and what is said without any."""

from __future__ import annotations

from typing import Any

import pytest

from streams.console.pages.kept_events import GROUPS, MOST_EVENTS, wilson
from streams.console.pages.profile_events import ROWS
from streams.console.pages.segment_funnel import funnel_rows
from streams.console.pages.segment_retention import first_monday_ms, retention_rows
from tests.console.doubles import NOW_MS, Answers, rows, served
from tests.console.people import everything

DAY_MS = 86_400_000
COLUMNS = (
    "ts_ms", "event_hash", "type", "session_hash", "order_hash", "item_id", "category", "amount",
    "lines", "rating", "simulated", "events", "first_ms", "kept_until_ms",
)  # fmt: skip


def kept(events: int = 1_000, *more: Any) -> Answers:
    """A table of so many events in all groups."""

    def size(given: dict[str, Any]) -> Any:
        share = given["groups"] / GROUPS
        return rows(["events", "since_ms"], [(int(events * share), NOW_MS - 40 * DAY_MS)])

    return Answers(
        {
            "definitions_history": rows(["number", "document"]),
            "AS since_ms": size,
            "argMinIf": rows(["level", "users"], [(1, 8), (2, 2)]),
            "windowFunnel": rows(["level", "users"], [(1, 60), (2, 30), (3, 10)]),
            "bitTest": rows(
                ["cohort", "week", "users", "of_users"],
                [(0, 0, 40, 40), (0, 1, 20, 40), (0, 2, 10, 40), (1, 1, 10, 10), (1, 2, 1, 10)],
            ),
            "SELECT 1 FROM event_groups": rows(["1"], [(1,)] if events else []),
        }
    )  # fmt: skip


# -- a profile


def profile(found: int) -> Answers:
    here = everything("x")

    def page(given: dict[str, Any]) -> Any:
        first = found - int(given["before_hash"]) + 1 if given["before_hash"] else 0
        return rows(COLUMNS, [
            (NOW_MS - n, found - n, "view", 5, 0, f"sku-{n}", "shoes", 0.0, 0, 0.0, 0,
             found, NOW_MS, NOW_MS + DAY_MS)
            for n in range(first, found)
        ][: int(given["limit"])])  # fmt: skip

    here.answers = {
        "SELECT 1 FROM event_groups": rows(["1"]),
        "FROM customer_events": page,
        **{k: v for k, v in here.answers.items() if "customer_events" not in k},
    }
    return here


def test_a_profile_has_clicks_and_orders_the_newest_first() -> None:
    with served(everything("x")) as console:
        page = console.get("/customers/ann").text
        assert "2 are kept, the oldest of 2026-05-28; the next goes after 2026-05-28" in page
        click, placed = console.get("/customers/ann.json").json["tables"]["events"]["rows"]
        assert (click["item_id"], click["about"]) == (
            "x",
            "4.5 of 5 stars, made up by tideline replay",
        )
        assert (click["amount"], click["session"]) == (None, "00000005")
        assert (placed["amount"], placed["lines"], placed["about"]) == (12.34, 2, "order ffffff")
        assert placed["item_id"] is None


def test_older_ones_are_on_the_next_pages() -> None:
    reader = profile(ROWS + 7)
    with served(reader) as console:
        first = console.get("/customers/ann.json").json["tables"]["events"]
        assert len(first["rows"]) == ROWS
        older = console.get(first["next"].replace("/ann?", "/ann.json?")).json["tables"]["events"]
        items = [row["item_id"] for row in (*first["rows"], *older["rows"])]
        assert items == [f"sku-{n}" for n in range(ROWS + 7)]
        assert "next" not in older or not older["next"]
        assert console.get("/customers/ann?after=[1]").status == 400
        assert console.get("/customers/ann?after=['x',2]").status == 400


def test_a_profile_without_events_says_why() -> None:
    reader = profile(0)
    with served(reader) as console:
        assert "TIDELINE_CLICKHOUSE_KEEP_EVENTS_DAYS=14" in console.get("/customers/ann").text
    reader.answers["SELECT 1 FROM event_groups"] = rows(["1"], [(1,)])
    with served(reader) as console:
        assert "None of this customer" in console.get("/customers/ann").text


def test_a_profile_has_the_features_of_its_score_in_words() -> None:
    with served(everything("x")) as console:
        rows_ = console.get("/customers/ann.json").json["tables"]["features"]["rows"]
        assert [(r["group"], r["words"], r["value"], r["unit"]) for r in rows_] == [
            ("last 7 days", "view in the last 7d", "3", "count"),
            ("trend", "of another release", "1.5", ""),
            ("how long ago", "days since the last order", "unknown", "days"),
            ("last 30 days", "spend in the last 30d", "0", "USD"),
        ]  # fmt: skip
    reader = everything("x")
    reader.answers["FROM customer_features"] = rows(["scored_ms", "feature_names", "features"])
    with served(reader) as console:
        assert "TIDELINE_CLICKHOUSE_KEEP_FEATURES_DAYS=14" in console.get("/customers/ann").text


# -- the funnel


def test_a_funnel_has_its_steps_with_shares() -> None:
    reader = kept()
    with served(reader) as console:
        page = console.get("/segments/event-funnel")
        assert "10 % of 100 customers came from view to placed within 7 d." in page.text
        assert "Of everybody." in page.text
        assert "data-live" not in page.text  # it reads too much to be sent twice a second
        assert 'class="k-heat heat-6"' in page.text  # 40 %
        found = console.get("/segments/event-funnel.json").json["tables"]["funnel"]["rows"]
        names = ("step", "users", "of_first", "of_before", "gone")
        assert [tuple(row[name] for name in names) for row in found] == [
            ("view", 100, 1.0, None, 60), ("cart_add", 40, 0.4, 0.4, 30),
            ("placed", 10, 0.1, 0.25, None),
        ]  # fmt: skip
        assert found[1]["low"] is None
        _, given = next(each for each in reader.asked if "windowFunnel" in each[0])
        assert (given["window_ms"], given["groups"]) == (604_800_000, GROUPS)
        assert given["steps"] == ["view", "cart_add", "placed"]
        assert (given["step_3"], given["step_4"]) == ("placed", "")
        assert console.get("/segments/event-funnel.csv").text.startswith("step,users,of_first")


def test_many_events_are_sampled_and_the_shares_have_an_interval() -> None:
    reader = kept(50 * MOST_EVENTS)
    with served(reader) as console:
        page = console.get("/segments/event-funnel").text
        assert "Of a sample: 20 of 1,024 groups" in page
        assert "with 95 %" in page
        found = console.get("/segments/event-funnel.json").json["tables"]["funnel"]["rows"]
        assert found[1]["low"] < 0.4 < found[1]["high"]
        assert "20 % mean" in console.get("/segments/cohort-retention").text


def test_a_funnel_of_some_is_asked_for_by_what_they_were_at_the_first_step() -> None:
    reader = kept()
    url = "/segments/event-funnel?step_1=search&step_2=placed&window=1_hour&days=7&stage=at_risk"
    with served(reader) as console:
        page = console.get(url)
        assert "20 % of 10 customers came from search to placed within 1 h." in page.text
        assert "those at the first step" in page.text
        given = next(given for query, given in reader.asked if "argMinIf" in query)
        assert (given["stage"], given["tier"], given["segment"]) == ("at_risk", "", "")
        assert (given["window_ms"], given["step_3"]) == (3_600_000, "")


@pytest.mark.parametrize(
    "query",
    [
        "step_1=view", "step_1=view&step_2=view", "step_1=view&step_3=placed",
        "step_1=returned&step_2=view",
        "step_1=view'&step_2=placed", "window=1", "days=1000", "stage=x", "tier=x", "segment=x",
        "step_2=view&step_3=placed",
    ],
)  # fmt: skip
def test_a_funnel_that_there_can_not_be_is_refused(query: str) -> None:
    reader = kept()
    with served(reader) as console:
        assert console.get(f"/segments/event-funnel?{query}").status == 400
    assert not [query for query, _ in reader.asked if "windowFunnel" in query]


def test_nobody_at_the_first_step_is_said() -> None:
    reader = kept()
    reader.answers["windowFunnel"] = rows(["level", "users"])
    with served(reader) as console:
        assert (
            "Nobody took the first step in this time." in console.get("/segments/event-funnel").text
        )
    assert funnel_rows(("view", "placed"), [], is_sample=True)[1] == [
        "placed", 0, None, None, None, None, None
    ]  # fmt: skip


@pytest.mark.parametrize("page", ["event-funnel", "cohort-retention"])
def test_where_none_are_kept_the_page_says_how(page: str) -> None:
    with served(kept(0)) as console:
        found = console.get(f"/segments/{page}")
        assert found.status == 200
        assert "<code>TIDELINE_CLICKHOUSE_KEEP_EVENTS_DAYS=14</code>" in found.text
        assert console.get(f"/segments/{page}.json").status == 200


# -- retention


def test_retention_has_a_row_for_each_week_and_nothing_for_weeks_that_are_not_over() -> None:
    reader = kept()
    with served(reader, stream_clock="event") as console:
        page = console.get("/segments/cohort-retention")
        assert "42 % of 50 were there again in the week after their first order." in page.text
        found = console.get("/segments/cohort-retention.json").json["tables"]["cohorts"]["rows"]
        assert [(r["week"], r["users"], r["w1"], r["w2"]) for r in found] == [
            ("2026-04-20", 40, 0.5, 0.25), ("2026-04-27", 10, 0.1, None)
        ]  # fmt: skip
        given = next(given for query, given in reader.asked if "bitTest" in query)
        # events are kept for 40 days, so the first whole week is five ago
        assert (given["weeks"], given["by"], given["did"]) == (5, "order", "event")
        assert int(str(given["to_ms"])) <= NOW_MS
        console.get("/segments/cohort-retention?by=event&did=order&weeks=4")
        given = [given for query, given in reader.asked if "bitTest" in query][-1]
        assert (given["weeks"], given["by"], given["did"]) == (4, "event", "order")
        for wrong in ("by=x", "did=x", "weeks=1000"):
            assert console.get(f"/segments/cohort-retention?{wrong}").status == 400


def test_weeks_begin_on_monday_after_events_began_to_be_kept() -> None:
    monday = 1_779_667_200_000  # 2026-05-25
    assert first_monday_ms(NOW_MS, 3, 0) == monday - 21 * DAY_MS
    assert first_monday_ms(NOW_MS, 3, monday - 7 * DAY_MS) == monday - 7 * DAY_MS
    assert first_monday_ms(NOW_MS, 3, monday - 7 * DAY_MS + 1) == monday
    assert first_monday_ms(NOW_MS, 3, NOW_MS) > NOW_MS
    assert retention_rows([], 0, 0) == []


def test_wilson_is_wilson() -> None:
    low, high = wilson(0, 10) or (None, None)
    assert low == 0
    assert high == pytest.approx(0.2775, abs=1e-4)
    assert wilson(10, 10) == pytest.approx((0.7225, 1.0), abs=1e-4)
    assert wilson(0, 0) is None
