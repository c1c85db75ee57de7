"""Pipeline: what is late and why, with the lag monitor there, blind, and away."""

from __future__ import annotations

import asyncio
import http.server
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from streams.console.access import Token, token_hash
from streams.console.lag import LagMonitor, LagSeen, lag_url
from streams.console.pages.pipeline import LEDGER, trip_rows
from streams.console.pages.pipeline_lag import group_rows, partition_rows
from streams.console.remembered import Remembered
from streams.local.process import free_port
from streams.settings import Settings, override
from tests.console import lag_monitor
from tests.console.doubles import NOW_MS, Answers, Served, console_of, rows, served

LAG = (
    "consumer_group", "topic", "partition", "lag_records", "lag_seconds", "records_per_second",
    "retention_ratio", "status", "subscribed", "observed_ms",
)  # fmt: skip
BOOKS = (
    "shard", "accepted", "scored", "duplicates", "late", "dead_letters", "erased", "canaries",
    "missing_batches", "balanced", "newest_ms",
)  # fmt: skip
LETTERS = (
    "recorded_ms", "topic", "partition", "offset", "reason", "detail", "record_key", "payload",
    "payload_bytes",
)  # fmt: skip
HOSTILE = "<script>alert(1)</script>"


def shop(balanced: bool = True, batches: bool = True) -> Answers:
    ledger = [(0, 90, 80, 5, 1, 4, 0, 6, 0, balanced, NOW_MS)] if batches else []
    nan = float("nan")
    return Answers(
        {
            "consumer_lag_live": rows(
                LAG,
                [
                    ("loader", "orders", 0, 40, nan, 2.0, 0.1, "stall", 1, 1),
                    ("loader", "orders", 1, -1, 9.0, 1.0, nan, "ok", 1, 1),
                    ("loader", "old", 0, 10**6, 9.0, 1.0, nan, "stop", 0, 1),
                ],
            ),
            "lag_minutes": rows(["minute_s", "consumer_group", "lag_records", "lag_seconds"],
                                [(60, "loader", 40, 9.0), (120, "loader", 50, None)]),
            "FROM ledger": rows(BOOKS, ledger),
            "batch_minutes": rows(["minute_s", "accepted", "worst", "mean"], [(60, 90, 0.9, 0.4)]),
            "canary_trips": rows(["shard", "trips", "half", "most", "newest_ms"],
                                 [(0, 720, 0.5, 1.2, time.time_ns() // 1_000_000 - 4_000)]),
            "dead_letter_reasons": rows(
                ["topic", "reason", "letters", "letters_today", "newest_ms"],
                [("clickstream", "invalid_json", 9, 2, NOW_MS)],
            ),
            "dead_letters_newest": rows(
                LETTERS,
                [(NOW_MS, "clickstream", 0, 7, "invalid_json", "no value", "ann", HOSTILE, 25)],
            ),
            "worker_clocks": rows(["lead"], [(0,)]),
        }
    )  # fmt: skip


@contextmanager
def console_with(seen: LagSeen, reader: Answers | None = None, **given: Any) -> Iterator[Served]:
    async def look() -> LagSeen:
        return seen

    answers = reader or shop()
    made = console_of(answers, **given)
    sources = {"lag": look, "ledger": Remembered(answers, LEDGER).rows}
    with served(None, replace(made, sources=sources)) as console:
        yield console


@pytest.fixture(scope="module")
def seen() -> Iterator[LagSeen]:
    """What the console's own client gets from the monitor's own pages."""
    with lag_monitor.running(NOW_MS, lag_monitor.looks(NOW_MS)) as url:
        yield asyncio.run(LagMonitor(url).look())


def test_lag_of_every_group_in_records_seconds_and_what_follows(seen: LagSeen) -> None:
    with console_with(seen) as console:
        found = console.get("/pipeline.json").json
        groups = {row["group"]: row for row in found["tables"]["groups"]["rows"]}
        assert list(groups)[:2] == ["tideline", lag_monitor.NAMES.learner_group]
        loader = groups["warehouse-loader"]
        assert (loader["status"], loader["ours"]) == ("error", "other")
        assert loader["records"] > 20_000
        assert loader["to_loss"] > 0
        first = found["tables"]["partitions"]["rows"][0]
        assert (first["group"], first["status"]) == ("warehouse-loader", "stall")
        assert first["owner"] == "warehouse-loader-1 at 10.0.0.7"
        assert "warehouse-loader is in error" in found["summary"]
        page = console.get("/pipeline").text
        assert "&lt;script&gt;alert(1)" in page
        assert HOSTILE not in page
        assert 'href="/pipeline?reason=invalid_json"' in page


def test_without_a_monitor_lag_is_what_it_last_wrote() -> None:
    away = asyncio.run(LagMonitor(f"http://127.0.0.1:{free_port()}").look())
    assert "does not answer" in away.problem
    with console_with(away) as console:
        found = console.get("/pipeline.json").json
        (loader,) = found["tables"]["groups"]["rows"]
        assert (loader["records"], loader["seconds"], loader["status"]) == (40, 9.0, "stall")
        assert found["summary"] == "Results arrive; the lag monitor says nothing now."
        page = console.get("/pipeline").text
        assert "tideline lag --serve" in page
        assert "last wrote to ClickHouse" in page


def test_no_monitor_at_all_is_said_with_the_setting() -> None:
    none = asyncio.run(LagMonitor("").look())
    assert "TIDELINE_CONSOLE_LAG_URL" in none.problem
    assert lag_url(override(Settings(), web_metrics_port=9_466)) == "http://127.0.0.1:9466"
    assert lag_url(Settings()) == ""


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (200, b"<html>", "does not answer"),
        (200, b"[1]", "no lag monitor"),
        (200, b"{}", "blind"),
        (302, b"", "does not answer"),
        (200, b'{"blind": "", "groups": [{"consumer_group": 7}, 8]}', "str"),
        (503, b'{"blind": "the last look at Kafka was 90 s ago"}', ""),
        (200, b" " * 4_100_000, "more than"),
    ],
)
def test_anything_may_answer_there(status: int, body: bytes, words: str) -> None:
    class Odd(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Location", "http://127.0.0.1:1/")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Odd)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        found = asyncio.run(LagMonitor(f"http://127.0.0.1:{server.server_port}").look())
    finally:
        server.shutdown()
        server.server_close()
    assert words in found.problem
    with console_with(found) as console:
        assert console.get("/pipeline").status == 200


def test_a_blind_monitor_says_why(seen: LagSeen) -> None:
    with console_with(replace(seen, blind="Kafka does not answer", groups=())) as console:
        page = console.get("/pipeline").text
        assert "The lag monitor sees nothing now: Kafka does not answer." in page


def test_a_ledger_that_does_not_balance_comes_first(seen: LagSeen) -> None:
    with console_with(seen, shop(balanced=False)) as console:
        page = console.get("/pipeline").text
        assert "The ledger of shard 0 does not balance" in page


def test_before_the_first_batch_it_says_what_to_start(seen: LagSeen) -> None:
    with console_with(seen, shop(batches=False)) as console:
        page = console.get("/pipeline").text
        assert "No batch was written yet." in page
        assert "tideline doctor" in page


def test_a_replay_has_no_ages_between_the_events_clock_and_this_machine_s(seen: LagSeen) -> None:
    """In a demo of 2017 results were 3,459 days late, and lag -3,459 days old."""
    here = replace(seen, observed_ms=time.time_ns() // 1_000_000 - 2_000)
    with console_with(here, stream_clock="event") as console:
        found = console.get("/pipeline.json").json
        facts = {fact["name"]: fact["value"] for fact in found["facts"]}
        assert facts["batch to row"] is facts["workers' clocks"] is None
        assert found["charts"]["freshness"]["x"] == []
        tables = found["tables"]
        assert [tables[name]["as_of_wall"] for name in ("groups", "ledger", "canaries")] == [
            True, True, False,
        ]  # fmt: skip
        page = console.get("/pipeline").text
        assert "TIDELINE_STREAM_CLOCK=wall" in page
        ages = re.findall(r'class="age"[^>]*>([^<]*)<', page)
        assert len(ages) == 3
        assert re.fullmatch(r"\d+ s", ages[1]), ages  # the monitor's; the double's ledger is old
    with console_with(here) as console:
        found = console.get("/pipeline.json").json
        facts = {fact["name"]: fact["value"] for fact in found["facts"]}
        assert (facts["batch to row"], facts["workers' clocks"]) == (0.4, 0)


def test_a_canary_that_is_lost_is_said(seen: LagSeen) -> None:
    old = {"partitions": [{"partition": 0, "age_seconds": 400.0, "waiting": 80}]}
    with console_with(replace(seen, canary=old, groups=seen.groups[:2])) as console:
        assert "No canary got through partition 0 for 400 s" in console.get("/pipeline").text
    assert trip_rows([], replace(seen, canary={}), NOW_MS) == []


def test_records_of_dead_letters_are_for_those_who_may_see_ids(
    seen: LagSeen, tmp_path: Any
) -> None:
    from streams.console.tokens import Tokens  # noqa: PLC0415

    file = tmp_path / "tokens.toml"
    file.write_text(f'[tokens.op]\nsha256 = "{token_hash("t" * 40)}"\nroles = ["sre"]\n')
    assert Token("op", token_hash("t" * 40), frozenset({"sre"}))
    with console_with(seen, tokens=Tokens(file)) as console:
        page = console.get("/pipeline", {"Authorization": f"Bearer {'t' * 40}"})
        assert page.status == 200
        assert "alert(1)" not in page.text
        assert "ann" not in json.dumps(page.text.split("<main")[1].split("</main>")[0]).split()
        assert "your roles do not see them" in page.text


def test_rows_of_what_the_monitor_sees_have_no_number_for_nothing(seen: LagSeen) -> None:
    quiet = replace(seen, groups=seen.groups[:1], partitions={})
    ((*_, to_close, to_loss, retention, _members, _count, _whose),) = group_rows(quiet)
    assert (to_close, to_loss, retention) == (None, None, None)
    assert partition_rows(quiet) == []
