"""/v1 over HTTP: who may ask what, who sees ids, lists in parts, errors as JSON."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jsonschema
import msgspec
import numpy as np
import pytest

from streams.console.access import SCOPES, token_hash
from streams.console.api.document import document
from streams.console.api.feed import Feed
from streams.console.api.point import Point
from streams.console.api.routes import OPERATIONS
from streams.console.reads import Parameter, Rows
from streams.console.sealing import Seal
from streams.console.tokens import Tokens
from streams.privacy.erasure_board import ErasureBoard
from tests.console.api.test_feed import NAMES, TOPICS, Tailed, alert
from tests.console.doubles import Answers, Away, Served, console_of, rows, served

AT = datetime(2026, 11, 30, 14, 5, 9, 123_000, UTC)
NEVER = datetime(1970, 1, 1, tzinfo=UTC)
AT_MS = round(AT.timestamp() * 1000)
USER = Point(
    shard=0, life=1, number=5, p_churn=0.1, expected_spend=40.5, spend_low=0.0, spend_high=90.0,
    p_buy_7d=0.3, p_buy_30d=None, value_365d=410.0, value_365d_low=90.0, value_365d_high=None,
    horizon_days=28, status="scored", evidence="many orders", value_tier="high",
    lifecycle="active", segments=["save_now"], next_order_at_ms=AT_MS, at_risk=0,
    lifetime_orders=7, last_order_at_ms=0, scored_at_ms=AT_MS, inserted_at_ms=AT_MS,
    champion_version="v1", learner_version=3,
)  # fmt: skip
ALERT = {
    "alert_id": "a1", "user_id": "ann", "raised_at": AT, "closed_at": NEVER, "closed_why": "",
    "priority": 9.5, "p_churn": 0.9, "expected_spend": 12.0, "reasons": ["silence"],
    "action": "call", "arm": "treat", "value_tier": "high", "lifecycle": "at_risk",
}  # fmt: skip
SIZES = rows(
    ("dimension", "segment", "users", "expected_spend", "as_of"),
    [("save_now", "in", 2, 80.0, AT), ("value_tier", "high", 5, 200.0, AT)],
)


def known_users(given: dict[str, Parameter]) -> Rows:
    asked = given["user_id"]
    assert isinstance(asked, list | tuple)
    answer = msgspec.json.encode(USER).decode()
    return rows(("user_id", "answer"), [(u, answer) for u in asked if u != "nobody"])


def people(given: dict[str, Parameter]) -> Rows:
    columns = ("user_id", "p_churn", "expected_spend", "value_tier", "lifecycle", "entered_at")
    everybody = [(f"u{n}", 0.5, None, "low", "new", AT) for n in range(5)]
    after = [each for each in everybody if each[0] > str(given["first_user_id"])]
    return rows(columns, after[: int(str(given["limit"]))])


def answers() -> Answers:
    return Answers({
        "FROM customer_points\n": known_users,
        "FROM past_lives": rows(("shard", "life"), [(0, 0), (1, 1)]),
        "FROM customers\nWHERE user_id >": people,
        "FROM audience_people": people,
        "FROM customer_alerts": rows(tuple(ALERT), [tuple(ALERT.values())]),
        "FROM open_alerts": rows(tuple(ALERT), [tuple(ALERT.values())]),
        "FROM segment_sizes_now": SIZES,
        "FROM segment_size_hours": rows(("day", "users"), [(AT.date(), 2)]),
        "FROM segment_flow_hours": rows(("day", "entered", "left"), [(AT.date(), 3, 1)]),
        "FROM audience_arms": lambda given: rows(("arms",), [(int(given["audience"] == "vip"),)]),
    })  # fmt: skip


@pytest.fixture
def tokens(tmp_path: Path) -> Tokens:
    """A token for each scope, for all, and without `ids`; each is named as what it is."""
    each = {scope: [scope] for scope in SCOPES} | {"all": list(SCOPES), "sealed": list(SCOPES[:-1])}
    text = "".join(
        f'[tokens.{name}]\nsha256 = "{token_hash(name)}"\nscopes = {json.dumps(scopes)}\n'
        for name, scopes in each.items()
    )
    path = tmp_path / "tokens.toml"
    path.write_text(text, encoding="utf-8")
    return Tokens(path)


@pytest.fixture
def here(tokens: Tokens) -> Iterator[Served]:
    with served(answers(), tokens=tokens) as console:
        yield console


def ask(here: Served, path: str, token: str = "all") -> Any:  # noqa: S107
    answer = here.get(path, {"Authorization": f"Bearer {token}"})
    assert answer.status == 200, answer.text
    return answer.json


def test_a_customer_is_answered_with_scores_segments_and_the_next_order(here: Served) -> None:
    found = ask(here, "/v1/users/ann")
    assert found["scores"]["p_churn"] == float(np.float32(0.1))  # as ClickHouse has it
    assert found["scores"]["p_buy_30d"] is None
    assert found["segments"] == ["save_now"]
    assert found["next_order_at"] == "2026-11-30T14:05:09.123Z"
    assert found["last_order_at"] is None
    assert found["at_risk"] is False


@pytest.mark.parametrize("name", ["a/b", "a?b&c", "é", "~x", "a.json", "' OR 1=1", "{id}"])
def test_any_id_reaches_the_query_as_it_is(here: Served, name: str) -> None:
    assert ask(here, f"/v1/users/{quote(name, safe='')}")["user_id"] == name


def test_whom_nobody_knows_is_not_found(here: Served) -> None:
    answer = here.get("/v1/users/nobody", {"Authorization": "Bearer all"})
    assert answer.status == 404
    assert set(answer.json) >= {"status", "error", "why"}


PATHS = {
    "/v1/users/{id}": "/v1/users/ann",
    "/v1/users/{id}/alerts": "/v1/users/ann/alerts",
    "/v1/segments": "/v1/segments",
    "/v1/segments/{name}": "/v1/segments/save_now",
    "/v1/segments/{name}/members": "/v1/segments/save_now/members",
    "/v1/audiences/{name}/members": "/v1/audiences/vip/members",
    "/v1/alerts": "/v1/alerts",
    "/v1/stream": "/v1/stream",
}


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda o: o.path)
def test_each_path_needs_its_scope_and_no_other(here: Served, operation: Any) -> None:
    path = PATHS[operation.path]
    assert here.get(path).status == 401
    assert here.get(path, {"Authorization": "Bearer wrong"}).status == 401
    for scope in SCOPES:
        answer = here.get(path, {"Authorization": f"Bearer {scope}"})
        if scope != operation.scope:
            assert answer.status == 403
            assert operation.scope in answer.json["why"]
        elif operation.path == "/v1/stream":
            assert answer.status == 503  # no Kafka in this test
        elif "{id}" not in path and "users" not in path:
            assert answer.status == 200


def test_answers_are_as_the_document_says(here: Served) -> None:
    described = document("1")
    for operation in OPERATIONS:
        if operation.answer is None:
            continue
        schema = {
            "$ref": f"#/components/schemas/{operation.answer.__name__}",
            "components": described["components"],
        }
        jsonschema.validate(ask(here, PATHS[operation.path]), schema)
    assert ask(here, "/v1/openapi.json")["paths"].keys() == {each.path for each in OPERATIONS}


def test_a_token_opens_no_page(here: Served) -> None:
    for page in ("/today.json", "/customers.json", "/settings.json"):
        assert here.get(page, {"Authorization": "Bearer all"}).status == 403


def test_without_the_scope_ids_everybody_has_a_pseudonym(here: Served) -> None:
    seal = Seal("s" * 32)
    members = ask(here, "/v1/segments/save_now/members", "sealed")["members"]
    assert [seal.opened(each["user_id"]) for each in members] == [f"u{n}" for n in range(5)]
    assert "u0" not in json.dumps(members)
    alerts = ask(here, "/v1/alerts", "sealed")["alerts"]
    assert seal.opened(alerts[0]["user_id"]) == "ann"
    named = ask(here, f"/v1/users/{members[0]['user_id']}", "sealed")
    assert seal.opened(named["user_id"]) == "u0"
    assert here.get("/v1/users/u0", {"Authorization": "Bearer sealed"}).status == 404


@pytest.mark.parametrize("token", ["all", "sealed"])
@pytest.mark.parametrize("path", ["/v1/segments/save_now/members", "/v1/audiences/vip/members"])
def test_parts_of_a_list_follow_each_other(here: Served, path: str, token: str) -> None:
    found, after = [], ""
    for _ in range(3):
        part = ask(here, f"{path}?limit=2&after={after}", token)
        found += [each["user_id"] for each in part["members"]]
        after = part["next"] or ""
    assert after == ""
    if token == "sealed":
        found = [Seal("s" * 32).opened(each) for each in found]
    assert found == [f"u{n}" for n in range(5)]


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=1001", "limit=-1", "limit=x", "limit=²", "after=%00", "after=bm8",
     "tier=best", "least=nan", "least=x"],
)  # fmt: skip
def test_a_wrong_parameter_is_refused_and_named(here: Served, query: str) -> None:
    answer = here.get(f"/v1/alerts?{query}", {"Authorization": "Bearer all"})
    assert answer.status == 400
    assert query.partition("=")[0] in answer.json["why"]


@pytest.mark.parametrize("path", ["/v1/segments/none", "/v1/audiences/none/members", "/v1/nothing"])
def test_what_there_is_not_is_not_found(here: Served, path: str) -> None:
    assert here.get(path, {"Authorization": "Bearer all"}).status == 404


def test_clickhouse_away_is_said() -> None:
    with served(Away()) as here:
        for path in ("/v1/users/ann", "/v1/segments"):
            answer = here.get(path)
            assert answer.status == 503
            assert "check that it is up" in answer.json["why"]


def test_nothing_is_kept_by_a_cache(here: Served) -> None:
    answer = here.get("/v1/users/ann", {"Authorization": "Bearer all"})
    assert answer.headers["Cache-Control"] == "no-store"


def test_the_stream_sends_what_happens_and_goes_on_after_an_id() -> None:
    log = Tailed()
    feed = Feed(log, ErasureBoard(log, NAMES.erasures), TOPICS, 1)

    async def events(here: Served, count: int, last: str = "") -> list[dict[str, str]]:
        headers = {"Last-Event-ID": last} if last else {}
        found: list[dict[str, str]] = []
        async with asyncio.timeout(30), here.client.get("/v1/stream", headers=headers) as answer:
            assert answer.content_type == "text/event-stream"
            while len(found) < count:
                fields = {}
                while line := (await answer.content.readline()).decode().rstrip("\n"):
                    name, _, value = line.partition(": ")
                    fields[name] = value
                found.append(fields)
                if len(found) == 1 and not last:
                    alert(log, "ann")
                    alert(log, "bob")
        return found

    with served(answers(), console_of(answers(), feed=feed)) as here:
        first = here.run(events(here, 3))
        assert [each["event"] for each in first] == ["alive", "alert", "alert"]
        assert json.loads(first[1]["data"])["user_id"] == "ann"
        again = here.run(events(here, 2, first[1]["id"]))
        assert again[1] == first[2]
