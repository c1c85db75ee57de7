"""The learner's process: what it does first and last, and when it publishes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from schemas.errors import BrokerUnavailable
from streams.faust_app import Failure
from streams.kafka.log import KafkaLog
from streams.learner import app as learner_app
from streams.learner.service import LearnerService
from streams.settings import Settings, override
from tests.awaiting import close_unused_loop, task_names


class Batches:
    """A stream of `n` batches, as an agent gets it."""

    def __init__(self, n: int) -> None:
        self._n = n

    async def noack(self) -> AsyncIterator[Any]:
        for number in range(self._n):
            yield number


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is called, in order: neither Kafka nor the learner does anything here."""
    made: list[str] = []

    def noting(name: str, result: Any = None) -> Callable[..., Any]:
        async def call(*_: Any) -> Any:
            made.append(name)
            return result

        return call

    for owner, attribute, result in (
        (KafkaLog, "start", None),
        (KafkaLog, "stop", None),
        (LearnerService, "restore", None),
        (LearnerService, "take", 3),
        (LearnerService, "publish_and_commit", None),
    ):
        monkeypatch.setattr(owner, attribute, noting(attribute, result))
    return made


def app_of(interval_seconds: float = 1e6) -> Any:
    settings = override(Settings(), model_learner_publish_interval_seconds=interval_seconds)
    return learner_app.create_app(settings, Failure())


def test_the_learner_restores_once_it_is_connected_and_publishes_before_it_leaves(
    calls: list[str],
) -> None:
    async def go() -> None:
        app = app_of()
        await app.on_start()
        assert calls == ["start", "restore"]
        assert "champions" in task_names()
        await app.on_stop()
        close_unused_loop(app)
        assert calls == ["start", "restore", "publish_and_commit", "stop"]
        assert "champions" not in task_names()

    asyncio.run(go())


def test_a_last_snapshot_that_can_not_be_published_does_not_keep_the_learner(
    calls: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def away(*_: Any) -> None:
        raise BrokerUnavailable("away")

    monkeypatch.setattr(LearnerService, "publish_and_commit", away)

    async def go() -> None:
        app = app_of()
        await app.on_start()
        await app.on_stop()
        close_unused_loop(app)
        assert calls == ["start", "restore", "stop"]

    asyncio.run(go())
    assert "learner snapshot not published: away" in caplog.text


@pytest.mark.parametrize(("interval_seconds", "published"), [(1e-9, 2), (1e6, 0)])
def test_the_agent_publishes_between_batches_once_the_interval_has_passed(
    calls: list[str], interval_seconds: float, published: int
) -> None:
    async def go() -> None:
        app = app_of(interval_seconds)
        await app.agents["learner"].fun(Batches(2))

    asyncio.run(go())
    assert calls.count("take") == 2
    assert calls.count("publish_and_commit") == published
    assert calls[0] == "take"


def test_what_no_batch_follows_is_published_by_the_timer_until_it_can_be(
    calls: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    published = asyncio.Event()

    async def publish(*_: Any) -> None:
        calls.append("publish")
        if len(calls) < 3:
            raise BrokerUnavailable("away")
        published.set()

    monkeypatch.setattr(LearnerService, "publish_and_commit", publish)

    async def go() -> None:
        (timer,) = app_of(0.001)._app_tasks
        task = asyncio.create_task(timer())
        await asyncio.wait_for(published.wait(), 60)
        task.cancel()

    asyncio.run(go())
    assert calls[:3] == ["publish"] * 3
    assert caplog.text.count("learner snapshot not published yet: away") == 2
