"""What a request must pass before a page is made: its host, its size, who asks, and from where."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from aiohttp import hdrs, web

from streams.console.access import (
    LOCAL,
    Proxies,
    Refused,
    Token,
    Visitor,
    by_proxy,
    by_token,
    csrf_token,
    forged,
    host_is_known,
)
from streams.console.tokens import Tokens

__all__ = ["COOKIE", "SECURITY_HEADERS", "Guard"]

COOKIE: Final = "tideline_console"
SESSION_SECONDS: Final = 12 * 3600
MOST_QUERY_BYTES: Final = 4_096
MOST_VALUES: Final = 50
MOST_BODY_BYTES: Final = 64 * 1024

SECURITY_HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; font-src 'self'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'",
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
"""On every answer, whatever it is."""


class Guard:
    """Knows who asks. `key` signs sessions and form tokens; a new one ends all sessions."""

    def __init__(
        self,
        key: bytes,
        tokens: Tokens | None,
        proxies: Proxies,
        hosts: tuple[str, ...],
        public_place: str = "",
    ) -> None:
        """`hosts`: names by which people reach it; `public_place`: host and port of its public URL,
        where a proxy may say another host."""
        self._key, self._tokens, self._proxies, self._hosts = key, tokens, proxies, hosts
        self._public_place = public_place

    @property
    def asks_for_token(self) -> bool:
        """Whether a browser can log in with a token."""
        return self._tokens is not None

    def check_request(self, request: web.Request) -> None:
        """Raises Refused for a host that is not ours, or too much of anything."""
        if not host_is_known(request.headers.get(hdrs.HOST, ""), self._hosts):
            raise Refused(
                421,
                "This console is not known under that name. Set TIDELINE_CONSOLE_PUBLIC_URL to the "
                "URL that people open.",
            )
        query = request.rel_url.raw_query_string
        if len(query) > MOST_QUERY_BYTES or query.count("&") >= MOST_VALUES:
            raise Refused(
                414, f"A query can have {MOST_QUERY_BYTES} bytes and {MOST_VALUES} values."
            )
        if (request.content_length or 0) > MOST_BODY_BYTES:
            raise Refused(413, f"A body can have {MOST_BODY_BYTES} bytes.")

    def visitor(self, request: web.Request) -> Visitor | None:
        """Who asks, or None for somebody who must log in first. Raises Refused."""
        headers, peer = request.headers, request.remote or ""
        if forged(headers, peer, self._proxies):
            raise Refused(
                403,
                "A user was named by somebody other than the proxy. "
                "TIDELINE_CONSOLE_TRUSTED_PROXIES has the addresses that may.",
            )
        by_header = by_proxy(headers, peer, self._proxies)
        if by_header is not None:
            return by_header
        if self._tokens is None:
            return None if self._proxies.user_header else LOCAL
        scheme, _, presented = headers.get(hdrs.AUTHORIZATION, "").partition(" ")
        if scheme.lower() == "bearer":
            return self.by_token(presented.strip())
        return self._by_session(request.cookies.get(COOKIE, ""))

    def by_token(self, presented: str) -> Visitor | None:
        """The visitor whose token this is."""
        if self._tokens is None:
            return None
        found = by_token(presented, self._tokens.entries(), _now_ms())
        return None if found is None else Visitor(found.name, found.roles, "token", found.scopes)

    def session(self, presented: str) -> str | None:
        """The cookie for whoever has shown this token; it ends with the token, or by itself."""
        if self._tokens is None:
            return None
        found = by_token(presented, self._tokens.entries(), _now_ms())
        if found is None:
            return None
        ends = int(time.time()) + SESSION_SECONDS
        name = base64.urlsafe_b64encode(found.name.encode()).decode().rstrip("=")
        return f"{name}.{ends}.{self._signed(found, ends)}"

    def _by_session(self, cookie: str) -> Visitor | None:
        """Nobody is told which part of a cookie is wrong."""
        name, _, rest = cookie.partition(".")
        ends, _, signature = rest.partition(".")
        if self._tokens is None or not ends.isdecimal() or len(ends) > 12:
            return None
        found = None
        for token in self._tokens.entries():
            encoded = base64.urlsafe_b64encode(token.name.encode()).decode().rstrip("=")
            if encoded == name and hmac.compare_digest(
                self._signed(token, int(ends)).encode(), signature.encode()
            ):
                found = token
        if found is None or int(ends) < time.time():
            return None
        if found.expires_ms and found.expires_ms <= _now_ms():
            return None
        return Visitor(found.name, found.roles, "token", found.scopes)

    def _signed(self, token: Token, ends: int) -> str:
        about = f"session\0{token.name}\0{token.sha256}\0{ends}".encode()
        return hmac.new(self._key, about, hashlib.sha256).hexdigest()

    def csrf(self, visitor: Visitor) -> str:
        """What this visitor's forms carry."""
        return csrf_token(self._key, visitor)

    def check_origin(self, request: web.Request) -> None:
        """Raises Refused (403) for a request that another site had the browser send."""
        if request.headers.get("Sec-Fetch-Site", "same-origin") != "same-origin":
            raise Refused(403, "Another site sent this form.")
        origin = request.headers.get(hdrs.ORIGIN)
        own = {request.headers.get(hdrs.HOST, ""), self._public_place}
        if origin is not None and urlsplit(origin).netloc not in own - {""}:
            raise Refused(403, "Another site sent this form.")

    def check_form(self, request: web.Request, visitor: Visitor, given: str) -> None:
        """Raises Refused (403) unless the form is ours. A program that shows its token in a header
        needs no form: no browser sends that by itself."""
        self.check_origin(request)
        if request.headers.get(hdrs.AUTHORIZATION) and visitor.how == "token":
            return
        if not hmac.compare_digest(given.encode(), self.csrf(visitor).encode()):
            raise Refused(403, "This form is too old, or not ours. Load the page again.")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
