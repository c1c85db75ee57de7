"""Files are read as what they are: any encoding, delimiter, container; broken rows are named."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from schemas.errors import SettingsError
from streams.replay.records import CLICKSTREAM, ORDERS
from tests.history.conftest import Reader, events, reasons, short

HEAD = "order,user,date,total\n"
TWO = HEAD + "1,Jürgen,2024-03-01,5\n2,Änne,2024-03-02,6\n"
READ = [("placed", "Jürgen", "1", 5.0), ("placed", "Änne", "2", 6.0)]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be",
                                      "utf-32", "cp1252"])  # fmt: skip
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_encodings(reading: Reader, encoding: str, line_end: str) -> None:
    assert short(reading(TWO.replace("\n", line_end).encode(encoding))) == READ


def test_an_encoding_that_the_user_names(reading: Reader) -> None:
    text = TWO.replace("Jürgen", "Łukasz").encode("cp1250")
    assert short(reading(text, encoding="cp1250"))[0][1] == "Łukasz"
    with pytest.raises(SettingsError, match="--encoding 'klingon'"):
        reading(text, encoding="klingon")


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("before", ["", "sep=DELIMITER\n", "Sales report\nMarch 2024\n\n",
                                    '"Report",,,\n,,,\n'])  # fmt: skip
def test_delimiters_and_titles(reading: Reader, delimiter: str, before: str) -> None:
    text = before.replace("DELIMITER", delimiter) + TWO.replace(",", delimiter)
    assert short(reading(text)) == READ


@pytest.mark.parametrize("name", ["orders.csv", "orders.txt", "orders", "orders.parquet", "o.xlsx"])
def test_the_name_does_not_matter(reading: Reader, name: str) -> None:
    assert short(reading(TWO, name=name)) == READ


def test_archives_of_one_file(reading: Reader) -> None:
    assert short(reading(gzip.compress(TWO.encode()), name="orders.csv.gz")) == READ
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("orders.csv", TWO)
    assert short(reading(packed.getvalue(), name="orders.zip")) == READ
    with zipfile.ZipFile(packed, "a") as archive:
        archive.writestr("items.csv", TWO)
    with pytest.raises(SettingsError, match="holds 2 files"):
        reading(packed.getvalue(), name="orders.zip")


@pytest.mark.parametrize(("data", "message"), [
    (b"", "is empty"), (b"  \n", "is empty"), (b"%PDF-1.4", "a PDF"),
    (b"<html><table>", "web page"),
    (b"PAR1", "no Parquet file"), (b"PK\x03\x04x", "can't be unpacked"), (b"{", "no JSON object"),
    (b"\xd0\xcf\x11\xe0x", "Excel"), (b"[1]", "no JSON object"),
    (b"\x1f\x8bx", "can't be unpacked"),
    (b"1,17,2024-03-01,5\n2,18,2024-03-02,6\n", "holds values, not column names"),
    (b"order,user,date,total\n", "no rows below|no order is left|no rows"),
])  # fmt: skip
def test_what_is_no_table_is_refused_in_words(reading: Reader, data: bytes, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        reading(data).report.check()


def test_a_missing_file_and_a_folder_are_named(reading: Reader, tmp_path: Path) -> None:
    from streams.history.read import read  # noqa: PLC0415
    from streams.history.table import ReadOptions  # noqa: PLC0415

    for path, message in ((tmp_path / "no.csv", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(SettingsError, match=message):
            read(path, ReadOptions(), 0)


def test_missing_and_unknown_columns_list_what_is_there(reading: Reader) -> None:
    with pytest.raises(SettingsError, match=r"user=nobody: no such column.*order, user, date"):
        reading(TWO, "user=nobody")
    with pytest.raises(SettingsError, match=r"user or timestamp or amount.*--map.*a, b"):
        reading("a,b\nx,y\n")


def test_names_twice_and_names_left_blank(reading: Reader) -> None:
    text = "user,date,total,total,\na,2024-03-01,1,2,3\n"
    assert short(reading(text))[0][3] == 1.0
    assert short(reading(text, "amount=total (2)"))[0][3] == 2.0
    assert short(reading(text, "amount=column 5"))[0][3] == 3.0


def test_broken_rows_are_left_out_by_their_line(reading: Reader) -> None:
    rows = ["1,a,2024-03-01,5", "2,a,2024-03-02,5,,", "3,a,2024-03-03,1,50", "",
            '4,"a",2024-03-04,5', "5,a", ",,,", '6,"b', '7,c,2024-03-07,5', '8,"d",2024-03-08,5',
            '9,"e\nf",2024-03-09,5', "10,g,2024-03-10,5"]  # fmt: skip
    history = reading(HEAD + "\n".join(rows))
    assert [order for *_, order, _ in short(history)] == ["1", "2", "4", "7", "8", "9", "10"]
    examples = {f.reason: f.examples for f in history.report.left_out}
    assert examples == {
        "more cells than the header has": ("line 4",),
        "a quote is opened and never closed": ("line 9",),
        "no time": ("line 7",),
    }
    assert history.report.rows == 10


@pytest.mark.parametrize("at", [0, 500, 999])
def test_one_unclosed_quote_costs_one_row(reading: Reader, at: int) -> None:
    rows = [f'{i},"u{i % 7}",2024-03-01 00:00:{i % 60:02},5' for i in range(1_000)]
    rows[at] = rows[at].replace('",', ",", 1)
    history = reading(HEAD + "\n".join(rows) + "\n")
    assert history.report.orders == 999
    assert reasons(history) == {"a quote is opened and never closed": 1}


def test_inches_in_a_name_are_no_quotes(reading: Reader) -> None:
    text = 'order,user,date,total,item\n1,a,2024-03-01,5,27" screen\n2,a,2024-03-02,6,x\n'
    assert len(short(reading(text))) == 2


def test_parquet_with_ids_that_became_floats(reading: Reader, tmp_path: Path) -> None:
    moment = datetime(2024, 3, 1, 10)
    table = pa.table({"CustomerID": [17.0, None], "date": [moment, moment], "total": [2.5, 1.0]})
    parquet.write_table(table, tmp_path / "made.parquet")
    history = reading((tmp_path / "made.parquet").read_bytes(), name="orders.parquet")
    (event,) = events(history)
    assert (event["user_id"], event["amount"], event["ts"]) == ("17", 2.5, 1_709_287_200_000)
    assert reasons(history) == {"no user (guest)": 1}


def test_json_lines_and_a_json_list_of_orders(reading: Reader) -> None:
    rows = [{"user": 7, "ts": 1_709_287_200, "total": 3.125, "order": "a", "sku": "s", "note": []}]
    for data in ("\n\n".join(json.dumps(r) for r in rows), json.dumps(rows)):
        (event,) = events(reading(data, name="orders.json"))
        assert (event["user_id"], event["lines"][0]["item_id"]) == ("7", "s")
        assert event["ts"] == 1_709_287_200_000


def test_events_pass_through_as_they_are(reading: Reader) -> None:
    click = '{"event_id":"1","user_id":"a","type":"view","ts":1709287200001,"extra":true}'
    order = ('{"event_id":"2","user_id":"a","type":"placed","ts":1709287200000,"order_id":"o",'
             '"amount":1,"x":{}}')  # fmt: skip
    far = order.replace("1709287200000", "9709287200000")
    history = reading(
        f"{click}\n{order}\n{order.replace('placed', 'nap')}\n{far}\n", name="e.jsonl"
    )
    records = [record for block in history for record in block]
    assert [(r.topic_kind, r.value.decode()) for r in records] == [
        (ORDERS, order), (CLICKSTREAM, click)
    ]  # fmt: skip
    assert reasons(history) == {"type 'nap' is no event type": 1, "in the future": 1}
    report = history.report
    assert (report.rows, report.orders, report.clicks, report.users) == (4, 1, 1, 1)


OPEN = "http://schemas.openxmlformats.org"
MAIN, DOCUMENT = f"{OPEN}/spreadsheetml/2006/main", f"{OPEN}/officeDocument/2006/relationships"
TYPES, PACKAGE = f"{OPEN}/package/2006/content-types", f"{OPEN}/package/2006/relationships"
KIND = "application/vnd.openxmlformats"
LINK = f'<Relationships xmlns="{PACKAGE}"><Relationship Id="r1" Type="{DOCUMENT}/'
WORKBOOK = {
    "[Content_Types].xml": f'<Types xmlns="{TYPES}"><Default Extension="rels" '
    f'ContentType="{KIND}-package.relationships+xml"/><Override PartName="/xl/workbook.xml" '
    f'ContentType="{KIND}-officedocument.spreadsheetml.sheet.main+xml"/></Types>',
    "_rels/.rels": f'{LINK}officeDocument" Target="xl/workbook.xml"/></Relationships>',
    "xl/workbook.xml": f'<workbook xmlns="{MAIN}" xmlns:r="{DOCUMENT}"><sheets>'
    '<sheet name="Orders" sheetId="1" r:id="r1"/></sheets></workbook>',
    "xl/_rels/workbook.xml.rels": f'{LINK}worksheet" Target="worksheets/sheet1.xml"/>'
    "</Relationships>",
}


def _workbook(rows: list[list[str | float]]) -> bytes:
    """A workbook of one sheet, as small as Excel's format allows."""

    def cell(value: str | float) -> str:
        if isinstance(value, str):
            return f'<c t="inlineStr"><is><t>{value}</t></is></c>'
        return f"<c><v>{value}</v></c>"

    body = "".join(f"<row>{''.join(map(cell, row))}</row>" for row in rows)
    sheet = f'<worksheet xmlns="{MAIN}"><sheetData>{body}</sheetData></worksheet>'
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, text in {**WORKBOOK, "xl/worksheets/sheet1.xml": sheet}.items():
            archive.writestr(name, text)
    return packed.getvalue()


def test_an_excel_workbook(reading: Reader) -> None:
    data = _workbook([["Report", "", ""], ["user", "date", "total"], [17.0, 45352.41666666667, 2.5],
                      ["", "", ""], [18.0, 45353.0, 1234.0]])  # fmt: skip
    history = reading(data, name="orders.xlsx")
    assert [(e["user_id"], e["ts"], e["amount"]) for e in events(history)] == [
        ("17", 1_709_287_200_000, 2.5), ("18", 1_709_337_600_000, 1234.0)
    ]  # fmt: skip
    with pytest.raises(SettingsError, match=r"--sheet 'x': .* has Orders"):
        reading(data, sheet="x")
