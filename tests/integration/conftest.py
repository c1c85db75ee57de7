"""A separate world for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from streams.local.clickhouse import ChdbServer
from tests.databases import Databases
from tests.integration.world import World


@pytest.fixture
def world(
    request: pytest.FixtureRequest, clickhouse: ChdbServer, databases: Databases, tmp_path: Path
) -> Iterator[Callable[..., World]]:
    """world(setting=value, ...) makes one; `broker` and `server` choose others than the usual.

    It has two shards, so that there are others than the one that something happens to. Each has its
    sweeps of every simulated day, live and in each replay; drills have four.
    """
    with ExitStack() as stack:

        def make(broker: Any = None, server: ChdbServer | None = None, **changes: Any) -> World:
            bootstrap = (broker or request.getfixturevalue("kafka_broker")).bootstrap
            options = {"forked": True, "kafka_partitions": 2} | changes
            if server is None:
                options["database"] = stack.enter_context(databases.lent()).database
            return stack.enter_context(World(bootstrap, server or clickhouse, tmp_path, **options))

        yield make
