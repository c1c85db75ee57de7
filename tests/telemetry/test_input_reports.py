"""What the log and the metrics say about records that are refused, late, or ahead of time."""

from __future__ import annotations

import logging

import pytest

from schemas.messages import DeadLetter
from streams.core.hashing import key_pseudonym
from streams.telemetry.dead_letter_log import EVERY_SECONDS, DeadLetterLog
from streams.telemetry.metrics import Metrics
from streams.telemetry.shard_metrics import MetricsMonitor
from tests.core.driving import T0, Driver, click, config, order
from tests.core.oracle import DAY_MS


def letter(offset: int, reason: str = "late", topic: str = "orders") -> DeadLetter:
    return DeadLetter(
        topic=topic, partition=3, offset=offset, reason=reason, detail=f"detail of {offset}",
        recorded_at_ms=T0, key=b"alice@shop.example", payload=b"{}", payload_bytes=2,
    )  # fmt: skip


def test_dead_letters_are_logged_at_once_then_once_a_minute_with_their_number(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = 50.0
    log = DeadLetterLog(lambda: now)
    log.report([letter(1), letter(2)])
    assert [r.getMessage().split(",")[0] for r in caplog.records] == [
        "orders/3: 2 dead letters (late)"
    ]
    caplog.clear()
    for n in range(10):
        now += EVERY_SECONDS / 20
        log.report([letter(10 + n)])
    log.report([])
    assert not caplog.records
    log.report([letter(30, topic="clicks")])  # another place
    assert "clicks/3: 1 dead letters" in caplog.text
    caplog.clear()
    now += EVERY_SECONDS / 2
    log.report([letter(40)])
    assert "orders/3: 11 dead letters (late)" in caplog.text


def test_a_line_names_the_place_the_pseudonym_and_the_remedy_and_no_customer(
    caplog: pytest.LogCaptureFixture,
) -> None:
    DeadLetterLog().report(
        [letter(7, "future_timestamp"), letter(8, "invalid_field"), letter(9, "wrong_partition")]
    )
    assert "alice" not in caplog.text
    assert caplog.text.count(key_pseudonym(b"alice@shop.example")) == 3
    ahead, field, partition = (r.getMessage() for r in caplog.records)
    assert "offset 7" in ahead
    assert "detail of 7. Set the clock of the producer" in ahead
    assert "detail" not in field  # it may quote the shop's text
    assert "tideline dlq list" in field
    assert "dlq replay --reason wrong_partition" in partition


def test_clocks_that_are_wrong_have_metrics_and_a_line(caplog: pytest.LogCaptureFixture) -> None:
    metrics = Metrics()
    monitor = MetricsMonitor(metrics, ("clicks", "orders"))
    sample = metrics.registry.get_sample_value
    driver = Driver(config())
    gauge = "tideline_producer_clock_lead_seconds"
    place = {"topic": "orders", "partition": "3"}

    def report(**step: object) -> None:
        monitor.stepped(3, driver.feed(**step), driver.state, 0.01, {})  # type: ignore[arg-type]

    report(orders=[order("u", T0)], clock_ms=T0)
    assert sample(gauge, place) is None
    report(orders=[order("u", T0 + 400 * DAY_MS)], clock_ms=T0)
    assert sample(gauge, place) == 400 * 86_400
    assert sample("tideline_watermarks_set_back_total") == 0
    driver.state.meta.watermark_ms = T0 + 2 * DAY_MS
    report(clicks=[click("u", T0)], clock_ms=T0)
    assert sample("tideline_watermarks_set_back_total") == 1
    assert "watermark was 172500 s ahead" in caplog.text
    assert caplog.records[-1].levelno == logging.WARNING
    monitor.forget(3)
    assert sample(gauge, place) is None
