"""Reads well-formed events straight from their JSON bytes into columns, without an object each.

D-015 says why. The kernel accepts only events in which every field is valid and whose key is their
user. For all others `ok` stays False: msgspec reads those, and says what is wrong with them.
`streams.core.events.decode` joins the two, and tests compare the kernel with msgspec on everything
that fuzzing finds.

Producers nearly always write the members of an object in the same order. So the bytes of a member's
key are first compared with those of the key that was in its position in the object before: two
loads instead of a scan and a lookup.
(Speculation on the order of fields as in Li et al., "Mison: a fast JSON parser", VLDB 2017.)
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streams.kernels import fields as f
from streams.kernels.fields import Fields
from streams.kernels.jit import kernel
from streams.kernels.memory import address, load8, load64, same, word
from streams.kernels.scan import (
    ESCAPED,
    FAILED,
    after_space,
    decimal,
    integer,
    key,
    plain_text,
    skip_value,
    text,
)
from streams.kernels.strings import Pieces
from streams.kernels.xxh64 import xxh64

__all__ = ["MEMBERS", "Found", "Scratch", "read_events", "which"]

_USER: Final = f.USER
_ID: Final = f.ID
_TEXT: Final = f.TEXT
_INTEGER: Final = f.INTEGER
_DECIMAL: Final = f.DECIMAL
_NAME: Final = f.NAME
_BOOLEAN: Final = f.BOOLEAN
_LINES: Final = f.LINES

UNKNOWN: Final = -2
MEMBERS: Final = 32
"""Members per object whose keys are remembered."""
_KEY_AT, _KEY_BYTES, _FIELD = range(3)  # what is remembered of each
_COMMA: Final = 0x2C
_OPEN: Final = 0x7B
_CLOSE: Final = 0x7D
_OPEN_LIST: Final = 0x5B
_CLOSE_LIST: Final = 0x5D
_NULL: Final = 0x6C6C756E
_TRUE: Final = 0x65757274
_FALSE: Final = 0x65736C6166
_ZERO: Final = np.uint64(0)


class Scratch(NamedTuple):
    """Memory that `read_events` works in.

    text: uint8, as long as the longest value that may be read. members, line_members: int64 [3,
    MEMBERS], zeros: for each member of a record, and of its lines, the key it had last (address,
    and bytes up to its value) and the field that this is.
    """

    text: NDArray[np.uint8]
    members: NDArray[np.int64]
    line_members: NDArray[np.int64]


class Found(NamedTuple):
    """What was read of n records, in the slots that `Fields` says.

    ok: bool [n], all False at first, True where an event was read. hashes: uint64 [n, h]; integers:
    int64 [n, i]; numbers: float64 [n, d]: zeros at first. line_hashes: uint64 [m, l] and
    line_event: int32 [m]: the lines of all events, and the record of each.
    """

    ok: NDArray[np.bool_]
    hashes: NDArray[np.uint64]
    integers: NDArray[np.int64]
    numbers: NDArray[np.float64]
    line_hashes: NDArray[np.uint64]
    line_event: NDArray[np.int32]


class _Rule(NamedTuple):
    """How one value is read: `Fields` of one field, and the address and number of its names."""

    kind: int
    nullable: bool
    low: int
    high: int
    names: int
    known: int


class _Bytes(NamedTuple):
    """Some bytes in memory."""

    at: int
    size: int


class _Lines(NamedTuple):
    """How lines are read: their fields, remembered keys, and where the hashes go."""

    fields: Fields
    members: NDArray[np.int64]
    hashes: NDArray[np.uint64]


@kernel
def which(words: int, count: int, at: int, length: int) -> int:
    """The index of a name among `count` ones, 16 bytes each from address `words`; or UNKNOWN."""
    if length <= 16:
        head, tail = word(at, length), word(at + 8, length - 8)
        for i in range(count):
            if load64(words + 16 * i) == head and load64(words + 16 * i + 8) == tail:
                return i
    return UNKNOWN


@kernel
def _is_null(at: int, end: int) -> bool:
    return bool(at + 4 <= end and word(at, 4) == _NULL)


@kernel
def _text(at: int, end: int, scratch: int, rule: _Rule) -> tuple[int, np.uint64]:
    """A text of low to high characters: (address after it, its hash, or 0 if none is kept)."""
    start = at + 1
    after, length, characters = plain_text(at, end)
    if after == ESCAPED:
        start = scratch
        after, length, characters = text(at, end, scratch)
    if after < 0 or characters < rule.low or characters > rule.high:
        return FAILED, _ZERO
    return after, xxh64(start, length) if rule.kind == _ID else _ZERO


@kernel
def _user(
    at: int, end: int, scratch: int, rule: _Rule, record_key: _Bytes
) -> tuple[int, np.uint64]:
    """The user id, which must be the record's key: (address after it, its hash)."""
    start = at + 1
    after, length, characters = plain_text(at, end)
    if after == ESCAPED:
        start = scratch
        after, length, characters = text(at, end, scratch)
    if after < 0 or length != record_key.size:
        return FAILED, _ZERO
    if characters < rule.low or characters > rule.high:
        return FAILED, _ZERO
    if not same(start, record_key.at, length):
        return FAILED, _ZERO
    return after, xxh64(record_key.at, record_key.size)


@kernel
def _name(at: int, end: int, rule: _Rule) -> tuple[int, int]:
    """One of the rule's names: (address after it, its index)."""
    after, length, _ = plain_text(at, end)
    if after < 0:
        return FAILED, 0
    found = which(rule.names, rule.known, at + 1, length)
    return (after if found >= 0 else FAILED), found


@kernel
def _boolean(at: int, end: int) -> int:
    if at + 4 <= end and word(at, 4) == _TRUE:
        return at + 4
    if at + 5 <= end and word(at, 5) == _FALSE:
        return at + 5
    return FAILED


@kernel
def _value(
    at: int, end: int, scratch: int, rule: _Rule, record_key: _Bytes
) -> tuple[int, np.uint64, int, float]:
    """Any value but an array: (address after it, its hash, integer or number)."""
    hashed, whole, number = _ZERO, 0, 0.0
    kind = rule.kind
    if rule.nullable and _is_null(at, end):
        return at + 4, hashed, whole, number
    if kind == _ID or kind == _TEXT:
        at, hashed = _text(at, end, scratch, rule)
    elif kind == _USER:
        at, hashed = _user(at, end, scratch, rule, record_key)
    elif kind == _INTEGER:
        at, whole = integer(at, end)
        if whole < rule.low or whole > rule.high:
            at = FAILED
    elif kind == _DECIMAL:
        at, number = decimal(at, end)
        if number < rule.low or number > rule.high:
            at = FAILED
    elif kind == _NAME:
        at, whole = _name(at, end, rule)
    elif kind == _BOOLEAN:
        at = _boolean(at, end)
    else:
        at = skip_value(at, end, scratch)
    return at, hashed, whole, number


@kernel
def _read_lines(
    at: int, end: int, scratch: int, most: int, lines: _Lines, first: int
) -> tuple[int, int]:
    """An array of at most `most` objects: (address after it, their number).

    Their hashes go to place `first` and after; an array that does not fit there fails.

    The loop over members is that of `read_events`, written out again: with a function for a key's
    lookup that both loops call, reading an event took 1.18 times as long.
    """
    if at >= end or load8(at) != _OPEN_LIST:
        return FAILED, 0
    at = after_space(at + 1, end)
    if at < end and load8(at) == _CLOSE_LIST:
        return at + 1, 0
    fields = lines.fields
    words = address(fields.words)
    count = 0
    while at < end and load8(at) == _OPEN and count < most and first + count < len(lines.hashes):
        seen, member = 0, 0
        lines.hashes[first + count] = _ZERO
        at = after_space(at + 1, end)
        while True:
            size = lines.members[_KEY_BYTES, member]
            if size > 0 and at + size < end and same(at, lines.members[_KEY_AT, member], size):
                at += size
                field = lines.members[_FIELD, member]
            else:
                start = at
                at, length = key(at, end)
                if at < 0 or at >= end:
                    return FAILED, 0
                field = which(words, len(fields.words), start + 1, length)
                lines.members[_KEY_AT, member] = start
                lines.members[_KEY_BYTES, member] = at - start
                lines.members[_FIELD, member] = field
            member = min(member + 1, MEMBERS - 1)
            if field < 0:
                at = skip_value(at, end, scratch)
            else:
                rule = _Rule(
                    fields.kinds[field], fields.nullable[field],
                    fields.low[field], fields.high[field], 0, 0,
                )  # fmt: skip
                at, hashed, _, _ = _value(at, end, scratch, rule, _Bytes(0, 0))
                if fields.slots[field] >= 0:
                    lines.hashes[first + count, fields.slots[field]] = hashed
                seen |= fields.bits[field]
            if at < 0:
                return FAILED, 0
            at = after_space(at, end)
            if at >= end:
                return FAILED, 0
            if load8(at) == _CLOSE:
                break
            if load8(at) != _COMMA:
                return FAILED, 0
            at = after_space(at + 1, end)
        if seen != fields.required:
            return FAILED, 0
        count += 1
        at = after_space(at + 1, end)
        if at < end and load8(at) == _CLOSE_LIST:
            return at + 1, count
        if at >= end or load8(at) != _COMMA:
            return FAILED, 0
        at = after_space(at + 1, end)
    return FAILED, 0


@kernel
def read_events(
    keys: Pieces,
    values: Pieces,
    fields: Fields,
    line_fields: Fields,
    scratch: Scratch,
    found: Found,
) -> int:
    """Read n records into `found`; returns the number of lines written.

    keys, values: n pieces each, of size -1 where a record has none. Values that are longer than the
    scratch text, and lists for which there is no room, are not read.
    """
    base, key_base = address(values.data), address(keys.data)
    free = address(scratch.text)
    words, names = address(fields.words), address(fields.names)
    lines = _Lines(line_fields, scratch.line_members, found.line_hashes)
    total = 0
    for i in range(len(values.at)):
        if keys.size[i] <= 0 or values.size[i] < 0 or values.size[i] > len(scratch.text):
            continue
        at = base + values.at[i]
        end = at + values.size[i]
        at = after_space(at, end)
        if at >= end or load8(at) != _OPEN:
            continue
        at = after_space(at + 1, end)
        seen, member, count = 0, 0, 0
        closed = False
        while at < end:
            size = scratch.members[_KEY_BYTES, member]
            if size > 0 and at + size < end and same(at, scratch.members[_KEY_AT, member], size):
                at += size
                field = scratch.members[_FIELD, member]
            else:
                start = at
                at, length = key(at, end)
                if at < 0 or at >= end:
                    break
                field = which(words, len(fields.words), start + 1, length)
                scratch.members[_KEY_AT, member] = start
                scratch.members[_KEY_BYTES, member] = at - start
                scratch.members[_FIELD, member] = field
            member = min(member + 1, MEMBERS - 1)
            if field < 0:
                at = skip_value(at, end, free)
            elif fields.kinds[field] == _LINES:
                at, count = _read_lines(at, end, free, fields.high[field], lines, total)
                found.integers[i, fields.slots[field]] = count
                seen |= fields.bits[field]
            else:
                kind = fields.kinds[field]
                rule = _Rule(
                    kind, fields.nullable[field], fields.low[field], fields.high[field],
                    names + 16 * fields.names_from[field], fields.names_known[field],
                )  # fmt: skip
                record_key = _Bytes(key_base + keys.at[i], keys.size[i])
                at, hashed, whole, number = _value(at, end, free, rule, record_key)
                slot = fields.slots[field]
                if slot < 0:
                    pass
                elif kind == _DECIMAL:
                    found.numbers[i, slot] = number
                elif kind == _INTEGER or kind == _NAME:
                    found.integers[i, slot] = whole
                else:
                    found.hashes[i, slot] = hashed
                seen |= fields.bits[field]
            if at < 0:
                break
            at = after_space(at, end)
            if at >= end:
                break
            if load8(at) == _CLOSE:
                closed = after_space(at + 1, end) == end
                break
            if load8(at) != _COMMA:
                break
            at = after_space(at + 1, end)
        if closed and seen == fields.required:
            for line in range(total, total + count):
                found.line_event[line] = i
            total += count
            found.ok[i] = True
    return total
