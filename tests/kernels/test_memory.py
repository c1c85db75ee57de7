"""Loads and comparisons by address."""

from __future__ import annotations

import numpy as np

from streams.kernels.memory import address, load8, load64, same, store8, trailing_zeros, word


def test_functions_as_plain_python_do_what_the_machine_instructions_do() -> None:
    data = np.arange(1, 20, dtype=np.uint8)
    at = data.ctypes.data
    assert address(data) == at
    assert (load8(at + 3), int(load64(at))) == (4, 0x0807060504030201)
    assert [trailing_zeros(np.uint64(1 << i)) for i in (0, 7, 63)] == [0, 7, 63]
    store8(at + 3, 0xFF)
    assert data[:6].tolist() == [1, 2, 3, 255, 5, 6]


def test_word_has_no_bytes_beyond_its_length_wherever_it_lies() -> None:
    """Also next to the end of a page, where eight bytes may not be loaded at once."""
    data = np.arange(3 * 4096, dtype=np.uint64).astype(np.uint8)
    page = -data.ctypes.data % 4096 + 4096  # the offset of a page's first byte
    for offset in range(page - 16, page + 16):
        for length in range(-1, 10):
            piece = data[offset : offset + max(min(length, 8), 0)].tobytes()
            found = word(data.ctypes.data + offset, length)
            assert int(found) == int.from_bytes(piece, "little"), (offset - page, length)


def test_same_compares_every_byte_and_none_beyond() -> None:
    one = np.arange(40, dtype=np.uint8)
    for length in range(30):
        for changed in range(40):
            other = one.copy()
            other[changed] ^= 0x80
            equal = bool(same(one.ctypes.data, other.ctypes.data, length))
            assert equal == (changed >= length), (length, changed)
