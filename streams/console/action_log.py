"""Who did what in the console, and when: a row as it is asked for, and one with what became of it.

Nothing is done that can't be written down first. The rows name a customer only in `user_id`, where
`tideline erase` finds them; the process's own log names nobody.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final, Literal, Protocol

from streams.console.access import ROLES, Visitor

__all__ = ["ActionLog", "Entry", "Keeper", "Result"]

_log = logging.getLogger(__name__)

Result = Literal["asked", "done", "refused", "failed"]
INSERT: Final = (
    "INSERT INTO console_actions (action_id, happened_at, who, role, action, user_id, what, result,"
    " detail) VALUES"
)


@dataclass(frozen=True)
class Entry:
    """One action of one visitor on one customer, or on nobody."""

    action_id: str
    happened_ms: int
    who: str
    role: str
    action: str
    user_id: str
    what: str
    result: Result = "asked"
    detail: str = ""

    def row(self) -> tuple[object, ...]:
        """In the order of `INSERT`."""
        return (
            self.action_id, self.happened_ms, self.who, self.role, self.action, self.user_id,
            self.what, self.result, self.detail,
        )  # fmt: skip


class Keeper(Protocol):
    """Writes rows for good."""

    async def insert(self, statement: str, rows: list[tuple[object, ...]]) -> None:
        """Raises ReadFailed."""


@dataclass
class ActionLog:
    """The log of one console."""

    keeper: Keeper
    new_id: Callable[[], str]
    observe: Callable[[str, str], None] = lambda action, result: None
    now_ms: Callable[[], int] = field(default=lambda: time.time_ns() // 1_000_000)

    async def asked(
        self, visitor: Visitor, action: str, about: list[tuple[str, str]]
    ) -> list[Entry]:
        """Write down that this is asked for; `about`: user id and what else, of each customer.

        Raises ReadFailed: then it must not be done.
        """
        at = self.now_ms()
        role = next((role for role in ROLES if role in visitor.roles), "")
        entries = [
            Entry(self.new_id(), at, visitor.name, role, action, user_id, what)
            for user_id, what in about
        ]
        _log.info("%s (%s) asks for %s, %d times", visitor.name, role, action, len(entries))
        await self.keeper.insert(INSERT, [entry.row() for entry in entries])
        return entries

    async def ended(self, entries: list[Entry], result: Result, detail: str) -> None:
        """Write down what became of it. If that fails it is said, and changes nothing."""
        for entry in entries[:1]:
            self.observe(entry.action, result)
            _log.info("%s by %s: %s (%s)", entry.action, entry.who, result, detail)
        rows = [replace(entry, result=result, detail=detail).row() for entry in entries]
        try:
            await self.keeper.insert(INSERT, rows)
        except Exception:
            _log.exception("what became of an action could not be written down")
