"""Sends requests over HTTP: certificates are checked, redirects are not followed, and nothing of an
answer but its beginning is read."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from typing import Final

import aiohttp

from streams.deliver.destinations import Destination
from streams.deliver.exchange import Answer, Request
from streams.deliver.signing import HEADER, signature

__all__ = ["Poster"]

_READ_BYTES: Final = 1024 * 1024
"""Klaviyo's answer with 50 profiles has some kilobytes."""
_CONNECTIONS: Final = 16


class Poster:
    """The connections to one destination. `start` before `send`, and `stop`."""

    def __init__(self, where: Destination, now_seconds: Callable[[], float] = time.time) -> None:
        self._where, self._now_seconds = where, now_seconds
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=self._where.timeout_seconds),
            connector=aiohttp.TCPConnector(
                limit=_CONNECTIONS,
                ssl=ssl.create_default_context(cafile=self._where.ca_file or None),
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": "tideline"},
        )

    async def stop(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def send(self, request: Request) -> Answer:
        """One try. Raises OSError, which names no secret, if there is no answer in time."""
        assert self._session is not None  # noqa: S101  (start comes first)
        headers = dict(request.headers)
        if request.is_signed:
            at = int(self._now_seconds())
            headers[HEADER] = signature(self._where.secrets, request.body, at)
        try:
            async with self._session.request(
                request.method,
                request.url,
                data=request.body or None,
                headers=headers,
                allow_redirects=False,
            ) as answer:
                body = await answer.content.read(_READ_BYTES)
                while len(body) < _READ_BYTES and (more := await answer.content.read(_READ_BYTES)):
                    body += more
                named = {name.lower(): value for name, value in answer.headers.items()}
                return Answer(answer.status, named, body[:_READ_BYTES])
        except TimeoutError:
            raise OSError(f"no answer within {self._where.timeout_seconds:g} s") from None
        except (aiohttp.ClientError, ValueError) as error:
            raise OSError(_reason(error)) from None


def _reason(error: Exception) -> str:
    """In words, without the URL: it may hold a token."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f"its certificate is not trusted: {error.certificate_error}"
    if isinstance(error, aiohttp.ClientOSError):
        return error.strerror or type(error).__name__
    return type(error).__name__
