"""Bad records become one reject each, with the right reason; good ones are untouched by them."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import xxhash

from schemas.events import CLICK_TYPES, MAX_EVENT_BYTES, ORDER_TYPES
from streams.core.events.decode import REASONS, decode, decode_ours
from streams.core.events.events import DecodeRules, Events
from streams.core.events.records import CLICKSTREAM, ORDERS, Records
from streams.core.hashing import hashes, mix, stable_id, stable_share
from streams.core.partitioning import Partitioner, partitions_of_keys
from tests.core.driving import RATES, T0, Driver, click, config, order, record, to_records
from tests.core.oracle import DAY_MS, Wire

RULES = config().decode
Row = tuple[bytes | None, bytes | None, int]


def with_value(value: bytes | None, key: bytes | None = b"u") -> Row:
    return key, value, T0


def changed(event: Wire, **changes: Any) -> Row:
    """The event's record with fields changed, or left out (`...`)."""
    fields_ = {k: v for k, v in (event | changes).items() if v is not ...}
    return b"u", json.dumps(fields_).encode(), T0


def raw(event: Wire, **texts: str) -> Row:
    """The event's record with JSON texts in place of some values."""
    marked = {k: f"@{k}@" for k in texts}
    value = json.dumps(event | marked)
    for name, text in texts.items():
        value = value.replace(f'"@{name}@"', text)
    return b"u", value.encode("utf-8", "surrogatepass"), T0


CLICK, ORDER = click("u", T0), order("u", T0)
LINE = {"item_id": "i", "amount": 1.0}

BAD_CLICKS: dict[str, tuple[str, Row]] = {
    "null key": ("null_key", with_value(json.dumps(CLICK).encode(), None)),
    "null key and value": ("null_key", with_value(None, None)),
    "null value": ("null_value", with_value(None)),
    "300 KB": ("too_large", changed(CLICK, extra="x" * 300_000)),
    "one byte too long": ("too_large", with_value(b" " * (MAX_EVENT_BYTES + 1))),
    "empty": ("invalid_json", with_value(b"")),
    "blank": ("invalid_json", with_value(b"  ")),
    "cut off": ("invalid_json", with_value(json.dumps(CLICK).encode()[:-1])),
    "two documents": ("invalid_json", with_value(json.dumps(CLICK).encode() * 2)),
    "BOM": ("invalid_json", with_value(b"\xef\xbb\xbf" + json.dumps(CLICK).encode())),
    "UTF-16": ("invalid_json", with_value(json.dumps(CLICK).encode("utf-16"))),
    "random bytes": ("invalid_json", with_value(bytes(range(256)))),
    "not UTF-8": ("invalid_json", with_value(json.dumps(CLICK).encode().replace(b"view", b"\xff"))),
    "lone surrogate": ("invalid_json", raw(CLICK, event_id='"\\ud800"')),
    "swapped surrogates": ("invalid_json", raw(CLICK, event_id='"\\udc00\\ud800"')),
    "encoded surrogate": ("invalid_json", raw(CLICK, event_id='"\ud800"')),
    "control character": ("invalid_json", raw(CLICK, event_id='"\x01"')),
    "NaN": ("invalid_json", raw(CLICK, rating="NaN")),
    "Infinity": ("invalid_json", raw(CLICK, rating="-Infinity")),
    "NaN in an unknown field": ("invalid_json", raw(CLICK, extra="NaN")),
    "single quotes": ("invalid_json", with_value(b"{'v': 1}")),
    "nested in an unknown field": ("invalid_json", raw(CLICK, extra="[" * 9_000 + "]" * 9_000)),
    "nested behind a wrong type": (
        "invalid_field",
        with_value(b'{"event_id": 5, "extra": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    ),
    "nested array": ("invalid_field", with_value(b"[" * 100_000)),
    "array": ("invalid_field", with_value(b"[]")),
    "number": ("invalid_field", with_value(b"17")),
    "string": ("invalid_field", with_value(b'"view"')),
    "null": ("invalid_field", with_value(b"null")),
    "empty object": ("invalid_field", with_value(b"{}")),
    "1e999": ("invalid_field", raw(CLICK, rating="1e999")),
    "rating 6": ("invalid_field", changed(CLICK, type="review", rating=6)),
    "rating as text": ("invalid_field", changed(CLICK, type="review", rating="5")),
    "order type": ("invalid_field", changed(CLICK, type="placed")),
    "unknown type": ("invalid_field", changed(CLICK, type="VIEW")),
    "null type": ("invalid_field", changed(CLICK, type=None)),
    "no event id": ("invalid_field", changed(CLICK, event_id=...)),
    "no user": ("invalid_field", changed(CLICK, user_id=...)),
    "no type": ("invalid_field", changed(CLICK, type=...)),
    "no time": ("invalid_field", changed(CLICK, ts=...)),
    "empty user": ("invalid_field", changed(CLICK, user_id="")),
    "long user": ("invalid_field", changed(CLICK, user_id="u" * 129)),
    "time as text": ("invalid_field", changed(CLICK, ts=str(T0))),
    "time as float": ("invalid_field", changed(CLICK, ts=T0 + 0.5)),
    "time as bool": ("invalid_field", changed(CLICK, ts=True)),
    "5,000 digits": ("invalid_field", raw(CLICK, ts="9" * 5_000)),
    "session as number": ("invalid_field", changed(CLICK, session_id=7)),
    "item as list": ("invalid_field", changed(CLICK, item_id=["i"])),
    "long text": ("invalid_field", changed(CLICK, text="x" * 10_001)),
    "simulated as text": ("invalid_field", changed(CLICK, simulated="yes")),
    "first of two keys wrong": (
        "invalid_field",
        with_value(json.dumps(CLICK).encode()[:-1] + b', "ts": "x", "ts": 1}'),
    ),
    "version as text": ("invalid_field", changed(CLICK, v="1")),
    "version null": ("invalid_field", changed(CLICK, v=None)),
    "version 2": ("unknown_version", changed(CLICK, v=2)),
    "version -1": ("unknown_version", changed(CLICK, v=-1)),
    "huge version": ("unknown_version", raw(CLICK, v="9" * 400)),
    "version 2 of another shape": ("unknown_version", changed(CLICK, v=2, ts="soon", type="zoom")),
    "other user": ("key_mismatch", changed(CLICK, user_id="U")),
    "user with a space": ("key_mismatch", changed(CLICK, user_id="u ")),
    "user with NUL": ("key_mismatch", changed(CLICK, user_id="u\0")),
    "empty key": ("key_mismatch", with_value(json.dumps(CLICK).encode(), b"")),
    "key not UTF-8": ("key_mismatch", with_value(json.dumps(CLICK).encode(), b"\xff")),
    "time 0": ("absurd_timestamp", changed(CLICK, ts=0)),
    "time in seconds": ("absurd_timestamp", changed(CLICK, ts=T0 // 1000)),
    "time in microseconds": ("absurd_timestamp", changed(CLICK, ts=T0 * 1000)),
    "negative time": ("absurd_timestamp", changed(CLICK, ts=-T0)),
    "500 digits": ("absurd_timestamp", raw(CLICK, ts="9" * 500)),
    "minus 500 digits": ("absurd_timestamp", raw(CLICK, ts="-" + "9" * 500)),
    "2^63": ("absurd_timestamp", changed(CLICK, ts=2**63)),
    "-2^63 - 1": ("absurd_timestamp", changed(CLICK, ts=-(2**63) - 1)),
    "a millisecond too far ahead": ("future_timestamp", changed(CLICK, ts=T0 + 300_001)),
    "record and event in microseconds": (
        "absurd_timestamp",
        (b"u", json.dumps(CLICK | {"ts": T0 * 1000}).encode(), T0 * 1000),
    ),
    "record at the end of time": (
        "absurd_timestamp",
        (b"u", json.dumps(CLICK | {"ts": 2**63 - 1}).encode(), 2**63 - 1),
    ),
    "record without a time": ("absurd_timestamp", (b"u", json.dumps(CLICK).encode(), -1)),
}
BAD_ORDERS: dict[str, tuple[str, Row]] = {
    "no order id": ("invalid_field", changed(ORDER, order_id=...)),
    "no amount": ("invalid_field", changed(ORDER, amount=...)),
    "negative amount": ("invalid_field", changed(ORDER, amount=-0.01)),
    "amount as text": ("invalid_field", changed(ORDER, amount="10")),
    "amount too large": ("invalid_field", changed(ORDER, amount=1.1e9)),
    "NaN": ("invalid_json", raw(ORDER, amount="NaN")),
    "1e999": ("invalid_field", raw(ORDER, amount="1e999")),
    "huge integer": ("invalid_field", raw(ORDER, amount="9" * 300)),
    "negative discount": ("invalid_field", changed(ORDER, discount=-1)),
    "null discount": ("invalid_field", changed(ORDER, discount=None)),
    "click type": ("invalid_field", changed(ORDER, type="view")),
    "currency in small letters": ("invalid_field", changed(ORDER, currency="usd")),
    "currency with a newline": ("unknown_currency", changed(ORDER, currency="USD\n")),
    "unknown currency": ("unknown_currency", changed(ORDER, currency="CHF")),
    "unknown currency of a return": (
        "unknown_currency",
        changed(ORDER, type="returned", currency="CHF"),
    ),
    "coupon as number": ("invalid_field", changed(ORDER, coupon=5)),
    "lines as object": ("invalid_field", changed(ORDER, lines=LINE)),
    "line without item": ("invalid_field", changed(ORDER, lines=[{"amount": 1}])),
    "negative quantity": ("invalid_field", changed(ORDER, lines=[LINE | {"quantity": -1}])),
    "null line": ("invalid_field", changed(ORDER, lines=[None])),
    "5,001 lines": ("invalid_field", changed(ORDER, lines=[LINE] * 5_001)),
    "version 2": ("unknown_version", changed(ORDER, v=2)),
    "other user": ("key_mismatch", changed(ORDER, user_id="someone")),
    "absurd and unknown currency": ("absurd_timestamp", changed(ORDER, ts=1, currency="CHF")),
}  # fmt: skip


def one_reject(row: Row, source: int) -> tuple[str, str]:
    """The reason of a record that is refused, alone and among good ones."""
    good = record(CLICK if source == CLICKSTREAM else ORDER)
    for rows, position in (([row], 0), ([good, row, good], 1)):
        events = decode(to_records(rows), source, RULES)
        assert len(events) == len(rows) - 1
        (reject,) = events.rejects
        assert reject.position == position
        assert reject.detail
        assert reject.detail.encode()
    return reject.reason, reject.detail


@pytest.mark.parametrize("name", BAD_CLICKS)
def test_a_bad_click_is_refused_with_its_reason(name: str) -> None:
    reason, row = BAD_CLICKS[name]
    assert one_reject(row, CLICKSTREAM)[0] == reason


@pytest.mark.parametrize("name", BAD_ORDERS)
def test_a_bad_order_is_refused_with_its_reason(name: str) -> None:
    reason, row = BAD_ORDERS[name]
    assert one_reject(row, ORDERS)[0] == reason


def test_every_reason_is_met_above_and_no_other() -> None:
    met = {reason for reason, _ in (*BAD_CLICKS.values(), *BAD_ORDERS.values())}
    assert met | {"wrong_partition"} == set(REASONS)
    assert len(set(REASONS)) == len(REASONS)
    module = decode.__globals__["__doc__"]
    assert all(f"    {reason} " in module for reason in REASONS)


def test_records_of_another_partition_are_refused_in_place_and_others_read_as_ever() -> None:
    keys = [f"u{i}" for i in range(40)]
    partitioner = Partitioner("murmur2", 4)
    belongs = partitions_of_keys([key.encode() for key in keys], "murmur2", 4)
    bad = (b"u7", b"not JSON", T0)  # of partition 2, so it is refused for what it is
    assert belongs[7] == 2
    rows = [bad if i == 7 else record(order(key, T0 + i)) for i, key in enumerate(keys)]
    events = decode_ours(to_records(rows), ORDERS, RULES, 0, 2, partitioner)
    ours = [i for i in range(40) if belongs[i] == 2 and i != 7]
    assert events.positions.tolist() == ours
    assert events.ts_ms.tolist() == [T0 + i for i in ours]
    assert_same(events, decode(to_records([rows[i] for i in ours]), ORDERS, RULES))
    refused = {r.position: r.reason for r in events.rejects}
    elsewhere = {i: "wrong_partition" for i in range(40) if belongs[i] != 2}
    assert refused == elsewhere | {7: "invalid_json"}
    details = {r.position: r.detail for r in events.rejects}
    assert all(details[i] == f"murmur2 gives its key partition {belongs[i]}" for i in elsewhere)


def test_a_record_may_be_exactly_as_long_as_allowed() -> None:
    value = json.dumps(CLICK).encode()
    for padding in (MAX_EVENT_BYTES - len(value), MAX_EVENT_BYTES - len(value) + 1):
        events = decode(to_records([with_value(value + b" " * padding)]), CLICKSTREAM, RULES)
        assert len(events) == (len(value) + padding <= MAX_EVENT_BYTES)


@pytest.mark.parametrize("source", [CLICKSTREAM, ORDERS])
def test_an_event_ahead_of_the_workers_clock_is_refused_whatever_its_record_says(
    source: int,
) -> None:
    """A fast clock stamps event and record alike."""
    make = click if source == CLICKSTREAM else order
    ahead_ms = (0, 300_000, 300_001, 400 * DAY_MS)
    rows = [record(make("u", T0 + ahead)) for ahead in ahead_ms]
    events = decode(to_records(rows), source, RULES, T0)
    assert events.ts_ms.tolist() == [T0, T0 + 300_000]
    assert [(r.position, r.reason) for r in events.rejects] == [
        (2, "future_timestamp"),
        (3, "future_timestamp"),
    ]
    assert events.rejects[1].detail.endswith("is 34,560,000 s ahead of the worker's clock")
    assert len(decode(to_records(rows), source, RULES)) == len(rows)


def test_the_bounds_of_time_are_inclusive() -> None:
    for ts, at in ((631_152_000_000, T0), (T0 + 300_000, T0)):
        events = decode(to_records([record(click("u", ts), at)]), CLICKSTREAM, RULES)
        assert events.ts_ms.tolist() == [ts]


def test_unknown_fields_are_kept_out() -> None:
    extra = {"extra": {"deep": [1, {"x": None}]}, "é\u0000": "😀", "price": 1e308}
    plain = decode(to_records([record(CLICK), record(CLICK)]), CLICKSTREAM, RULES)
    more = decode(to_records([record(CLICK | extra), record(CLICK)]), CLICKSTREAM, RULES)
    assert_same(plain, more)


def test_odd_but_right_ids_are_taken_as_they_are() -> None:
    for user in ("a\0b", "é", "😀", "a/b", "x" * 128, "é" * 128, " ", "null"):
        events = decode(to_records([record(click(user, T0))]), CLICKSTREAM, RULES)
        assert events.users.tolist() == [user]
        escaped = json.dumps(click(user, T0), ensure_ascii=False).encode()
        events = decode(to_records([(user.encode(), escaped, T0)]), CLICKSTREAM, RULES)
        assert events.users.tolist() == [user]


def test_of_repeated_json_keys_the_last_counts() -> None:
    value = json.dumps(CLICK).encode()[:-1] + b', "type": "share", "ts": %d}' % (T0 + 5)
    events = decode(to_records([with_value(value)]), CLICKSTREAM, RULES)
    assert (events.kind.tolist(), events.ts_ms.tolist()) == ([6], [T0 + 5])


def assert_same(a: Events, b: Events) -> None:
    """Equal in every column (`positions` and `rejects` aside)."""
    for f in fields(Events):
        if f.name in ("positions", "rejects", "lines"):
            continue
        left, right = getattr(a, f.name), getattr(b, f.name)
        if f.name == "users":
            left, right = left.tolist(), right.tolist()
        if isinstance(left, np.ndarray):
            assert left.dtype == right.dtype, f.name
        np.testing.assert_array_equal(left, right, err_msg=f.name)
    for name in ("event", "item", "category"):
        np.testing.assert_array_equal(getattr(a.lines, name), getattr(b.lines, name), err_msg=name)


def good_events(rng: random.Random, n: int) -> list[Wire]:
    events = []
    for _ in range(n):
        user, ts = f"u{rng.randrange(50)}", T0 - rng.randrange(DAY_MS)
        if rng.random() < 0.5:
            event = click(user, ts, rng.choice(CLICK_TYPES))
            event |= {"item_id": f"i{rng.randrange(9)}"} if rng.random() < 0.5 else {}
            event |= {"session_id": "s"} if rng.random() < 0.5 else {}
            event |= {"category": "k"} if rng.random() < 0.5 else {}
            event |= {"rating": 4.5} if event["type"] == "review" else {}
        else:
            lines = [LINE | {"item_id": f"i{rng.randrange(9)}", "category": "k"}] * rng.randrange(3)
            event = order(user, ts, rng.randrange(10_000) / 100, rng.choice(ORDER_TYPES))
            event |= {"lines": lines, "currency": rng.choice([None, *RATES])}
        events.append(event)
    return events


@pytest.mark.parametrize("source", [CLICKSTREAM, ORDERS])
def test_the_fast_path_equals_the_slow_one(source: int) -> None:
    """The same good records, alone, and with one bad record that forces the slow path."""
    rng = random.Random(source)
    rows = [record(e) for e in good_events(rng, 400) if ("order_id" in e) == (source == ORDERS)]
    fast = decode(to_records(rows), source, RULES)
    assert fast.positions.tolist() == list(range(len(rows)))
    for bad in (
        with_value(b"{"),
        with_value(None),
        with_value(b"{}", None),
        BAD_CLICKS["300 KB"][1],
    ):
        at = rng.randrange(len(rows))
        slow = decode(to_records([*rows[:at], bad, *rows[at:]]), source, RULES)
        assert_same(fast, slow)
        assert slow.positions.tolist() == [i for i in range(len(rows) + 1) if i != at]
        assert [r.position for r in slow.rejects] == [at]
    halves = decode(to_records(rows[:200]), source, RULES)
    assert halves.id_hash.tolist() == fast.id_hash[:200].tolist()


def test_nothing_in_is_nothing_out() -> None:
    for source in (CLICKSTREAM, ORDERS):
        events = decode(Records.empty(), source, RULES)
        assert (len(events), events.rejects, len(events.lines.event)) == (0, [], 0)
        assert len(decode(to_records([(None, None, T0)] * 3), source, RULES).rejects) == 3


# -- fuzz


def _flip(rng: random.Random, value: bytes) -> bytes:
    data = bytearray(value)
    for _ in range(rng.choice([1, 1, 2, 8])):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)


_ODD: list[str] = [
    "null", "true", "-1", "0", "1e5", "1e999", "-1e-999", "NaN", "Infinity", "9" * 40, "9" * 4_301,
    '""', '"\\ud800"', '"\\u0000"', '"\\ud83d\\ude00"', "[]", "{}", '[{"a":1}]', "[" * 2_000,
    '"' + "x" * 20_000 + '"', "0x1f", "01", "1.", ".5", "+1", '"\x00"', "\ufeff1", "2.5",
]  # fmt: skip


def _odd_field(rng: random.Random, value: bytes) -> bytes:
    event = json.loads(value)
    name = rng.choice([*event, "v", "rating", "session_id", "lines", "currency", "extra"])
    return raw(event, **{name: rng.choice(_ODD)})[1] or b""


def _doubled_key(rng: random.Random, value: bytes) -> bytes:
    name = rng.choice(["ts", "user_id", "type", "v", "event_id", "amount", "extra"])
    return value[:-1] + f', "{name}": {rng.choice(_ODD)}}}'.encode("utf-8", "surrogatepass")


MUTATIONS: list[Callable[[random.Random, bytes], bytes]] = [
    _flip,
    _flip,
    _odd_field,
    _odd_field,
    _doubled_key,
    lambda rng, value: value[: rng.randrange(len(value))],
    lambda rng, value: rng.randbytes(rng.randrange(200)),
    lambda rng, value: value + value[: rng.randrange(1, 9)],
    lambda rng, value: b'{"type":3,"x":' + b'[{"a":' * rng.randrange(3_000),
    lambda rng, value: b"[" * rng.randrange(50_000),
    lambda rng, value: value.replace(b'"', b"'", rng.randrange(9)),
    lambda rng, value: value.replace(b"160", rng.choice([b"-160", b"1", b"160160160"]), 1),
    lambda rng, value: value.decode().encode(rng.choice(["utf-16", "utf-8-sig", "utf-32"])),
]


def test_ten_thousand_fuzzed_messages_among_good_ones() -> None:
    """Nothing raises; each record is either decoded or refused, once; the good ones all get in."""
    rng = random.Random(20_260_101)
    reasons: Counter[str] = Counter()
    driver, scored = Driver(), 0
    for part in range(20):
        topics: list[list[tuple[Row, Wire | None]]] = [[], []]
        for event in good_events(rng, 500):
            topics["order_id" in event].append((record(event), event))
        for event in good_events(rng, 500):
            key, value, at = record(event)
            assert value is not None
            bad = rng.choice(MUTATIONS)(rng, value)
            odd: list[Row] = [
                (None, bad, at), (key, None, at), (key, value + b" " * 300_000, at),
                (b"?", bad, at),
                (key, value, rng.choice([-1, 0, -(2**63), 2**63 - 1])),
            ]  # fmt: skip
            row = rng.choice(odd) if rng.random() < 0.1 else (key, bad, at)
            topics["order_id" in event].append((row, None))
        for rows in topics:
            rng.shuffle(rows)
        for source in (CLICKSTREAM, ORDERS):
            rows = topics[source]
            events = decode(to_records([row for row, _ in rows]), source, RULES)
            positions = events.positions.tolist()
            refused = [r.position for r in events.rejects]
            assert sorted(positions + refused) == list(range(len(rows)))
            reasons.update(r.reason for r in events.rejects)
            got = dict(
                zip(
                    positions,
                    zip(events.users.tolist(), events.ts_ms.tolist(), strict=True),
                    strict=True,
                )
            )
            for i, (_, wire) in enumerate(rows):
                if wire is not None:
                    assert got[i] == (wire["user_id"], wire["ts"])
        if part % 5 == 0:  # and all the way through a step
            out = driver.feed_rows([r for r, _ in topics[0]], [r for r, _ in topics[1]])
            counts = out.counts
            assert counts.accepted == 1_000
            scored += counts.scored
            assert counts.accepted == (
                counts.scored + counts.duplicates + counts.late + counts.dead_letters
            )
            assert all(len(d.payload or b"") <= 4_096 for d in out.dead_letters)
            letters = out.tables["dead_letters"]
            assert "".join(letters["payload"] + letters["record_key"] + letters["detail"]).encode()
    assert scored >= 4 * 500
    assert set(reasons) <= set(REASONS)
    assert sum(reasons.values()) > 8_000
    assert all(reasons[r] for r in ("invalid_json", "invalid_field", "null_key", "too_large"))


# -- money and hashes


def test_money_is_in_cents_of_the_shops_currency() -> None:
    cases = [
        (12.34, None, 1234), (12.34, "USD", 1234), (10.0, "EUR", 1080), (1_000, "JPY", 650),
        (0.29, None, 29), (1.1, None, 110), (0.0, "EUR", 0), (1e9, None, 100_000_000_000),
        (5, None, 500),
    ]  # fmt: skip
    events = [order("u", T0, a, currency=c, discount=a) for a, c, _ in cases]
    decoded = decode(to_records([record(e) for e in events]), ORDERS, RULES)
    assert decoded.amount_cents.tolist() == [c for *_, c in cases]
    assert decoded.discount_cents.tolist() == [c for *_, c in cases]
    assert decoded.amount_cents.dtype == np.int64


def test_every_amount_of_whole_cents_is_exact() -> None:
    cents = [*range(0, 100_000, 7), 99_999_999_999, 12_345_678_901]
    events = [order("u", T0, c / 100) for c in cents]
    decoded = decode(to_records([record(e) for e in events]), ORDERS, RULES)
    assert decoded.amount_cents.tolist() == cents


def test_lines_of_placed_orders_and_clicks_are_touched() -> None:
    lines = [LINE, LINE | {"item_id": "j", "category": "k"}]
    orders = [order("u", T0, type=t, lines=lines) for t in ORDER_TYPES]
    decoded = decode(to_records([record(e) for e in orders]), ORDERS, RULES)
    assert decoded.lines.event.tolist() == [0, 0]
    assert decoded.lines.item.tolist() == hashes(["i", "j"]).tolist()
    assert decoded.lines.category.tolist() == hashes(["", "k"]).tolist()
    clicks = [click("u", T0), click("u", T0, item_id="i"), click("u", T0, category="k")]
    decoded = decode(to_records([record(e) for e in clicks]), CLICKSTREAM, RULES)
    assert decoded.lines.event.tolist() == [1, 2]
    assert decoded.lines.item.tolist() == [*hashes(["i"]).tolist(), 0]


def test_an_order_and_a_click_may_share_an_event_id() -> None:
    driver = Driver()
    one, two = click("u", T0) | {"event_id": "1"}, order("u", T0) | {"event_id": "1"}
    assert driver.feed([one], [two]).counts.scored == 2
    assert driver.feed([one], [two]).counts.duplicates == 2


def test_hashes_have_not_changed() -> None:
    """Stored state, ids and holdout arms depend on them: a changed hash must not go unnoticed.

    The first value is xxh64 of the empty string as its specification has it.
    """
    assert xxhash.xxh64_intdigest(b"") == 0xEF46DB3751D8E999
    assert hashes(["", "a", "user-1", "é😀", "a\0"]).tolist() == [
        0,
        15154266338359012955,
        11633770265628666856,
        10298515841032656982,
        16506783541394571158,
    ]
    assert mix(hashes(["user-1"]), hashes(["item-1"])).tolist() == [1300669334859080752]
    assert stable_id("user-1", "churn", 1) == "c9922d69f192263b916a431ed0a70f76"
    assert stable_share("arm", "user-1") == 0.19339736690744758


def test_stable_ids_tell_their_parts_apart() -> None:
    parts = [("a", "b"), ("ab",), ("a", "b", ""), ("", "a", "b"), ("b", "a"), (1, "b"), ("a", 11)]
    assert len({stable_id(*p) for p in parts}) == len(parts)


def test_shares_are_uniform() -> None:
    shares = np.array([stable_share("arm", f"u{i}") for i in range(20_000)])
    counts, _ = np.histogram(shares, 20, (0, 1))
    assert shares.min() >= 0
    assert shares.max() < 1
    assert abs(counts - 1_000).max() < 5 * 1_000**0.5


def test_an_order_in_another_currency_is_a_dead_letter_also_where_there_is_only_one() -> None:
    driver = Driver(replace(config(), decode=DecodeRules(300_000, "USD", {"USD": 1.0})))
    out = driver.feed([], [order("u", T0, currency="GBP"), order("u", T0, currency="USD")])
    assert [d.reason for d in out.dead_letters] == ["unknown_currency"]
    assert out.counts.scored == 1
