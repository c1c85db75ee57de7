"""When a process is alive and ready: the rules, case by case, and the pages that say so."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from typing import Any

import faust.transport.drivers.aiokafka as driver
import pytest

from streams.telemetry.faust_watchdogs import _LOGGER, WATCHDOGS, WatchdogCounter
from streams.telemetry.health import Facts, Health, Place, Recovery, Sink, judge, pages

LIMIT = 60.0
SHARD = Place("shard 3", "running", behind_records=9, still_seconds=61, was_well=True)
FINE = Place("shard 4", "running", was_well=True)
FULL, RETRYING = Sink("ok", is_full=True, oldest_seconds=1), Sink("retrying", False, 5)
WELL = Facts(0.5, kafka_seconds=5, places=(FINE,), sink=Sink("ok", False, 0.4))


def facts(**changed: Any) -> Facts:
    return replace(WELL, **changed)


CASES: dict[str, tuple[Facts, str, str]] = {
    # name: (facts, a piece of why it is dead, a piece of why it is not ready); '': it is well
    "well": (WELL, "", ""),
    "nothing to do": (facts(places=()), "", ""),
    "the loop hangs": (facts(looked_seconds=61), "event loop has not run for 61 s", "event loop"),
    "a shard hangs": (facts(places=(FINE, SHARD)), "shard 3 is 9 records behind", "shard 3"),
    "it hangs, but not for long": (facts(places=(replace(SHARD, still_seconds=60),)), "", ""),
    "nothing to read": (facts(places=(replace(SHARD, behind_records=0),)), "", ""),
    "it has never moved since the start": (
        facts(places=(replace(SHARD, was_well=False),)), "", "a restart has not helped",
    ),
    "it waits for room in the sink": (facts(places=(SHARD,), sink=FULL), "", ""),
    "it waits for ClickHouse": (facts(places=(SHARD,), sink=RETRYING), "", "(retrying)"),
    "rows wait": (facts(sink=Sink("ok", False, 61)), "", "rows have waited for ClickHouse for 61"),
    "the sink failed": (facts(sink=Sink("failed", False, 0)), "", "(failed)"),
    "Kafka is away": (facts(places=(SHARD,), kafka_seconds=61), "", "Kafka has not answered"),
    "it recovers": (
        facts(places=(replace(SHARD, state="recovering", recovery=Recovery(7, 2_500, 10_000)),)),
        "", "shard 3 is recovering: 75% replayed, 2,500 records in 7 steps left",
    ),
    "it reads its checkpoint": (
        facts(places=(replace(SHARD, state="recovering"),)), "", "shard 3 is recovering",
    ),
    "it waits to recover": (
        facts(places=(Place("shard 3", "waiting to recover"),)), "", "waiting to recover",
    ),
    "it joins": (
        facts(unassigned_seconds=999, was_assigned=False, places=()), "", "any partitions yet",
    ),
    "a rebalance": (facts(unassigned_seconds=300, places=()), "", "a rebalance is under way"),
    "a rebalance that does not end": (
        facts(unassigned_seconds=301, places=()), "rebalance has not ended for 301 s", "rebalance",
    ),
    "the same without Kafka": (
        facts(unassigned_seconds=301, places=(), kafka_seconds=61), "", "Kafka has not answered",
    ),
    "another trouble": (facts(troubles=("no labels",)), "", "no labels"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_rules(case: str) -> None:
    given, dead, unready = CASES[case]
    found = judge(given, LIMIT)
    assert (dead in " ".join(found.dead)) if dead else found.dead == (), found
    assert (unready in " ".join(found.unready)) if unready else found.unready == (), found
    assert set(found.dead) <= set(found.unready)  # what is not alive is not ready


def test_without_a_limit_nothing_is_dead_and_what_is_known_still_counts() -> None:
    for given, _, _ in CASES.values():
        assert judge(given, 0.0).dead == ()
    assert judge(facts(sink=RETRYING), 0.0).unready


def test_pages_have_a_status_reasons_and_the_progress_of_recoveries() -> None:
    place = Place("shard 3", "recovering", recovery=Recovery(7, 2_500, 10_000))
    now = [judge(WELL, LIMIT)]
    page = pages(lambda: now[0])
    assert page("/metrics") is None
    for path in ("/healthz", "/readyz"):
        answer = page(path)
        assert answer is not None
        assert (answer[0], json.loads(answer[2])["ok"]) == ("200 OK", True)
    now[0] = Health(("hangs",), ("hangs", "recovers"), (place,))
    alive, ready = page("/healthz"), page("/readyz")
    assert alive is not None
    assert ready is not None
    assert alive[0] == ready[0] == "503 Service Unavailable"
    assert json.loads(alive[2]) == {"ok": False, "reasons": ["hangs"]}
    assert json.loads(ready[2]) == {
        "ok": False,
        "reasons": ["hangs", "recovers"],
        "recovery": {"shard 3": {"share_done": 0.75, "records_left": 2_500, "steps_left": 7}},
    }


def test_what_fausts_watchdogs_log_is_counted_by_watchdog_and_still_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    texts = [v for k, v in vars(driver).items() if k.startswith("SLOW_PROCESSING_")]
    texts = [text for text in texts if "%r" in text and "(setting)" not in text]
    assert len(texts) == len(WATCHDOGS), "Faust has others by now"
    counted: list[str] = []
    counter = WatchdogCounter(counted.append)
    assert driver.logger.name == _LOGGER
    counter.install()
    try:
        for text in (*texts, "something else %r %s"):
            logging.getLogger(_LOGGER).error("[^-Consumer]: " + text, "tp", "a minute ago")
    finally:
        counter.remove()
    assert sorted(counted) == sorted(WATCHDOGS)
    assert len(caplog.records) == len(texts) + 1
    logging.getLogger(_LOGGER).error(texts[0], "tp", "a minute ago")
    assert len(counted) == len(WATCHDOGS)
