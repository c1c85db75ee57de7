"""Records the topics that this release leaves behind: `python -m tests.upgrades.record`.

Later releases must be able to read a release's recording. It is final once the release is
published. Until then, record it again whenever the contents of journals or checkpoints change.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import logging
from pathlib import Path
from typing import Any

import msgspec
import pytest

from schemas.features import FEATURES_HASH
from schemas.messages import Drift, Erasure, ErasureRequest, Example, JournalledSnapshot
from schemas.releases import LEVEL, RELEASE
from streams.core.plan import Plan
from streams.core.state.layout import OWN
from streams.core.state.pages import Contents, Manifest
from streams.core.state.shard_state import STATE_FORMAT, History, Meta, ShardState
from streams.shard.journal import Rewritten, Step, Takeover
from tests.shard.memory import MemoryLog
from tests.shard.rig import make_quick
from tests.upgrades.results import of_rows, of_state
from tests.upgrades.shop import lived, loaded_rig, of_topics, topics_of

__all__ = ["RECORDED", "Recording", "kept", "read", "recordings", "recovered"]

RECORDED = Path(__file__).parent / "recorded"
Topics = dict[str, list[tuple[int, int, bytes | None, bytes | None]]]


class Recording(msgspec.Struct):
    """A release's topics, and the state and rows that it read from them itself."""

    release: str
    level: int
    kept: str
    topics: Topics
    state: dict[str, Any]
    rows: dict[str, Any]


def kept() -> str:
    """A hash of what this build keeps in journals and checkpoints: names and types, not values."""
    structs = (
        Meta, History, Plan, Takeover, Step, Rewritten, Manifest, Contents, JournalledSnapshot,
        Drift, Erasure, ErasureRequest, Example,
    )  # fmt: skip
    schemas = [
        [(f.encode_name, str(f.type)) for f in msgspec.structs.fields(struct)] for struct in structs
    ]
    text = repr((STATE_FORMAT, msgspec.to_builtins(OWN), FEATURES_HASH, schemas))
    return hashlib.sha256(text.encode()).hexdigest()


def recordings() -> list[Path]:
    return sorted(RECORDED.glob("*.gz"))


def read(path: Path) -> Recording:
    return msgspec.msgpack.decode(gzip.decompress(path.read_bytes()), type=Recording)


async def recovered(log: MemoryLog) -> tuple[ShardState, dict[str, Any]]:
    """A new owner's state from these topics, and the rows that its replay wrote."""
    rig = loaded_rig(log)
    shard = rig.process("reader").shard
    await shard._recover()
    return shard._state, of_rows(rig.sink)


def main() -> None:
    logging.disable()  # one owner dies, as it should
    with pytest.MonkeyPatch.context() as patch:
        make_quick(patch)
        topics = topics_of(asyncio.run(lived()))
        state, rows = asyncio.run(recovered(of_topics(topics)))
    recording = Recording(RELEASE, LEVEL, kept(), topics, of_state(state), rows)
    raw = msgspec.msgpack.encode(recording)
    path = RECORDED / f"{RELEASE}.gz"
    path.write_bytes(gzip.compress(raw, 9, mtime=0))
    print(f"{path.name}: {path.stat().st_size / 1e3:.0f} kB, level {LEVEL}, {state.known} users")


if __name__ == "__main__":
    main()
