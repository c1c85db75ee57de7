"""The comparison of decoders gives both the same events, and a figure for each way."""

from __future__ import annotations

from streams.core.events.records import SOURCES
from tests.bench.decoding import WAYS, blocks, microseconds_per_event


def test_every_way_reads_all_events_and_is_measured() -> None:
    batches = blocks(2_000)
    assert sum(len(records) for batch in batches for records in batch) == 2_000
    for batch in batches:
        for source in SOURCES:
            read = [len(way(batch[source], source)) for way in WAYS.values()]
            assert read == [len(batch[source])] * len(WAYS)
    found = microseconds_per_event(batches, 2)
    assert found.keys() == WAYS.keys()
    assert all(len(rounds) == 2 and min(map(min, rounds)) > 0 for rounds in found.values())
