"""How long the console's pages take, and each query of theirs, on a ClickHouse at size.

    python -m tests.clickhouse.bench_views --keep DIR --no-price      # fills DIR, once
    python -m tests.console.bench_pages --keep DIR [--times 7] [--only TEXT]

The pages of `PATHS` are asked for as a browser would, so every query of theirs is measured, whoever
adds one. `tests.clickhouse.bench_events` has those over single events. A page's queries are asked
one after the other here, and several at once by a console. Prints the median and the worst of each
page, then the queries by their median, in ms, with the CPU time of ClickHouse, which other work on
the machine changes less.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from streams.clickhouse.client import ClickHouseTarget, connect
from streams.console.lag import LagSeen
from streams.console.pages.pipeline import LEDGER
from streams.console.reads import ClickHouseReader, Parameter, Rows
from streams.console.remembered import Remembered
from streams.local.clickhouse import ChdbServer
from streams.settings import Settings, override
from tests.console.api.bench import cpu_seconds
from tests.console.doubles import console_of, served

LIMIT_MS: Final = 200.0
DATABASE: Final = "shop"
PATHS: Final = (
    "/today.json", "/today.json?tier=high&why=fewer+visits", "/customers.json",
    "/customers.json?stage=at_risk", "/customers.json?q=c-3f", "/customers/{user}.json",
    "/segments.json", "/segments.json?days=28", "/segments.json?dimension=value_tier",
    "/segments/vip.json", "/segments/lifecycle/at_risk.json", "/segments/plan-preview.json",
    "/campaigns.json", "/campaigns/save_now.json", "/models.json", "/pipeline.json",
    "/settings.json",
)  # fmt: skip


@dataclass
class Timed:
    """A reader that asks one query after the other, and writes down how long each took."""

    reader: ClickHouseReader
    pid: int
    page: str = ""
    took_ms: dict[tuple[str, str], list[float]] = field(default_factory=lambda: defaultdict(list))
    cpu_ms: dict[tuple[str, str], list[float]] = field(default_factory=lambda: defaultdict(list))
    """Of the whole server."""
    one: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def rows(self, query: str, **parameters: Parameter) -> Rows:
        key = (self.page, " ".join(query.split()))
        async with self.one:
            began, used = time.perf_counter(), cpu_seconds(self.pid)
            try:
                return await self.reader.rows(query, **parameters)
            finally:
                self.took_ms[key].append(1000 * (time.perf_counter() - began))
                self.cpu_ms[key].append(1000 * (cpu_seconds(self.pid) - used))


async def _no_lag() -> LagSeen:
    return LagSeen(problem="there is no lag monitor here")


def measure(server: ChdbServer, times: int, only: str) -> list[str]:
    """Print the tables; returns what takes too long."""
    target = ClickHouseTarget(server.host, server.port, database=DATABASE)
    with connect(target) as client:
        ((user,),) = client.execute(
            "SELECT user_id FROM user_alerts ORDER BY user_id LIMIT 1 OFFSET 999"
        )
        ((users,),) = client.execute("SELECT count() FROM customers")
        print(f"{users:,} users; ClickHouse {client.execute('SELECT version()')[0][0]}")
    process = server.process
    assert process is not None
    assert process.pid is not None
    reader = Timed(ClickHouseReader(target, 60.0), process.pid)
    settings = override(Settings(), clickhouse_database=DATABASE)
    console = console_of(reader, settings)
    sources: dict[str, Any] = {"lag": _no_lag, "ledger": Remembered(reader, LEDGER).rows}
    console.sources = sources
    slow = []
    print(f"\n{'page':52}{'ms':>9}{'worst':>9}{'queries':>9}")
    with served(reader, console) as here:
        for path in PATHS:
            if only not in path:
                continue
            wall = []
            for turn in range(times + 1):
                reader.page = path if turn else ""  # the first opens files, as any does
                before = sum(map(len, reader.took_ms.values()))
                began = time.perf_counter()
                answer = here.get(path.format(user=user))
                wall.append(1000 * (time.perf_counter() - began))
                assert answer.status == 200, (path, answer.text)
                asked = sum(map(len, reader.took_ms.values())) - before
            median = statistics.median(wall[1:])
            print(f"{path:52}{median:9.1f}{max(wall[1:]):9.1f}{asked:9}", flush=True)
    print(f"\n{'query':100}{'ms':>9}{'worst':>9}{'CPU ms':>9}")
    rows = [(statistics.median(took), key) for key, took in reader.took_ms.items() if key[0]]
    for median, key in sorted(rows, reverse=True):
        over = median > LIMIT_MS
        slow += [f"{key[0]}: {key[1][:60]}"] if over else []
        what = f"{key[0][:30]:31}{key[1][:67]}"
        print(
            f"{what:100}{median:9.1f}{max(reader.took_ms[key]):9.1f}{min(reader.cpu_ms[key]):9.0f}"
            f"{'  over' if over else ''}"
        )
    return slow


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--keep", type=Path, required=True, help="directory of bench_views")
    parser.add_argument("--times", type=int, default=7)
    parser.add_argument("--only", default="", help="pages whose path has this text")
    given = parser.parse_args()
    if not (given.keep / "filled").exists():
        parser.exit(2, f"{given.keep} is not filled: `python -m tests.clickhouse.bench_views "
                       f"--keep {given.keep}` does that.\n")  # fmt: skip
    with ChdbServer(given.keep / "data") as server:
        slow = measure(server, given.times, given.only)
    print(f"\nqueries over {LIMIT_MS:.0f} ms: {'; '.join(slow) or 'none'}")
    sys.exit(bool(slow))


if __name__ == "__main__":
    main()
