"""The lag monitor as a process: looks, serves what it saw, writes `consumer_lag`, notifies."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence

from schemas.tables import TABLES
from streams.clickhouse.blocks import Block
from streams.clickhouse.client import ClickHouseTarget, clickhouse_target, connect
from streams.clickhouse.errors import sink_error
from streams.clickhouse.insert import insert_block
from streams.lag.canary import CanaryWatch
from streams.lag.incidents import Incidents
from streams.lag.latest import Latest
from streams.lag.ledger import LedgerWatch, RecentLedger
from streams.lag.monitor import reports
from streams.lag.report import LagReport, table_columns
from streams.lag.webhook import Webhook, post
from streams.memory import release_memory, share_one_arena
from streams.process import Failed, Part, at_once, run_parts, thread_part
from streams.settings import Settings
from streams.stopping import StopRequests
from streams.telemetry.endpoint import endpoint
from streams.telemetry.metrics import Metrics

__all__ = ["run"]

# How often ClickHouse gets also those partitions of other groups that have nothing to catch up on.
EVERYTHING_SECONDS = 60.0

_LOG = logging.getLogger(__name__)


def run(settings: Settings, interval_seconds: float, requests: StopRequests) -> None:
    """Look every `interval_seconds` until a stop request: the look under way is finished if that
    does not take long.

    A look that can't be written is logged and dropped: lag is a gauge, and old values are useless.
    """
    share_one_arena()
    metrics = Metrics()
    table = _Table(settings)
    latest = Latest(
        interval_seconds, lambda: time.time_ns() // 1_000_000, settings.health.stuck_seconds
    )
    latest.feed(metrics)
    canaries = CanaryWatch(lambda: time.time_ns() // 1_000_000)
    canaries.feed(metrics)
    url = settings.lag.webhook_url
    webhook = Webhook(post(url), lambda result: metrics.lag_monitor_webhooks.labels(result).inc())

    def parts(failed: Failed) -> Sequence[Part]:
        return (
            *endpoint(
                metrics,
                settings.web.metrics_host,
                settings.web.metrics_port,
                lambda path: canaries.page(path) or latest.page(path),
            ),
            Part("table", stop=at_once(table.close)),
            *(
                [thread_part("lag webhook", webhook.run, webhook.stop, failed)]
                if url.reveal()
                else []
            ),
            *([_books(settings, metrics, failed)] if settings.lag.ledger_interval_seconds else []),
            *_canaries(settings, metrics, canaries, failed),
            _polls(settings, interval_seconds, latest, table, webhook, failed),
        )

    run_parts(parts, requests)


def _polls(
    settings: Settings,
    interval_seconds: float,
    latest: Latest,
    table: _Table,
    webhook: Webhook,
    failed: Failed,
) -> Part:
    """The looks, in a thread: kafka-python blocks."""
    stopping = threading.Event()
    incidents = Incidents(settings.lag.webhook_status)

    def look() -> None:
        for report in reports(settings, interval_seconds, pause=stopping.wait):
            latest.publish(report)
            for problem in report.problems:
                _LOG.warning("lag poll: %s", problem)
            for notice in incidents.look(report):
                _LOG.warning(
                    "consumer group %s: incident %s, %s: %s",
                    notice.incident.consumer_group,
                    notice.incident.id,
                    notice.state,
                    notice.body["status"],
                    extra={
                        "fact": f"incident_{notice.state}",
                        "consumer_group": notice.incident.consumer_group,
                        "status": notice.body["status"],
                    },
                )
                webhook.add([notice])
            table.write(report)
            release_memory()  # a look at thousands of partitions is a million short-lived objects

    return thread_part("lag polls", look, stopping.set, failed)


def _canaries(
    settings: Settings, metrics: Metrics, canaries: CanaryWatch, failed: Failed
) -> Sequence[Part]:
    """None if the interval is 0; then nothing of theirs is imported, which saves memory."""
    if not settings.lag.canary_interval_seconds:
        return ()
    from streams.lag.canary_run import canary_parts  # noqa: PLC0415

    return canary_parts(settings, metrics, canaries, failed)


def _books(settings: Settings, metrics: Metrics, failed: Failed) -> Part:
    """The looks at the ledger, in a thread of their own: ClickHouse may be slow or away."""
    stopping = threading.Event()
    ledger = RecentLedger(clickhouse_target(settings))
    watch = LedgerWatch(ledger.read, time.time)
    watch.feed(metrics)

    def look() -> None:
        while not stopping.is_set():
            watch.look()
            stopping.wait(settings.lag.ledger_interval_seconds)
        ledger.close()

    return thread_part("ledger", look, stopping.set, failed)


class _Table:
    """Writes reports to `consumer_lag`, over one connection that is made again after an error."""

    def __init__(self, settings: Settings) -> None:
        self._target: ClickHouseTarget = clickhouse_target(settings)
        self._client = connect(self._target)
        self._everything_at = float("-inf")

    def write(self, report: LagReport) -> None:
        now = time.monotonic()
        everything = now - self._everything_at >= EVERYTHING_SECONDS
        columns = table_columns(report, everything=everything)
        if not len(columns["partition"]):
            return
        block = Block(TABLES["consumer_lag"], [columns])
        try:
            insert_block(self._client, block)
        except Exception as error:
            self._client.disconnect()
            _LOG.warning("%s", sink_error(error, "writing consumer lag", self._target))
        else:
            self._everything_at = now if everything else self._everything_at

    def close(self) -> None:
        self._client.disconnect()
