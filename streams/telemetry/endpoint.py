"""The HTTP endpoint of a process: its metrics at /metrics, and pages of its own beside them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any, Protocol

from prometheus_client import start_http_server

from schemas.errors import SettingsError
from streams.process import Part, at_once, in_thread
from streams.telemetry.exposition import answer
from streams.telemetry.metrics import Metrics

__all__ = ["MetricsServer", "Pages", "endpoint", "serve"]

_log = logging.getLogger(__name__)


class _HttpServer(Protocol):
    server_port: int

    def shutdown(self) -> None: ...
    def server_close(self) -> None: ...


class MetricsServer:
    """A running `/metrics` endpoint. `port` is the chosen one where 0 was given."""

    def __init__(self, server: _HttpServer, thread: threading.Thread) -> None:
        self._server, self._thread = server, thread
        self.port = server.server_port

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> MetricsServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


Pages = Callable[[str], "tuple[str, str, bytes] | None"]
"""A path -> HTTP status, content type and body; None: there is no such page."""


def endpoint(
    metrics: Metrics, host: str, port: int, pages: Pages | None = None
) -> tuple[Part, ...]:
    """The part of a process that serves `metrics`, and `pages` beside them; none if the port is 0.

    Its start raises SettingsError if it can't listen there.
    """
    if not port:
        return ()
    serving: list[MetricsServer] = []

    def start() -> None:
        try:
            serving.append(serve(metrics, host, port, pages))
        except OSError as error:
            raise SettingsError(
                f"Metrics can't be served at {host}:{port}: {error.strerror or error}. Set "
                "TIDELINE_WEB_METRICS_HOST to an address of this machine and "
                "TIDELINE_WEB_METRICS_PORT to a free port."
            ) from error
        _log.info("metrics at http://%s:%d/metrics", host, serving[0].port)

    def stop() -> None:
        while serving:
            serving.pop().close()

    return (Part("metrics endpoint", at_once(start), in_thread(stop)),)


def serve(metrics: Metrics, host: str, port: int, pages: Pages | None = None) -> MetricsServer:
    """Serve at http://host:port/metrics from a thread. Raises OSError if it can't bind."""
    server, thread = start_http_server(port, host, metrics.registry)
    server.set_app(_application(metrics, pages or (lambda _: None)))
    return MetricsServer(server, thread)


def _application(metrics: Metrics, pages: Pages) -> Any:
    def application(environ: dict[str, Any], start_response: Any) -> Any:
        page = pages(environ.get("PATH_INFO", "/"))
        if page is None:
            return answer(metrics.registry, environ, start_response)
        status, content_type, body = page
        start_response(status, [("Content-Type", content_type), ("Content-Length", str(len(body)))])
        return [body]

    return application
