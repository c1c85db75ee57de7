"""The server's side of ClickHouse's native TCP protocol: find block boundaries, write packets.

The protocol frames packets, but not blocks: a block ends where its last column ends. `skip_block`
walks the columns without decoding them, so that a block's bytes can go to ClickHouse unread.

`REVISION` is what we announce; clickhouse-driver gates every field on it (its `defines.py`). It is
the newest one before the interserver secret (54441). So settings travel as strings, whatever their
names, and a block on the wire is a fixed block info followed by exactly `FORMAT Native`.
"""

from __future__ import annotations

import functools
import re
import select
import socket
from collections.abc import Callable
from typing import Any

from clickhouse_driver.bufferedreader import BufferedSocketReader
from clickhouse_driver.protocol import ServerPacketTypes
from clickhouse_driver.reader import (
    read_binary_int32,
    read_binary_str,
    read_binary_uint8,
    read_binary_uint64,
)
from clickhouse_driver.varint import make_varint, read_varint

__all__ = [
    "BLOCK_INFO",
    "REVISION",
    "UnsupportedType",
    "WireReader",
    "column_skipper",
    "data_packet",
    "exception_packet",
    "header_block",
    "header_of",
    "hello_packet",
    "read_hello",
    "read_query",
    "skip_block",
    "skip_block_info",
]

REVISION = 54440
BLOCK_INFO = bytes((1, 0, 2, 255, 255, 255, 255, 0))  # no overflow row, bucket -1

Skipper = Callable[["WireReader", int], None]


class UnsupportedType(Exception):
    """A column type whose length on the wire we can't find; its name is the message."""


class WireReader(BufferedSocketReader):  # type: ignore[misc]  # untyped base
    """clickhouse-driver's buffered reader, over a socket or bytes, that can record what it reads.

    Raises EOFError when the peer is gone.
    """

    def __init__(self, source: socket.socket | bytes) -> None:
        self._socket: socket.socket | None = None
        if isinstance(source, bytes):
            super().__init__(None, 0)
            self.buffer, self.current_buffer_size = bytearray(source), len(source)
        else:
            super().__init__(source, 1 << 20)
            self._socket = source
        self._parts: list[bytes] | None = None
        self._start = 0

    @property
    def at_end(self) -> bool:
        """Whether everything received so far has been read."""
        return bool(self.position >= self.current_buffer_size)

    def more_has_come(self) -> bool:
        """Whether a read would not wait: there is more, or the peer is gone.

        Unlike select(), poll() knows descriptors over 1,023, which there are in chDB's process: it
        keeps a file open for each table that drops repeated inserts.
        """
        if not self.at_end or self._socket is None:
            return True
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return bool(poll.poll(0))

    def read_into_buffer(self) -> None:
        """Refill. The callers set `position` themselves: one may be in the middle of a string."""
        if self._parts is not None:
            self._parts.append(bytes(self.buffer[self._start : self.current_buffer_size]))
            self._start = 0
        super().read_into_buffer()

    def record(self) -> None:
        """Keep a copy of all bytes read from here on."""
        self._parts, self._start = [], self.position

    def recorded(self) -> bytes:
        """The bytes read since `record`, which ends here."""
        parts = self._parts or []
        parts.append(bytes(self.buffer[self._start : self.position]))
        self._parts = None
        return b"".join(parts)

    def skip(self, length: int) -> None:
        """Pass over `length` bytes."""
        while length:
            if self.at_end:
                self.read_into_buffer()
                self.position = 0
            step = min(length, self.current_buffer_size - self.position)
            self.position += step
            length -= step


def skip_block_info(reader: WireReader) -> None:
    """Pass over the numbered fields that precede a block."""
    while field := read_varint(reader):
        if field == 1:
            read_binary_uint8(reader)
        elif field == 2:
            read_binary_int32(reader)
        else:
            raise ValueError(f"block info has no field {field}")


def skip_block(reader: WireReader) -> tuple[int, int]:
    """Pass over one block in `FORMAT Native`; returns its numbers of columns and rows."""
    columns, rows = read_varint(reader), read_varint(reader)
    for _ in range(columns):
        read_binary_str(reader)
        type_name = read_binary_str(reader)
        if rows:
            skip, prefix_bytes = column_skipper(type_name)
            reader.skip(prefix_bytes)
            skip(reader, rows)
    return columns, rows


_WIDTH_BYTES = {
    "Bool": 1, "Enum8": 1, "Int8": 1, "Nothing": 1, "UInt8": 1,
    "BFloat16": 2, "Date": 2, "Enum16": 2, "Int16": 2, "UInt16": 2,
    "Date32": 4, "DateTime": 4, "Decimal32": 4, "Float32": 4, "IPv4": 4, "Int32": 4, "UInt32": 4,
    "DateTime64": 8, "Decimal64": 8, "Float64": 8, "Int64": 8, "UInt64": 8,
    "Decimal128": 16, "IPv6": 16, "Int128": 16, "UInt128": 16, "UUID": 16,
    "Decimal256": 32, "Int256": 32, "UInt256": 32,
}  # fmt: skip


@functools.cache
def column_skipper(type_name: str) -> tuple[Skipper, int]:  # noqa: PLR0911  (one per kind)
    """How to pass over a column: a function of (reader, rows), and its prefix in bytes.

    The prefix (versions of LowCardinality dictionaries) comes once, before the whole column.
    Raises UnsupportedType.
    """
    name, _, rest = type_name.partition("(")
    arguments = _split(rest[:-1]) if rest else []
    if name in _WIDTH_BYTES:
        return _fixed(_WIDTH_BYTES[name])
    if name == "FixedString":
        return _fixed(int(arguments[0]))
    if name == "Decimal":
        digits = int(arguments[0])
        return _fixed(next(width for width, most in _DECIMALS if digits <= most))
    if name == "String":
        return (lambda reader, rows: reader.read_strings_arrow(rows) and None), 0
    if name == "SimpleAggregateFunction":
        return column_skipper(arguments[-1])
    if name == "Tuple":
        return _tuple([re.sub(r"^(`.*?`|\w+) (?=\w)", "", item) for item in arguments])
    if name == "Nullable":
        return _nullable(arguments[0])
    if name == "Array":
        return _array(column_skipper(arguments[0]))
    if name == "Map":
        return _array(_tuple(arguments))
    if name == "LowCardinality":
        return _low_cardinality(arguments[0])
    raise UnsupportedType(type_name)


_DECIMALS = ((4, 9), (8, 18), (16, 38), (32, 76))  # bytes, digits


def _fixed(width_bytes: int) -> tuple[Skipper, int]:
    return (lambda reader, rows: reader.skip(width_bytes * rows)), 0


def _tuple(type_names: list[str]) -> tuple[Skipper, int]:
    items = [column_skipper(name) for name in type_names]

    def skip(reader: WireReader, rows: int) -> None:
        for skip_item, _ in items:
            skip_item(reader, rows)

    return skip, sum(prefix for _, prefix in items)


def _nullable(type_name: str) -> tuple[Skipper, int]:
    skip_value, prefix_bytes = column_skipper(type_name)

    def skip(reader: WireReader, rows: int) -> None:
        reader.skip(rows)  # one byte each: is it null?
        skip_value(reader, rows)

    return skip, prefix_bytes


def _array(item: tuple[Skipper, int]) -> tuple[Skipper, int]:
    skip_item, prefix_bytes = item

    def skip(reader: WireReader, rows: int) -> None:
        if not rows:
            return
        reader.skip(8 * (rows - 1))  # end offsets; the last one is the number of items
        skip_item(reader, read_binary_uint64(reader))

    return skip, prefix_bytes


def _low_cardinality(type_name: str) -> tuple[Skipper, int]:
    inner = re.sub(r"^Nullable\((.*)\)$", r"\1", type_name)  # null is a dictionary entry
    skip_value, _ = column_skipper(inner)

    def skip(reader: WireReader, rows: int) -> None:
        if not rows:
            return
        key_bytes = 1 << (read_binary_uint64(reader) & 0xF)
        skip_value(reader, read_binary_uint64(reader))  # the dictionary
        reader.skip(key_bytes * read_binary_uint64(reader))

    return skip, 8


def _split(arguments: str) -> list[str]:
    """Split at top-level commas; quoted text (Enum names) and inner brackets stay whole."""
    parts, depth, quote, start, position = [], 0, "", 0, 0
    while position < len(arguments):
        char = arguments[position]
        if quote:
            if char == "\\":
                position += 1
            elif char == quote:
                quote = ""
        elif char in "'`":
            quote = char
        elif char in "()":
            depth += 1 if char == "(" else -1
        elif char == "," and depth == 0:
            parts.append(arguments[start:position].strip())
            start = position + 1
        position += 1
    return [*parts, arguments[start:].strip()]


def read_hello(reader: WireReader) -> str:
    """Read the client's greeting after its packet type; returns the database it asks for.

    Raises ValueError for a client too old to speak our revision.
    """
    read_binary_str(reader)  # client name
    _, _, revision = (read_varint(reader) for _ in range(3))  # version, minor, revision
    if revision < REVISION:
        raise ValueError(f"the client's protocol revision {revision} is below {REVISION}")
    database: str = read_binary_str(reader)
    read_binary_str(reader)  # user
    read_binary_str(reader)  # password: loopback only, anyone may come in
    return database


def read_query(reader: WireReader) -> tuple[str, list[tuple[str, str, bool]], bool]:
    """Read a query after its packet type.

    Returns its text, its settings as (name, value, important), and whether the client wants
    compressed blocks.
    """
    read_binary_str(reader)  # query id
    if read_binary_uint8(reader):  # a query kind follows: client info
        for _ in range(3):  # initial user, query id, address
            read_binary_str(reader)
        if read_binary_uint8(reader) != 1:
            raise ValueError("only native TCP clients are served")
        for _ in range(3):  # OS user, host, client name
            read_binary_str(reader)
        for _ in range(3):  # version, minor, revision
            read_varint(reader)
        read_binary_str(reader)  # quota key
        read_varint(reader)  # version patch
    settings = []
    while name := read_binary_str(reader):
        important = bool(read_binary_uint8(reader) & 1)
        settings.append((name, read_binary_str(reader), important))
    read_varint(reader)  # stage: the client always wants complete results
    compressed = bool(read_varint(reader))
    return read_binary_str(reader), settings, compressed


def hello_packet(version: str, timezone: str) -> bytes:
    """Greet the client as ClickHouse `version` (`major.minor.patch...`)."""
    major, minor, patch = (int(part) for part in version.split(".")[:3])
    return b"".join(
        (
            _varint(ServerPacketTypes.HELLO),
            _string("ClickHouse"),
            _varint(major),
            _varint(minor),
            _varint(REVISION),
            _string(timezone),
            _string("chDB"),
            _varint(patch),
        )
    )


def data_packet(block: bytes) -> bytes:
    """A packet with one block in `FORMAT Native`."""
    return b"".join((_varint(ServerPacketTypes.DATA), _string(""), BLOCK_INFO, block))


def header_block(columns: list[tuple[str, str]]) -> bytes:
    """A block without rows: its columns' names and types."""
    names = b"".join(_string(name) + _string(kind) for name, kind in columns)
    return _varint(len(columns)) + _varint(0) + names


def header_of(block: bytes) -> bytes:
    """The header block that a server sends before this one. Raises UnsupportedType."""
    reader = WireReader(block)
    columns, rows = read_varint(reader), read_varint(reader)
    found = []
    for _ in range(columns):
        found.append((read_binary_str(reader), read_binary_str(reader)))
        if rows:
            skip, prefix_bytes = column_skipper(found[-1][1])
            reader.skip(prefix_bytes)
            skip(reader, rows)
    return header_block(found)


def exception_packet(code: int, message: str) -> bytes:
    """A packet that clickhouse-driver raises as `ServerException(message, code)`."""
    body = _string("DB::Exception") + _string(f"DB::Exception: {message}") + _string("") + b"\0"
    code_bytes = code.to_bytes(4, "little", signed=True)
    return _varint(ServerPacketTypes.EXCEPTION) + code_bytes + body


def _varint(number: int) -> bytes:
    encoded: Any = make_varint(number)
    return bytes(encoded)


def _string(text: str) -> bytes:
    encoded = text.encode()
    return _varint(len(encoded)) + encoded
