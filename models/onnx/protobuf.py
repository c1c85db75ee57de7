"""The wire format of protocol buffers, as far as reading an ONNX file takes it.

The `onnx` package is for training only and not in the worker's image.
(https://protobuf.dev/programming-guides/encoding/)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

__all__ = ["fields", "messages", "one", "varint"]


def fields(body: bytes) -> Iterator[tuple[int, int, Any]]:
    """(number, wire type, value) of a message; the value of type 2 is bytes, else an integer."""
    at = 0
    while at < len(body):
        key, at = varint(body, at)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, at = varint(body, at)
            yield number, kind, value
            continue
        if kind == 2:
            length, at = varint(body, at)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise ValueError(f"wire type {kind}")
        if at + length > len(body):
            raise ValueError("cut off")
        yield number, kind, body[at : at + length]
        at += length


def varint(body: bytes, at: int) -> tuple[int, int]:
    """The number at a position, and the position after it."""
    value = shift = 0
    while True:
        byte = body[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def messages(body: bytes, wanted: int) -> Iterator[bytes]:
    """All fields of one number that are bytes: messages, texts, packed lists."""
    return (value for number, kind, value in fields(body) if number == wanted and kind == 2)


def one(body: bytes, wanted: int) -> bytes:
    """The first of them, empty if there is none."""
    return next(messages(body, wanted), b"")
