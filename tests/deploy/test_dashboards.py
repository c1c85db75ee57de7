"""The dashboards of deploy/grafana: their structure, and each query on what it reads.

Grafana itself is in no registry that this project installs from, so it is not run here. Prometheus'
queries are run in `tests/deploy/test_prometheus.py`, on what real processes export.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import yaml

from schemas.tables import TABLES
from tests.clickhouse.roles import ADMIN, as_role, migrated
from tests.deploy.dashboards import BOARDS, GRAFANA, Query, board, expanded, queries
from tests.deploy.files import records
from tests.deploy.promql import problems

CLICKHOUSE = "grafana-clickhouse-datasource"
ROLES = {
    "tideline-models": "tideline_sre_ro",
    "tideline-marketing": "tideline_marketing_ro",
    "tideline-campaigns": "tideline_campaign_ro",
}
each_board = pytest.mark.parametrize("path", BOARDS, ids=lambda path: path.stem)


def sources() -> dict[str, dict[str, Any]]:
    document = yaml.safe_load((GRAFANA / "provisioning/datasources/tideline.yml").read_text())
    return {source["uid"]: source for source in document["datasources"]}


def test_each_reader_has_a_dashboard() -> None:
    assert [path.stem for path in BOARDS] == ["campaigns", "marketing", "models", "sre"]
    uids = [board(path)["uid"] for path in BOARDS]
    assert len(set(uids)) == len(uids)


@each_board
def test_panels_have_places_and_words_of_their_own(path: Path) -> None:
    panels = board(path)["panels"]
    assert [panel["id"] for panel in panels] == list(range(1, len(panels) + 1))
    places = [panel["gridPos"] for panel in panels]
    for place in places:
        assert place["x"] + place["w"] <= 24, "Grafana's grid"
    for a, b in itertools.combinations(places, 2):
        apart = (
            a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
            or a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]
        )  # fmt: skip
        assert apart, (a, b)
    titles = [panel["title"] for panel in panels]
    assert len(set(titles)) == len(titles)


@each_board
def test_panels_ask_sources_that_are_provisioned(path: Path) -> None:
    known = sources()
    for panel in board(path)["panels"]:
        if panel["type"] == "row":
            continue
        assert panel["targets"], panel["title"]
        references = [target["refId"] for target in panel["targets"]]
        assert len(set(references)) == len(references)
        for source in (panel["datasource"], *(t["datasource"] for t in panel["targets"])):
            assert known[source["uid"]]["type"] == source["type"]


@pytest.mark.parametrize("query", queries("prometheus"), ids=str)
def test_metrics_labels_and_rules_that_are_asked_for_exist(query: Query) -> None:
    known = set(records())
    assert [p for p in problems(query.text, known) if p != "no metric ALERTS"] == []


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shop of one customer in November 2026: one row, at least, in every view."""
    path = migrated(tmp_path_factory.mktemp("dashboards") / "database")
    now = "'2026-11-20 12:00:00'"
    rows: list[tuple[str, dict[str, str]]] = [
        ("score_history", {
            "user_id": "'ann'", "seq": "1", "scored_at": now, "p_churn": "0.4",
            "expected_spend": "20", "p_buy_7d": "0.2", "value_tier": "'high'",
            "lifecycle": "'at_risk'", "lifetime_orders": "5",
        }),
        ("score_history", {"user_id": "'bob'", "seq": "1", "scored_at": now, "p_churn": "nan"}),
        *(("alerts", {
            "alert_id": f"'{alert}'", "user_id": "'ann'", "raised_at": now, "version": version,
            "closed_at": now, "closed_why": f"'{why}'", "arm": "'treat'", "priority": "8",
            "action": "'call'", "reasons": "['no order for 40 days']",
        }) for alert, version, why in (("a", "1", ""), ("b", "1", ""), ("b", "2", "ordered"))),
        ("segment_changes", {
            "user_id": "'ann'", "dimension": "'lifecycle'", "to_segment": "'at_risk'",
            "changed_at": now,
        }),
        ("matured_predictions", {"user_id": "'ann'", "matured_at": now, "p_churn": "0.4"}),
        ("model_drift", {"drift_id": "'d'", "detected_at": now}),
        ("trainer_log", {"version": "'v'", "event": "'trained'"}),
    ]  # fmt: skip
    answers = as_role(ADMIN, path, ["USE tideline", *(_insert(*row) for row in rows)])
    assert not [answer for answer in answers if isinstance(answer, str)]
    return path


def _insert(table: str, values: dict[str, str]) -> str:
    assert values.keys() <= TABLES[table].columns.keys(), table
    return f"INSERT INTO {table} ({', '.join(values)}) VALUES ({', '.join(values.values())})"


@pytest.mark.clickhouse
@pytest.mark.parametrize("source", ROLES)
def test_every_query_finds_something_with_its_readers_rights(source: str, database: Path) -> None:
    """A panel that is empty because of a wrong name, or because its reader may not, fails here."""
    asked = [query for query in queries(CLICKHOUSE) if query.source == source]
    statements = [f"SELECT * FROM ({expanded(query.text)}) LIMIT 1" for query in asked]
    names = [f"DESCRIBE ({expanded(query.text)})" for query in asked]
    _, *answers = as_role(ROLES[source], database, ["USE tideline", *statements, *names])
    for query, answer, columns in zip(
        asked, answers[: len(asked)], answers[len(asked) :], strict=True
    ):
        assert not isinstance(answer, str), f"{query}: {answer}"
        assert answer, f"{query} finds nothing"
        assert all(value is not None for value in answer[0]) or len(answer[0]) > 5, query
        if query.kind == "stat":
            assert answer[0][0], f"{query} counts nothing"
        if query.is_series:
            assert columns[0][0] == "time", query
            assert columns[0][1].startswith("DateTime"), query


@pytest.mark.parametrize("query", queries(CLICKHOUSE), ids=str)
def test_no_macro_is_left_and_no_query_asks_for_everything(query: Query) -> None:
    assert "$" not in expanded(query.text)
    assert "*" not in query.text
    if query.kind == "table":
        assert "LIMIT" in query.text or "GROUP BY" in query.text


def test_every_reader_asks_only_its_own_source() -> None:
    for path in BOARDS:
        asked = {query.source for query in queries(CLICKHOUSE) if query.board == path.stem}
        assert asked <= {f"tideline-{path.stem}"}
    assert {uid for uid, each in sources().items() if each["type"] == CLICKHOUSE} == set(ROLES)


def test_a_wrong_column_would_be_found(database: Path) -> None:
    _, answer = as_role(
        "tideline_marketing_ro", database, ["USE tideline", "SELECT p_chrun FROM scores_live"]
    )
    assert isinstance(answer, str)
