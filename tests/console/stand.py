"""The console on a filled ClickHouse, as its tests and `python -m tests.console.look` have it.

    with Stand(directory) as stand:
        stand.console()         # a process; its URL is stand.url

ClickHouse is chDB behind the local front, the lag monitor serves its own pages, and the console is
the command itself. Kafka is away unless settings name one.
"""

from __future__ import annotations

import os
import sys
import time
import urllib.error
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from streams.clickhouse.client import ClickHouseTarget
from streams.local.clickhouse import ChdbServer
from streams.local.process import ChildProcess, free_port, tail
from streams.settings import Settings, as_environ, override
from tests.console import lag_monitor
from tests.console.filled import crowd, fill
from tests.console.shop import Shop, play

__all__ = ["DATABASE", "Console", "Stand"]

DATABASE = "shop"
_CROWD = "crowd"
CROWD_ALERTS = 10_000


class Console:
    """`tideline console` as a process of its own."""

    def __init__(self, settings: Settings, directory: Path, **environ: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log_path = directory / f"console-{self.port}.log"
        self.environ = {
            **as_environ(settings), "TIDELINE_CONSOLE_PORT": str(self.port),
            "TIDELINE_WEB_METRICS_PORT": "0", **environ,
        }  # fmt: skip
        self._child = ChildProcess(
            "console", [sys.executable, "-m", "streams", "console"], self.log_path,
            env={**os.environ, **self.environ},
        )  # fmt: skip
        self._child.start()

    def wait(self, seconds: float = 60.0) -> None:
        """Until it answers, whatever it says. Raises AssertionError with its log's end."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                with urllib.request.urlopen(f"{self.url}/login", timeout=5):  # noqa: S310
                    return
            except urllib.error.HTTPError as error:
                error.close()
                return
            except OSError:
                assert time.monotonic() < deadline, f"no console:\n{tail(self.log_path)}"
                time.sleep(0.05)

    @property
    def pid(self) -> int | None:
        return self._child.pid

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    def close(self) -> None:
        self._child.stop()


class Stand:
    """Everything around the console. Make it with `with`."""

    def __init__(self, directory: Path, server: ChdbServer | None = None) -> None:
        """`server`: one that runs already; else it starts one of its own."""
        self.directory = directory
        self._server = server
        self._stack = ExitStack()
        self.end_ms = time.time_ns() // 1_000_000
        self.shop: Shop
        self.lag_url: str

    def __enter__(self) -> Stand:
        if self._server is None:
            self._server = self._stack.enter_context(ChdbServer(self.directory / "clickhouse"))
        reports = lag_monitor.looks(self.end_ms)
        self.lag_url = self._stack.enter_context(lag_monitor.running(self.end_ms, reports))
        self.shop = play(self.end_ms)
        fill(self.target(), self.shop, reports)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def server(self) -> ChdbServer:
        assert self._server is not None
        return self._server

    def target(self, database: str = DATABASE) -> ClickHouseTarget:
        return ClickHouseTarget(
            self.server.host, self.server.port, database=database, send_receive_timeout_seconds=20
        )

    def crowd(self) -> str:
        """A database with nothing but 10,000 open alerts; its name."""
        crowd(self.target(_CROWD), CROWD_ALERTS, self.end_ms)
        return _CROWD

    def settings(self, database: str = DATABASE, **changes: Any) -> Settings:
        return override(
            Settings(),
            clickhouse_host=self.server.host,
            clickhouse_port=self.server.port,
            clickhouse_database=database,
            kafka_partitions=len(self.shop.shards),
            kafka_broker_url=f"127.0.0.1:{free_port()}",
            **changes,
        )

    def console(self, database: str = DATABASE, **environ: str) -> Console:
        """Start one, and wait until it answers; it ends with this stand. `environ` has more
        variables, such as TIDELINE_CONSOLE_TOKENS_FILE."""
        given = {"TIDELINE_CONSOLE_LAG_URL": self.lag_url, **environ}
        console = Console(self.settings(database), self.directory, **given)
        self._stack.callback(console.close)
        console.wait()
        return console
