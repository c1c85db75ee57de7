"""Reads a few texts out of events that are known to be well formed, without an object each.

The kernel of `streams.kernels.events` keeps hashes: to keep the texts of every event would cost
all shops what only those pay who want events to look at (`streams.core.event_rows`). This one goes
over their JSON once more.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streams.kernels.events import which
from streams.kernels.jit import kernel
from streams.kernels.memory import address, load8, store8
from streams.kernels.scan import ESCAPED, after_space, key, plain_text, skip_value, text
from streams.kernels.strings import Pieces

__all__ = ["Wanted", "read_members"]

_OPEN: Final = 0x7B
_CLOSE: Final = 0x7D
_COMMA: Final = 0x2C
_QUOTE: Final = 0x22
_TRUE: Final = 0x74  # only `true` begins with a t


class Wanted(NamedTuple):
    """Room for what is read of n events, and what it is.

    words: uint64 [f + 1, 2], the names of f members that are texts, and of one that is true or
    false, each as two little-endian numbers. packed: uint8 [f, room], the texts of each member,
    one after the other; room is the bytes of all values, and 8. used: int64 [f], of them. sizes:
    int32 [f, n], bytes of each; 0 where there is none. flags: bool [n]. ok: bool [n]: an event that
    can't be read here is False, and has no texts.
    """

    words: NDArray[np.uint64]
    packed: NDArray[np.uint8]
    used: NDArray[np.int64]
    sizes: NDArray[np.int32]
    flags: NDArray[np.bool_]
    ok: NDArray[np.bool_]


@kernel
def _copied(at: int, end: int, out: int) -> tuple[int, int]:
    """A text, written to `out`: (address after it, its bytes). No address: it is no text."""
    after, length, _ = plain_text(at, end)
    if after == ESCAPED:
        after, length, _ = text(at, end, out)
        return after, length
    if after >= 0:
        for i in range(length):
            store8(out + i, load8(at + 1 + i))
    return after, length


@kernel
def read_members(values: Pieces, scratch: NDArray[np.uint8], wanted: Wanted) -> None:
    """Read n values, each a JSON object in which a name that comes twice counts the last time.

    scratch: uint8, as long as the longest value. `wanted.used`, `sizes` and `flags` must be zeros.
    """
    base, free = address(values.data), address(scratch)
    words, packed = address(wanted.words), address(wanted.packed)
    texts, room = wanted.packed.shape
    for i in range(len(values.at)):
        at = base + values.at[i]
        end = at + values.size[i]
        at = after_space(at, end)
        if at >= end or load8(at) != _OPEN:
            continue
        at = after_space(at + 1, end)
        while at < end and load8(at) != _CLOSE:
            start = at
            at, length = key(at, end)
            if at < 0 or at >= end:
                break
            member = which(words, texts + 1, start + 1, length)
            if 0 <= member < texts and load8(at) == _QUOTE:
                out = packed + member * room + wanted.used[member]
                at, wanted.sizes[member, i] = _copied(at, end, out)
            else:
                if member == texts:
                    wanted.flags[i] = load8(at) == _TRUE
                elif member >= 0:
                    wanted.sizes[member, i] = 0
                at = skip_value(at, end, free)
            if at < 0:
                break
            at = after_space(at, end)
            if at < end and load8(at) == _COMMA:
                at = after_space(at + 1, end)
        wanted.ok[i] = at >= 0 and at < end and load8(at) == _CLOSE
        for member in range(texts):
            if not wanted.ok[i]:
                wanted.sizes[member, i] = 0
            wanted.used[member] += wanted.sizes[member, i]
