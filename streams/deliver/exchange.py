"""What is said to a destination and what it says: requests, answers, refusals. Values only."""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from schemas.messages import AudienceChange

__all__ = [
    "Answer",
    "Conversation",
    "Refusal",
    "RefusedAllError",
    "Request",
    "chunks",
    "refusal_of",
]

_DETAIL_CHARACTERS = 300


@dataclass(frozen=True)
class Request:
    """One HTTP request. `repr` hides the headers: they hold the key."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = b""
    is_signed: bool = False
    """Whoever sends it adds the signature, which holds the time of that try."""


@dataclass(frozen=True)
class Answer:
    """The answer to a request. Names of headers are in lower case; the body may be cut off."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def document(self) -> Any:
        """The body as JSON; None if it is none."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None


@dataclass(frozen=True)
class Refusal:
    """Why a destination will never take a change."""

    reason: str
    detail: str = ""


class RefusedAllError(Exception):
    """A request for several changes was refused as a whole: one of them may be the cause."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.reason)
        self.refusal = refusal


Conversation = Generator[Request, Answer, Sequence[Refusal | None]]
"""Delivers some changes: yields requests and gets their answers, which are final (taken, or refused
for good). Returns for each change its refusal, or None if it was taken. Raises RefusedAllError."""


def refusal_of(answer: Answer) -> Refusal | None:
    """None for an answer that says that all was taken."""
    if 200 <= answer.status < 300:
        return None
    text = answer.body.decode("utf-8", "replace")
    shown = "".join(c if c.isprintable() else " " for c in text)[:_DETAIL_CHARACTERS]
    return Refusal(f"http_{answer.status}", shown)


def chunks(
    changes: Sequence[AudienceChange], most: int, *, once_per_user: bool
) -> list[list[AudienceChange]]:
    """`changes` in order, in lists of at most so many.

    `once_per_user`: no list has two changes of a user, for an API that promises no order within a
    request.
    """
    found: list[list[AudienceChange]] = []
    users: set[str] = set()
    for change in changes:
        if not found or len(found[-1]) == most or (once_per_user and change.user_id in users):
            found.append([])
            users.clear()
        found[-1].append(change)
        users.add(change.user_id)
    return found
