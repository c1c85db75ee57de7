"""Settings: what is in force, where it comes from, no secret, and who did what."""

from __future__ import annotations

from streams.settings import describe, load
from tests.console.doubles import console_of, served
from tests.console.people import everything

SECRETS = {
    "TIDELINE_CLICKHOUSE_PASSWORD": "hunter2-clickhouse",
    "TIDELINE_CONSOLE_SEAL_KEY": "hunter2-seal-0123456789abcdef0123",
    "TIDELINE_LAG_WEBHOOK_URL": "https://hooks.example/hunter2",
}


def test_every_setting_is_shown_with_its_origin_and_no_secret() -> None:
    given = load({**SECRETS, "TIDELINE_KAFKA_APP_ID": "shop"})
    with served(None, console_of(everything("x"), given)) as console:
        for form in ("", ".json", ".csv"):
            assert b"hunter2" not in console.get(f"/settings{form}").body
        found = console.get("/settings.json").json["tables"]["settings"]["rows"]
        assert len(found) == len(describe(given))
        by_name = {row["name"]: row for row in found}
        assert by_name["[kafka] app_id"]["value"] == "shop"
        assert by_name["[kafka] app_id"]["origin"] == "environment"
        assert by_name["[clickhouse] password"]["value"] == "********"
        changed = console.get("/settings.json?from=changed").json["tables"]["settings"]["rows"]
        assert len(changed) == 4
        assert console.get("/settings.csv").text.startswith("name,value,origin,help,env,default")


def test_who_did_what_is_listed() -> None:
    with served(everything("letter")) as console:
        (row,) = console.get("/settings.json").json["tables"]["log"]["rows"]
        assert row["who"] == "letter"
        assert row["user_id"] == "ann"
