"""Whatever a file holds and whatever the options say: a command ends in a result, or in one clear
message with what to do, and never in a mistake of ours."""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streams.cli import tideline

EXAMPLES = int(os.environ.get("TIDELINE_FUZZ_EXAMPLES", "60"))
bounded = settings(
    max_examples=EXAMPLES, derandomize=True, deadline=None, database=None,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip

NAMES = st.sampled_from(
    ["customer_id", "user", "Email", "date", "created_at", "Created at", "ts", "time", "total",
     "amount", "Total", "price", "quantity", "order_id", "Name", "sku", "status",
     "Financial Status", "Lineitem price", "Refunded Amount", "event_type", "type", "currency",
     "discount", "InvoiceNo", "StockCode", "InvoiceDate", "customer_unique_id", "",
     "order_purchase_timestamp", "Cancelled at", "grand_total", "increment_id", "Time Zone",
     "Total Collected", "Captured", "Amount Refunded", "billing_email", "UnitPrice", "CustomerID"]
) | st.text(max_size=6)  # fmt: skip
CELLS = st.sampled_from(
    ["", "a", "b", "0", "NULL", "nan", "17850.0", "5.00E+12", "2024-03-01", "2024-03-01 10:00:00",
     "03/04/2024", "25/12/2023 10:00", "12/25/2023", "24/03/01", "1709287200", "1709287200000",
     "1705314600000000", "45352.5", "9999-12-31", "0000-00-00", "2042-05-01", "1.234", "1,234",
     "12,50", "12.50", "-3", "(5.00)", "$1,234.50", "1e308", "1e-5", "inf", "999999999999", "view",
     "purchase", "refunded", "voided", "paid", "pending", "USD", "usd", "€", "EURO", '"', "'", ";",
     "2024-03-01T10:00:00Z", "2024-03-01T10:00:00+01:00", "Mar 1, 2024", "1 Foo 2024", "\x00",
     "-9223372036854775808", "1e400", "Discount", "Shipping", "=1+1", "ünïcode", "x" * 200,
     "C1", "Tokyo", "Eastern Time (US & Canada)", "false", "a@x.org", "A@X.org"]
) | st.text(max_size=8)  # fmt: skip


@st.composite
def tables(draw: Any) -> bytes:
    """A text that is, or nearly is, a table of orders."""
    width = draw(st.integers(1, 7))
    header = draw(st.lists(NAMES, min_size=width, max_size=width))
    if draw(st.booleans()):
        header = ["order_id", "customer_id", "date", "total", *header][: max(4, width)]
    rows = draw(st.lists(st.lists(CELLS, min_size=max(1, len(header) - 1),
                                  max_size=len(header) + 1), max_size=12))  # fmt: skip
    delimiter = draw(st.sampled_from([",", ";", "\t", "|"]))
    quoted = draw(st.booleans())
    lines = [[f'"{c}"' if quoted and '"' not in c else c for c in row] for row in [header, *rows]]
    text = draw(st.sampled_from(["", "sep=;\n", "Report\n\n"])) + draw(
        st.sampled_from(["\n", "\r\n", "\r"])
    ).join(delimiter.join(line) for line in lines)
    encoding = draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "cp1252"]))
    data = text.encode(encoding, errors="replace")
    if draw(st.booleans()) and draw(st.booleans()):
        data = data[: draw(st.integers(0, len(data)))]
    return gzip.compress(data, mtime=0) if draw(st.integers(0, 19)) == 0 else data


JSON = st.sampled_from(
    [b"", b"{}", b"[]", b"[1, 2]", b"{", b'{"user": 1}\n[]\n3\n', b'[{"user": {"a": 1}}]',
     b'{"event_id":"1","user_id":"a","type":"placed","ts":1,"order_id":"o","amount":1}',
     b'{"event_id":"1","user_id":"a","type":"view","ts":1709287200000}\n{"type":[]}\n',
     b'{"user":"a","ts":1e400,"amount":"x"}', b'{"user":null,"ts":true,"amount":[1]}',
     b'{"user":"a","ts":1709287200,"amount":3}\n{"user":"a","ts":"1709287200","amount":"3"}',
     b"PAR1", b"PAR1xxxxPAR1", b"PK\x03\x04", b"PK\x03\x04" + b"x" * 50, b"\x1f\x8b\x08", b"%PDF-1",
     b"\xd0\xcf\x11\xe0", b"\xff\xfe", b"\xff\xfe\x00", b"<html>", bytes(range(256))]
)  # fmt: skip
OPTIONS = st.lists(
    st.sampled_from(
        [("--map", "user=customer_id"), ("--map", "user=nobody"), ("--map", "user"),
         ("--map", "price=total"), ("--map", "amount=date,timestamp=total"), ("--map", "x=y"),
         ("--map", "user=date"), ("--map", "status=total,kind=date,refund=date,order=total"),
         ("--tz", "Europe/Berlin"), ("--tz", "Mars"), ("--tz", ""), ("--tz", "/etc"),
         ("--tz", "../x"), ("--time-format", "%d/%m/%Y"), ("--time-format", "%"),
         ("--time-format", "%Q"), ("--time-format", ""), ("--dates", "day-first"),
         ("--dates", "year-first"), ("--dates", "maybe"), ("--decimal", "comma"),
         ("--decimal", "point"), ("--amount-per", "order"), ("--amount-per", "line"),
         ("--only", "event_type=purchase"), ("--only", "total"), ("--only", "total=5,12.50"),
         ("--count-status", "pending"), ("--guests", "a,b"), ("--encoding", "cp1250"),
         ("--encoding", "utf-16"), ("--encoding", "klingon"), ("--encoding", "rot13"),
         ("--encoding", "idna"), ("--sheet", "x"), ("--strict",), ("--max-left-out", "1"),
         ("--max-left-out", "2"), ("--json",)]
    ),
    max_size=3,
)  # fmt: skip
COMMANDS = st.sampled_from(
    [("replay", "FILE", "--dry-run"), ("replay", "FILE", "--dry-run", "--browse"),
     ("train", "--orders", "FILE", "--horizon-days", "3"),
     ("train", "--orders", "FILE", "--as-of", "2024-03-01"),
     ("evaluate", "--orders", "FILE", "--horizon", "2d")]
)  # fmt: skip


def ends_well(
    folder: Path, data: bytes, command: tuple[str, ...], options: list[tuple[str, ...]],
    ending: str,
) -> None:  # fmt: skip
    path = folder / f"orders{ending}"
    path.write_bytes(data)
    words = [str(path) if word == "FILE" else word for word in command]
    if command[0] == "train":
        words += ["--out", str(folder / "models")]
    words += [word for option in options for word in option]
    result = CliRunner().invoke(tideline, words, prog_name="tideline")
    said = f"{words}\n{data[:400]!r}\n{result.output}"
    assert result.exit_code in (0, 1, 2), said
    assert "mistake in Tideline" not in result.output, said
    assert "Traceback" not in result.output, said
    if result.exit_code:
        lines = result.stderr.strip().splitlines()
        assert any(line.startswith(("Error: ", "Usage: ")) for line in lines), said


@pytest.mark.timeout(600)
@bounded
@given(tables(), COMMANDS, OPTIONS, st.sampled_from([".csv", ".txt", ".xlsx", ".parquet", ""]))
def test_any_table_with_any_options(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, command: tuple[str, ...],
    options: list[tuple[str, ...]], ending: str,
) -> None:  # fmt: skip
    ends_well(tmp_path_factory.mktemp("fuzz"), data, command, options, ending)


@pytest.mark.timeout(600)
@bounded
@given(JSON | st.binary(max_size=60), COMMANDS, OPTIONS, st.sampled_from([".json", ".csv", ".pq"]))
def test_any_bytes_with_any_options(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, command: tuple[str, ...],
    options: list[tuple[str, ...]], ending: str,
) -> None:  # fmt: skip
    ends_well(tmp_path_factory.mktemp("fuzz"), data, command, options, ending)


@pytest.mark.parametrize(
    "words",
    [("replay", "."), ("replay", "nothing.csv"), ("replay", "FILE", "--synthetic"),
     ("train", "--orders", "."), ("evaluate", "--orders", "."),
     ("train", "--orders", "FILE", "--out", "FILE/x"),
     ("evaluate", "--orders", "FILE", "--report", "nowhere/x.html"),
     ("replay", "--synthetic", "--start", "soon", "--dry-run"),
     ("replay", "--synthetic", "--start", "9999999999999999", "--dry-run"),
     ("replay", "completejourney", "--days", "5-1", "--dry-run"),
     ("train", "--days", "9-3"), ("replay", "FILE", "--browse-rate", "-1", "--dry-run")],
    ids=" ".join,
)  # fmt: skip
def test_wrong_arguments(tmp_path: Path, words: tuple[str, ...]) -> None:
    path = tmp_path / "orders.csv"
    path.write_text("user,date,total\na,2024-03-01,5\nb,2024-03-02,6\n")
    given = [word.replace("FILE", str(path)) for word in words]
    result = CliRunner().invoke(tideline, given, prog_name="tideline")
    assert result.exit_code in (1, 2), result.output
    assert "mistake in Tideline" not in result.output
    assert any(line.startswith("Error: ") for line in result.stderr.splitlines())
