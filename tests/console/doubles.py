"""Readers without a server, and a console around one, for tests of pages and of access.

    reader = Answers({"churn_alerts_live": rows(["user_id"], [("ann",)])})
    with served(reader) as console:
        status, body = console.get("/today.json")

`Answers` keeps the contract of the real reader (`test_reads`): parameters are checked alike.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC
from functools import cache
from typing import Any

from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient, TestServer

from streams.console.access import Proxies
from streams.console.action_log import ActionLog
from streams.console.api.feed import Feed
from streams.console.api.routes import Api
from streams.console.guard import Guard
from streams.console.live import Live
from streams.console.position import read_position
from streams.console.reads import Parameter, ReadFailed, Rows, checked
from streams.console.render import Renderer, Static, load_static
from streams.console.sealing import Seal
from streams.console.tokens import Tokens
from streams.console.web import Console, application
from streams.kafka.log import Log
from streams.settings import Settings, override
from tests.shard.memory import MemoryLog

__all__ = ["NOW_MS", "POSITION", "Answer", "Answers", "Asked", "Away", "Served", "rows", "served"]

NOW_MS = 1_780_000_000_000
POSITION = Rows(("accepted", "batches", "clock_ms"), [(1, 1, NOW_MS)], NOW_MS)


def rows(columns: Sequence[str], found: Sequence[Sequence[Any]] = ()) -> Rows:
    """A result, as of NOW_MS."""
    return Rows(tuple(columns), [tuple(row) for row in found], NOW_MS)


Answer = Rows | Callable[[dict[str, Parameter]], Rows]


@dataclass
class Answers:
    """Answers by the first key that is part of the query; what was asked is in `asked`."""

    answers: dict[str, Answer]
    asked: list[tuple[str, dict[str, Parameter]]] = field(default_factory=list)

    async def rows(self, query: str, **parameters: Parameter) -> Rows:
        given = {name: checked(value) for name, value in parameters.items()}
        query % dict.fromkeys(given, "")  # every parameter of the query is given
        self.asked.append((query, given))
        for key, answer in {**self.answers, "recent_ledger": POSITION}.items():
            if key in query:
                return answer if isinstance(answer, Rows) else answer(given)
        raise AssertionError(f"no answer for {query}")


class Away:
    """A ClickHouse that is away, and answered once."""

    async def rows(self, query: str, **parameters: Parameter) -> Rows:
        raise ReadFailed("reading for the console at here:9000: away (check that it is up)", NOW_MS)


class Kept:
    """The log of actions, in memory; `broken`: it can't be written."""

    def __init__(self) -> None:
        self.rows: list[tuple[Any, ...]] = []
        self.broken = False

    async def insert(self, statement: str, rows: list[tuple[object, ...]]) -> None:
        if self.broken:
            raise ReadFailed("writing for the console: away", NOW_MS)
        self.rows += rows

    @property
    def told(self) -> list[tuple[str, ...]]:
        """(who, role, action, user_id, what, result) of each row."""
        return [(row[2], row[3], row[4], row[5], row[6], row[7]) for row in self.rows]


class Sent:
    """What was sent to Kafka; `error` is raised instead."""

    def __init__(self) -> None:
        self.records: list[tuple[str, int, bytes, Any]] = []
        self.stamps_ms: list[int] = []
        self.error: Exception | None = None
        self.topics = MemoryLog()

    async def send(
        self, topic: str, records: Sequence[tuple[int, bytes, bytes]], stamp_ms: int
    ) -> None:
        if self.error is not None:
            raise self.error
        self.records += [(topic, to, key, json.loads(value)) for to, key, value in records]
        self.stamps_ms += [stamp_ms] * len(records)

    async def log(self) -> Log:
        if self.error is not None:
            raise self.error
        return self.topics


@dataclass(frozen=True)
class Asked:
    """An answer of the console."""

    status: int
    headers: Mapping[str, str]
    """Whatever their case."""
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Served:
    """A console on a port of loopback, asked by HTTP."""

    def __init__(self, console: Console, loop: asyncio.AbstractEventLoop) -> None:
        self.console, self._loop = console, loop
        self.client: TestClient[Any, Any] = TestClient(TestServer(application(console)))

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self._loop.run_until_complete(work)

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Asked:
        return self.ask("GET", path, headers)

    def post(
        self, path: str, data: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Asked:  # fmt: skip
        return self.ask("POST", path, headers, data)

    def ask(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, data: Any = None
    ) -> Asked:
        async def send() -> Asked:
            answer: ClientResponse = await self.client.request(
                method, path, headers=dict(headers or {}), data=data, allow_redirects=False
            )
            async with answer:
                return Asked(answer.status, answer.headers, await answer.read())

        found: Asked = self.run(send())
        return found


@cache
def _static() -> dict[str, Static]:
    return load_static()


@cache
def _renderer(currency: str) -> Renderer:
    return Renderer(_static(), currency)


def console_of(
    reader: Any,
    settings: Settings | None = None,
    tokens: Tokens | None = None,
    proxies: Proxies | None = None,
    feed: Feed | None = None,
    **changes: Any,
) -> Console:
    """The parts of a console as its service puts them together."""
    here = settings or (override(Settings(), **changes) if changes else Settings())
    return Console(
        settings=here,
        reader=reader,
        guard=Guard(b"k" * 32, tokens, proxies or Proxies(), ("127.0.0.1", "localhost")),
        seal=Seal("s" * 32),
        renderer=_renderer(here.stream.currency),
        static=_static(),
        live=Live(lambda: read_position(reader)),
        api=Api(reader, Seal("s" * 32), feed),
        log=ActionLog(Kept(), lambda: "action", now_ms=lambda: NOW_MS),
        sender=Sent(),
        zone=UTC,
    )


@contextmanager
def served(reader: Any, console: Console | None = None, **given: Any) -> Iterator[Served]:
    """A console that answers by HTTP until the block ends."""
    loop = asyncio.new_event_loop()

    async def start() -> Served:
        started = Served(console or console_of(reader, **given), loop)
        await started.client.start_server()
        return started

    here: Served = loop.run_until_complete(start())
    try:
        yield here
    finally:
        here.console.live.closed.set()
        here.console.api.closed.set()
        here.run(here.client.close())
        loop.close()
