"""Events are read as msgspec reads them; whatever the kernel is not sure of is left to msgspec."""

from __future__ import annotations

import json
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.events import CLICK_TYPES, MAX_EVENT_BYTES, ORDER_TYPES
from streams.core.events import decode as decoding
from streams.core.events.decode import decode
from streams.core.events.events import Events
from streams.core.events.parse import parse
from streams.core.events.records import CLICKSTREAM, ORDERS, Records
from tests.core.driving import T0, bounded, click, config, order, to_records

RULES = config().decode
COLUMNS = (
    "kind", "ts_ms", "id_hash", "session", "rating_tenths", "amount_cents", "discount_cents",
    "coupon", "order_lines", "positions",
)  # fmt: skip


def check(records: Records, source: int) -> Events:
    """Decode in both ways and compare everything; returns the result."""
    ours, reference = decode(records, source, RULES), parse(records, source, RULES)
    assert ours.users.tolist() == reference.users.tolist()
    assert ours.users.hashed.tolist() == reference.users.hashed.tolist()
    for name in COLUMNS:
        one, other = getattr(ours, name), getattr(reference, name)
        assert one.dtype == other.dtype, name
        assert one.tolist() == other.tolist(), name
    for name in ("event", "item", "category"):
        one, other = getattr(ours.lines, name), getattr(reference.lines, name)
        assert one.dtype == other.dtype, name
        assert one.tolist() == other.tolist(), name
    key = lambda r: (r.position, r.reason, r.detail)  # noqa: E731
    assert sorted(map(key, ours.rejects)) == sorted(map(key, reference.rejects))
    return ours


def by_kernel(records: Records, source: int) -> list[bool]:
    """Which records the kernel accepted."""
    read = decoding._clicks if source == CLICKSTREAM else decoding._orders
    return list(map(bool, read(records, RULES, 0)[0]))


def one(value: bytes, key: bytes = b"u", at_ms: int = T0) -> Records:
    return to_records([(key, value, at_ms)])


# -- what the kernel accepts

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=140) | st.sampled_from(
    ["", "\x00", '"', "\\", "é", "😀", "x" * 128, "é" * 128, "x" * 129, "\ud7ff\ue000"]
)
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
MONEY = st.sampled_from([0, 1, 12.34, 0.1, 1e9, 1e9 + 1, -0.0, -1, 0.30000000000000004, 1e-7]) | (
    st.decimals(0, 10**9, places=2).map(float) | st.floats(0, 1e9)
)
LINE = st.fixed_dictionaries(
    {"item_id": TEXTS, "amount": MONEY},
    optional={"quantity": MONEY, "category": TEXTS | st.none(), "discount": MONEY, "x": ANY_JSON},
)
BASE: dict[str, Any] = {
    "event_id": TEXTS.filter(bool) | TEXTS,
    "user_id": st.sampled_from(["u", "ü", "user-1", 'a"b', ""]),
    "ts": st.integers(T0 - 10**9, T0 + 10**6) | st.integers(),
}
OPTIONAL: dict[str, Any] = {"v": st.sampled_from([1, 1, 1, 2, 1.0, None]), "extra": ANY_JSON}
CLICKS = st.fixed_dictionaries(
    BASE | {"type": st.sampled_from([*CLICK_TYPES, "placed"])},
    optional=OPTIONAL
    | {
        "session_id": TEXTS | st.none(),
        "item_id": TEXTS | st.none(),
        "category": TEXTS | st.none(),
        "query": TEXTS | st.none(),
        "rating": st.sampled_from([1, 5, 4.5, 3.35, 0, 6, None]) | st.floats(1, 5),
        "text": TEXTS,
        "simulated": st.booleans() | st.none(),
    },
)
ORDER_EVENTS = st.fixed_dictionaries(
    BASE | {"type": st.sampled_from([*ORDER_TYPES, "view"]), "order_id": TEXTS, "amount": MONEY},
    optional=OPTIONAL
    | {
        "currency": st.sampled_from(["USD", "EUR", "JPY", "XXX", "usd", None]),
        "discount": MONEY,
        "coupon": TEXTS | st.none(),
        "lines": st.lists(LINE, max_size=4),
    },
)
STYLES = st.fixed_dictionaries(
    {
        "ensure_ascii": st.booleans(),
        "separators": st.sampled_from([(",", ":"), (", ", ": "), (" , ", " :\n\t ")]),
        "sort_keys": st.booleans(),
    }
)


@bounded
@given(st.lists(st.tuples(CLICKS, STYLES), max_size=6), st.booleans())
def test_clicks_are_read_as_msgspec_reads_them(
    events: list[tuple[dict[str, Any], dict[str, Any]]], wrong_key: bool
) -> None:
    rows = [
        (b"x" if wrong_key else e["user_id"].encode(), json.dumps(e, **style).encode(), T0)
        for e, style in events
    ]
    check(to_records(rows), CLICKSTREAM)


@bounded
@given(st.lists(st.tuples(ORDER_EVENTS, STYLES), max_size=6))
def test_orders_are_read_as_msgspec_reads_them(
    events: list[tuple[dict[str, Any], dict[str, Any]]],
) -> None:
    rows = [(e["user_id"].encode(), json.dumps(e, **style).encode(), T0) for e, style in events]
    check(to_records(rows), ORDERS)


@pytest.mark.parametrize("source", [CLICKSTREAM, ORDERS])
@pytest.mark.parametrize("seed", range(8))
def test_damaged_events_are_read_as_msgspec_reads_them(source: int, seed: int) -> None:
    """Bytes are changed, removed, repeated or inserted, so that some records are barely JSON."""
    rng = random.Random(seed)
    event = click("u", T0, "review", rating=4.5, text='süß "q"', item_id="i", session_id="s")
    if source == ORDERS:
        lines = [{"item_id": "i", "amount": 1.5, "category": "c"}, {"item_id": "j", "amount": 2}]
        event = order("u", T0, 12.34, lines=lines, currency="EUR", coupon="é", discount=0.1)
    event["extra"] = {"a": [1, -2.5e-3, True, None, {"b": []}], "c": "x\\u00e9\n"}
    good = [json.dumps(event, ensure_ascii=a).encode() for a in (True, False)]
    tokens = [b'"', b"\\", b",", b":", b"{", b"}", b"[", b"]", b"-", b".", b"e", b"0", b"null",
              b"true", b"\\ud83d", b"\\ude00", b"\xc3", b"\xed\xa0\x80", b"\x00", b" ", b"\n",
              b"1" * 20, b"\xf4\x90\x80\x80", b"\xc0\x80"]  # fmt: skip
    rows = []
    for _ in range(1_500):
        value = bytearray(rng.choice(good))
        for _ in range(rng.choice([1, 1, 1, 2, 3])):
            at, end = rng.randrange(len(value)), rng.randrange(1, 4)
            match rng.randrange(4):
                case 0:
                    value[at] = rng.randrange(256)
                case 1:
                    del value[at : at + end]
                case 2:
                    value[at:at] = rng.choice(tokens)
                case 3:
                    value[at:at] = value[at : at + 12 * end]
        rows.append((b"u", bytes(value), T0))
    events = check(to_records(rows), source)
    assert 50 < len(events.rejects) < len(rows)


# -- what it must accept: each record that it leaves to msgspec costs ten times as much


@pytest.mark.parametrize(
    "style",
    [{}, {"separators": (",", ":")}, {"ensure_ascii": False}, {"indent": 1}, {"sort_keys": True}],
    ids=str,
)
def test_kernel_reads_all_plain_events(style: dict[str, Any]) -> None:
    extra = {"utm": {"source": "x", "n": [1, 2.5e3]}, "ref": None}
    clicks = [
        click("ü", T0, kind, item_id="i/1", category="Bücher \u2014 \"neu\"", session_id="s" * 40,
              query="schöne\nTasche", rating=4.5, simulated=False, v=1, app=extra)
        for kind in CLICK_TYPES
    ]  # fmt: skip
    lines = [{"item_id": "i", "amount": 19.99, "quantity": 2, "category": None, "sku": 5}]
    orders = [
        order("ü", T0, amount, lines=lines * 3, currency="EUR", coupon="10%", discount=0.05)
        | {"type": kind}
        for kind in ORDER_TYPES
        for amount in (0, 12, 12.34, 999_999_999.99)
    ]
    for source, events in ((CLICKSTREAM, clicks), (ORDERS, orders)):
        rows = [("ü".encode(), json.dumps(e, **style).encode(), T0) for e in events]
        assert all(by_kernel(to_records(rows), source))
        check(to_records(rows), source)


def test_members_may_come_in_any_order() -> None:
    event = click("u", T0, item_id="i", category="c", session_id="s")
    names = list(event)
    rng = random.Random(1)
    rows = []
    for _ in range(200):
        rng.shuffle(names)
        rows.append((b"u", json.dumps({name: event[name] for name in names}).encode(), T0))
    assert all(by_kernel(to_records(rows), CLICKSTREAM))
    assert len(set(check(to_records(rows), CLICKSTREAM).id_hash.tolist())) == 1


def test_objects_of_more_members_than_are_remembered_are_read() -> None:
    event = click("u", T0) | {f"field-{i}": i for i in range(200)}
    rows = [(b"u", json.dumps(event).encode(), T0)] * 3
    assert all(by_kernel(to_records(rows), CLICKSTREAM))
    check(to_records(rows), CLICKSTREAM)


def test_last_of_members_of_one_name_counts() -> None:
    value = json.dumps(click("u", T0, item_id="a")).encode()
    twice = value[:-1] + b', "item_id": "b", "item_id": null}'
    assert check(one(twice), CLICKSTREAM).lines.item.tolist() == []
    value = json.dumps(order("u", T0, 5.0, lines=[{"item_id": "a", "amount": 1}])).encode()
    twice = value[:-1] + b', "lines": [{"item_id": "b", "amount": 1, "item_id": "c"}]}'
    assert by_kernel(one(twice), ORDERS) == [True]
    assert check(one(twice), ORDERS).order_lines.tolist() == [1]


def test_nothing_is_read_beyond_a_record() -> None:
    """A record that is cut off is followed by what would complete it."""
    value = json.dumps(click("u", T0)).encode()
    for cut in range(len(value)):
        data = np.frombuffer(b"u" + value, np.uint8)
        records = Records(
            np.zeros(1, np.int64), np.array([T0]), data, np.zeros(1, np.int64),
            np.ones(1, np.int32), np.ones(1, np.int64), np.array([cut], np.int32),
        )  # fmt: skip
        assert by_kernel(records, CLICKSTREAM) == [False]


def test_too_long_or_deep_values_are_left_to_msgspec() -> None:
    deep = (
        json.dumps(click("u", T0) | {"x": 0})
        .encode()
        .replace(b'"x": 0', b'"x": ' + b"[" * 70 + b"]" * 70)
    )
    assert by_kernel(one(deep), CLICKSTREAM) == [False]
    assert len(check(one(deep), CLICKSTREAM)) == 1
    big = json.dumps(click("u", T0) | {"x": "y" * MAX_EVENT_BYTES}).encode()
    assert check(one(big), CLICKSTREAM).rejects[0].reason == "too_large"
