"""`tideline console` as a process: a web server, the streams of its pages, metrics, health.

start   endpoint ──▶ reader ──▶ live streams ──▶ web server
stop    the web server first: streams end, answers under way are sent
"""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Sequence
from datetime import UTC, tzinfo
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from aiohttp import web

from schemas.errors import SettingsError
from streams.clickhouse.client import clickhouse_target
from streams.console.access import Proxies
from streams.console.action_log import ActionLog
from streams.console.actions import new_id
from streams.console.api.feed import Feed
from streams.console.api.routes import Api
from streams.console.guard import Guard
from streams.console.lag import LagMonitor, lag_url
from streams.console.live import Live
from streams.console.pages.pipeline import LEDGER
from streams.console.position import read_position
from streams.console.reads import ClickHouseReader
from streams.console.remembered import Remembered
from streams.console.render import Renderer, load_static
from streams.console.sealing import Seal, random_key
from streams.console.sender import KafkaSender
from streams.console.sizing import Sizing
from streams.console.tokens import Tokens
from streams.console.web import Console, application
from streams.kafka.access import kafka_access
from streams.kafka.log import KafkaLog
from streams.privacy.erasure_board import ErasureBoard
from streams.process import Failed, Part, background_part, run_parts
from streams.settings import Settings
from streams.settings.rules import networks
from streams.stopping import StopRequests
from streams.telemetry.endpoint import endpoint
from streams.telemetry.health import Health, pages
from streams.telemetry.metrics import Metrics

__all__ = ["Service", "address", "run"]

_log = logging.getLogger(__name__)

POINTS_NICE: Final = -10
"""A thread that has it gets nine times the CPU of one without, where they compete."""
_STOP_SECONDS: Final = 5.0
_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")


def address(settings: Settings) -> str:
    """The URL that people open."""
    here = settings.console
    host = f"[{here.host}]" if ":" in here.host else here.host
    return here.public_url or f"http://{host}:{here.port}"


class Service:
    """Everything of one console."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        """Raises SettingsError if the tokens can't be read."""
        self._settings, self._metrics = settings, metrics
        self.reader = ClickHouseReader(
            clickhouse_target(settings), settings.console.query_seconds, self._asked
        )
        # Apart from the pages' queries, which take longer, and before them: a shop's page waits.
        self._points = ClickHouseReader(
            clickhouse_target(settings), settings.console.query_seconds, self._asked,
            nice=POINTS_NICE,
        )  # fmt: skip
        seal = Seal(settings.console.seal_key.reveal() or random_key())
        names = settings.topic_names
        log = KafkaLog(kafka_access(settings))
        self._feed = Feed(
            log, ErasureBoard(log, names.erasures),
            {"alerts": names.alerts, "audiences": names.audiences}, settings.kafka.partitions,
        )  # fmt: skip
        self.api = Api(self._points, seal, self._feed)
        self.live = Live(lambda: read_position(self.reader))
        self._sender = KafkaSender(kafka_access(settings))
        static = load_static()
        self.console = Console(
            settings=settings,
            reader=self.reader,
            guard=_guard(settings),
            seal=seal,
            renderer=Renderer(static, settings.stream.currency),
            static=static,
            live=self.live,
            log=ActionLog(self.reader, new_id, self._acted),
            sender=self._sender,
            api=self.api,
            zone=_zone(settings),
            sources={
                "lag": LagMonitor(lag_url(settings)).look,
                "ledger": Remembered(self.reader, LEDGER).rows,
                "sizing": Sizing(settings, os.environ).count,
            },
            observe=self._answered,
        )
        self._runner: web.AppRunner | None = None
        metrics.live.set_function(lambda: True)
        metrics.ready.set_function(lambda: not self.health().unready)
        metrics.console_streams.set_function(lambda: self.live.streams)

    def _asked(self, result: str, seconds: float) -> None:
        self._metrics.console_query_seconds.labels(result).observe(seconds)

    def _answered(self, page: str, form: str, status: int) -> None:
        self._metrics.console_answers.labels(page, form, f"{status // 100}xx").inc()

    def _acted(self, action: str, result: str) -> None:
        self._metrics.console_actions.labels(action, result).inc()

    def health(self) -> Health:
        """A restart brings no ClickHouse back; a page says itself that it is away."""
        failure = self.reader.failing
        return Health((), (f"ClickHouse does not answer: {failure}",) if failure else ())

    def parts(self, failed: Failed) -> Sequence[Part]:
        """What the process consists of."""
        here = self._settings.web
        return (
            *endpoint(self._metrics, here.metrics_host, here.metrics_port, pages(self.health)),
            Part("sender to Kafka", stop=self._sender.stop),
            Part("readers", stop=self._close_readers),
            Part("feed", stop=self._feed.stop),
            background_part("live pages", self.live.run, failed),
            Part("web server", self._listen, self._stop),
        )

    async def _close_readers(self) -> None:
        self.reader.close()
        self._points.close()

    async def _listen(self) -> None:
        """Raises SettingsError if it can't listen there."""
        here = self._settings.console
        self._runner = web.AppRunner(
            application(self.console), access_log=None, handle_signals=False,
            shutdown_timeout=_STOP_SECONDS, max_line_size=8_190, max_field_size=8_190,
        )  # fmt: skip
        await self._runner.setup()
        site = web.TCPSite(self._runner, here.host, here.port)
        try:
            await site.start()
        except OSError as error:
            raise SettingsError(
                f"The console can't be served at {here.host}:{here.port}: "
                f"{error.strerror or error}. Set TIDELINE_CONSOLE_HOST to an address of this "
                "machine and TIDELINE_CONSOLE_PORT to a free port."
            ) from error
        _log.info("the console is at %s", address(self._settings))

    async def _stop(self) -> None:
        self.live.closed.set()
        self.api.closed.set()
        if self._runner is not None:
            await self._runner.cleanup()


def _guard(settings: Settings) -> Guard:
    here = settings.console
    tokens = Tokens(Path(here.tokens_file)) if here.tokens_file else None
    proxies = Proxies(here.user_header, here.roles_header, networks(here.trusted_proxies))
    public = urlsplit(here.public_url)
    hosts = {*_LOOPBACK, here.host, *([public.hostname] if public.hostname else [])}
    return Guard(
        secrets.token_bytes(32), tokens, proxies, tuple(sorted(hosts - {"0.0.0.0", "::"})),  # noqa: S104
        public.netloc,
    )  # fmt: skip


def _zone(settings: Settings) -> tzinfo:
    name = settings.console.zone
    return ZoneInfo(name) if name and name != "UTC" else UTC


def run(settings: Settings, requests: StopRequests) -> None:
    """Serve until a stop request. Raises SettingsError."""
    if not settings.console.seal_key.reveal():
        _log.info("no TIDELINE_CONSOLE_SEAL_KEY: pseudonyms in links end with this process")
    run_parts(lambda failed: Service(settings, Metrics()).parts(failed), requests)
