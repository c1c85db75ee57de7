"""Today: alerts in order, filters in the URL, pages of rows, and what an empty shop sees."""

from __future__ import annotations

from streams.console.pages.today import ROWS
from tests.console.doubles import Answers, Away, rows, served

COLUMNS = (
    "alert_id", "user_id", "priority", "p_churn", "expected_spend", "reasons", "action", "arm",
    "value_tier", "raised_ms",
)  # fmt: skip
TOTALS = ("alerts", "to_contact", "at_stake", "held_out", "newest_ms")


def alert(number: int, user: str = "ann") -> tuple[object, ...]:
    return (
        f"a{number:03}", user, 100.0 - number, 0.7, 140.0, ["no order for 40 days"], "call",
        "treat", "high", 1_780_000_000_000,
    )  # fmt: skip


def shop(alerts: int, user: str = "ann") -> Answers:
    return Answers(
        {
            "DISTINCT toString(action)": rows(["action"], [("call",)]),
            "AS at_stake": rows(TOTALS, [(alerts, alerts, 70.0, 0, 1_780_000_000_000)]),
            "LIMIT %(limit)s": lambda given: rows(
                COLUMNS, [alert(n, user) for n in range(min(alerts, int(str(given["limit"]))))]
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
        assert console.get("/today.csv").text.splitlines()[1].startswith("a000,ann,100.0,0.7,140.0")


def test_filters_are_parameters_of_the_query_and_stay_in_the_url() -> None:
    reader = shop(ROWS + 1)
    with served(reader) as console:
        page = console.get("/today?arm=treat&action=call&least=12.5").text
        query, given = reader.asked[-1]
        assert (given["arm"], given["action"], given["least"]) == ("treat", "call", 12.5)
        assert "12.5" not in query
        assert "arm=treat&amp;action=call&amp;least=12.5&amp;after=" in page


def test_a_page_of_rows_goes_on_behind_its_last_row() -> None:
    reader = shop(ROWS + 1)
    with served(reader) as console:
        link = console.get("/today.json").json["tables"]["alerts"]["next"]
        console.get(link)
        given = reader.asked[-1][1]
        assert (given["priority"], given["alert_id"]) == (100.0 - ROWS + 1, "a049")
        assert console.get("/today?after=[1]").status == 400
        assert console.get("/today?after=%27").status == 400


def test_a_value_that_no_filter_has_is_refused_with_those_there_are() -> None:
    with served(shop(1)) as console:
        for query in ("arm=both", "tier=x", "action=fire", "least=1e400", "least=nan"):
            assert console.get(f"/today?{query}").status == 400, query
        assert "treat, holdout" in console.get("/today?arm=both").text


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
