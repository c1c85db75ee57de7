"""The worker's process: what it starts, and in which order it stops."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest

from schemas.errors import BrokerUnavailable
from streams.clickhouse.sink import ClickHouseSink
from streams.faust_app import Failure
from streams.kafka.log import KafkaLog
from streams.local.process import free_port
from streams.settings import Settings, override
from streams.shard.engine import Engine
from streams.worker import create_app
from tests.awaiting import close_unused_loop, task_names

BESIDE = {"learner snapshots", "champions", "erasures", "progress"}
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


def test_a_worker_says_that_it_is_alive_and_not_ready_until_it_has_its_partitions(
    calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def ends(*_: Any) -> dict[tuple[str, int], int]:
        return {}

    monkeypatch.setattr(KafkaLog, "listed_ends", ends)

    def page(port: int, path: str) -> tuple[int, list[str]]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
                return answer.status, json.load(answer)["reasons"]
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)["reasons"]

    async def go() -> None:
        port = free_port()
        app = create_app(override(Settings(), web_metrics_port=port), Failure())
        await app.on_start()
        assert await asyncio.to_thread(page, port, "/healthz") == (200, [])
        code, reasons = await asyncio.to_thread(page, port, "/readyz")
        assert (code, reasons[0]) == (503, "the group has not given it any partitions yet")
        await app.on_stop()
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
