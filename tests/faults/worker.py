"""`tideline worker`, but it dies at a named point of the commit protocol, or its clock jumps.

    python -m tests.faults.worker '{"die": "after journal", "nth": 7}'

Everything else is the real command: only what the shards use is wrapped, by this process, for this
process. Death is SIGKILL from itself, so nothing is closed, flushed or said goodbye to.

Options (JSON): `die` at one of `POINTS`, at its `nth` passing (from 1); `clock` names a file with
the milliseconds by which the wall clock is off; `old_clickhouse` leaves out the insert settings
that a ClickHouse of 2018 does not know; `answer_seconds` is how long it waits for an answer of
ClickHouse; `pending_rows` is how many rows may wait for ClickHouse, in place of half a million.
"""

from __future__ import annotations

from streams import stopping

if __name__ == "__main__":
    stopping.hold()  # as the command does: first of all

import json
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from streams import worker as worker_module
from streams.__main__ import main as run_command
from streams.clickhouse import sink as sink_module
from streams.clickhouse.client import ClickHouseTarget, clickhouse_target
from streams.clickhouse.insert import insert_block
from streams.clickhouse.sink import ClickHouseSink
from streams.kafka.log import KeyValue, Log
from streams.settings import Settings
from streams.shard.engine import Engine
from streams.shard.journal import Step, Takeover
from streams.shard.services import Inputs, Services

__all__ = ["POINTS", "Options"]

POINTS = (
    "after takeover",
    "before journal",
    "after journal",
    "before insert",
    "between inserts",
    "after insert",
    "before messages",
    "mid-checkpoint",
    "after manifest",
    "before commit",
    "after commit",
)


@dataclass
class Options:
    die: str = ""
    nth: int = 1
    clock: str = ""
    old_clickhouse: bool = False
    answer_seconds: float = 0.0
    pending_rows: int = 0


class Reaper:
    """Counts how often the chosen point was passed, and ends the process there."""

    def __init__(self, options: Options) -> None:
        assert not options.die or options.die in POINTS, options.die
        self._point, self._left = options.die, options.nth

    def at(self, point: str) -> None:
        if point == self._point:
            self._left -= 1
            if self._left == 0:
                print(f"dies {point}", flush=True)
                os.kill(os.getpid(), signal.SIGKILL)


class DyingLog:
    """The log, with the points that are appends."""

    def __init__(self, log: Log, services: Services, reaper: Reaper) -> None:
        self._log, self._topics, self._reaper = log, services.topics, reaper
        self._entry = msgspec.msgpack.Decoder(Takeover | Step)

    async def append(self, topic: str, partition: int, records: Sequence[KeyValue]) -> list[int]:
        kind = self._kind(topic, records)
        if kind in ("journal", "messages"):
            self._reaper.at(f"before {kind}")
        elif kind == "manifest":  # all its pages are written
            self._reaper.at("mid-checkpoint")
        offsets = await self._log.append(topic, partition, records)
        if kind in ("journal", "manifest", "takeover"):
            self._reaper.at(f"after {kind}")
        return offsets

    def _kind(self, topic: str, records: Sequence[KeyValue]) -> str:
        names = self._topics
        key, value = records[0] if records else (None, None)
        if topic == names.journal:
            return (
                "takeover" if isinstance(self._entry.decode(value or b""), Takeover) else "journal"
            )
        if topic == names.checkpoints and key is not None and value is not None:
            return "manifest" if key.startswith(b"manifest/") else "page"
        return "messages" if topic in (names.alerts, names.dead_letters, names.examples) else ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)


class DyingInputs:
    """The inputs, with the points around a commit."""

    def __init__(self, inputs: Inputs, reaper: Reaper) -> None:
        self._inputs, self._reaper = inputs, reaper

    async def commit(
        self, shard: int, offsets: tuple[int, int], applied_ms: tuple[int, int]
    ) -> None:
        self._reaper.at("before commit")
        await self._inputs.commit(shard, offsets, applied_ms)
        self._reaper.at("after commit")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inputs, name)


def adapt(services: Services, options: Options, patch: pytest.MonkeyPatch) -> Services:
    """The services of a worker, with the points in them."""
    reaper = Reaper(options)

    def wall_ms() -> int:
        return services.wall_ms() + (int(Path(options.clock).read_text()) if options.clock else 0)

    def insert(client: Any, block: Any) -> None:
        if block.table.name == "batches":  # the last of a flush: the others are in already
            reaper.at("between inserts")
        else:
            reaper.at("before insert")
        insert_block(client, block)
        if block.table.name == "batches":  # acknowledged, and no future has heard of it yet
            reaper.at("after insert")

    patch.setattr(sink_module, "insert_block", insert)
    log, page_log = (DyingLog(each, services, reaper) for each in (services.log, services.page_log))
    inputs: Any = DyingInputs(services.inputs, reaper)  # the rest of the port is in __getattr__
    return replace(services, log=log, page_log=page_log, inputs=inputs, wall_ms=wall_ms)


def main(argv: Sequence[str]) -> None:
    """Run the real command with `adapt` around what its engine gets."""
    options = msgspec.convert(json.loads(argv[0]) if argv else {}, Options)
    if options.old_clickhouse:
        from tests.faults.old_clickhouse import forget_new_settings  # noqa: PLC0415

        forget_new_settings()
    patch = pytest.MonkeyPatch()  # refuses a name that the module does not have

    def engine(services: Services, **rest: Any) -> Engine:
        return Engine(adapt(services, options, patch), **rest)

    def target(settings: Settings) -> ClickHouseTarget:
        seconds = options.answer_seconds
        found = clickhouse_target(settings)
        return replace(found, send_receive_timeout_seconds=seconds) if seconds else found

    if options.pending_rows:
        sink = partial(ClickHouseSink, max_pending_rows=options.pending_rows)
        patch.setattr(worker_module, "ClickHouseSink", sink)
    patch.setattr(worker_module, "clickhouse_target", target)
    patch.setattr(worker_module, "Engine", engine)
    sys.argv = ["tideline", "worker"]
    run_command()


if __name__ == "__main__":
    main(sys.argv[1:])
