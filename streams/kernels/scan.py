"""Reads JSON tokens from bytes, for the event kernels.

Every function takes the address of a token's first byte and the end of its text, and returns the
address after it, or FAILED. It may refuse what JSON allows (an exponent, 19 digits, deep nesting):
msgspec then reads the record, and decides. It must never accept what JSON forbids, nor read a value
differently from msgspec. (RFC 8259; UTF-8 as in Unicode 15, table 3-7.)
"""

from __future__ import annotations

from typing import Final

import numpy as np

from streams.kernels.jit import kernel
from streams.kernels.memory import load8, load64, store8, trailing_zeros, within_page, word

__all__ = [
    "ESCAPED",
    "FAILED",
    "after_space",
    "decimal",
    "integer",
    "key",
    "plain_text",
    "skip_value",
    "text",
]

FAILED: Final = -1
ESCAPED: Final = -2

_QUOTE: Final = 0x22
_BACKSLASH: Final = 0x5C
_MINUS: Final = 0x2D
_POINT: Final = 0x2E
_ZERO: Final = 0x30
_NINE: Final = 0x39
_EXACT_DIGITS: Final = 15  # always fit a double's 53 bits
_INT_DIGITS: Final = 18  # always fit an int64
_POWERS: Final = 10.0 ** np.arange(_EXACT_DIGITS + 1)  # all of them exact
_MAX_DEPTH: Final = 60
_ONES: Final = np.uint64(0x0101010101010101)
_TOPS: Final = np.uint64(0x8080808080808080)
_QUOTES: Final = np.uint64(0x2222222222222222)
_BACKSLASHES: Final = np.uint64(0x5C5C5C5C5C5C5C5C)
_SPACES: Final = np.uint64(0x2020202020202020)


@kernel
def after_space(at: int, end: int) -> int:
    while at < end:
        c = load8(at)
        if c != 0x20 and c != 0x0A and c != 0x0D and c != 0x09:
            break
        at += 1
    return at


@kernel
def _after_utf8(at: int, end: int) -> int:
    """Past one character of two to four bytes, if it is well formed."""
    first = load8(at)
    low, high = 0x80, 0xBF  # the range of the second byte
    if 0xC2 <= first <= 0xDF:
        size = 2
    elif 0xE0 <= first <= 0xEF:
        size = 3
        if first == 0xE0:
            low = 0xA0
        elif first == 0xED:
            high = 0x9F
    elif 0xF0 <= first <= 0xF4:
        size = 4
        if first == 0xF0:
            low = 0x90
        elif first == 0xF4:
            high = 0x8F
    else:
        return FAILED
    if at + size > end or load8(at + 1) < low or load8(at + 1) > high:
        return FAILED
    for i in range(2, size):
        if load8(at + i) & 0xC0 != 0x80:
            return FAILED
    return at + size


@kernel
def plain_text(at: int, end: int) -> tuple[int, int, int]:
    """A string without escapes: (address after it, its bytes, its characters).

    The text begins at at + 1. The address is ESCAPED if there is a backslash in it.
    """
    if at >= end or load8(at) != _QUOTE:
        return FAILED, 0, 0
    at += 1
    start, beyond = at, 0  # bytes beyond the first of each character
    while at < end:
        if within_page(at):
            odd = _odd_bytes(load64(at))
            if odd == 0:
                at += 8
                continue
            at += trailing_zeros(odd) >> 3
            if at >= end:
                break
        c = load8(at)
        if c == _QUOTE:
            return at + 1, at - start, at - start - beyond
        if c >= 0x80:
            after = _after_utf8(at, end)
            if after < 0:
                return FAILED, 0, 0
            beyond += after - at - 1
            at = after
        elif c == _BACKSLASH:
            return ESCAPED, 0, 0
        elif c < 0x20:
            return FAILED, 0, 0
        else:
            at += 1
    return FAILED, 0, 0


@kernel
def _odd_bytes(eight: np.uint64) -> np.uint64:
    """The top bit of each byte that needs a closer look: a quote, a backslash, a control character
    or a byte beyond ASCII. The lowest bit is exact; above it there may be false ones.
    (Mycroft's test for a zero byte; Warren, "Hacker's Delight", 2nd ed., section 6-1.)
    """
    quotes = eight ^ _QUOTES
    slashes = eight ^ _BACKSLASHES
    low = (eight - _SPACES) & ~eight
    return np.uint64(
        (low | ((quotes - _ONES) & ~quotes) | ((slashes - _ONES) & ~slashes) | eight) & _TOPS
    )


@kernel
def _hex4(at: int, end: int) -> int:
    """Four hexadecimal digits as a number."""
    if at + 4 > end:
        return FAILED
    found = 0
    for i in range(4):
        c = load8(at + i)
        if _ZERO <= c <= _NINE:
            digit = int(c) - _ZERO
        elif 0x41 <= c <= 0x46:
            digit = int(c) - 0x41 + 10
        elif 0x61 <= c <= 0x66:
            digit = int(c) - 0x61 + 10
        else:
            return FAILED
        found = found * 16 + digit
    return found


@kernel
def _put_utf8(out: int, n: int, point: int) -> int:
    """Append one code point; returns the new length."""
    if point < 0x80:
        store8(out + n, point)
        return n + 1
    if point < 0x800:
        store8(out + n, 0xC0 | (point >> 6))
        store8(out + n + 1, 0x80 | (point & 0x3F))
        return n + 2
    if point < 0x10000:
        store8(out + n, 0xE0 | (point >> 12))
        store8(out + n + 1, 0x80 | ((point >> 6) & 0x3F))
        store8(out + n + 2, 0x80 | (point & 0x3F))
        return n + 3
    store8(out + n, 0xF0 | (point >> 18))
    store8(out + n + 1, 0x80 | ((point >> 12) & 0x3F))
    store8(out + n + 2, 0x80 | ((point >> 6) & 0x3F))
    store8(out + n + 3, 0x80 | (point & 0x3F))
    return n + 4


@kernel
def _escape(at: int, end: int) -> tuple[int, int]:
    """What follows a backslash: (address after it, code point). Lone surrogates fail."""
    if at >= end:
        return FAILED, 0
    c = load8(at)
    if c == _QUOTE or c == _BACKSLASH or c == 0x2F:
        return at + 1, int(c)
    if c == 0x62:
        return at + 1, 0x08
    if c == 0x66:
        return at + 1, 0x0C
    if c == 0x6E:
        return at + 1, 0x0A
    if c == 0x72:
        return at + 1, 0x0D
    if c == 0x74:
        return at + 1, 0x09
    if c != 0x75:
        return FAILED, 0
    point = _hex4(at + 1, end)
    at += 5
    if point < 0 or 0xDC00 <= point <= 0xDFFF:
        return FAILED, 0
    if 0xD800 <= point <= 0xDBFF:
        if at + 6 > end or load8(at) != _BACKSLASH or load8(at + 1) != 0x75:
            return FAILED, 0
        low = _hex4(at + 2, end)
        if low < 0xDC00 or low > 0xDFFF:
            return FAILED, 0
        point = 0x10000 + ((point - 0xD800) << 10) + (low - 0xDC00)
        at += 6
    return at, point


@kernel
def text(at: int, end: int, out: int) -> tuple[int, int, int]:
    """A string with escapes, written to `out`: (address after it, its bytes, its characters).

    `out` is the address of end - at free bytes: no escape is shorter than its character.
    """
    if at >= end or load8(at) != _QUOTE:
        return FAILED, 0, 0
    at += 1
    n, characters = 0, 0
    while at < end:
        c = load8(at)
        if c == _QUOTE:
            return at + 1, n, characters
        if c == _BACKSLASH:
            at, point = _escape(at + 1, end)
            if at < 0:
                return FAILED, 0, 0
            n = _put_utf8(out, n, point)
        elif c >= 0x80:
            after = _after_utf8(at, end)
            if after < 0:
                return FAILED, 0, 0
            while at < after:
                store8(out + n, load8(at))
                n += 1
                at += 1
        elif c < 0x20:
            return FAILED, 0, 0
        else:
            store8(out + n, c)
            n += 1
            at += 1
        characters += 1
    return FAILED, 0, 0


@kernel
def key(at: int, end: int) -> tuple[int, int]:
    """An object's key and its colon: (address of the value, length of the key).

    The key begins at at + 1.
    """
    after, length, _ = plain_text(at, end)
    if after < 0:
        return FAILED, 0
    after = after_space(after, end)
    if after >= end or load8(after) != 0x3A:
        return FAILED, 0
    return after_space(after + 1, end), length


@kernel
def _digits(at: int, end: int) -> tuple[int, int]:
    """A run of digits: (address after it, its value). More than 18 wrap around: count them."""
    value = 0
    while at < end and _ZERO <= load8(at) <= _NINE:
        value = value * 10 + (int(load8(at)) - _ZERO)
        at += 1
    return at, value


@kernel
def _ends_number(at: int, end: int) -> bool:
    return at >= end or (load8(at) != _POINT and load8(at) | 0x20 != 0x65)


@kernel
def integer(at: int, end: int) -> tuple[int, int]:
    """An integer of at most 18 digits: (address after it, value)."""
    negative = at < end and load8(at) == _MINUS
    start = at + 1 if negative else at
    at, value = _digits(start, end)
    size = at - start
    if size == 0 or size > _INT_DIGITS or (size > 1 and load8(start) == _ZERO):
        return FAILED, 0
    if not _ends_number(at, end):
        return FAILED, 0
    return at, -value if negative else value


@kernel
def decimal(at: int, end: int) -> tuple[int, float]:
    """A number of at most 15 digits without exponent: (address after it, value).

    Both the digits and the power of ten are exact doubles, so their quotient is the double nearest
    to the number (Clinger, "How to read floating point numbers accurately", 1990).
    """
    negative = at < end and load8(at) == _MINUS
    start = at + 1 if negative else at
    at, whole = _digits(start, end)
    size = at - start
    if size == 0 or size > _EXACT_DIGITS or (size > 1 and load8(start) == _ZERO):
        return FAILED, 0.0
    places = 0
    value = np.float64(whole)
    if at < end and load8(at) == _POINT:
        first = at + 1
        at, part = _digits(first, end)
        places = at - first
        if places == 0 or size + places > _EXACT_DIGITS:
            return FAILED, 0.0
        value = (value * _POWERS[places] + part) / _POWERS[places]
    if not _ends_number(at, end):
        return FAILED, 0.0
    return at, -value if negative else value


@kernel
def _after_number(at: int, end: int) -> int:
    """Past any JSON number."""
    if at < end and load8(at) == _MINUS:
        at += 1
    start = at
    at, _ = _digits(at, end)
    if at == start or (at - start > 1 and load8(start) == _ZERO):
        return FAILED
    if at < end and load8(at) == _POINT:
        start = at + 1
        at, _ = _digits(start, end)
        if at == start:
            return FAILED
    if at < end and load8(at) | 0x20 == 0x65:
        at += 1
        if at < end and (load8(at) == 0x2B or load8(at) == _MINUS):
            at += 1
        start = at
        at, _ = _digits(start, end)
        if at == start:
            return FAILED
    return at


@kernel
def _after_literal(at: int, end: int) -> int:
    """Past true, false or null."""
    size = 5 if load8(at) == 0x66 else 4
    if at + size > end:
        return FAILED
    found = word(at, size)
    if found == 0x65757274 or found == 0x65736C6166 or found == 0x6C6C756E:
        return at + size
    return FAILED


@kernel
def skip_value(at: int, end: int, scratch: int) -> int:
    """Past any JSON value of at most 60 levels. `scratch` is the address of end - at free bytes."""
    inside = np.uint64(0)  # one bit per open level: 1 is an object
    depth = 0
    while True:
        # a value begins here
        if at >= end:
            return FAILED
        c = load8(at)
        if c == _QUOTE:
            after, _, _ = plain_text(at, end)
            if after == ESCAPED:
                after, _, _ = text(at, end, scratch)
            at = after
        elif c == 0x7B or c == 0x5B:
            is_object = c == 0x7B
            at = after_space(at + 1, end)
            if at >= end or depth >= _MAX_DEPTH:
                return FAILED
            if load8(at) == (0x7D if is_object else 0x5D):
                at += 1
            else:
                depth += 1
                inside = (inside << np.uint64(1)) | np.uint64(is_object)
                if is_object:
                    at, _ = key(at, end)
                    if at < 0:
                        return FAILED
                continue
        elif c == _MINUS or _ZERO <= c <= _NINE:
            at = _after_number(at, end)
        else:
            at = _after_literal(at, end)
        if at < 0:
            return FAILED
        # a value has ended: close what closes, and go on to the next one
        while True:
            if depth == 0:
                return at
            at = after_space(at, end)
            if at >= end:
                return FAILED
            is_object = inside & np.uint64(1) == np.uint64(1)
            if load8(at) == 0x2C:
                at = after_space(at + 1, end)
                if is_object:
                    at, _ = key(at, end)
                    if at < 0:
                        return FAILED
                break
            if load8(at) != (0x7D if is_object else 0x5D):
                return FAILED
            at += 1
            depth -= 1
            inside >>= np.uint64(1)
