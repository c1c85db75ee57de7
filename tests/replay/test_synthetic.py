"""The load generator: every label is what the consumer will find, and everything is seeded."""

from __future__ import annotations

from collections import Counter
from itertools import chain, pairwise
from typing import Any

import msgspec
import numpy as np
import pytest

from schemas.errors import SettingsError
from schemas.events import ClickEvent, OrderEvent
from streams.core.events import decode as core
from streams.core.events.events import DecodeRules
from streams.core.events.records import Records
from streams.replay.malformed import KINDS, REASONS
from streams.replay.records import CLICKSTREAM, ORDERS, Block
from streams.replay.synthetic import DAY_MS, Synthetic

BAD: dict[str, Any] = {"late_share": 0.02, "duplicate_share": 0.03, "malformed_share": 0.02}
RULES = DecodeRules(max_future_ms=300_000, currency="USD", rates={"USD": 1.0})
_click = msgspec.json.Decoder(ClickEvent).decode
_order = msgspec.json.Decoder(OrderEvent).decode


def _flat(source: Synthetic) -> Block:
    return list(chain.from_iterable(source))


def _decode(records: Block) -> tuple[list[ClickEvent | OrderEvent], list[int]]:
    """What the schema makes of each record that it can read, and when that was sent."""
    events: list[ClickEvent | OrderEvent] = []
    sent = []
    for r in records:
        if r.key is None or len(r.value) > 200_000:
            continue
        try:
            event = _click(r.value) if r.topic_kind == CLICKSTREAM else _order(r.value)
        except msgspec.DecodeError:
            continue
        if event.v == 1 and event.user_id.encode() == r.key and 0 < event.ts - 10**12 < 10**12:
            events.append(event)
            sent.append(r.timestamp_ms)
    return events, sent


def test_good_records_satisfy_the_published_schemas(schemas: Any) -> None:
    source = Synthetic(events=5_000, users=100, order_share=0.2)
    records = _flat(source)
    types = Counter(schemas.check(r)["type"] for r in records)
    assert types["placed"] > 800
    assert types["returned"] > 5
    assert types["review"] > 50
    assert source.tally.good == source.tally.total == len(records) == 5_000
    assert source.tally.orders == sum(r.topic_kind == ORDERS for r in records)


def test_tallies_are_what_a_reader_counts() -> None:
    source = Synthetic(events=60_000, users=500, out_of_order_share=0.1, skew=1.0, **BAD)
    records = _flat(source)
    tally = source.tally
    events, sent = _decode(records)
    assert tally.total == len(records) == 60_000
    assert len(events) == 60_000 - sum(tally.malformed.values())
    age = np.array(sent) - np.array([e.ts for e in events])
    late = age > 7 * DAY_MS
    assert tally.late == late.sum() > 1_000
    ids = Counter(e.event_id for e in events)
    assert tally.duplicate == len(events) - len(ids) > 1_500
    assert tally.good == len(ids) - tally.late
    assert tally.out_of_order > 4_000
    assert age[~late].max() <= 2.1 * DAY_MS  # out of order by hours, and copies of those


def test_malformed_kinds_become_the_dead_letters_they_are_named_for() -> None:
    source = Synthetic(events=20_000, users=500, malformed_share=0.1, order_share=0.3)
    records = _flat(source)
    found: Counter[str] = Counter()
    for index, kind in enumerate((CLICKSTREAM, ORDERS)):
        run = [r for r in records if r.topic_kind == kind]
        columns = Records.of(
            np.arange(len(run)),
            np.array([r.timestamp_ms for r in run]),
            [r.key for r in run],
            [r.value for r in run],
        )
        found.update(r.reason for r in core.decode(columns, index, RULES).rejects)
    expected: Counter[str] = Counter()
    for name, n in source.tally.malformed.items():
        assert n > 0, name
        expected[REASONS[name]] += n
    assert found == expected
    assert set(source.tally.malformed) == set(KINDS)


def test_duplicates_follow_their_original_in_the_same_topic_and_key() -> None:
    seen: set[tuple[Any, ...]] = set()
    copies = 0
    source = Synthetic(events=30_000, users=500, duplicate_share=0.05, block_events=1_000)
    for r in _flat(source):
        copies += r[:3] in seen
        seen.add(r[:3])
    assert copies == source.tally.duplicate > 1_000


def test_nothing_is_late_before_a_clock_stands() -> None:
    records = _flat(Synthetic(events=4_000, late_share=0.5, settle_events=2_000))
    events, sent = _decode(records)
    late = np.array(sent) - np.array([e.ts for e in events]) > 7 * DAY_MS
    assert not late[:2_000].any()
    assert late[2_000:].any()


def test_the_seed_decides_everything() -> None:
    options: dict[str, Any] = {"events": 20_000, "session_events": 5.0, **BAD}
    one, two = Synthetic(seed=3, **options), Synthetic(seed=3, **options)
    assert _flat(one) == _flat(two)
    assert one.tally == two.tally
    assert _flat(one) == _flat(two)  # and again from the start
    assert _flat(Synthetic(seed=4, **options)) != _flat(one)


def test_ids_differ_between_seeds() -> None:
    ids = [
        {e.event_id for e in _decode(_flat(Synthetic(events=1_000, seed=seed)))[0]}
        for seed in (1, 2)
    ]
    assert not ids[0] & ids[1]


def test_time_advances_over_the_span() -> None:
    records = _flat(Synthetic(events=10_000, span_days=10, start_ms=1_700_000_000_000, **BAD))
    assert all(a.timestamp_ms <= b.timestamp_ms for a, b in pairwise(records))
    assert records[0].timestamp_ms == 1_700_000_000_000
    assert 9.9 < (records[-1].timestamp_ms - records[0].timestamp_ms) / DAY_MS < 10


def test_skew_makes_few_users_do_much() -> None:
    def top(skew: float) -> float:
        counts = Counter(r.key for r in _flat(Synthetic(events=20_000, users=2_000, skew=skew)))
        return sum(n for _, n in counts.most_common(20)) / 20_000

    assert top(0.0) < 0.02
    assert top(1.0) > 0.3


def test_sessions_are_runs_of_one_user_across_blocks() -> None:
    source = Synthetic(events=30_000, users=100_000, session_events=6, block_events=50)
    keys = [r.key for r in _flat(source)]
    runs = 1 + sum(a != b for a, b in pairwise(keys))
    assert 5.5 < len(keys) / runs < 6.5


def test_an_endless_source_goes_on() -> None:
    source = Synthetic(events=None)
    blocks = iter(source)
    ids = {e.event_id for _ in range(3) for e in _decode(next(blocks))[0]}
    assert len(ids) == source.tally.total == 30_000


def test_senseless_options_are_all_named() -> None:
    with pytest.raises(SettingsError) as raised:
        Synthetic(users=0, late_share=0.7, duplicate_share=0.7, order_share=2)
    for name in ("users", "late_share", "order_share"):
        assert name in str(raised.value)
