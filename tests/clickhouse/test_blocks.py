"""Packed columns are what clickhouse-driver itself would write, value by value."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from clickhouse_driver.bufferedwriter import CompressedBufferedWriter
from clickhouse_driver.columns.service import write_column

from schemas.tables import Table
from streams.clickhouse.blocks import Block, encode_column
from streams.core.texts import Coded, Strings

TIME = "DateTime64(3, 'UTC')"
LOW = "LowCardinality(String)"


def by_the_driver(kind: str, values: list[Any]) -> bytes:
    settings = {"use_numpy": False, "strings_as_bytes": False}
    packed = io.BytesIO()
    writer = CompressedBufferedWriter(packed, 1 << 10)
    write_column(SimpleNamespace(client_settings=settings, settings={}), "x", kind, values, writer)
    writer.flush()
    return packed.getvalue()


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        *((f"UInt{bits}", [0, 1, 2**bits - 1]) for bits in (8, 16, 32, 64)),
        *((f"Int{bits}", [-(2 ** (bits - 1)), -1, 2 ** (bits - 1) - 1]) for bits in (8, 64)),
        ("Float32", [0.0, -1.5, float("nan"), float("inf")]),
        ("Float64", [0.1, -1e300]),
        (TIME, [0, -1, 1_700_000_000_123]),
        ("DateTime('UTC')", [0, 1_700_000_000]),
        ("String", ["", "a", "é" * 90, "x" * 20_000, "🛒"]),
        (LOW, ["b", "a", "b", "", "é"]),
        (LOW, [str(i % 300) for i in range(1000)]),
        ("Array(String)", [["a", "é"], [], ["", "x" * 200], []]),
        ("Array(Float32)", [[0.5, float("nan")], [], [float("inf")], []]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_column_is_packed_as_the_driver_packs_it(kind: str, values: list[Any]) -> None:
    given = [value * 1000 for value in values] if kind == "DateTime('UTC')" else values
    expected = by_the_driver(kind, list(values))
    assert encode_column(kind, [given]) == expected
    assert encode_column(kind, [given[:2], given[2:]]) == expected
    if not kind.startswith("Array"):
        dtype = object if "String" in kind else np.uint64 if kind == "UInt64" else None
        assert encode_column(kind, [np.array(given, dtype=dtype)]) == expected


def test_times_may_be_datetime64_of_any_unit() -> None:
    days = np.array(["1970-01-01", "2023-11-14"], dtype="datetime64[D]")
    nanoseconds = days.astype("datetime64[ns]")
    milliseconds = days.astype("datetime64[ms]").view(np.int64)
    assert len({encode_column(TIME, [v]) for v in (days, nanoseconds, milliseconds)}) == 1


@pytest.mark.parametrize("kind", ["String", LOW])
def test_strings_are_packed_as_a_list_of_them_is(kind: str) -> None:
    texts = ["", "a", "é" * 63, "x" * 127, "y" * 128, "z" * 20_000, "\0"]
    sizes = np.array([len(text.encode()) for text in texts], np.int32)
    data = np.frombuffer("".join(texts).encode(), np.uint8)
    strings = Strings(data, sizes)
    assert list(strings) == texts
    assert encode_column(kind, [strings]) == encode_column(kind, [texts])
    mixed = encode_column(kind, [["before"], strings, Strings(data[:0], sizes[:0]), ["é"]])
    assert mixed == encode_column(kind, [["before", *texts, "é"]])


def test_coded_columns_mix_with_plain_ones() -> None:
    coded = Coded(np.array([1, 0, 1], dtype=np.int8), ["low", "high"])
    plain = ["none", "high"]
    packed = encode_column(LOW, [coded, plain])
    # The dictionary is ordered by first appearance there: low, high, none.
    assert packed == b"".join(
        (
            np.array([1, 1 << 9 | 1 << 10, 3], "<i8").tobytes(),
            b"\x03low\x04high\x04none",
            np.array([5], "<i8").tobytes(),
            bytes((1, 0, 1, 2, 1)),
        )
    )
    assert encode_column("String", [coded]) == b"\x04high\x03low\x04high"


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("UInt16", [70_000]),
        ("UInt8", [-1]),
        ("UInt32", [1.5]),
        ("UInt16", np.array([70_000])),
        ("UInt32", np.array([1.5])),
        ("Float32", ["1"]),
        (TIME, np.array(["NaT"], dtype="datetime64[s]")),
        ("String", [None]),
        ("String", [7]),
        (LOW, [None]),
        (LOW, Coded(np.array([2]), ["a", "b"])),
        (LOW, Coded(np.array([-1]), ["a", "b"])),
        ("Array(String)", ["abc"]),
        ("Decimal(9, 2)", [1]),
    ],
    ids=str,
)
def test_a_value_of_another_type_is_an_error_that_names_the_column(kind: str, values: Any) -> None:
    with pytest.raises(ValueError, match=r"prices\.amount as"):
        Block(Table("prices", {"amount": kind}), [{"amount": values}]).packed("amount", kind)


def test_the_token_depends_on_content_alone() -> None:
    table = Table("t", {"a": "String", "b": "UInt8"})
    whole = Block(table, [{"a": ["x", "y"], "b": [1, 2]}])
    pieces = Block(table, [{"a": ["x"], "b": [1]}, {"b": np.array([2]), "a": ["y"]}])
    other = Block(table, [{"a": ["x", "y"], "b": [1, 3]}])
    elsewhere = Block(Table("u", table.columns), [{"a": ["x", "y"], "b": [1, 2]}])
    assert whole.token == pieces.token
    assert len({whole.token, other.token, elsewhere.token}) == 3


@pytest.mark.parametrize("names", [0, 1, 256, 257, 65_536, 65_537])
def test_a_dictionary_has_keys_of_the_size_that_its_names_need(names: int) -> None:
    values = [str(n) for n in range(names)]
    values += values[-1:]
    packed = encode_column(LOW, [values])
    if names not in (0, 256, 65_536):  # the driver's keys get wider one name earlier
        assert packed == by_the_driver(LOW, values)
    size = 1 if names <= 256 else 2 if names <= 65_536 else 4
    assert packed.endswith(np.arange(names)[-1:].astype(f"<u{size}").tobytes())
    text = sum(1 + len(value) for value in values[:names])
    assert len(packed) == 32 + text + size * len(values)


@pytest.mark.parametrize("bits", [8, 16, 32])
def test_numbers_of_a_wider_type_fit_up_to_the_limits(bits: int) -> None:
    for kind, low, high in (
        (f"UInt{bits}", 0, 2**bits - 1),
        (f"Int{bits}", -(2 ** (bits - 1)), 2 ** (bits - 1) - 1),
    ):
        expected = by_the_driver(kind, [low, high])
        assert encode_column(kind, [np.array([low, high], np.int64)]) == expected
        for wrong in (low - 1, high + 1):
            with pytest.raises(ValueError, match="values from"):
                encode_column(kind, [np.array([0, wrong], np.int64)])


def test_empty_parts_of_any_type_are_nothing() -> None:
    for kind in ("UInt8", "Float32", TIME, "String", LOW, "Array(String)", "Array(Float32)"):
        given: list[Any] = ["a"] if "String" in kind else [1]
        given = [given] if kind.startswith("Array") else given
        empties: list[Any] = [np.array([]), []]
        for empty in empties:
            assert encode_column(kind, [empty, given, empty]) == encode_column(kind, [given])


def test_numbers_of_other_types_are_turned_into_the_column_s() -> None:
    expected = by_the_driver("Float32", [1.0, 0.0])
    for dtype in (bool, np.int8, np.uint64, np.float64):
        assert encode_column("Float32", [np.array([1, 0], dtype)]) == expected
    assert encode_column("UInt8", [np.array([True, False])]) == b"\1\0"
    for kind, wrong in (("UInt8", np.array([1.0])), ("Float32", np.array(["1"]))):
        with pytest.raises(TypeError, match="values"):
            encode_column(kind, [wrong])
    rows = np.array([[0.5, 1.5], [2.5, 3.5]])
    assert encode_column("Array(Float32)", [rows]) == by_the_driver("Array(Float32)", rows.tolist())


def test_a_block_counts_its_rows_and_packs_a_column_once() -> None:
    table = Table("t", {"a": "String", "b": "UInt8"})
    parts: list[dict[str, list[Any]]] = [
        {"a": ["x", "y"], "b": [1, 2]}, {"a": [], "b": []}, {"a": ["z"], "b": [3]}
    ]  # fmt: skip
    block = Block(table, parts)
    assert block.rows == 3
    assert block.packed("b", "UInt8") == b"\1\2\3"
    assert block.packed("b", "UInt8") is block.packed("b", "UInt8")
    assert block.packed("b", "UInt16") == b"\1\0\2\0\3\0"


def test_columns_that_trade_bytes_at_their_border_have_another_token() -> None:
    table = Table("t", {"a": "Array(String)", "b": "Array(String)"})
    one = Block(table, [{"a": [["x"]], "b": [[]]}])
    two = Block(table, [{"a": [[]], "b": [["x"]]}])
    assert one.token != two.token
