"""Turns raw records into event columns, or into dead letters with a reason.

Reasons (the codes that dead letters carry):

    null_key             the record has no key, so it belongs to no user
    null_value           a tombstone: nothing to read
    too_large            longer than `schemas.events.MAX_EVENT_BYTES`
    invalid_json         not JSON (NaN and Infinity are not JSON either)
    invalid_field        a field is missing or has the wrong type or range
    unknown_version      `v` is not a version this build reads
    key_mismatch         the record's key is not the event's `user_id`
    absurd_timestamp     before 1990 or after 2099, so perhaps not in milliseconds
    future_timestamp     further ahead of the record's own time, or of the worker's clock, than is
                         allowed: the producer's clock is fast
    unknown_currency     an order in a currency that no rate is set for
    wrong_partition      the key belongs to another partition, and so to another shard
                         (`streams.core.partitioning`)

A canary (`schemas.canary`) is a reject too, with the reason `CANARY`, and a contact with `CONTACT`;
these become no dead letters.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from schemas.events import (
    CLICK_TYPES,
    EVENT_VERSION,
    MAX_EVENT_BYTES,
    ORDER_TYPES,
    ClickEvent,
    OrderEvent,
    OrderLine,
)
from streams.core.events.events import (
    EARLIEST_MS,
    KIND_OF_CLICK,
    KIND_PLACED,
    SESSION_SLOT_MS,
    DecodeRules,
    Events,
    Lines,
    Reject,
    latest_ms,
    merged,
)
from streams.core.events.parse import parse
from streams.core.events.records import CLICKSTREAM, Records
from streams.core.partitioning import Partitioner
from streams.core.texts import Texts
from streams.kernels.events import MEMBERS, Found, Scratch, read_events
from streams.kernels.fields import Fields
from streams.kernels.strings import Pieces

__all__ = ["REASONS", "decode", "decode_ours"]

REASONS: Final = (
    "null_key",
    "null_value",
    "too_large",
    "invalid_json",
    "invalid_field",
    "unknown_version",
    "key_mismatch",
    "absurd_timestamp",
    "future_timestamp",
    "unknown_currency",
    "wrong_partition",
)

# where the kernel puts what it reads
_EVENT_ID, _USER, _SESSION, _ITEM, _CATEGORY = range(5)  # hashes
_COUPON, _ORDER_ID = 2, 3
_TYPE, _TS, _CURRENCY, _LINE_COUNT = range(4)  # integers
_RATING: Final = 0  # numbers
_AMOUNT, _DISCOUNT = range(2)
_ONE_LINE: Final = Fields.of(OrderLine, slots={"item_id": 0, "category": 1})
_CLICK: Final = Fields.of(
    ClickEvent,
    slots={
        "event_id": _EVENT_ID, "user_id": _USER, "session_id": _SESSION, "item_id": _ITEM,
        "category": _CATEGORY, "type": _TYPE, "ts": _TS, "rating": _RATING,
    },
    user="user_id",
    version=("v", EVENT_VERSION),
    names={"type": CLICK_TYPES},
)  # fmt: skip
_MIN_LINE_BYTES: Final = len('{"item_id":"i","amount":1},')


def decode(records: Records, source: int, rules: DecodeRules, clock_ms: int = 0) -> Events:
    """Decode one run of records of `source` (CLICKSTREAM or ORDERS). Never raises for bad input.

    clock_ms: the worker's clock, beyond which events are refused; 0: time comes from the events.

    The kernels read the records that are plainly right; the others go through msgspec.
    """
    read = _clicks if source == CLICKSTREAM else _orders
    ok, events = read(records, rules, clock_ms)
    left = np.flatnonzero(~ok)
    if not len(left):
        return events
    others = parse(records[left], source, rules, clock_ms).taken_from(left)
    return merged(events.at(np.flatnonzero(ok)), others)


def decode_ours(
    records: Records,
    source: int,
    rules: DecodeRules,
    clock_ms: int,
    partition: int,
    partitioner: Partitioner,
) -> Events:
    """`decode`, but records whose key belongs to another partition become dead letters."""
    misplaced = partitioner.misplaced(records, partition)
    if not len(misplaced):
        return decode(records, source, rules, clock_ms)
    ours = np.delete(np.arange(len(records)), misplaced)
    events = decode(records[ours], source, rules, clock_ms).taken_from(ours)
    belongs = partitioner.of(records)
    refused = [
        Reject(i, "wrong_partition", f"{partitioner.name} gives its key partition {belongs[i]}")
        for i in misplaced.tolist()
    ]
    return replace(events, rejects=events.rejects + refused)


def _read(records: Records, fields: Fields, rules: DecodeRules, clock_ms: int, lines: int) -> Found:
    """Run the kernel with room for so many lines: what it read, `ok` where that may be used."""
    n = len(records)
    # One buffer is read-only and another is not; to the compiler these are different types.
    data = records.data.view()
    data.flags.writeable = False
    found = Found(
        np.zeros(n, np.bool_),
        np.zeros((n, 5), np.uint64),
        np.zeros((n, 4), np.int64),
        np.zeros((n, 2), np.float64),
        np.empty((lines, 2), np.uint64),
        np.empty(lines, np.int32),
    )
    members = np.zeros((2, 3, MEMBERS), np.int64)
    written = read_events(
        Pieces(data, records.key_at, records.key_bytes),
        Pieces(data, records.value_at, records.value_bytes),
        fields,
        _ONE_LINE,
        Scratch(np.empty(MAX_EVENT_BYTES, np.uint8), members[0], members[1]),
        found,
    )
    latest = latest_ms(records.timestamps_ms, rules, clock_ms)
    ts_ms = found.integers[:, _TS]
    found.ok[:] &= (ts_ms >= EARLIEST_MS) & (ts_ms <= latest)
    found.numbers[~found.ok] = 0.0  # whatever was in them may not even fit an integer
    return found._replace(
        line_hashes=found.line_hashes[:written], line_event=found.line_event[:written]
    )


def _users(records: Records, found: Found) -> Texts:
    """The record keys: where the kernel has read an event, they are its user."""
    size = np.maximum(records.key_bytes, 0)
    return Texts(records.data, records.key_at, size, found.hashes[:, _USER].copy())


def _clicks(
    records: Records, rules: DecodeRules, clock_ms: int
) -> tuple[NDArray[np.bool_], Events]:
    n = len(records)
    found = _read(records, _CLICK, rules, clock_ms, 0)
    kind, ts_ms = found.integers[:, _TYPE].astype(np.int8), found.integers[:, _TS].copy()
    session, item, category = found.hashes[:, [_SESSION, _ITEM, _CATEGORY]].T.copy()
    missing = session == 0
    # Any value that the user's other half hours don't share will do; real ids are hashes.
    session[missing] = (ts_ms[missing] // SESSION_SLOT_MS).astype(np.uint64)
    rating = np.where(kind == KIND_OF_CLICK["review"], found.numbers[:, _RATING], 0.0)
    touched = np.flatnonzero((item != 0) | (category != 0)).astype(np.int32)
    return found.ok, Events(
        users=_users(records, found),
        kind=kind,
        ts_ms=ts_ms,
        id_hash=found.hashes[:, _EVENT_ID].copy(),
        order=np.zeros(n, np.uint64),
        session=session,
        rating_tenths=np.rint(rating * 10).astype(np.int32),
        amount_cents=np.zeros(n, np.int64),
        discount_cents=np.zeros(n, np.int64),
        coupon=np.zeros(n, np.bool_),
        order_lines=np.zeros(n, np.int32),
        lines=Lines(touched, item[touched], category[touched]),
        positions=np.arange(n),
    )


@lru_cache(maxsize=8)
def _order_fields(currencies: tuple[str, ...]) -> Fields:
    return Fields.of(
        OrderEvent,
        slots={
            "event_id": _EVENT_ID, "user_id": _USER, "coupon": _COUPON, "type": _TYPE, "ts": _TS,
            "order_id": _ORDER_ID, "currency": _CURRENCY, "lines": _LINE_COUNT, "amount": _AMOUNT,
            "discount": _DISCOUNT,
        },
        user="user_id",
        version=("v", EVENT_VERSION),
        names={"type": ORDER_TYPES, "currency": currencies},
    )  # fmt: skip


def _orders(
    records: Records, rules: DecodeRules, clock_ms: int
) -> tuple[NDArray[np.bool_], Events]:
    n = len(records)
    # the shop's own currency comes first: it is also what a missing one means
    currencies = (rules.currency, *(c for c in rules.rates if c != rules.currency))
    rates = np.array([rules.rates[c] for c in currencies])
    room = int(np.maximum(records.value_bytes, 0).sum()) // _MIN_LINE_BYTES + 1
    found = _read(records, _order_fields(currencies), rules, clock_ms, room)
    kind = found.integers[:, _TYPE]
    # a record that is not ok may have any number there
    rate = rates[np.where(found.ok, found.integers[:, _CURRENCY], 0)]
    amount, discount = found.numbers[:, _AMOUNT], found.numbers[:, _DISCOUNT]
    # Only what was bought counts as touched; giving it back is not new interest.
    bought = np.flatnonzero(kind[found.line_event] == 0)
    return found.ok, Events(
        users=_users(records, found),
        kind=(kind + KIND_PLACED).astype(np.int8),
        ts_ms=found.integers[:, _TS].copy(),
        # a shop may number orders and clicks alike: keep the two apart
        id_hash=~found.hashes[:, _EVENT_ID],
        order=found.hashes[:, _ORDER_ID].copy(),
        session=np.zeros(n, np.uint64),
        rating_tenths=np.zeros(n, np.int32),
        amount_cents=np.rint(amount * rate * 100).astype(np.int64),
        discount_cents=np.rint(discount * rate * 100).astype(np.int64),
        coupon=found.hashes[:, _COUPON] != 0,
        order_lines=found.integers[:, _LINE_COUNT].astype(np.int32),
        lines=Lines(
            found.line_event[bought],
            found.line_hashes[bought, 0],
            found.line_hashes[bought, 1],
        ),
        positions=np.arange(n),
    )
