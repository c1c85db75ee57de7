"""Whether workers run, as a broker says it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from kafka.errors import CoordinatorNotAvailableError, InvalidRequestError, KafkaError

from streams import offline
from streams.offline import group_members
from streams.settings import load

RUNS = {"members": [{"client_id": "worker-1", "client_host": "/10.0.0.7"}]}


class Admin:
    """Answers one after the other; the last one stays."""

    def __init__(self, answers: list[Any]) -> None:
        self._answers = answers

    def describe_groups(self, groups: list[str]) -> dict[str, Any]:
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, KafkaError):
            raise answer
        return {groups[0]: answer}


@pytest.mark.parametrize(
    ("answers", "members"),
    [
        ([{"members": []}], []),
        ([RUNS], ["worker-1 at 10.0.0.7"]),
        ([CoordinatorNotAvailableError(), CoordinatorNotAvailableError(), RUNS],
         ["worker-1 at 10.0.0.7"]),
        ([CoordinatorNotAvailableError()], None),
        ([InvalidRequestError()], None),
    ],
    ids=["no member", "a member", "the cluster's first group", "no coordinator", "not served"],
)  # fmt: skip
def test_group_members_waits_for_a_coordinator_and_is_none_without_an_answer(
    monkeypatch: pytest.MonkeyPatch, answers: list[Any], members: list[str] | None
) -> None:
    @contextmanager
    def connect(_: object) -> Iterator[Admin]:
        yield Admin(answers)

    monkeypatch.setattr(offline, "connect", connect)
    monkeypatch.setattr(offline, "POLL_SECONDS", 0.001)
    monkeypatch.setattr(offline, "COORDINATOR_SECONDS", 0.05)
    assert group_members(load(environ={})) == members
