"""Sends spans to an OpenTelemetry collector: OTLP over HTTP, in JSON.

It is the standard library alone, so the images stay small. A collector that is away costs nothing
but the spans: they are dropped, and counted.
"""

from __future__ import annotations

import http.client
import json
import logging
import threading
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from streams.telemetry.traces import Span, document

__all__ = ["Exporter", "post"]

_log = logging.getLogger(__name__)

WAITING: Final = 4_096
AT_ONCE: Final = 512
EVERY_SECONDS: Final = 1.0
TIMEOUT_SECONDS: Final = 5.0
TRIES: Final = 3
CLOSE_SECONDS: Final = 5.0
RETRYABLE: Final = frozenset({429, 502, 503, 504})
"""By OTLP's specification; another status drops the spans at once."""


def post(endpoint: str) -> Callable[[bytes], bool]:
    """Sends a body to ENDPOINT/v1/traces. Returns whether another try may help if it was not taken:
    that raises OSError, of which `retry` is an attribute."""
    url = endpoint.rstrip("/") + "/v1/traces"

    def send(body: bytes) -> bool:
        try:
            request = urllib.request.Request(  # noqa: S310  (a setting: http or https)
                url, body, {"Content-Type": "application/json"}, method="POST"
            )
            with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310
                answer.read()
        except urllib.error.HTTPError as error:
            error.close()
            raise _Refused(f"HTTP status {error.code}", retry=error.code in RETRYABLE) from None
        except (OSError, http.client.HTTPException) as error:
            raise _Refused(str(error), retry=True) from None
        return True

    return send


class _Refused(OSError):
    def __init__(self, why: str, *, retry: bool) -> None:
        super().__init__(why)
        self.retry = retry


class Exporter:
    """`add` never blocks; a thread sends, from `start` to `close`.

    Args:
        send: as of `post`.
        resource: attributes of the process, such as `service.name`.
        counted: called with `sent` or `dropped` and a number of spans.
        every_seconds: for how long spans are collected, and the wait before a second try.
    """

    def __init__(
        self,
        send: Callable[[bytes], object],
        resource: Mapping[str, str],
        counted: Callable[[str, int], object],
        every_seconds: float = EVERY_SECONDS,
    ) -> None:
        self._send, self._resource, self._counted = send, resource, counted
        self._every_seconds = every_seconds
        self._spans: deque[Span] = deque()
        self._changed = threading.Condition()
        self._stopping = False
        self._trouble = False
        self._thread = threading.Thread(target=self._run, name="traces", daemon=True)

    def start(self) -> None:
        """Start the thread. The collector need not be up."""
        self._thread.start()

    def add(self, spans: Iterable[Span]) -> None:
        """Take spans, or drop them if too many wait."""
        new = list(spans)
        with self._changed:
            room = WAITING - len(self._spans)
            self._spans.extend(new[:room])
            self._changed.notify()
        if len(new) > room:
            self._counted("dropped", len(new) - max(0, room))

    def close(self) -> None:
        """Send what waits, trying once, for `CLOSE_SECONDS` at most."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join(CLOSE_SECONDS)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopping or bool(self._spans))
                if not self._stopping:  # a few more may come
                    self._changed.wait_for(lambda: self._stopping, self._every_seconds)
                taken = [self._spans.popleft() for _ in range(min(AT_ONCE, len(self._spans)))]
                if not taken and self._stopping:
                    return
            if taken:
                self._export(taken)

    def _export(self, spans: list[Span]) -> None:
        body = json.dumps(document(spans, self._resource)).encode()
        for number in range(1, TRIES + 1):
            try:
                self._send(body)
            except Exception as error:  # whatever it is, the thread goes on
                if not self._trouble:  # said once
                    self._trouble = True
                    _log.warning("the traces' collector did not take spans: %s", error)
                if self._stopping or not _may_pass(error) or number == TRIES:
                    self._counted("dropped", len(spans))
                    return
                with self._changed:
                    self._changed.wait_for(lambda: self._stopping, self._every_seconds * number)
            else:
                self._trouble = False
                self._counted("sent", len(spans))
                return


def _may_pass(error: Exception) -> bool:
    """Whether another try may help."""
    return isinstance(error, OSError) and bool(getattr(error, "retry", True))
