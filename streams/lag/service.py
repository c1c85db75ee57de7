"""The lag monitor as a process: polls, sets gauges, writes table `consumer_lag`."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Sequence

from schemas.tables import TABLES
from streams import background
from streams.clickhouse.blocks import Block
from streams.clickhouse.client import ClickHouseTarget, clickhouse_target, connect
from streams.clickhouse.errors import sink_error
from streams.clickhouse.insert import insert_block
from streams.lag.monitor import LagReport, publish, reports, table_columns
from streams.process import Failed, Part, at_once, in_thread, run_parts
from streams.settings import Settings
from streams.stopping import StopRequests, leave
from streams.telemetry.metrics import Metrics, endpoint

__all__ = ["run"]

# A poll that Kafka does not answer may take longer, and is not worth the wait.
STOP_SECONDS = 3.0

_LOG = logging.getLogger(__name__)


def run(settings: Settings, interval_seconds: float, requests: StopRequests) -> None:
    """Poll every `interval_seconds` until a stop request: the poll under way is finished if it
    takes less than `STOP_SECONDS`.

    A poll that can't be written is logged and dropped: lag is a gauge, and old values are useless.
    """
    metrics = Metrics()
    table = _Table(settings)

    def parts(failed: Failed) -> Sequence[Part]:
        return (
            *endpoint(metrics, settings.web.metrics_host, settings.web.metrics_port),
            Part("table", stop=at_once(table.close)),
            _polls(settings, interval_seconds, metrics, table, failed),
        )

    run_parts(parts, requests)


def _polls(
    settings: Settings, interval_seconds: float, metrics: Metrics, table: _Table, failed: Failed
) -> Part:
    """The polls, in a thread: kafka-python blocks."""
    stopping = threading.Event()
    polling: list[asyncio.Task[None]] = []

    def poll() -> None:
        for report in reports(settings, interval_seconds, pause=stopping.wait):
            publish(report, metrics)
            for problem in report.problems:
                _LOG.warning("lag poll: %s", problem)
            table.write(report)

    def start() -> None:
        polling.append(background.start(in_thread(poll)(), "lag polls", failed))

    async def stop() -> None:
        stopping.set()
        _, left = await asyncio.wait(polling, timeout=STOP_SECONDS)
        if left:
            leave()

    return Part("lag polls", at_once(start), stop)


class _Table:
    """Writes reports to `consumer_lag`, over one connection that is made again after an error."""

    def __init__(self, settings: Settings) -> None:
        self._target: ClickHouseTarget = clickhouse_target(settings)
        self._client = connect(self._target)

    def write(self, report: LagReport) -> None:
        block = Block(TABLES["consumer_lag"], [table_columns(report)])
        try:
            insert_block(self._client, block)
        except Exception as error:
            self._client.disconnect()
            _LOG.warning("%s", sink_error(error, "writing consumer lag", self._target))

    def close(self) -> None:
        self._client.disconnect()
