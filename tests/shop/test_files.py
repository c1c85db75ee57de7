"""Reader, core and recount agree about the files and the live events, whichever come first.

So what the play compares differs only by what happens on the way.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import pytest

from schemas.features import FEATURE_NAMES
from streams.core.apply import admit, apply
from streams.core.backfill import FIRST_OFFSET, Backfill
from streams.core.events.decode import decode
from streams.core.events.records import CLICKSTREAM, SOURCES, Records
from streams.core.state.shard_state import ShardState
from streams.history.read import read
from streams.history.table import ReadOptions
from streams.replay.records import CLICKSTREAM as CLICKS_TOPIC
from streams.replay.records import ORDERS as ORDERS_TOPIC
from streams.replay.records import InputRecord
from tests.core.driving import config
from tests.shop import files
from tests.shop.facts import Click
from tests.shop.live import message
from tests.shop.recount import recount
from tests.shop.state import customers_of
from tests.shop.truth import DAY_MS, Saying, Truth, make
from tests.shop.verdict import compare

OPENING_MS = 1_763_900_000_000
END_MS = OPENING_MS + 60_000
CONFIG = config()
TOPICS = {CLICKSTREAM: CLICKS_TOPIC, 1 - CLICKSTREAM: ORDERS_TOPIC}


@pytest.fixture(scope="module")
def truth() -> Truth:
    return make(80, 900, seed=5, opening_ms=OPENING_MS, monday_seconds=60)


@dataclass(frozen=True)
class Read:
    """What the reader makes of a file."""

    records: list[InputRecord]
    is_export: bool


@pytest.fixture(scope="module")
def history(truth: Truth, tmp_path_factory: pytest.TempPathFactory) -> list[Read]:
    paths = files.write(truth.files, tmp_path_factory.mktemp("files"), seed=5)
    found = [read(path, ReadOptions(), END_MS) for path in paths]
    return [
        Read(list(chain.from_iterable(chain(each, each.cancellations()))), each.is_export)
        for each in found
    ]


def said(sayings: Sequence[Saying]) -> list[InputRecord]:
    return [
        InputRecord(
            CLICKS_TOPIC if isinstance(s.fact, Click) else ORDERS_TOPIC,
            s.fact.user.encode(),
            json.dumps(message(s.fact, s.event_id)).encode(),
            s.at_ms,
        )
        for s in sayings
    ]


def columns(records: Sequence[InputRecord], topic: str, first_offset: int = 0) -> Records:
    mine = [record for record in records if record.topic_kind == topic]
    times = np.array([record.timestamp_ms for record in mine], np.int64)
    offsets = first_offset + np.arange(len(mine))
    return Records.of(offsets, times, [r.key for r in mine], [r.value for r in mine])


def count_live(state: ShardState, records: Sequence[InputRecord]) -> None:
    """Take in what the topics have, as a shard's step does."""
    meta = state.meta
    meta.clock_ms = meta.active_ms = END_MS
    for sums in (state.counts, state.money):
        sums.advance(END_MS)
    for source in SOURCES:
        events = decode(columns(records, TOPICS[source]), source, CONFIG.decode)
        assert not events.rejects
        admitted = admit(state, events, CONFIG.lateness_ms)
        assert not len(admitted.late)
        apply(state, events, admitted)


def backfill(state: ShardState, history: Sequence[Read]) -> None:
    """Count the files' records day by day, by time, those of later files last."""
    days: dict[int, dict[bool, list[InputRecord]]] = defaultdict(lambda: {False: [], True: []})
    for file in history:
        for record in file.records:
            days[record.timestamp_ms // DAY_MS][file.is_export].append(record)
    newest_ms = max(record.timestamp_ms for file in history for record in file.records)
    run = Backfill(
        state, CONFIG, "files", newest_ms=newest_ms, topics_from_ms=OPENING_MS - 3 * DAY_MS,
        wall_ms=END_MS,
    )  # fmt: skip
    for day in sorted(days):
        for export, of_day in days[day].items():
            records = sorted(of_day, key=lambda record: record.timestamp_ms)
            for source in SOURCES:
                run.add(columns(records, TOPICS[source], FIRST_OFFSET), source, export=export)
    assert not run.end().dead


@pytest.mark.parametrize("first", ["files", "topics", "some of the topics"])
def test_reader_core_and_recount_agree(first: str, truth: Truth, history: list[Read]) -> None:
    live = said((*truth.weekend, *truth.monday))
    before = {"files": 0, "topics": len(live), "some of the topics": len(truth.weekend) + 300}[
        first
    ]
    state = ShardState(0, len(FEATURE_NAMES))
    if before:
        count_live(state, live[:before])
    backfill(state, history)
    if before < len(live):
        count_live(state, live[before:])
    facts = chain(truth.files.facts(), (s.fact for s in (*truth.weekend, *truth.monday)))
    expected = recount(facts, lambda user: END_MS)
    checks = compare(expected, customers_of(state))
    assert [check for check in checks if not check.holds] == []
    assert sum(customer.orders for customer in expected.values()) > 800


def test_report_lists_what_a_file_leaves_out(truth: Truth, history: list[Read]) -> None:
    state = ShardState(0, len(FEATURE_NAMES))
    backfill(state, history[1:])
    expected = recount(truth.files.facts(), lambda user: END_MS)
    wrong = {c.what for c in compare(expected, customers_of(state)) if not c.holds}
    assert {"orders", "net revenue", "first and last times"} <= wrong
