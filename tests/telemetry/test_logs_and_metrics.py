from __future__ import annotations

import io
import json
import logging
import re
from urllib.request import urlopen

import pytest

from streams.telemetry.endpoint import serve
from streams.telemetry.logs import configure
from streams.telemetry.metrics import SHARD_STATES, Metrics


@pytest.mark.parametrize("format_", ["text", "json"])
def test_logs_carry_known_fields_and_no_user(format_: str) -> None:
    out = io.StringIO()
    configure("info", format_, out)  # type: ignore[arg-type]
    logging.getLogger("streams.x").info(
        "batch done", extra={"shard": 3, "rows": 10, "user_id": "alice"}
    )
    logging.getLogger("streams.x").debug("not shown")
    logging.getLogger("aiokafka").info("not shown either")
    (line,) = out.getvalue().splitlines()
    assert "alice" not in line
    if format_ == "json":
        fields = json.loads(line)
        assert (fields["level"], fields["shard"], fields["rows"]) == ("info", 3, 10)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", fields["time"])
    else:
        assert line.endswith("INFO    streams.x: batch done shard=3 rows=10")


def test_json_logs_hold_exceptions_on_one_line() -> None:
    out = io.StringIO()
    configure("info", "json", out)
    try:
        raise ValueError("no")
    except ValueError:
        logging.getLogger("x").exception("failed")
    (line,) = out.getvalue().splitlines()
    assert "ValueError: no" in json.loads(line)["exception"]


def test_metric_names_follow_the_rules() -> None:
    names = {}
    for family in Metrics().registry.collect():
        names[family.name] = family.type
        assert family.documentation
    assert all(name.startswith("tideline_") for name in names)
    units = ("_seconds", "_bytes", "_records", "_rows", "_remaining")
    for name, kind in names.items():
        if kind == "histogram":
            assert name.endswith("_seconds"), name
        if any(word in name for word in ("duration", "_ms", "_total", "count")):
            pytest.fail(f"{name}: name the unit; _total is added by the client")
    assert any(name.endswith(units) for name in names)


def test_metrics_do_not_share_a_registry_and_are_served() -> None:
    one, two = Metrics(), Metrics()
    one.events.labels("0", "scored").inc(5)
    assert two.registry.get_sample_value(
        "tideline_events_total", {"shard": "0", "outcome": "scored"}
    ) is None  # fmt: skip
    with serve(one, "127.0.0.1", 0) as server, urlopen(
        f"http://127.0.0.1:{server.port}/metrics"
    ) as answer:  # fmt: skip
        body = answer.read().decode()
    assert 'tideline_events_total{outcome="scored",shard="0"} 5.0' in body


def test_a_shard_is_in_one_state_and_leaves_no_ghost() -> None:
    metrics = Metrics()
    sample = metrics.registry.get_sample_value
    metrics.set_shard_state(2, "recovering")
    metrics.set_shard_state(2, "running")
    metrics.users.labels("2").set(9)
    name = "tideline_shard_state"
    states = {s: sample(name, {"shard": "2", "state": s}) for s in SHARD_STATES}
    assert states == {state: float(state == "running") for state in SHARD_STATES}
    metrics.forget_shard(2)
    assert sample(name, {"shard": "2", "state": "running"}) is None
    assert sample("tideline_users", {"shard": "2"}) is None
