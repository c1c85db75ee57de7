"""Runs `tideline repartition`, and kills it at a named point.

    python -m tests.faults.repartition '{"die": "before checkpoint", "nth": 6}' --partitions 12 ...

Points: before and after a shard's checkpoint, and before offsets of copied records are committed,
at the nth passing (from 1). It is killed by its own SIGKILL.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

import pytest

from streams.__main__ import main as run_command
from streams.kafka import clients
from streams.shard.offline import OfflineShard

__all__: list[str] = []


def main(argv: Sequence[str]) -> None:
    """Run the real command, with death in what it uses."""
    options = json.loads(argv[0])
    left = options.get("nth", 1)

    def at(point: str) -> None:
        nonlocal left
        if point == options.get("die"):
            left -= 1
            if not left:
                print(f"dies {point}", flush=True)
                os.kill(os.getpid(), signal.SIGKILL)

    checkpoint, consumer = OfflineShard.checkpoint, clients.async_consumer

    async def dying(shard: OfflineShard) -> None:
        at("before checkpoint")
        await checkpoint(shard)
        at("after checkpoint")

    def made(*args: Any, **rest: Any) -> Any:
        found = consumer(*args, **rest)
        commit = found.commit

        async def dying_commit(*args: Any, **rest: Any) -> Any:
            at("before commit")
            return await commit(*args, **rest)

        if "-repartition-" in rest.get("group_id", ""):
            found.commit = dying_commit
        return found

    patch = pytest.MonkeyPatch()  # refuses a name that the module does not have
    patch.setattr(OfflineShard, "checkpoint", dying)
    patch.setattr(clients, "async_consumer", made)
    sys.argv = ["tideline", "repartition", *argv[1:]]
    run_command()


if __name__ == "__main__":
    main(sys.argv[1:])
