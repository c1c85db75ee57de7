"""What `/v1/users/{id}` bears: requests per second, how long they take, and how old a score is.

    python -m tests.console.api.bench [--users 1000000] [--seconds 20]

A ClickHouse (chDB) with so many users, `tideline console` as a process of its own, and a process
that asks for random users over kept connections: first as fast as answers come, then 1,000 times a
second by the clock, so that a request which waits for its turn counts its wait. Meanwhile scores
are written, as workers do; what that takes of ClickHouse, with its merges, is measured
without requests first, and is part of the CPU per request later. The age is from the insert of a
row until it is answered. Ends with status 1 if a bound is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import random
import statistics
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.pool import Pool
from pathlib import Path
from typing import Any

import msgspec
from clickhouse_driver import Client
from rich.console import Console as Terminal
from rich.progress import track

from streams.clickhouse import migrations
from streams.clickhouse.client import ClickHouseTarget, connect
from streams.local.clickhouse import ChdbServer
from streams.settings import Settings, override
from tests.console.stand import Console

__all__ = ["main"]

_CHUNK = 200_000
P99_SECONDS = 0.02
RATE_SHARE = 0.99
"""Of the rate that is asked for: the last answers come after the time."""
AGE_SECONDS = 2.0
SETTLE_SECONDS = 30.0
"""For the merges of a million users who came at once, as no shop's do; they begin late."""
IDLE_SECONDS = 10.0
_TERMINAL = Terminal(stderr=True)
_ROWS = """
INSERT INTO score_history (
    user_id, shard, seq, scored_at, p_churn, p_champion, p_learner, expected_spend, horizon_days,
    champion_version, learner_version, value_tier, lifecycle, at_risk, lifetime_orders,
    last_order_at
)
SELECT
    concat('user-', toString(number)), number %% 16, bitShiftLeft(toUInt64(1), 32) + %(seq)s,
    now64(3), (cityHash64(number) %% 1000) / 1000, 0.5, 0.5, (cityHash64(number, 1) %% 10000) / 100,
    28, 'bench', 1, arrayElement(['none', 'low', 'medium', 'high'], 1 + number %% 4), 'active', 0,
    number %% 40, now64(3)
FROM numbers(%(first)s, %(count)s)
"""


def fill(client: Client, users: int) -> None:
    for first in track(range(0, users, _CHUNK), "users", console=_TERMINAL):
        count = min(_CHUNK, users - first)
        client.execute(_ROWS, {"first": first, "count": count, "seq": 1})


class Writer(threading.Thread):
    """Writes the scores of some users again and again, as workers do, until it is stopped."""

    def __init__(self, target: ClickHouseTarget, users: int, rows_per_second: int) -> None:
        super().__init__(daemon=True)
        self._client, self._users, self._rows = connect(target), users, rows_per_second
        self._ending = threading.Event()
        self.written = 0

    def run(self) -> None:
        block = max(1, self._rows // 4)
        seq = 10
        while not self._ending.wait(0.25):
            seq += 1
            first = random.randrange(max(1, self._users - block))
            self._client.execute(_ROWS, {"first": first, "count": block, "seq": seq})
            self.written += block

    def stop(self) -> None:
        self._ending.set()
        self.join()


class _Connection(asyncio.Protocol):
    """One kept connection, with one request at a time. Who asks shares the cores with who answers,
    so it does as little as it can: streams of asyncio would take twice the CPU."""

    def __init__(self, seed: str, users: int, answered: Callable[[_Connection, float], None]):
        self._chance, self._users, self._answered = random.Random(seed), users, answered
        self._began, self._got, self._closed = 0.0, b"", False
        self._transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def ask(self, began: float) -> None:
        """Ask for some user; the answer counts from `began`."""
        self._began, self._got = began, b""
        path = f"/v1/users/user-{self._chance.randrange(self._users)}"
        self._transport.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())

    def data_received(self, data: bytes) -> None:
        self._got += data
        head, end, body = self._got.partition(b"\r\n\r\n")
        if end and len(body) == int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]):
            assert head.startswith(b"HTTP/1.1 200"), head
            self._answered(self, self._began)

    def connection_lost(self, error: Exception | None) -> None:
        if not self._closed:
            raise ConnectionError(error or "the console has closed a connection")

    def close(self) -> None:
        self._closed = True
        self._transport.close()


async def ask(
    port: int, users: int, seconds: float, connections: int, rate: float
) -> tuple[list[float], float]:
    """Seconds of each request, and of all together; `rate` 0: as fast as answers come. By the clock
    a request counts from when it was due, also while all connections are taken."""
    loop = asyncio.get_running_loop()
    found: list[float] = []
    free: list[_Connection] = []
    due: deque[float] = deque()
    problems: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, problem: problems.append(problem))

    def answered(connection: _Connection, began: float) -> None:
        now = loop.time()
        found.append(now - began)
        if rate and due:
            connection.ask(due.popleft())
        elif rate or now >= until:
            free.append(connection)
        else:
            connection.ask(now)

    made = [
        (await loop.create_connection(
            lambda n=n: _Connection(f"{n}/{users}", users, answered), "127.0.0.1", port  # type: ignore[misc]
        ))[1]
        for n in range(connections)
    ]  # fmt: skip
    free.extend(made)
    start = loop.time()
    until = start + seconds
    if not rate:
        while free:
            free.pop().ask(loop.time())
    for number in range(int(seconds * rate)):
        at = start + number / rate
        if at > loop.time():
            await asyncio.sleep(at - loop.time())
        if free:
            free.pop().ask(at)
        else:
            due.append(at)
        if problems:
            break
    while len(free) < connections and not problems:
        await asyncio.sleep(0.001)
    if problems:
        raise RuntimeError(f"an answer was none: {problems[0]}")
    took = loop.time() - start
    for connection in made:
        connection.close()
    return found, took


def _asked(arguments: Sequence[float]) -> tuple[list[float], float]:
    port, users, seconds, connections, rate = arguments
    return asyncio.run(ask(int(port), int(users), seconds, int(connections), rate))


def age_seconds(port: int, client: Client, tries: int) -> list[float]:
    """From the start of an insert until the API answers with its row."""

    async def scored_at(name: str) -> str:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        head = f"GET /v1/users/{name} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
        writer.write(head.encode())
        body = (await reader.read()).partition(b"\r\n\r\n")[2]
        writer.close()
        return str(msgspec.json.decode(body)["scored_at"])

    async def one(number: int) -> float:
        name = f"user-{number}"
        before = await scored_at(name)
        began = time.monotonic()
        values = {"first": number, "count": 1, "seq": 10**6 + number}
        insert = asyncio.create_task(asyncio.to_thread(client.execute, _ROWS, values))
        while await scored_at(name) == before:
            await asyncio.sleep(0.01)
        took = time.monotonic() - began
        await insert
        return took

    return [asyncio.run(one(number)) for number in range(tries)]


def cpu_seconds(pid: int | None) -> float:
    """What a process has used so far: on a busy machine this says more than times do."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def quantiles(seconds: list[float]) -> str:
    cuts = statistics.quantiles(seconds, n=1000)
    at = {"p50": cuts[499], "p90": cuts[899], "p99": cuts[989], "p99.9": cuts[998]}
    return ", ".join(f"{name} {1000 * value:.1f} ms" for name, value in at.items())


@dataclass(frozen=True)
class Measured:
    """What one part of the run came to."""

    seconds: list[float]
    """Of each request."""
    took_seconds: float

    @property
    def rate(self) -> float:
        return len(self.seconds) / self.took_seconds

    @property
    def p99_seconds(self) -> float:
        return statistics.quantiles(self.seconds, n=100)[98]


def missed(rate: float, fast: Measured, timed: Measured, ages: Sequence[float]) -> list[str]:
    """The bounds of `rate` requests a second that are missed, in words."""
    found = []
    if fast.rate < rate:
        found.append(f"{fast.rate:,.0f}/s as fast as it goes, {rate:,.0f}/s are wanted")
    if timed.rate < RATE_SHARE * rate:
        found.append(f"{timed.rate:,.0f}/s by the clock, {rate:,.0f}/s are wanted")
    if timed.p99_seconds > P99_SECONDS:
        found.append(
            f"p99 {1000 * timed.p99_seconds:.1f} ms by the clock, {1000 * P99_SECONDS:.0f} ms at "
            "most is wanted"
        )
    if max(ages) > AGE_SECONDS:
        found.append(f"a score was {max(ages):.1f} s old, {AGE_SECONDS:.0f} s at most is wanted")
    return found


def measure(
    title: str, pool: Pool, pids: Sequence[int | None], arguments: Sequence[float]
) -> Measured:
    before = [cpu_seconds(pid) for pid in pids]
    ((seconds, took_seconds),) = pool.map(_asked, [arguments])
    found = Measured(seconds, took_seconds)
    own, its = (
        1000 * (cpu_seconds(pid) - used) / len(seconds)
        for pid, used in zip(pids, before, strict=True)
    )
    print(f"{title}: {found.rate:,.0f}/s, {quantiles(seconds)}")
    print(f"    CPU per request: console {own:.2f} ms, ClickHouse {its:.2f} ms", flush=True)
    return found


def run(target: ClickHouseTarget, server: ChdbServer, console: Console, given: Any) -> list[str]:
    """The bounds that are missed."""
    writer = Writer(target, given.users, given.writes)
    clickhouse = server.process.pid if server.process else None
    console.wait()
    writer.start()
    try:
        time.sleep(SETTLE_SECONDS)
        before = cpu_seconds(clickhouse)
        time.sleep(IDLE_SECONDS)
        used = (cpu_seconds(clickhouse) - before) / IDLE_SECONDS
        print(f"without requests: ClickHouse takes {used:.2f} of a core for writes and merges")
        pids = (console.pid, clickhouse)
        asked = (console.port, given.users, given.seconds, given.connections)
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            pool.map(len, [()])  # it has started, which is not counted
            fast = measure("as fast as it goes", pool, pids, (*asked, 0.0))
            timed = measure("by the clock", pool, pids, (*asked, given.rate))
        with connect(target) as client:
            ages = age_seconds(console.port, client, 20)
        print(f"age: median {statistics.median(ages):.3f} s, most {max(ages):.3f} s")
        print(f"{writer.written:,} scores were written meanwhile")
    finally:
        writer.stop()
    return missed(given.rate, fast, timed, ages)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each part")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--rate", type=float, default=1_000.0, help="requests a second")
    parser.add_argument("--writes", type=int, default=2_000, help="scores written a second")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, ChdbServer(Path(directory) / "db") as server:
        target = ClickHouseTarget(server.host, server.port, database="bench")
        migrations.migrate(target)
        with connect(target) as client:
            fill(client, given.users)
        settings = override(
            Settings(), clickhouse_host=server.host, clickhouse_port=server.port,
            clickhouse_database="bench", kafka_broker_url="127.0.0.1:1",
        )  # fmt: skip
        console = Console(settings, Path(directory))
        try:
            over = run(target, server, console, given)
        finally:
            console.close()
    print("\n".join(f"missed: {each}" for each in over) or "all bounds are kept")
    return int(bool(over))


if __name__ == "__main__":
    sys.exit(main())
