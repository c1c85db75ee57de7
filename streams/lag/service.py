"""The lag monitor as a process: polls, sets gauges, writes table `consumer_lag`."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from schemas.tables import TABLES
from streams.clickhouse.blocks import Block
from streams.clickhouse.client import ClickHouseTarget, clickhouse_target, connect
from streams.clickhouse.errors import sink_error
from streams.clickhouse.insert import insert_block
from streams.lag.monitor import LagReport, publish, reports, table_columns
from streams.settings import Settings
from streams.telemetry.metrics import Metrics, serve

__all__ = ["run"]

_LOG = logging.getLogger(__name__)


def run(settings: Settings, interval_seconds: float) -> None:
    """Poll every `interval_seconds` until the process is stopped.

    A poll that can't be written is logged and dropped: lag is a gauge, and old lag helps nobody.
    """
    metrics = Metrics()
    with _endpoint(settings, metrics), contextlib.closing(_Table(settings)) as table:
        for report in reports(settings, interval_seconds):
            publish(report, metrics)
            for problem in report.problems:
                _LOG.warning("lag poll: %s", problem)
            table.write(report)


@contextlib.contextmanager
def _endpoint(settings: Settings, metrics: Metrics) -> Iterator[None]:
    if not settings.web.metrics_port:
        yield
        return
    with serve(metrics, settings.web.metrics_host, settings.web.metrics_port) as server:
        _LOG.info("metrics at http://%s:%d/metrics", settings.web.metrics_host, server.port)
        yield


class _Table:
    """Writes reports to `consumer_lag`, over one connection that dials anew after an error."""

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
