from __future__ import annotations

import ast
import io
import json
import logging
import re
from pathlib import Path
from urllib.request import urlopen

import pytest

from streams.telemetry.endpoint import serve
from streams.telemetry.logs import FIELDS, configure
from streams.telemetry.metrics import Metrics


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


def test_a_line_names_its_fact_for_machines_alone() -> None:
    fields = {"fact": "step", "shard": 3, "step": 7, "seq": 7 + (9 << 32), "orders_to": 12}
    for format_ in ("json", "text"):
        out = io.StringIO()
        configure("info", format_, out)
        logging.getLogger("x").info("done", extra=fields)
        (line,) = out.getvalue().splitlines()
        if format_ == "json":
            assert fields.items() <= json.loads(line).items()
        else:
            assert line.endswith("done shard=3 step=7 orders_to=12")


def test_whatever_code_logs_with_extra_is_written() -> None:
    """A field that is not in FIELDS would be dropped in silence."""
    given: set[str] = set()
    for path in sorted(Path("streams").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.keyword) and node.arg == "extra":
                if isinstance(node.value, ast.Dict):
                    keys = [key for key in node.value.keys if isinstance(key, ast.Constant)]
                    given |= {str(key.value) for key in keys}
                if isinstance(node.value, ast.Call):
                    given |= {keyword.arg for keyword in node.value.keywords if keyword.arg}
    assert {"fact", "shard", "seconds"} <= given
    assert given <= set(FIELDS)


def test_json_logs_hold_exceptions_on_one_line() -> None:
    out = io.StringIO()
    configure("info", "json", out)
    try:
        raise ValueError("no")
    except ValueError:
        logging.getLogger("x").exception("failed")
    (line,) = out.getvalue().splitlines()
    assert "ValueError: no" in json.loads(line)["exception"]


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
