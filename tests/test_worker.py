"""The worker's process: what it starts, and in which order it stops."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from schemas.errors import BrokerUnavailable
from streams.clickhouse.sink import ClickHouseSink
from streams.faust_app import Failure
from streams.kafka.log import KafkaLog
from streams.settings import Settings
from streams.shard.engine import Engine
from streams.worker import create_app
from tests.awaiting import close_unused_loop, task_names

BESIDE = {"learner snapshots", "champions", "erasures"}
"""Tasks that run beside the shards."""


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is called, in order: nothing is connected to."""
    made: list[str] = []

    def noting(name: str) -> Callable[..., Any]:
        async def call(*_: Any) -> None:
            made.append(name)

        return call

    monkeypatch.setattr(KafkaLog, "start", noting("log starts"))
    monkeypatch.setattr(KafkaLog, "stop", noting("log stops"))
    monkeypatch.setattr(Engine, "stop", noting("shards stop"))
    monkeypatch.setattr(ClickHouseSink, "start", lambda _: made.append("sink starts"))
    monkeypatch.setattr(ClickHouseSink, "close", lambda _: made.append("sink closes"))
    return made


def test_shards_stop_while_the_logs_and_the_sink_still_work(calls: list[str]) -> None:
    """They are what a last checkpoint needs."""

    async def go() -> None:
        app = create_app(Settings(), Failure())
        await app.on_start()
        assert calls == ["log starts", "log starts", "sink starts"]
        assert task_names() >= BESIDE
        calls.clear()
        await app.on_stop()
        assert calls == ["shards stop", "sink closes", "log stops", "log stops"]
        assert not task_names() & BESIDE
        close_unused_loop(app)

    asyncio.run(go())


def test_a_worker_that_finds_no_broker_says_so_last(
    calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(_: Any) -> None:
        raise BrokerUnavailable("no broker answers")

    monkeypatch.setattr(KafkaLog, "start", away)

    async def go() -> None:
        failure = Failure()
        app = create_app(Settings(), failure)
        with pytest.raises(BrokerUnavailable):
            await app.on_start()
        assert isinstance(failure.error, BrokerUnavailable)
        assert calls == ["log stops"]  # nothing that comes after the log was started
        await app.on_stop()
        assert calls == ["log stops"]
        close_unused_loop(app)

    asyncio.run(go())
