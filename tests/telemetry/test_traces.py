"""Traces of batches: which, what is in them, and how they reach a collector that speaks OTLP."""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from schemas.errors import SettingsError
from streams.local.process import wait_until
from streams.settings import load
from streams.shard.shard import Shard
from streams.telemetry.batch_tracer import BatchTracer, batch_traces
from streams.telemetry.metrics import Metrics
from streams.telemetry.otlp import AT_ONCE, WAITING, Exporter, post
from streams.telemetry.traces import Span, document, is_sampled, trace_id
from tests.shard.rig import SHARD, Rig, quick_shards, script

__all__ = ["quick_shards"]

APP = "shop"


class Collector:
    """Takes OTLP over HTTP as its specification says, and refuses what it forbids."""

    def __init__(self) -> None:
        self.spans: list[dict[str, Any]] = []
        self.resources: list[dict[str, Any]] = []
        self.statuses: list[int] = []
        """To answer with before 200s."""
        self.posts = 0

    def take(self, path: str, content_type: str, body: bytes) -> int:
        self.posts += 1
        if path != "/v1/traces" or content_type != "application/json":
            return 404
        if self.statuses:
            return self.statuses.pop(0)
        for resource in json.loads(body)["resourceSpans"]:
            self.resources.append(attributes(resource["resource"]))
            for scope in resource["scopeSpans"]:
                for span in scope["spans"]:
                    check(span)
                    self.spans.append(span)
        return 200


def check(span: dict[str, Any]) -> None:
    """opentelemetry/proto/trace/v1/trace.proto, in OTLP's JSON encoding."""
    known = {
        "traceId", "spanId", "parentSpanId", "name", "kind", "startTimeUnixNano", "endTimeUnixNano",
        "attributes", "status",
    }  # fmt: skip
    assert span.keys() <= known
    assert re.fullmatch(r"[0-9a-f]{32}", span["traceId"])
    assert re.fullmatch(r"[0-9a-f]{16}", span["spanId"])
    assert re.fullmatch(r"[0-9a-f]{16}", span.get("parentSpanId", "0" * 16))
    assert span["name"]
    assert span["kind"] in range(1, 6)
    for edge in ("startTimeUnixNano", "endTimeUnixNano"):
        assert re.fullmatch(r"\d{19}", span[edge])  # 64-bit integers are text
    assert int(span["startTimeUnixNano"]) <= int(span["endTimeUnixNano"])
    assert span["status"].get("code", 0) in range(3)
    attributes(span)


def attributes(of: dict[str, Any]) -> dict[str, Any]:
    found = {}
    for attribute in of["attributes"]:
        ((kind, value),) = attribute["value"].items()
        assert type(value) is {"stringValue": str, "intValue": str, "boolValue": bool}[kind]
        found[attribute["key"]] = int(str(value)) if kind == "intValue" else value
    return found


@contextmanager
def listening(collector: Collector) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status = collector.take(self.path, self.headers["Content-Type"], body)
            self.send_response(status)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def run_shard(export: Callable[[Any], None], share: float) -> Rig:
    """A whole life of a shard, traced."""

    async def go() -> Rig:
        rig = Rig()
        rig.load(script())
        process = rig.process("one", fetch=17)
        process.tracer = BatchTracer(APP, share, export)
        process.shard = Shard(SHARD, "one", process.services())
        await process.run()
        return rig

    return asyncio.run(go())


@pytest.mark.usefixtures("quick_shards")
def test_every_batch_has_a_trace_from_the_fetch_to_the_commit() -> None:
    metrics, collector = Metrics(), Collector()
    with listening(collector) as endpoint:
        before = time.time_ns()
        tracer, (part,) = batch_traces(endpoint, APP, 1.0, metrics)
        assert tracer is not None
        asyncio.run(part.start())  # type: ignore[arg-type]
        rig = run_shard(tracer._export, 1.0)
        asyncio.run(part.stop())  # type: ignore[arg-type]
    plans = asyncio.run(rig.oracle()).plans
    roots = [span for span in collector.spans if "parentSpanId" not in span]
    assert [span["traceId"] for span in roots] == [trace_id(APP, SHARD, p.seq) for p in plans]
    for root, plan in zip(roots, plans, strict=True):
        mine = [s for s in collector.spans if s["traceId"] == root["traceId"] and s is not root]
        assert {s["parentSpanId"] for s in mine} == {root["spanId"]}
        names = [s["name"] for s in mine]
        stages = ["decode", "apply", "score", "decide"]
        assert sorted(names) == sorted(["wait", "journal", *stages, "send", "settle batch"])
        assert [name for name in names if name in stages] == stages
        by_name = {s["name"]: s for s in mine}
        starts = {name: int(s["startTimeUnixNano"]) for name, s in by_name.items()}
        assert before <= int(root["startTimeUnixNano"]) == starts["wait"] <= starts["decode"]
        assert int(by_name["send"]["endTimeUnixNano"]) == int(root["endTimeUnixNano"])
        assert starts["settle batch"] >= starts["send"]
        said = attributes(root)
        assert said["messaging.system"] == "kafka"
        assert said["messaging.batch.message_count"] == sum(plan.records or ())
        assert said["tideline.seq"] == str(plan.seq)
        assert (said["tideline.orders_from"], said["tideline.orders_to"]) == (
            plan.start[1], plan.stop[1],
        )  # fmt: skip
        assert said["tideline.replayed"] is False
    assert collector.resources[0]["service.namespace"] == APP
    sent = metrics.registry.get_sample_value("tideline_trace_spans_total", {"result": "sent"})
    assert sent == len(collector.spans)


@pytest.mark.usefixtures("quick_shards")
def test_the_same_batches_are_sampled_in_every_run() -> None:
    traced = []
    for _ in range(2):
        spans: list[Span] = []
        run_shard(spans.extend, 0.4)
        traced.append({span.trace_id for span in spans})
    assert traced[0] == traced[1]
    ids = [trace_id(APP, SHARD, seq) for seq in range(20_000)]
    assert len(set(ids)) == len(ids)
    assert 0.08 < sum(is_sampled(trace, 0.1) for trace in ids) / len(ids) < 0.12
    assert not any(is_sampled(trace, 0.0) for trace in ids)
    assert all(is_sampled(trace, 1.0) for trace in ids)


def test_rows_that_were_not_taken_fail_the_trace_and_repeats_are_spans_of_their_own() -> None:
    first = Span("a" * 32, "send", 10, 20)
    assert first.span_id != Span("a" * 32, "send", 11, 20).span_id
    encoded = document([Span("a" * 32, "send", 10, 5, failed=True)], {})
    (span,) = encoded["resourceSpans"][0]["scopeSpans"][0]["spans"]
    assert span["status"] == {"code": 2}
    assert span["endTimeUnixNano"] == "10"  # a clock that was set back


def spans(n: int) -> list[Span]:
    now = time.time_ns()
    return [Span("a" * 32, f"span {i}", now, now) for i in range(n)]


@pytest.mark.parametrize(
    ("statuses", "sent"), [([503], 3), ([429, 502], 3), ([400], 0), ([503, 503, 503], 0)]
)
def test_what_a_collector_asks_to_repeat_is_repeated_and_the_rest_is_dropped_and_counted(
    statuses: list[int], sent: int
) -> None:
    collector, counted = Collector(), dict[str, int]()
    collector.statuses = list(statuses)
    with listening(collector) as endpoint:
        exporter = Exporter(post(endpoint), {}, lambda result, n: counted.update({result: n}), 0.01)
        exporter.start()
        exporter.add(spans(3))
        assert wait_until(lambda: bool(counted), 60)
        exporter.close()
    assert counted == ({"sent": 3} if sent else {"dropped": 3})
    assert len(collector.spans) == sent


def test_a_collector_that_is_away_costs_the_spans_and_no_memory(
    dead_broker: str, caplog: pytest.LogCaptureFixture
) -> None:
    counted: list[tuple[str, int]] = []
    exporter = Exporter(
        post(f"http://{dead_broker}"), {}, lambda result, n: counted.append((result, n))
    )
    exporter.add(spans(WAITING + 7))
    assert counted == [("dropped", 7)]
    exporter.add(spans(1))
    assert counted == [("dropped", 7), ("dropped", 1)]
    exporter.start()
    exporter.close()
    assert wait_until(lambda: sum(n for _, n in counted) == WAITING + 8, 60)
    assert {result for result, _ in counted} == {"dropped"}
    assert max(n for _, n in counted) <= AT_ONCE
    assert caplog.text.count("did not take spans") == 1


def test_an_error_that_nobody_expects_costs_its_spans_and_not_the_thread(
    caplog: pytest.LogCaptureFixture,
) -> None:
    counted: list[tuple[str, int]] = []
    answers = iter([ValueError("no JSON"), None])

    def send(_: bytes) -> None:
        error = next(answers)
        if error is not None:
            raise error

    exporter = Exporter(send, {}, lambda result, n: counted.append((result, n)), 0.01)
    exporter.start()
    exporter.add(spans(2))
    assert wait_until(lambda: len(counted) == 1, 60)
    exporter.add(spans(3))
    assert wait_until(lambda: len(counted) == 2, 60)
    exporter.close()
    assert counted == [("dropped", 2), ("sent", 3)]
    assert "did not take spans: no JSON" in caplog.text


def test_without_a_collector_there_is_no_tracer() -> None:
    assert batch_traces("", APP, 1.0, Metrics()) == (None, ())
    for wrong in ("127.0.0.1:4318", "http://user:secret@collector:4318", "ftp://collector"):
        with pytest.raises(SettingsError, match="TIDELINE_TRACE_ENDPOINT"):
            load({"TIDELINE_TRACE_ENDPOINT": wrong}, None)
