"""Asks ClickHouse for the pages: every value is a parameter, every query has a time limit.

    reader = ClickHouseReader(target, limit_seconds=5)
    found = await reader.rows("SELECT … WHERE user_id = %(user_id)s", user_id=…)

`Sealed` stands before a reader for one visitor: columns that name people come out as pseudonyms
for who may not see ids, and one goes in as the id that it stands for. No page can forget it.
Nothing is kept: who was erased is in no answer after that.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Protocol

from clickhouse_driver import Client
from clickhouse_driver.errors import Error as DriverError

from streams.clickhouse.client import ClickHouseTarget, connect
from streams.clickhouse.errors import sink_error
from streams.console.sealing import Seal

__all__ = [
    "HIDDEN_COLUMNS",
    "PERSON_COLUMNS",
    "ClickHouseReader",
    "Parameter",
    "ReadFailed",
    "Reader",
    "Rows",
    "Sealed",
    "UnknownPseudonym",
]

Parameter = str | int | float | datetime | list[str] | list[int] | tuple[str, ...]

PERSON_COLUMNS: Final = frozenset({"user_id", "record_key"})
"""Result columns that name a person. A query must not call them anything else (a test looks)."""
HIDDEN_COLUMNS: Final = frozenset({"payload", "detail", "item_id", "category"})
"""Result columns that may hold an id somewhere in a text: left out for who may not see ids."""
_THREADS: Final = 4
_WAITING: Final = 64
"""So many queries may wait for a thread, and no more, or a slow server would fill memory."""


@dataclass(frozen=True)
class Rows:
    """A result: columns' names, rows, and when ClickHouse answered, Unix ms."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    as_of_ms: int

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for row in self.rows:
            yield dict(zip(self.columns, row, strict=True))

    def __len__(self) -> int:
        return len(self.rows)

    def first(self) -> dict[str, Any] | None:
        """The first row, or None if there is none."""
        return next(iter(self), None)


class ReadFailed(Exception):
    """ClickHouse did not answer, or refused. The message says what to do about it."""

    def __init__(self, message: str, answered_ms: int | None) -> None:
        super().__init__(message)
        self.answered_ms = answered_ms
        """When it last answered, Unix ms; None: not since this process began."""


class UnknownPseudonym(Exception):
    """A pseudonym that this console has not made, or made before it was started anew."""


class Reader(Protocol):
    """Answers queries. Parameters are %(name)s in the query; a literal % is %%."""

    async def rows(self, query: str, **parameters: Parameter) -> Rows:
        """Raises ReadFailed."""


class ClickHouseReader:
    """Reads through a few connections, one per thread; each is made anew after an error."""

    def __init__(
        self,
        target: ClickHouseTarget,
        limit_seconds: float = 5.0,
        observe: Callable[[str, float], None] = lambda result, seconds: None,
        *,
        nice: int = 0,
    ) -> None:
        """
        Args:
            limit_seconds: of each query.
            observe: told `ok` or `failed` and the time it took.
            nice: what the threads of these queries get on the server's host, -20 (before all
                others) to 19. A server without CAP_SYS_NICE leaves it.
        """
        self._target, self._observe = target, observe
        self._settings = {"max_execution_time": max(1, round(limit_seconds))}
        if nice:
            self._settings["os_thread_priority"] = nice
        self._pool = ThreadPoolExecutor(_THREADS, "console-read")
        self._of_thread = threading.local()
        self._clients: list[Client] = []
        self._running = 0
        self.answered_ms: int | None = None
        """When ClickHouse last answered, Unix ms."""
        self.failing = ""
        """Why it did not answer the newest query; '': it did."""

    async def rows(self, query: str, **parameters: Parameter) -> Rows:
        given = {name: checked(value) for name, value in parameters.items()}
        found, columns = await self._asked(query, given)
        return Rows(tuple(name for name, _ in columns), found, time.time_ns() // 1_000_000)

    async def insert(self, statement: str, rows: list[tuple[object, ...]]) -> None:
        """Write rows; the log of actions alone does. Raises ReadFailed."""
        await self._asked(statement, rows)

    async def _asked(self, query: str, given: Any) -> Any:
        if self._running >= _THREADS + _WAITING:
            raise ReadFailed(
                "More is asked of this console than ClickHouse answers. Try again in a moment.",
                self.answered_ms,
            )
        self._running += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._pool, self._ask, query, given
            )
        finally:
            self._running -= 1

    def _ask(self, query: str, given: Any) -> Any:
        began = time.monotonic()
        try:
            found = self._client().execute(
                query,
                given,
                with_column_types=True,
                settings=self._settings,
            )
        except (DriverError, OSError, EOFError) as error:
            self._forget()
            self._observe("failed", time.monotonic() - began)
            failure = sink_error(error, "reading for the console", self._target)
            self.failing = str(failure)
            raise ReadFailed(str(failure), self.answered_ms) from error
        self._observe("ok", time.monotonic() - began)
        self.failing = ""
        self.answered_ms = time.time_ns() // 1_000_000
        return found

    def _client(self) -> Client:
        client = getattr(self._of_thread, "client", None)
        if client is None:
            client = connect(self._target)
            self._of_thread.client = client
            self._clients.append(client)
        return client

    def _forget(self) -> None:
        client, self._of_thread.client = self._of_thread.client, None
        if client is not None:
            self._clients.remove(client)
            client.disconnect()

    def close(self) -> None:
        """Ends connections; a query under way fails."""
        for client in list(self._clients):
            client.disconnect()
        self._pool.shutdown(wait=False, cancel_futures=True)


def checked(value: Parameter) -> Parameter:
    """A parameter that the driver can write as one literal. Raises TypeError otherwise: the driver
    would write what it does not know as it is.

    A text loses what is no Unicode: the driver could not send it.
    """
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    if isinstance(value, list | tuple):
        if not value:
            raise TypeError("an empty list is no literal of ClickHouse's IN")
        return [checked(each) for each in value]  # type: ignore[return-value]
    if isinstance(value, bool) or not isinstance(value, int | float | datetime):
        raise TypeError(f"{type(value).__name__} is no parameter of a query")
    return value


class Sealed:
    """A reader for one visitor."""

    def __init__(self, reader: Reader, seal: Seal, *, sees_ids: bool) -> None:
        self._reader, self._seal, self._sees_ids = reader, seal, sees_ids

    async def rows(self, query: str, **parameters: Parameter) -> Rows:
        """Raises ReadFailed, and UnknownPseudonym for one that is not ours."""
        given = {
            name: self.person(value) if names_a_person(name) else value
            for name, value in parameters.items()
        }
        found = await self._reader.rows(query, **given)
        if self._sees_ids:
            return found
        return Rows(found.columns, list(self._concealed(found)), found.as_of_ms)

    def person(self, value: Parameter) -> Parameter:
        """The id that a pseudonym stands for. From who may not see ids nothing else is taken: who
        could ask for an id would learn its pseudonym."""
        if isinstance(value, list | tuple):
            return [str(self.person(each)) for each in value]
        if not isinstance(value, str):
            return value
        opened = self._seal.opened(value)
        if opened is not None:
            return opened
        if self._sees_ids:
            return value
        raise UnknownPseudonym(value)

    def _concealed(self, found: Rows) -> Iterator[tuple[Any, ...]]:
        kinds = [
            self._sealed if names_a_person(name) else _hidden if name in HIDDEN_COLUMNS else _same
            for name in found.columns
        ]
        for row in found.rows:
            yield tuple(kind(value) for kind, value in zip(kinds, row, strict=True))

    def _sealed(self, value: Any) -> Any:
        if isinstance(value, Sequence) and not isinstance(value, str | bytes):
            return [self._sealed(each) for each in value]
        if isinstance(value, bytes):
            value = value.decode(errors="surrogateescape")
        return self._seal.sealed(value) if isinstance(value, str) and value else value


def names_a_person(name: str) -> bool:
    """Whether a column or parameter of this name holds user ids."""
    return name in PERSON_COLUMNS or name.endswith("_user_id")


def _hidden(value: Any) -> Any:
    return "" if isinstance(value, str) else None


def _same(value: Any) -> Any:
    return value
