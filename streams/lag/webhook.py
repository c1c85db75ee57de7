"""Sends incidents to a URL: each notice as one POST of JSON, in order, again until it is taken.

Notices wait in memory; the oldest give way once there are too many. A receiver may get one twice
(it answered, and the answer was lost): the id and the state tell.
"""

from __future__ import annotations

import http.client
import json
import logging
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from streams.lag.incidents import Notice
from streams.settings import Secret

__all__ = ["Post", "Webhook", "post"]

_log = logging.getLogger(__name__)

_WAITING: Final = 1_000
_TIMEOUT_SECONDS: Final = 10.0
_FIRST_WAIT_SECONDS: Final = 1.0
_LONGEST_WAIT_SECONDS: Final = 60.0

Post = Callable[[bytes], None]
"""Sends a body; raises OSError if it was not taken."""


def post(url: Secret, timeout_seconds: float = _TIMEOUT_SECONDS) -> Post:
    """A `Post` to this URL, which may hold a token: it is never shown."""

    def send(body: bytes) -> None:
        try:
            request = urllib.request.Request(  # noqa: S310  (a setting: http or https)
                url.reveal(), body, {"Content-Type": "application/json"}, method="POST"
            )
            with urllib.request.urlopen(request, timeout=timeout_seconds) as answer:  # noqa: S310
                answer.read(1)
        except urllib.error.HTTPError as error:
            error.close()
            raise OSError(f"HTTP status {error.code}") from None
        except urllib.error.URLError as error:
            raise OSError(str(error.reason)) from None
        except (http.client.HTTPException, ValueError) as error:
            raise OSError(type(error).__name__) from None

    return send


class Webhook:
    """`add` never blocks; `run` sends, in a thread, until `stop`."""

    def __init__(self, send: Post, counted: Callable[[str], object] = lambda _: None) -> None:
        """counted: called with `sent` or `failed` for each try."""
        self._send, self._counted = send, counted
        self._notices: deque[Notice] = deque(maxlen=_WAITING)
        self._changed = threading.Condition()
        self._stopping = False

    def add(self, notices: Iterable[Notice]) -> None:
        with self._changed:
            for notice in notices:
                if len(self._notices) == _WAITING:
                    _log.error("lag webhook: dropped the oldest of %s notices", _WAITING)
                self._notices.append(notice)
            self._changed.notify()

    def stop(self) -> None:
        """What still waits is dropped: it is in the log."""
        with self._changed:
            self._stopping = True
            self._changed.notify()

    def run(self) -> None:
        wait_seconds = _FIRST_WAIT_SECONDS
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopping or bool(self._notices))
                if self._stopping:
                    return
                notice = self._notices[0]
            if self._try(notice):
                wait_seconds = _FIRST_WAIT_SECONDS
                with self._changed:
                    if self._notices and self._notices[0] is notice:
                        self._notices.popleft()
                continue
            with self._changed:
                if self._changed.wait_for(lambda: self._stopping, wait_seconds):
                    return
            wait_seconds = min(2 * wait_seconds, _LONGEST_WAIT_SECONDS)

    def _try(self, notice: Notice) -> bool:
        try:
            self._send(json.dumps(notice.body).encode())
        except OSError as error:
            self._counted("failed")
            _log.warning(
                "lag webhook: %s of incident %s was not taken: %s",
                notice.state, notice.incident.id, error,
            )  # fmt: skip
            return False
        self._counted("sent")
        return True
