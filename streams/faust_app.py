"""Every Faust app of ours: how it is made, which parts it starts and stops, how it is run."""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import gc
import os
import signal
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import faust
import faust.tables

from streams import background
from streams.kafka.access import kafka_access
from streams.process import Part, Parts
from streams.settings import Settings
from streams.stopping import StopRequests

__all__ = ["App", "Failure", "NoTables", "app_options", "execute"]


class NoTables(faust.tables.TableManager):  # type: ignore[misc]
    """Faust waits a second for tables to be registered before it subscribes; there are none."""

    async def on_start(self) -> None:
        if not self.should_stop:
            await self._update_channels()
            await self.recovery.start()


class Worker(faust.Worker):  # type: ignore[misc]
    """Stops in order at any moment of its start, and prints where it is when a signal asks. On
    SIGUSR1 Faust would print every local variable, so customers' data, and on SIGUSR2 stop in a
    debugger."""

    _started_up = False

    async def on_startup_finished(self) -> None:
        self._started_up = True
        await super().on_startup_finished()

    def stop_soon(self) -> None:
        """Begin to stop; to be called on the event loop, which need not run yet."""
        self._on_sigterm()

    async def _stop_on_signal(self, number: signal.Signals) -> None:
        # Faust would stop what is still being started by another task. So first that task ends.
        if self._starting_fut is not None and not self._started_up:
            self._starting_fut.cancel()
            await asyncio.wait([self._starting_fut])
        await super()._stop_on_signal(number)

    def _install_signal_handlers_unix(self) -> None:
        """SIGTERM and SIGINT are `StopRequests`'."""
        self.loop.add_signal_handler(signal.SIGUSR1, self._on_sigusr1)
        self.loop.add_signal_handler(signal.SIGUSR2, self._on_sigusr2)

    def _on_sigusr1(self) -> None:
        faulthandler.dump_traceback(self.stderr)

    def _on_sigusr2(self) -> None:
        self._on_sigusr1()


class Failure:
    """Remembers the first error that the process must stop for, and crashes the app with it; the
    process reports it last, in words."""

    def __init__(self) -> None:
        self.error: BaseException | None = None
        self._app: Any = None

    def watch(self, app: faust.App) -> None:
        self._app = app

    def remember(self, error: BaseException) -> None:
        """Report this error at the end, unless there was one before it."""
        if self.error is None:
            self.error = error

    def __call__(self, error: BaseException) -> None:
        if self.error is None:
            self.error = error
            # Should that fail as well, the process is stopped from outside, as by an operator.
            background.start(
                self._app.crash(error), "crash", lambda _: os.kill(os.getpid(), signal.SIGTERM)
            )


class App(faust.App):  # type: ignore[misc]
    """A Faust app that is a list of parts; taking records in is one of them."""

    def __init__(self, failure: Failure, **options: Any) -> None:
        """`options` are Faust's: see `app_options`."""
        super().__init__(**options)
        self._failure = failure
        self._parts = Parts([self.records])
        failure.watch(self)

    @property
    def records(self) -> Part:
        """Records arrive once all parts have started, and no more do once this one has stopped.
        The consumer lives on until all parts have stopped, so that parts may commit."""
        return Part("records", super().on_start, super().on_stop)

    def consist_of(self, parts: Sequence[Part]) -> None:
        """Set the parts; `records` must be one of them."""
        self._parts = Parts(parts)

    async def on_start(self) -> None:
        try:
            await self._parts.start()
        except Exception as error:
            self._failure.remember(error)  # Faust would bury it among tracebacks
            raise

    async def on_stop(self) -> None:
        await self._parts.stop()


def app_options(settings: Settings, app_id: str) -> dict[str, Any]:
    """Keyword arguments of `faust.App`, with Faust's traps closed."""
    session = settings.kafka.session_timeout_seconds
    return {
        "id": app_id,
        **kafka_access(settings).faust_options(),
        "broker_session_timeout": session,
        "broker_heartbeat_interval": min(3.0, session / 4),
        "broker_request_timeout": max(90.0, session * 2),
        "consumer_auto_offset_reset": "earliest",
        "consumer_group_instance_id": settings.kafka.instance_id or None,
        # A topic that went and came back is noticed so soon; by default after five minutes.
        "consumer_metadata_max_age_ms": 30_000,
        "consumer_max_fetch_size": 4 * 1024 * 1024,
        "stream_buffer_maxsize": 64,  # batches, not events
        "stream_wait_empty": False,
        "TableManager": NoTables,
        "table_standby_replicas": 0,
        "topic_disable_leader": True,
        # `tideline topics --create` makes topics, with the right settings.
        "topic_allow_declare": False,
        "store": "memory://",
        "datadir": Path(tempfile.gettempdir()) / f"tideline-faust-{app_id}",
        "web_enabled": bool(settings.web.port),
        "web_port": settings.web.port or 6066,
        "web_host": "127.0.0.1",
        "web_bind": "127.0.0.1",
        "web_tables_enabled": False,
        "autodiscover": False,
    }


def execute(app: faust.App, failure: Failure, requests: StopRequests) -> int:
    """Run until a stop request; returns the exit status. Raises what `failure` remembers."""
    _calm_gc()
    worker = Worker(app, loglevel=None, redirect_stdouts=False, override_logging=False, quiet=True)
    # It would write to stdout. Where that was a file on a full disk, the worker ended.
    worker.spinner = None
    loop = worker.loop

    def stop() -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: all has ended by itself
            loop.call_soon_threadsafe(worker.stop_soon)

    requests.hand_over(stop)
    status = 0
    try:
        worker.execute_from_commandline()
    except SystemExit as exit_:
        status = int(exit_.code or 0)
    if failure.error is not None:
        raise failure.error
    return status


def _calm_gc() -> None:
    """Keep the cycle collector out of the hot path.

    Batches are lists of many small objects without cycles; at the default threshold (700) the
    collector would walk them dozens of times per batch. What the start left is exempt from
    collection; to look for garbage there first would cost more than 2,500 small objects are worth.
    """
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)
    gc.enable()
