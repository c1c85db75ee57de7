"""Reads records with msgspec, one by one if it must: the reference for what an event means.

The kernels (`streams.kernels.events`) read the many plain events; what they leave comes here,
where a bad record gets its reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from schemas.canary import is_canary
from schemas.events import (
    CONTACTED,
    EVENT_VERSION,
    MAX_EVENT_BYTES,
    ClickEvent,
    Contact,
    OrderEvent,
)
from streams.core.events.events import (
    CANARY,
    CONTACT,
    EARLIEST_MS,
    KIND_OF_CLICK,
    KIND_OF_ORDER,
    LATEST_MS,
    SESSION_SLOT_MS,
    DecodeRules,
    Events,
    Lines,
    Reject,
    latest_ms,
)
from streams.core.events.records import CLICKSTREAM, Records
from streams.core.hashing import hashes
from streams.core.texts import Texts

__all__ = ["parse"]


class _Version(msgspec.Struct):
    v: int = EVENT_VERSION


class _Type(msgspec.Struct):
    type: str


_click_decoder: Final = msgspec.json.Decoder(ClickEvent)
_contact_decoder: Final = msgspec.json.Decoder(Contact)
_order_decoder: Final = msgspec.json.Decoder(OrderEvent)
_type_decoder: Final = msgspec.json.Decoder(_Type)
_version_decoder: Final = msgspec.json.Decoder(_Version)


def parse(records: Records, source: int, rules: DecodeRules, clock_ms: int = 0) -> Events:
    """Read one run of records of `source` (CLICKSTREAM or ORDERS). Never raises for bad input."""
    rejects: list[Reject] = []
    decoder: msgspec.json.Decoder[Any] = _click_decoder if source == CLICKSTREAM else _order_decoder
    events, positions = _documents(records, decoder, rejects)
    _refuse_contacts(records, rules, clock_ms, rejects)
    users = [e.user_id for e in events]
    ts_ms = _int64([e.ts for e in events])
    keep = _acceptable(records, events, users, ts_ms, positions, rules, clock_ms, rejects)
    if not keep.all():
        chosen = np.flatnonzero(keep)
        events = [events[i] for i in chosen]
        users = [users[i] for i in chosen]
        ts_ms, positions = ts_ms[keep], positions[keep]
    build = _click_columns if source == CLICKSTREAM else _order_columns
    return build(events, users, ts_ms, positions, rules, rejects)


def _documents(
    records: Records, decoder: msgspec.json.Decoder[Any], rejects: list[Reject]
) -> tuple[list[Any], NDArray[np.int64]]:
    """Every value that is valid JSON of the right shape, and its position."""
    values = records.values
    # One pass in C when all is well, which is nearly always; record by record when not.
    # A huge or null value makes the fast pass fail its check or raise.
    try:
        if max(map(len, values), default=0) <= MAX_EVENT_BYTES and None not in records.keys:  # type: ignore[arg-type]
            return list(map(decoder.decode, values)), np.arange(len(values))  # type: ignore[arg-type]
    except (TypeError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    events: list[Any] = []
    positions: list[int] = []
    for i, (key, value) in enumerate(zip(records.keys, values, strict=True)):
        if key is None:
            rejects.append(Reject(i, "null_key", "events must be keyed by user id"))
        elif value is None:
            rejects.append(Reject(i, "null_value", "the record has no value"))
        elif len(value) > MAX_EVENT_BYTES:
            detail = f"{len(value)} bytes; at most {MAX_EVENT_BYTES} are read"
            rejects.append(Reject(i, "too_large", detail))
        else:
            try:
                events.append(decoder.decode(value))
                positions.append(i)
            except msgspec.ValidationError as why:
                # Neither canaries nor contacts are events: events don't pay for the question.
                if decoder is _click_decoder and is_canary(key, value):
                    rejects.append(Reject(i, CANARY, ""))
                elif decoder is _click_decoder and _is_contact(value):
                    rejects.append(_contact(i, value))
                else:
                    rejects.append(Reject(i, *_classify(value, why)))
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as why:
                rejects.append(Reject(i, "invalid_json", str(why)))
    return events, _int64(positions)


def _is_contact(value: bytes) -> bool:
    try:
        return _type_decoder.decode(value).type == CONTACTED
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False


def _contact(position: int, value: bytes) -> Reject:
    try:
        return Reject(position, CONTACT, "", contact=_contact_decoder.decode(value))
    except msgspec.ValidationError as why:
        return Reject(position, *_classify(value, why))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as why:
        return Reject(position, "invalid_json", str(why))


def _refuse_contacts(
    records: Records, rules: DecodeRules, clock_ms: int, rejects: list[Reject]
) -> None:
    """Those that can't be used become rejects for the reason that an event would have."""
    at = [(i, each, each.contact) for i, each in enumerate(rejects) if each.contact is not None]
    if not at:
        return
    found: dict[int, Reject] = {}
    positions = np.array([each.position for _, each, _ in at], np.int64)
    ts_ms = _int64([contact.ts for _, _, contact in at])
    for n, reason, detail, ahead_ms in _wrong_times(
        ts_ms, records.timestamps_ms[positions], rules, clock_ms
    ):
        found.setdefault(at[n][0], Reject(int(positions[n]), reason, detail, ahead_ms))
    for i, each, contact in at:
        if contact.user_id.encode() != records.keys[each.position]:
            detail = "the record's key is not the event's user_id"
            found[i] = Reject(each.position, "key_mismatch", detail)
        if contact.v != EVENT_VERSION:
            detail = f"v is {contact.v}; this build reads version {EVENT_VERSION}"
            found[i] = Reject(each.position, "unknown_version", detail)
    for i, reject in found.items():
        rejects[i] = reject


def _classify(value: bytes, why: Exception) -> tuple[str, str]:
    """An event of a version to come fails validation too; say that rather than name a field."""
    try:
        version = _version_decoder.decode(value).v
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "invalid_field", str(why)
    if version != EVENT_VERSION:
        return "unknown_version", f"v is {version}; this build reads version {EVENT_VERSION}"
    return "invalid_field", str(why)


def _acceptable(
    records: Records,
    events: Sequence[Any],
    users: list[str],
    ts_ms: NDArray[np.int64],
    positions: NDArray[np.int64],
    rules: DecodeRules,
    clock_ms: int,
    rejects: list[Reject],
) -> NDArray[np.bool_]:
    """Which parsed events may enter; the others are added to `rejects`, one reason each."""
    n = len(events)
    keep = np.ones(n, np.bool_)

    def refuse(i: int, reason: str, detail: str, ahead_ms: int = 0) -> None:
        if keep[i]:
            keep[i] = False
            rejects.append(Reject(int(positions[i]), reason, detail, ahead_ms))

    versions = [e.v for e in events]
    if versions.count(EVENT_VERSION) != n:
        for i, version in enumerate(versions):
            if version != EVENT_VERSION:
                detail = f"v is {version}; this build reads version {EVENT_VERSION}"
                refuse(i, "unknown_version", detail)
    encoded = [u.encode() for u in users]
    keys = records.keys if n == len(records) else [records.keys[i] for i in positions]
    if encoded != keys:
        for i, (ours, key) in enumerate(zip(encoded, keys, strict=True)):
            if ours != key:
                refuse(i, "key_mismatch", "the record's key is not the event's user_id")
    for wrong in _wrong_times(ts_ms, records.timestamps_ms[positions], rules, clock_ms):
        refuse(*wrong)
    if events and isinstance(events[0], OrderEvent):
        for i, event in enumerate(events):
            if event.currency is not None and event.currency not in rules.rates:
                detail = f"{event.currency} has no rate; set currency_rates"
                refuse(i, "unknown_currency", detail)
    return keep


def _wrong_times(
    ts_ms: NDArray[np.int64], recorded_ms: NDArray[np.int64], rules: DecodeRules, clock_ms: int
) -> Iterator[tuple[int, str, str, int]]:
    """(position, reason, detail, ahead_ms) of the events whose time can't be true."""
    for i in np.flatnonzero((ts_ms < EARLIEST_MS) | (ts_ms >= LATEST_MS)).tolist():
        detail = f"ts {ts_ms[i]} is not between 1990 and 2099 in milliseconds since 1970"
        yield i, "absurd_timestamp", detail, 0
    if not clock_ms:
        for i in np.flatnonzero(recorded_ms < 0).tolist():
            yield i, "absurd_timestamp", "the record has no time of its own to compare with", 0
    for i in np.flatnonzero(ts_ms > latest_ms(recorded_ms, rules, clock_ms)).tolist():
        by_worker = clock_ms and not 0 <= recorded_ms[i] <= clock_ms
        whose, at_ms = ("worker's", clock_ms) if by_worker else ("record's", recorded_ms[i])
        ahead_ms = int(ts_ms[i]) - int(at_ms)
        detail = f"ts {ts_ms[i]} is {ahead_ms / 1000:,.0f} s ahead of the {whose} clock"
        yield i, "future_timestamp", detail, ahead_ms


def _click_columns(
    events: list[ClickEvent],
    users: list[str],
    ts_ms: NDArray[np.int64],
    positions: NDArray[np.int64],
    _rules: DecodeRules,
    rejects: list[Reject],
) -> Events:
    n = len(events)
    kind = np.array([KIND_OF_CLICK[e.type] for e in events], np.int8)
    item = hashes([e.item_id or "" for e in events])
    category = hashes([e.category or "" for e in events])
    session = hashes([e.session_id or "" for e in events])
    missing = session == 0
    if missing.any():
        # Any value that the user's other half hours don't share will do; real ids are hashes.
        session[missing] = (ts_ms[missing] // SESSION_SLOT_MS).astype(np.uint64)
    rating = np.zeros(n, np.int32)
    for i in np.flatnonzero(kind == KIND_OF_CLICK["review"]):
        stars = events[i].rating
        if stars is not None:
            rating[i] = round(stars * 10)
    touched = (item != 0) | (category != 0)
    which = np.flatnonzero(touched).astype(np.int32)
    zeros = np.zeros(n, np.int64)
    return Events(
        users=Texts.of(users),
        kind=kind,
        ts_ms=ts_ms,
        id_hash=hashes([e.event_id for e in events]),
        order=np.zeros(n, np.uint64),
        session=session,
        rating_tenths=rating,
        amount_cents=zeros,
        discount_cents=zeros,
        coupon=np.zeros(n, np.bool_),
        order_lines=np.zeros(n, np.int32),
        lines=Lines(which, item[which], category[which]),
        positions=positions,
        rejects=rejects,
    )


def _order_columns(
    events: list[OrderEvent],
    users: list[str],
    ts_ms: NDArray[np.int64],
    positions: NDArray[np.int64],
    rules: DecodeRules,
    rejects: list[Reject],
) -> Events:
    n = len(events)
    kind = np.fromiter((KIND_OF_ORDER[e.type] for e in events), np.int8, n)
    rate = np.fromiter((rules.rates[e.currency or rules.currency] for e in events), np.float64, n)
    amount = np.fromiter((e.amount for e in events), np.float64, n)
    discount = np.fromiter((e.discount for e in events), np.float64, n)
    counts = np.fromiter((len(e.lines) for e in events), np.int32, n)
    # Only what was bought counts as touched; giving it back is not new interest.
    bought = [e.lines if e.type == "placed" else [] for e in events]
    lines = list(chain.from_iterable(bought))
    owner = np.repeat(
        np.arange(n, dtype=np.int32), np.fromiter((len(b) for b in bought), np.int64, n)
    )
    return Events(
        users=Texts.of(users),
        kind=kind,
        ts_ms=ts_ms,
        # a shop may number orders and clicks alike: keep the two apart
        id_hash=~hashes([e.event_id for e in events]),
        order=hashes([e.order_id for e in events]),
        session=np.zeros(n, np.uint64),
        rating_tenths=np.zeros(n, np.int32),
        amount_cents=np.rint(amount * rate * 100).astype(np.int64),
        discount_cents=np.rint(discount * rate * 100).astype(np.int64),
        coupon=np.fromiter((e.coupon is not None for e in events), np.bool_, n),
        order_lines=counts,
        lines=Lines(
            owner,
            hashes([ln.item_id for ln in lines]),
            hashes([ln.category or "" for ln in lines]),
        ),
        positions=positions,
        rejects=rejects,
    )


def _int64(values: Sequence[int]) -> NDArray[np.int64]:
    # Clipped rather than overflowing: such a time is absurd either way, and is refused as one.
    try:
        return np.array(values, np.int64)
    except OverflowError:
        bound = 2**62
        return np.array([max(-bound, min(bound, v)) for v in values], np.int64)
