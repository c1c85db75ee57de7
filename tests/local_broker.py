"""Fixtures for the shell around the core: a local broker, and the CLI pointed at it. Each folder
that wants them names them in its conftest."""

from __future__ import annotations

import itertools
import logging
import os
import warnings
from collections.abc import Callable, Iterator

import pytest
from click.testing import CliRunner, Result

from streams.cli import tideline
from streams.local.process import free_port
from streams.local.tansu import TansuBroker
from streams.settings import Settings, as_environ, override

with warnings.catch_warnings():
    # kafka-python 3.0 reads its own schemas with a function that Python deprecated.
    warnings.simplefilter("ignore", DeprecationWarning)
    import kafka  # noqa: F401

Cli = Callable[..., Result]
_NUMBERS = itertools.count(1)


@pytest.fixture(scope="session")
def broker() -> Iterator[TansuBroker]:
    with TansuBroker() as started:
        yield started


@pytest.fixture
def settings(broker: TansuBroker) -> Settings:
    """Settings for the broker, with topic names that no other test has."""
    n = next(_NUMBERS)
    return override(
        Settings(),
        kafka_broker_url=broker.bootstrap,
        kafka_app_id=f"app{n}",
        kafka_clickstream_topic=f"clicks{n}",
        kafka_orders_topic=f"orders{n}",
        kafka_partitions=2,
    )


@pytest.fixture
def dead_broker() -> str:
    """`host:port` where nothing listens."""
    return f"127.0.0.1:{free_port()}"


@pytest.fixture(autouse=True)
def clean_environ(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("TIDELINE_"):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def same_logging() -> Iterator[None]:
    """Commands set logging up for their process; here the process is the test's."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def cli() -> Cli:
    """Run `tideline ARGS`; with `settings`, on those."""

    def run(*args: str, settings: Settings | None = None) -> Result:
        environ = as_environ(settings) if settings else {}
        return CliRunner().invoke(tideline, args, env=environ, prog_name="tideline")

    return run
