"""What `/v1/users/{id}` bears: requests per second, how long they take, and how old a score is.

    python -m tests.console.api.bench [--users 1000000] [--seconds 20]

A ClickHouse (chDB) with so many users, `tideline console` as a process of its own, and a process
that asks for random users over kept connections: first as fast as answers come, then 1,000 times a
second by the clock, so that a request which waits for its turn counts its wait. Meanwhile scores
are written, as workers do. The age is from the insert of a row until it is answered.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

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


async def _asker(
    port: int, name: str, due: asyncio.Queue[float] | None, until: float, found: list[float]
) -> None:
    """One connection. Without `due` the next request follows the answer; with it, it has a time."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    loop = asyncio.get_running_loop()
    chance = random.Random(name)
    users = int(name.rpartition("/")[2])
    while True:
        began = loop.time() if due is None else await due.get()
        if began >= until or began < 0:
            break
        path = f"/v1/users/user-{chance.randrange(users)}"
        writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
        found.append(loop.time() - began)
    writer.close()


def ask(port: int, users: int, seconds: float, connections: int, rate: float) -> list[float]:
    """Seconds of each request; `rate` 0: as fast as answers come."""

    async def run() -> list[float]:
        found: list[float] = []
        loop = asyncio.get_running_loop()
        start = loop.time() + 0.2
        due: asyncio.Queue[float] | None = asyncio.Queue() if rate else None
        async with asyncio.TaskGroup() as group:
            for number in range(connections):
                name = f"{number}/{users}"
                group.create_task(_asker(port, name, due, start + seconds, found))
            if due is not None:
                for number in range(int(seconds * rate)):
                    at = start + number / rate
                    if at > loop.time():
                        await asyncio.sleep(at - loop.time())
                    due.put_nowait(at)
                for _ in range(connections):
                    due.put_nowait(-1.0)
        return found

    return asyncio.run(run())


def _asked(arguments: Sequence[float]) -> list[float]:
    port, users, seconds, connections, rate = arguments
    return ask(int(port), int(users), seconds, int(connections), rate)


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


def main() -> None:
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
            writer = Writer(target, given.users, given.writes)
            try:
                console.wait()
                writer.start()
                with multiprocessing.get_context("spawn").Pool(1) as pool:
                    for title, rate in (("as fast as it goes", 0.0), ("by the clock", given.rate)):
                        arguments = (
                            console.port, given.users, given.seconds, given.connections, rate,
                        )  # fmt: skip
                        pids = (console.pid, server.process.pid if server.process else None)
                        before = [cpu_seconds(pid) for pid in pids]
                        began = time.monotonic()
                        (found,) = pool.map(_asked, [arguments])
                        took = time.monotonic() - began
                        own, its = (
                            1000 * (cpu_seconds(pid) - used) / len(found)
                            for pid, used in zip(pids, before, strict=True)
                        )
                        print(f"{title}: {len(found) / took:,.0f}/s, {quantiles(found)}")
                        print(f"    CPU per request: console {own:.2f} ms, ClickHouse {its:.2f} ms")
                ages = age_seconds(console.port, client, 20)
                print(f"age: median {statistics.median(ages):.3f} s, most {max(ages):.3f} s")
                print(f"{writer.written:,} scores were written meanwhile")
            finally:
                writer.stop()
                console.close()


if __name__ == "__main__":
    main()
