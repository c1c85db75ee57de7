"""Routes: which page answers which path, in which form, for whom.

    /NAME, /NAME/REST        a page, as HTML
    ….json, ….csv, ….live    the same as facts, as its first table, and as a stream
    /actions/NAME (POST)     something is done
    /static/NAME, /login

Whatever goes wrong is a page, too: its status, what happened, what to do.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import tzinfo
from http import HTTPStatus
from importlib.metadata import version
from typing import Any, Final

from aiohttp import hdrs, web

from schemas.errors import TidelineError
from streams.console.access import PAGES, Refused, Visitor
from streams.console.action_log import ActionLog
from streams.console.actions import Doing, Sender, perform
from streams.console.api.document import document
from streams.console.api.routes import OPERATIONS, Api, Operation
from streams.console.guard import COOKIE, MOST_BODY_BYTES, SECURITY_HEADERS, SESSION_SECONDS, Guard
from streams.console.live import MOST_STREAMS, Live, Message, event
from streams.console.outputs import as_csv, as_json
from streams.console.page import FORMS, Ask, Page
from streams.console.pages import ROUTES, Route
from streams.console.position import Position, read_position
from streams.console.reads import Reader, ReadFailed, Sealed, UnknownPseudonym
from streams.console.render import Renderer, Static
from streams.console.sealing import Seal
from streams.settings import Settings

__all__ = ["Console", "application"]

_log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
VISITOR: Final = web.RequestKey("visitor", Visitor)
FILE_ROWS: Final = 10_000
"""Rows of one CSV file; its header Link names the next."""
_CSRF_HERE: Final = secrets.token_hex(32)
"""Stands in a page that is made for many, until it is sent to one."""


@dataclass
class Console:
    """What the routes need."""

    settings: Settings
    reader: Reader
    guard: Guard
    seal: Seal
    renderer: Renderer
    static: Mapping[str, Static]
    live: Live
    log: ActionLog
    sender: Sender
    api: Api
    zone: tzinfo
    sources: Mapping[str, Any] = field(default_factory=dict)
    observe: Callable[[str, str, int], None] = lambda page, form, status: None
    """Told of every answer: page, form, HTTP status."""

    def ask(
        self, route: Route, rest: str, values: Mapping[str, str], visitor: Visitor, at: Position
    ) -> Ask:
        sealed = Sealed(self.reader, self.seal, sees_ids=visitor.sees_ids)
        return Ask(
            visitor=visitor, reader=sealed, values=values,
            now_ms=at.now_ms(self.settings.stream.clock), as_of_ms=at.clock_ms,
            wall_ms=time.time_ns() // 1_000_000, zone=self.zone, settings=self.settings, path=rest,
            name=route.name, sources=self.sources,
        )  # fmt: skip


def application(console: Console) -> web.Application:
    """The console as aiohttp serves it."""
    routes = _Routes(console)
    app = web.Application(
        middlewares=[routes.answered, routes.guarded], client_max_size=MOST_BODY_BYTES
    )
    app.router.add_get("/", routes.home)
    app.router.add_get("/static/{name:.+}", routes.static, name="static")
    app.router.add_get("/login", routes.login, name="login")
    app.router.add_post("/login", routes.log_in, name="log_in")
    app.router.add_post("/logout", routes.log_out)
    app.router.add_post("/actions/{name}", routes.act)
    for operation in OPERATIONS:
        app.router.add_get(operation.route, routes.operation(operation))
    app.router.add_get("/v1/openapi.json", routes.document)
    app.router.add_get("/{page:(?s:.+)}", routes.page)  # an id may hold an end of line
    app.router.add_post("/{page:(?s:.+)}", routes.page)
    return app


class _Routes:
    def __init__(self, console: Console) -> None:
        self._console = console
        self._pages = {route.name: route for route in ROUTES}

    # -- what stands around every answer

    @web.middleware
    async def answered(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Security headers on everything; errors as pages."""
        try:
            response = await handler(request)
        except web.HTTPException as error:
            if error.status < 400:
                error.headers.update(SECURITY_HEADERS)
                raise
            response = self._problem(request, error.status, error.reason or "")
        except Refused as refused:
            response = self._problem(request, refused.status, refused.why)
        except UnknownPseudonym:
            response = self._problem(
                request, 404,
                "There is no customer under this pseudonym. Pseudonyms of a console without "
                "TIDELINE_CONSOLE_SEAL_KEY end when it is started anew.",
            )  # fmt: skip
        except ReadFailed as error:
            response = self._problem(request, 503, str(error), error.answered_ms)
        except TidelineError as error:
            response = self._problem(request, 503, str(error))
        except Exception:
            _log.exception("%s could not be answered", request.match_info.route.name or "a request")
            response = self._problem(request, 500, "This is a bug; the console's log has more.")
        if not response.prepared:
            response.headers.update(SECURITY_HEADERS)
            response.headers.setdefault(hdrs.CACHE_CONTROL, "no-store")
        self._console.observe(*_what(request), response.status)
        return response

    @web.middleware
    async def guarded(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Nobody gets further who may not; static files and the login are for everybody."""
        console = self._console
        console.guard.check_request(request)
        if request.match_info.route.name in ("static", "login", "log_in"):
            return await handler(request)
        visitor = console.guard.visitor(request)
        if visitor is None:
            if console.guard.asks_for_token and _form(request.path) == "html":
                raise web.HTTPSeeOther("/login")
            raise Refused(401, "Say who you are: with a token, or through the proxy.")
        request[VISITOR] = visitor
        if request.method not in (hdrs.METH_GET, hdrs.METH_HEAD):
            form = await request.post()
            console.guard.check_form(request, visitor, str(form.get("csrf", "")))
        return await handler(request)

    # -- pages

    async def home(self, request: web.Request) -> web.StreamResponse:
        visitor: Visitor = request[VISITOR]
        for route in ROUTES:
            if visitor.may(route.name):
                raise web.HTTPSeeOther(f"/{route.name}")
        raise Refused(403, "Your roles open no page here.")

    async def page(self, request: web.Request) -> web.StreamResponse:
        visitor: Visitor = request[VISITOR]
        route, rest, form = self._route(request.match_info["page"])
        if not visitor.may(route.name):
            raise Refused(
                403, f"{route.title} is not for your roles ({', '.join(sorted(visitor.roles))})."
            )
        values = dict(request.query)
        if form == "live":
            return await self._stream(request, visitor, route, rest, values)
        if form == "csv" and not visitor.may("export"):
            entries = await self._console.log.asked(visitor, "export", [("", f"/{route.name}")])
            await self._console.log.ended(entries, "refused", "the role may not")
            raise Refused(403, "Your roles may not export.")
        at = await read_position(self._console.reader)
        ask = self._console.ask(route, rest, values, visitor, at)
        if form == "csv":
            ask = replace(ask, most_rows=FILE_ROWS)
        if request.method == hdrs.METH_POST:
            posted = await request.post()
            ask = replace(ask, posted={name: str(value) for name, value in posted.items()})
        page = await route.make(ask)
        if form == "json":
            body = as_json(page, ask.url(), ask.now_ms, visitor.name)
            return web.Response(body=body, content_type="application/json")
        if form == "csv":
            return await self._csv(route, page, ask)
        return web.Response(
            text=self._html(route, page, ask, self._console.guard.csrf(visitor)),
            content_type="text/html",
            charset="utf-8",
        )

    def _route(self, path: str) -> tuple[Route, str, str]:
        """The page, what stands behind its name, and the form."""
        form = _form(path)
        if path.endswith(f".{form}"):
            path = path[: -len(form) - 1]
        name, _, rest = path.partition("/")
        route = self._pages.get(name)
        if route is None or (rest and not route.has_parts):
            known = ", ".join(f"/{each.name}" for each in ROUTES)
            raise Refused(404, f"There is no such page. There are {known}.")
        return route, rest, form

    async def _csv(self, route: Route, page: Page, ask: Ask) -> web.Response:
        """A file of the page's first table. Who took which, and how many rows, is written down."""
        if page.table is None:
            raise Refused(404, f"{page.title} has no table.")
        log, what = self._console.log, ask.url() if not ask.path else f"/{route.name}/..."
        entries = await log.asked(ask.visitor, "export", [("", what)])
        body, quoted = as_csv(page.table)
        await log.ended(entries, "done", f"{len(page.table.rows)} rows")
        headers = {
            hdrs.CONTENT_DISPOSITION: f'attachment; filename="tideline-{route.name}.csv"',
            "X-Tideline-Quoted-Cells": str(quoted),
        }
        if page.table.next:
            headers[hdrs.LINK] = f'<{page.table.next}>; rel="next"'
        return web.Response(body=body, content_type="text/csv", charset="utf-8", headers=headers)

    def _html(
        self, route: Route, page: Page, ask: Ask, csrf: str, layout: str = "base.html"
    ) -> str:
        return self._console.renderer.html(
            page.template, ask.zone, ask.now_ms,
            layout=layout, page=page, route=route, visitor=ask.visitor, ask=ask, csrf=csrf,
            ticks=not ask.is_replay,
            asks_for_token=self._console.guard.asks_for_token,
        )  # fmt: skip

    # -- streams

    async def _stream(
        self,
        request: web.Request,
        visitor: Visitor,
        route: Route,
        rest: str,
        values: dict[str, str],
    ) -> web.StreamResponse:
        console, live = self._console, self._console.live
        if route.live == "never":
            raise Refused(404, f"{route.title} does not change by itself.")
        if live.streams >= MOST_STREAMS:
            raise Refused(503, f"{MOST_STREAMS} pages are open already. Close some.")

        async def make(at: Position) -> str:
            ask = console.ask(route, rest, values, visitor, at)
            return self._html(route, await route.make(ask), ask, _CSRF_HERE, "fragment.html")

        # Not the visitor's name: many with the same rights look at the same page.
        key = (*sorted(visitor.rights), request.path_qs)
        response = web.StreamResponse(headers={**SECURITY_HEADERS, hdrs.CACHE_CONTROL: "no-store"})
        response.content_type = "text/event-stream"
        channel = live.join(key, make, by_clock=route.live == "clock")
        try:
            await response.prepare(request)
            await self._send(request, response, channel, visitor)
        except ConnectionError:
            pass  # the browser is gone
        finally:
            live.leave(key)
        return response

    async def _send(
        self, request: web.Request, response: web.StreamResponse, channel: Any, visitor: Visitor
    ) -> None:
        live = self._console.live
        last_id = request.headers.get("Last-Event-ID", "") or request.query.get("last", "")
        seen: Message | None = None
        while not live.closed.is_set():
            message = await live.next(channel, seen, last_id)
            if live.closed.is_set() or not self._still(request, visitor):
                return
            if message.name != "alive":
                seen = message
            if message.name == "page":
                text = message.data.replace(_CSRF_HERE, self._console.guard.csrf(visitor))
                message = Message("page", text, message.position)
            async with asyncio.timeout(30):
                await response.write(event(message))

    def _still(self, request: web.Request, visitor: Visitor) -> bool:
        """Whether the visitor is still who they were: a token may have been taken away."""
        try:
            return self._console.guard.visitor(request) == visitor
        except Refused:
            return False

    # -- actions

    async def act(self, request: web.Request) -> web.StreamResponse:
        """Says what was done, on a page that htmx takes one line of."""
        console, visitor = self._console, request[VISITOR]
        form = await request.post()
        fields = {name: [str(v) for v in form.getall(name)] for name in form}
        at = await read_position(console.reader)
        doing = Doing(
            visitor=visitor, reader=console.reader, sender=console.sender, log=console.log,
            sealed=Sealed(console.reader, console.seal, sees_ids=visitor.sees_ids),
            settings=console.settings, now_ms=at.now_ms(console.settings.stream.clock),
        )  # fmt: skip
        done = await perform(request.match_info["name"], doing, fields)
        text = console.renderer.html(
            "problem.html", console.zone, 0,
            status=200, phrase="Done", why=done.text, answered_ms=None, visitor=visitor,
        )  # fmt: skip
        return web.Response(text=text, content_type="text/html", charset="utf-8")

    # -- what programs ask

    def operation(self, operation: Operation) -> Handler:
        async def handler(request: web.Request) -> web.StreamResponse:
            return await self._console.api.answer(operation, request[VISITOR], request)

        return handler

    async def document(self, request: web.Request) -> web.StreamResponse:
        return web.json_response(document(version("tideline")))

    # -- the rest

    async def static(self, request: web.Request) -> web.StreamResponse:
        found = self._console.static.get(request.match_info["name"])
        if found is None:
            raise Refused(404, "There is no such file.")
        fresh = request.query.get("v") == found.version
        caching = "public, max-age=31536000, immutable" if fresh else "no-cache"
        headers = {hdrs.CONTENT_TYPE: found.content_type, hdrs.CACHE_CONTROL: caching}
        return web.Response(body=found.body, headers=headers)

    async def login(self, request: web.Request) -> web.StreamResponse:
        if not self._console.guard.asks_for_token:
            raise Refused(404, "Nobody has to log in here.")
        return self._login_page("")

    def _login_page(self, why: str, status: int = 200) -> web.Response:
        text = self._console.renderer.html("login.html", self._console.zone, 0, why=why)
        return web.Response(text=text, content_type="text/html", charset="utf-8", status=status)

    async def log_in(self, request: web.Request) -> web.StreamResponse:
        guard = self._console.guard
        guard.check_origin(request)
        form = await request.post()
        session = guard.session(str(form.get("token", "")).strip())
        if session is None:
            _log.warning("somebody could not log in")
            return self._login_page("This is no token of this console, or it has expired.", 403)
        response = web.HTTPSeeOther("/")
        response.set_cookie(
            COOKIE, session, max_age=SESSION_SECONDS, httponly=True, samesite="Strict",
            secure=request.secure or self._console.settings.console.public_url.startswith("https:"),
        )  # fmt: skip
        raise response

    async def log_out(self, request: web.Request) -> web.StreamResponse:
        response = web.HTTPSeeOther("/login")
        response.del_cookie(COOKIE)
        raise response

    def _problem(
        self, request: web.Request, status: int, why: str, answered_ms: int | None = None
    ) -> web.Response:
        phrase = HTTPStatus(status).phrase
        if _form(request.path) != "html":
            return web.json_response(
                {"status": status, "error": phrase, "why": why, "answered_ms": answered_ms},
                status=status,
            )
        text = self._console.renderer.html(
            "problem.html", self._console.zone, 0,
            status=status, phrase=phrase, why=why, answered_ms=answered_ms,
            visitor=request.get(VISITOR),
        )  # fmt: skip
        return web.Response(text=text, content_type="text/html", charset="utf-8", status=status)


def _form(path: str) -> str:
    if path.startswith("/v1/"):
        return "json"
    suffix = path.rpartition(".")[2]
    return suffix if suffix in FORMS and "." in path else "html"


def _what(request: web.Request) -> tuple[str, str]:
    """Page and form of a request, from small sets of names."""
    name = request.path.strip("/").partition("/")[0].partition(".")[0]
    known = (*PAGES, "static", "login", "logout", "actions", "v1")
    return (name if name in known else "other"), _form(request.path)
