"""A separate world for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from streams.local.clickhouse import ChdbServer
from tests.integration.world import World


@pytest.fixture
def world(
    kafka_broker: Any, clickhouse: ChdbServer, tmp_path: Path
) -> Iterator[Callable[..., World]]:
    """world(setting=value, ...) makes one; `broker` and `server` choose others than the usual."""
    with ExitStack() as stack:

        def make(broker: Any = None, server: ChdbServer | None = None, **changes: Any) -> World:
            bootstrap = (broker or kafka_broker).bootstrap
            options = {"forked": True} | changes
            made = World(bootstrap, server or clickhouse, tmp_path, **options)
            if server is None:
                stack.callback(made.drop)
            return stack.enter_context(made)

        yield make
