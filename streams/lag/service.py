"""The lag monitor as a process: polls, sets gauges, writes table `consumer_lag`."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator

from schemas.tables import TABLES
from streams.clickhouse.blocks import Block
from streams.clickhouse.client import ClickHouseTarget, clickhouse_target, connect
from streams.clickhouse.errors import sink_error
from streams.clickhouse.insert import insert_block
from streams.lag.monitor import LagReport, publish, reports, table_columns
from streams.settings import Settings
from streams.stopping import StopRequests, leave
from streams.telemetry.metrics import Metrics, serve

__all__ = ["run"]

# A poll that Kafka does not answer may take longer; there is nothing in it worth waiting for.
STOP_SECONDS = 3.0

_LOG = logging.getLogger(__name__)


def run(settings: Settings, interval_seconds: float, requests: StopRequests) -> None:
    """Poll every `interval_seconds` until a stop request: the poll under way is finished if it
    takes less than `STOP_SECONDS`.

    A poll that can't be written is logged and dropped: lag is a gauge, and old lag helps nobody.
    """
    stopping, stopped = threading.Event(), threading.Event()

    def stop() -> None:
        stopping.set()
        if not stopped.wait(STOP_SECONDS):
            leave()

    requests.hand_over(stop)
    try:
        _poll(settings, interval_seconds, stopping.wait)
    finally:
        stopped.set()


def _poll(settings: Settings, interval_seconds: float, pause: Callable[[float], bool]) -> None:
    metrics = Metrics()
    with _endpoint(settings, metrics), contextlib.closing(_Table(settings)) as table:
        for report in reports(settings, interval_seconds, pause=pause):
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
