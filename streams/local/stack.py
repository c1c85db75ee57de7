"""Starts the servers that Tideline needs on this machine: a Kafka broker and a ClickHouse."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Literal

from schemas.errors import LocalStackError
from streams.local.clickhouse import ChdbServer
from streams.local.kafka import ApacheKafka
from streams.local.tansu import TansuBroker

__all__ = ["LocalStack"]


class LocalStack:
    """A broker and a database that live in `directory` and stop together.

    `broker` is `tansu` (in memory, up in milliseconds) or `kafka` (the real one, on disk, needs
    Java and, the first time, Maven). A second start on the same directory finds the database and,
    with `kafka`, the topics as they were left.
    """

    def __init__(
        self,
        broker: Literal["tansu", "kafka"] = "tansu",
        directory: Path = Path(".tideline"),
        broker_port: int = 0,
        clickhouse_port: int = 0,
    ) -> None:
        self.broker: TansuBroker | ApacheKafka
        if broker == "tansu":
            self.broker = TansuBroker(directory / "tansu", broker_port)
        elif broker == "kafka":
            self.broker = ApacheKafka(directory / "kafka", broker_port)
        else:
            raise LocalStackError(f"There is no broker {broker!r}; use 'tansu' or 'kafka'.")
        self.clickhouse = ChdbServer(directory / "clickhouse", clickhouse_port)

    @property
    def bootstrap(self) -> str:
        """The broker's `host:port` for Kafka clients."""
        return self.broker.bootstrap

    @property
    def clickhouse_host(self) -> str:
        """The database's host for clickhouse-driver."""
        return self.clickhouse.host

    @property
    def clickhouse_port(self) -> int:
        """The database's native TCP port."""
        return self.clickhouse.port

    def start(self) -> LocalStack:
        """Start both and wait until they answer. Raises LocalStackError, with neither left up."""
        try:
            self.broker.start()
            self.clickhouse.start()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Stop both, the database first. Safe to call twice."""
        self.clickhouse.stop()
        self.broker.stop()

    def __enter__(self) -> LocalStack:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
