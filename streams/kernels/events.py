"""Reads well-formed events straight from their JSON bytes into columns, without an object each.

D-015 says why. The kernel only takes what is beyond doubt: an event with every field valid, whose
key is its user. It leaves `ok` False for everything else; msgspec reads those, and says what is
wrong with them. `streams.core.events.decode` joins the two, and tests compare the kernel with
msgspec on all that fuzzing finds.

Producers write the members of an object in the same order nearly always, so a member's key is first
compared with the one that stood there before: two loads in place of a scan and a lookup.
(Speculation on the order of fields as in Li et al., "Mison: a fast JSON parser", VLDB 2017.)
"""

from __future__ import annotations

from typing import Final

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
from streams.kernels.xxh64 import xxh64

__all__ = ["REMEMBERED", "read_events"]

_USER: Final = f.USER
_ID: Final = f.ID
_TEXT: Final = f.TEXT
_INTEGER: Final = f.INTEGER
_DECIMAL: Final = f.DECIMAL
_NAME: Final = f.NAME
_BOOLEAN: Final = f.BOOLEAN
_LINES: Final = f.LINES

UNKNOWN: Final = -2
REMEMBERED: Final = 32
"""Members per object whose keys are guessed."""
_COMMA: Final = 0x2C
_OPEN: Final = 0x7B
_CLOSE: Final = 0x7D
_OPEN_LIST: Final = 0x5B
_CLOSE_LIST: Final = 0x5D
_NULL: Final = 0x6C6C756E
_TRUE: Final = 0x65757274
_FALSE: Final = 0x65736C6166
_ZERO: Final = np.uint64(0)


@kernel
def _which(words: int, count: int, at: int, length: int) -> int:
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
def _text(
    at: int, end: int, scratch: int, low: int, high: int, hashed: bool
) -> tuple[int, np.uint64]:
    """A text of low to high characters: (address after it, its hash, or 0 when not asked for)."""
    start = at + 1
    after, length, characters = plain_text(at, end)
    if after == ESCAPED:
        start = scratch
        after, length, characters = text(at, end, scratch)
    if after < 0 or characters < low or characters > high:
        return FAILED, _ZERO
    return after, xxh64(start, length) if hashed else _ZERO


@kernel
def _user(
    at: int, end: int, scratch: int, low: int, high: int, key_at: int, key_bytes: int
) -> tuple[int, np.uint64]:
    """The user id, which must be the record's key: (address after it, its hash)."""
    start = at + 1
    after, length, characters = plain_text(at, end)
    if after == ESCAPED:
        start = scratch
        after, length, characters = text(at, end, scratch)
    if after < 0 or length != key_bytes or characters < low or characters > high:
        return FAILED, _ZERO
    if not same(start, key_at, length):
        return FAILED, _ZERO
    return after, xxh64(key_at, key_bytes)


@kernel
def _name(at: int, end: int, words: int, count: int) -> tuple[int, int]:
    """One of `count` names: (address after it, its index)."""
    after, length, _ = plain_text(at, end)
    if after < 0:
        return FAILED, 0
    which = _which(words, count, at + 1, length)
    return (after if which >= 0 else FAILED), which


@kernel
def _boolean(at: int, end: int) -> int:
    if at + 4 <= end and word(at, 4) == _TRUE:
        return at + 4
    if at + 5 <= end and word(at, 5) == _FALSE:
        return at + 5
    return FAILED


@kernel
def _value(
    at: int,
    end: int,
    scratch: int,
    kind: int,
    nullable: bool,
    low: int,
    high: int,
    words: int,
    count: int,
    key_at: int,
    key_bytes: int,
) -> tuple[int, np.uint64, int, float]:
    """Any value but an array: (address after it, its hash, integer or number)."""
    hashed, whole, number = _ZERO, 0, 0.0
    if nullable and _is_null(at, end):
        return at + 4, hashed, whole, number
    if kind == _ID or kind == _TEXT:
        at, hashed = _text(at, end, scratch, low, high, kind == _ID)
    elif kind == _USER:
        at, hashed = _user(at, end, scratch, low, high, key_at, key_bytes)
    elif kind == _INTEGER:
        at, whole = integer(at, end)
        if whole < low or whole > high:
            at = FAILED
    elif kind == _DECIMAL:
        at, number = decimal(at, end)
        if number < low or number > high:
            at = FAILED
    elif kind == _NAME:
        at, whole = _name(at, end, words, count)
    elif kind == _BOOLEAN:
        at = _boolean(at, end)
    else:
        at = skip_value(at, end, scratch)
    return at, hashed, whole, number


@kernel
def _read_lines(
    at: int,
    end: int,
    scratch: int,
    most: int,
    fields: Fields,
    memory: NDArray[np.int64],
    hashes: NDArray[np.uint64],
    first: int,
) -> tuple[int, int]:
    """An array of objects: (address after it, their number). Hashes go to `first` and on."""
    if at >= end or load8(at) != _OPEN_LIST:
        return FAILED, 0
    at = after_space(at + 1, end)
    if at < end and load8(at) == _CLOSE_LIST:
        return at + 1, 0
    words = address(fields.words)
    count = 0
    while at < end and load8(at) == _OPEN and count < most and first + count < len(hashes):
        seen, member = 0, 0
        hashes[first + count] = _ZERO
        at = after_space(at + 1, end)
        while True:
            size = memory[1, member]
            if size > 0 and at + size < end and same(at, memory[0, member], size):
                at += size
                field = memory[2, member]
            else:
                start = at
                at, length = key(at, end)
                if at < 0 or at >= end:
                    return FAILED, 0
                field = _which(words, len(fields.words), start + 1, length)
                memory[0, member], memory[1, member], memory[2, member] = start, at - start, field
            member = min(member + 1, REMEMBERED - 1)
            if field < 0:
                at = skip_value(at, end, scratch)
            else:
                at, hashed, _, _ = _value(
                    at, end, scratch, fields.kinds[field], fields.nullable[field],
                    fields.low[field], fields.high[field], words, 0, 0, 0,
                )  # fmt: skip
                if fields.slots[field] >= 0:
                    hashes[first + count, fields.slots[field]] = hashed
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
    data: NDArray[np.uint8],
    key_at: NDArray[np.int64],
    key_bytes: NDArray[np.int32],
    value_at: NDArray[np.int64],
    value_bytes: NDArray[np.int32],
    fields: Fields,
    line_fields: Fields,
    scratch: NDArray[np.uint8],
    memory: NDArray[np.int64],
    line_memory: NDArray[np.int64],
    ok: NDArray[np.bool_],
    hashes: NDArray[np.uint64],
    integers: NDArray[np.int64],
    numbers: NDArray[np.float64],
    line_hashes: NDArray[np.uint64],
    line_event: NDArray[np.int32],
) -> int:
    """Read n records; returns the number of lines written.

    ok: bool [n], all False, becomes True where the kernel has read an event. hashes uint64 [n, h],
    integers int64 [n, i], numbers float64 [n, d]: zeros, filled as `fields` says. line_hashes
    uint64 [m, l] and line_event int32 [m]: what the events' lists hold, and whose it is; lists that
    do not fit are left to msgspec. `scratch` is as long as the longest value that is read.
    `memory`, of the records' members, and `line_memory`, of those of their lines, are int64
    [3, REMEMBERED], zeros: address and length of the key that each had last, up to its value; and
    the field that it is.
    """
    base = address(data)
    free = address(scratch)
    words = address(fields.words)
    names = address(fields.names)
    total = 0
    for i in range(len(key_at)):
        if key_bytes[i] <= 0 or value_bytes[i] < 0 or value_bytes[i] > len(scratch):
            continue
        at = base + value_at[i]
        end = at + value_bytes[i]
        at = after_space(at, end)
        if at >= end or load8(at) != _OPEN:
            continue
        at = after_space(at + 1, end)
        seen, member, count = 0, 0, 0
        closed = False
        while at < end:
            size = memory[1, member]
            if size > 0 and at + size < end and same(at, memory[0, member], size):
                at += size
                field = memory[2, member]
            else:
                start = at
                at, length = key(at, end)
                if at < 0 or at >= end:
                    break
                field = _which(words, len(fields.words), start + 1, length)
                memory[0, member], memory[1, member], memory[2, member] = start, at - start, field
            member = min(member + 1, REMEMBERED - 1)
            if field < 0:
                at = skip_value(at, end, free)
            elif fields.kinds[field] == _LINES:
                at, count = _read_lines(
                    at, end, free, fields.high[field], line_fields, line_memory, line_hashes, total
                )
                integers[i, fields.slots[field]] = count
                seen |= fields.bits[field]
            else:
                kind = fields.kinds[field]
                at, hashed, whole, number = _value(
                    at, end, free, kind, fields.nullable[field], fields.low[field],
                    fields.high[field], names + 16 * fields.names_from[field],
                    fields.names_known[field], base + key_at[i], key_bytes[i],
                )  # fmt: skip
                slot = fields.slots[field]
                if slot < 0:
                    pass
                elif kind == _DECIMAL:
                    numbers[i, slot] = number
                elif kind == _INTEGER or kind == _NAME:
                    integers[i, slot] = whole
                else:
                    hashes[i, slot] = hashed
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
                line_event[line] = i
            total += count
            ok[i] = True
    return total
