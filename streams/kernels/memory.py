"""Bytes by address: the few machine instructions that numpy and Numba have no name for.

The kernels that read tokens move through a buffer by address: an address is passed in a register,
an array takes seven numbers. Nothing is checked here: the caller must know that the bytes exist.

Each function is plain Python, for uncompiled runs; Numba replaces it by one LLVM instruction.
"""
# Numba wants an overload to be written with the same annotations as its body: none.
# mypy: disable-error-code="no-untyped-call, no-untyped-def, untyped-decorator, misc"

from __future__ import annotations

import ctypes
from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, overload
from numpy.typing import NDArray

from streams.kernels.jit import kernel

__all__ = [
    "address",
    "load8",
    "load64",
    "prefetch",
    "same",
    "store8",
    "trailing_zeros",
    "within_page",
    "word",
]

_ALL: Final = np.uint64(0xFFFFFFFFFFFFFFFF)


def load8(at: int) -> int:
    """The byte at an address."""
    return ctypes.string_at(int(at), 1)[0]


def load64(at: int) -> np.uint64:
    """The 8 bytes from an address on, as a little-endian number."""
    return np.uint64(int.from_bytes(ctypes.string_at(int(at), 8), "little"))


def store8(at: int, value: int) -> None:
    """Write one byte to an address."""
    ctypes.memset(int(at), int(value), 1)


def prefetch(at: int | np.signedinteger[Any]) -> None:
    """Start to load the memory at an address into the cache; an invalid address does no harm."""


def trailing_zeros(word: np.uint64) -> int:
    """The number of 0 bits below the lowest 1 bit; `word` is not 0."""
    bits = int(word)
    return (bits & -bits).bit_length() - 1


def _load(bits: int, result: Any) -> Any:
    @intrinsic
    def load(_context: Any, at: Any) -> Any:
        def build(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
            pointer = builder.inttoptr(args[0], ir.IntType(bits).as_pointer())
            loaded = builder.load(pointer)
            loaded.align = 1
            return builder.zext(loaded, ir.IntType(64)) if bits < 64 else loaded

        return result(at), build

    return load


_load8, _load64 = _load(8, types.int64), _load(64, types.uint64)


@intrinsic
def _store8(_context: Any, at: Any, value: Any) -> Any:
    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = builder.inttoptr(args[0], ir.IntType(8).as_pointer())
        byte = context.cast(builder, args[1], signature.args[1], types.uint8)
        builder.store(byte, pointer, align=1)
        return context.get_dummy_value()

    return types.none(at, value), build


@intrinsic
def _prefetch(_context: Any, at: Any) -> Any:
    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        at = context.cast(builder, args[0], signature.args[0], types.int64)
        pointer, int32 = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [pointer, int32, int32, int32])
        fetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        # for reading, to stay in every cache, data and not code
        flags = [int32(0), int32(3), int32(1)]
        builder.call(fetch, [builder.inttoptr(at, pointer), *flags])
        return context.get_dummy_value()

    return types.none(at), build


@intrinsic
def _cttz(_context: Any, word: Any) -> Any:
    def build(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], cgutils.true_bit)

    return types.int64(word), build


@overload(load8, inline="always")
def _compile_load8(at):
    return lambda at: _load8(at)  # noqa: PLW0108


@overload(load64, inline="always")
def _compile_load64(at):
    return lambda at: _load64(at)  # noqa: PLW0108


@overload(store8, inline="always")
def _compile_store8(at, value):
    return lambda at, value: _store8(at, value)  # noqa: PLW0108


@overload(prefetch, inline="always")
def _compile_prefetch(at):
    return lambda at: _prefetch(at)  # noqa: PLW0108


@overload(trailing_zeros, inline="always")
def _compile_trailing_zeros(word):
    return lambda word: _cttz(word)  # noqa: PLW0108


@kernel
def address(array: NDArray[Any]) -> int:
    """Where an array's first byte lies."""
    return np.int64(array.ctypes.data)  # type: ignore[return-value]


@kernel
def within_page(at: int) -> bool:
    """Whether 8 bytes from `at` lie in one page of memory: all can be read if the first can."""
    return at & 0xFFF <= 0xFF8


@kernel
def word(at: int, length: int) -> np.uint64:
    """The first 8 of `length` bytes as a little-endian number, so that short names are compared in
    one step; 0 if there are none."""
    if length >= 8:
        return load64(at)
    if length <= 0:
        return np.uint64(0)
    if within_page(at):
        return np.uint64(load64(at) & (_ALL >> np.uint64(64 - 8 * length)))
    found = np.uint64(0)
    for i in range(length):
        found |= np.uint64(load8(at + i)) << np.uint64(8 * i)
    return found


@kernel
def same(one: int, other: int, length: int) -> bool:
    """Whether `length` bytes at two addresses are equal."""
    while length > 8:
        if load64(one) != load64(other):
            return False
        one += 8
        other += 8
        length -= 8
    return bool(word(one, length) == word(other, length))
