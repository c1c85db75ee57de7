"""A user's own file: columns found or mapped, rows grouped into orders, errors that help."""

from __future__ import annotations

import json
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from schemas.errors import SettingsError
from streams.replay import files
from streams.replay.records import CLICKSTREAM, ORDERS

RETAIL = """InvoiceNo,StockCode,Quantity,InvoiceDate,UnitPrice,CustomerID,Country
2,B,1,2024-03-02 10:00,5.00,18,UK
1,A,2,2024-03-01 10:00,1.25,17,UK
1,C,1,2024-03-01 10:00,0.10,17,UK
3,A,1,2024-03-03 10:00,1.25,,UK
C1,A,-1,2024-03-04 10:00,1.25,17,UK
"""


def _events(source: files.FileSource) -> list[dict[str, Any]]:
    return [json.loads(r.value) for r in chain.from_iterable(source)]


def _write(folder: Path, text: str, name: str = "orders.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_usual_columns_are_found_rows_grouped_and_sorted(tmp_path: Path, schemas: Any) -> None:
    source = files.read(_write(tmp_path, RETAIL), {})
    assert source.mapping["order"] == "InvoiceNo"
    assert source.mapping["price"] == "UnitPrice"
    events = [schemas.check(r) for r in chain.from_iterable(source)]
    assert [(e["order_id"], e["user_id"], e["type"], e["amount"]) for e in events] == [
        ("1", "17", "placed", 2.6),
        ("2", "18", "placed", 5.0),
        ("C1", "17", "returned", 1.25),
    ]
    assert [line["item_id"] for line in events[0]["lines"]] == ["A", "C"]
    assert events[0]["ts"] == 1_709_287_200_000
    assert source.without_user == 1
    assert "CustomerID" in source.summary()["mapping"]


def test_a_mapping_names_the_columns(tmp_path: Path) -> None:
    path = _write(tmp_path, "who;when;paid;off\nann;1709287200;12,50;1\nann;1709287200;1;0\n")
    given = {"user": "who", "timestamp": "when", "amount": "paid", "discount": "off"}
    (event,) = _events(files.read(path, given))
    assert (event["amount"], event["discount"]) == (13.5, 1.0)  # same user and time: one order
    assert event["ts"] == 1_709_287_200_000


@pytest.mark.parametrize(
    ("cell", "tz"),
    [
        ("2024-03-01T10:00:00Z", None),
        ("2024-03-01 10:00", None),
        ("2024-03-01T11:00+01:00", "Asia/Tokyo"),
        ("2024-03-01 11:00", "Europe/Berlin"),
        ("1709287200", None),
        ("1709287200000", "Europe/Berlin"),
    ],
)
def test_times(tmp_path: Path, cell: str, tz: str | None) -> None:
    path = _write(tmp_path, f"user,timestamp,amount\na,{cell},1\n")
    assert _events(files.read(path, {}, tz=tz))[0]["ts"] == 1_709_287_200_000


def test_a_time_format_of_ones_own(tmp_path: Path) -> None:
    path = _write(tmp_path, "user,date,amount\na,3/1/2024 10:00,1\n")
    source = files.read(path, {}, time_format="%m/%d/%Y %H:%M")
    assert _events(source)[0]["ts"] == 1_709_287_200_000


def test_a_missing_column_lists_what_is_there(tmp_path: Path) -> None:
    path = _write(tmp_path, RETAIL)
    with pytest.raises(SettingsError, match=r"user=nobody.*InvoiceNo, StockCode"):
        files.read(path, {"user": "nobody"})
    path = _write(tmp_path, "a,b\n1,2\n")
    with pytest.raises(SettingsError, match=r"user or timestamp or amount.*--map.*a, b"):
        files.read(path, {})


def test_a_few_bad_rows_are_left_out_and_reported(tmp_path: Path) -> None:
    good = "".join(f"u{i},2024-03-01,1\n" for i in range(50))
    path = _write(tmp_path, "user,timestamp,amount\n" + good + "x,yesterday,1\nx\n")
    source = files.read(path, {})
    assert source.expected_records == 50
    assert [line.split(":")[0] for line in source.bad] == ["line 52", "line 53"]
    assert "yesterday" in source.bad[0]


@pytest.mark.parametrize(
    ("row", "why"),
    [("x,2024-03-01,much", "no number"), ("x,soon,1", "no time"), ("x,2024-03-01,NaN", "no number"),
     ("x,2024-03-01,1e12", "<= 1000000000.0"), ('x,2024-03-01,"1,234"', "thousand or a decimal")],
)  # fmt: skip
def test_too_many_bad_rows_are_refused_with_their_lines(tmp_path: Path, row: str, why: str) -> None:
    path = _write(tmp_path, f"user,timestamp,amount\n{row}\nu,2024-03-01,1\n")
    with pytest.raises(SettingsError, match="line 2") as raised:
        files.read(path, {})
    assert why in str(raised.value)


def test_no_user_at_all_is_refused(tmp_path: Path) -> None:
    path = _write(tmp_path, "user,timestamp,amount\n,2024-03-01,1\n")
    with pytest.raises(SettingsError, match="--map user="):
        files.read(path, {})


@pytest.mark.parametrize("name", ["orders.xlsx", "missing.csv"])
def test_a_file_that_is_not_read_says_so(tmp_path: Path, name: str) -> None:
    if name.endswith("xlsx"):
        _write(tmp_path, "", name)
    with pytest.raises(SettingsError, match=name):
        files.read(tmp_path / name, {})


def test_an_unknown_zone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="Atlantis"):
        files.read(_write(tmp_path, RETAIL), {}, tz="Europe/Atlantis")


def test_parquet_with_ids_that_became_floats(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    from datetime import datetime  # noqa: PLC0415

    from pyarrow import parquet  # noqa: PLC0415

    moment = datetime(2024, 3, 1, 10)
    columns = {"CustomerID": [17.0, None], "date": [moment, moment], "total": [2.5, 1.0]}
    parquet.write_table(pa.table(columns), tmp_path / "orders.parquet")
    source = files.read(tmp_path / "orders.parquet", {})
    (event,) = _events(source)
    assert (event["user_id"], event["amount"], event["ts"]) == ("17", 2.5, 1_709_287_200_000)
    assert source.without_user == 1
    (tmp_path / "broken.parquet").write_bytes(b"no")
    with pytest.raises(SettingsError, match="no Parquet file"):
        files.read(tmp_path / "broken.parquet", {})


def test_json_lines_of_orders(tmp_path: Path) -> None:
    rows = [{"user": 7, "ts": 1_709_287_200, "total": 3, "order": "a", "sku": "s", "note": []}]
    path = _write(tmp_path, "".join(json.dumps(r) + "\n\n" for r in rows), "orders.jsonl")
    (event,) = _events(files.read(path, {}))
    assert (event["user_id"], event["lines"][0]["item_id"]) == ("7", "s")


def test_json_lines_of_events_pass_through_as_they_are(tmp_path: Path) -> None:
    click = '{"event_id":"1","user_id":"a","type":"view","ts":2,"extra":true}'
    order = '{"event_id":"2","user_id":"a","type":"placed","ts":1,"order_id":"o","amount":1,"x":{}}'
    source = files.read(_write(tmp_path, f"{click}\n{order}\n", "events.ndjson"), {})
    records = list(chain.from_iterable(source))
    assert [(r.topic_kind, r.value.decode()) for r in records] == [
        (ORDERS, order),
        (CLICKSTREAM, click),
    ]
    with pytest.raises(SettingsError, match=r"line 2.*type 'nap'"):
        files.read(_write(tmp_path, f"{click}\n{order.replace('placed', 'nap')}\n", "e.jsonl"), {})


def test_the_same_order_id_of_two_users_is_two_orders(tmp_path: Path) -> None:
    path = _write(tmp_path, "user,timestamp,amount,order\na,2024-03-01,1,9\nb,2024-03-01,2,9\n")
    events = _events(files.read(path, {}))
    assert len({e["event_id"] for e in events}) == 2
