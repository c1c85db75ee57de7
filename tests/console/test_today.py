"""Today: alerts in order, filters in the URL, pages of rows, and what an empty shop sees."""

from __future__ import annotations

from streams.console.pages.today import ROWS
from tests.console.doubles import NOW_MS, Answers, Away, rows, served

COLUMNS = (
    "alert_id", "user_id", "priority", "p_churn", "expected_spend", "reasons", "action", "arm",
    "value_tier", "raised_ms",
)  # fmt: skip
TOTALS = ("to_contact", "at_stake", "contacted", "held_out", "newest_ms")
RAISED_MS = NOW_MS - 3 * 86_400_000


def alert(number: int, user: str = "ann", arm: str = "treat") -> tuple[object, ...]:
    return (
        f"a{number:03}", user, 100.0 - number, 0.7, 140.0, ["no order for 40 days"], "call",
        arm, "high", RAISED_MS,
    )  # fmt: skip


def shop(alerts: int, user: str = "ann", arm: str = "treat", told: int = 0) -> Answers:
    return Answers(
        {
            "DISTINCT toString(action)": rows(["action"], [("call",)]),
            "AS at_stake": rows(TOTALS, [(alerts, 70.0, told, 0, RAISED_MS)]),
            "argMax(channel": rows(
                ["alert_id", "contacted_ms", "channel"],
                [(f"a{number:03}", NOW_MS, "letter") for number in range(told)],
            ),
            "LIMIT %(limit)s": lambda given: rows(
                COLUMNS,
                [alert(n, user, arm) for n in range(min(alerts, int(str(given["limit"]))))],
            ),
        }
    )


def test_open_alerts_are_listed_with_reasons_and_what_to_do() -> None:
    with served(shop(1)) as console:
        page = console.get("/today")
        assert page.status == 200
        for each in ("no order for 40 days", "call", 'href="/customers/ann"', "70 %"):
            assert each in page.text
        facts = console.get("/today.json").json
        assert facts["tables"]["alerts"]["rows"][0]["user_id"] == "ann"
        assert facts["summary"] == "1 customer to contact, 70 USD at stake."
        assert (
            console.get("/today.csv").text.splitlines()[1].startswith("a000,ann,100.0,0.7,no order")
        )


def test_filters_are_parameters_of_the_query_and_stay_in_the_url() -> None:
    reader = shop(ROWS + 1)
    with served(reader) as console:
        page = console.get("/today?show=all&action=call&least=12.5&why=order").text
        query, given = next(each for each in reader.asked if "is_first" in each[1])
        chosen = [given[name] for name in ("show", "action", "least", "why")]
        assert chosen == ["all", "call", 12.5, "order"]
        assert "12.5" not in query
        assert "show=all&amp;action=call&amp;least=12.5&amp;why=order&amp;after=" in page


def test_a_page_of_rows_goes_on_behind_its_last_row() -> None:
    reader = shop(ROWS + 1)
    with served(reader) as console:
        link = console.get("/today.json").json["tables"]["alerts"]["next"]
        console.get(link)
        given = [each for _, each in reader.asked if "is_first" in each][-1]
        assert (given["priority"], given["alert_id"]) == (100.0 - ROWS + 1, "a049")
        assert console.get("/today?after=[1]").status == 400
        assert console.get("/today?after=%27").status == 400


def test_a_value_that_no_filter_has_is_refused_with_those_there_are() -> None:
    with served(shop(1)) as console:
        for query in ("show=both", "tier=x", "action=fire", "least=1e400", "least=nan"):
            assert console.get(f"/today?{query}").status == 400, query
        assert "contacted, held_out, all" in console.get("/today?show=both").text


def test_who_is_held_out_has_no_box_and_who_was_contacted_says_how() -> None:
    with served(shop(2, arm="holdout")) as console:
        page = console.get("/today?show=held_out").text
        assert 'type="checkbox"' not in page
        assert "held out</span>" in page
    with served(shop(2, told=1)) as console:
        page = console.get("/today?show=all").text
        assert "contacted (letter)" in page
        assert page.count('type="checkbox"') == 2


def test_ages_are_by_the_shops_clock() -> None:
    with served(shop(1), stream_clock="event") as console:
        found = console.get("/today.json").json
        assert found["tables"]["alerts"]["rows"][0]["open_seconds"] == 3 * 86_400
        assert "data-ticks" not in console.get("/today").text  # the replay's clock is no wall clock


def test_an_empty_shop_is_told_what_is_missing() -> None:
    with served(shop(0)) as console:
        page = console.get("/today")
        assert page.status == 200
        assert "<code>tideline doctor</code>" in page.text


def test_clickhouse_being_away_is_a_page_that_says_since_when() -> None:
    with served(Away()) as console:
        page = console.get("/today")
        assert page.status == 503
        assert "check that it is up" in page.text
        assert "2026-05-28 20:26:40" in page.text
        assert console.get("/today.json").json["answered_ms"] == 1_780_000_000_000
