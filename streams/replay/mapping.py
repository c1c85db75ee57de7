"""Decides which column of a user's file is which field of an order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from schemas.errors import SettingsError

__all__ = ["FIELDS", "parse_map", "resolve"]

FIELDS: Final[Mapping[str, tuple[str, ...]]] = {
    "user": ("user", "user_id", "userid", "customer", "customer_id", "customerid", "client_id",
             "household_id", "household_key", "member_id", "email"),
    "timestamp": ("timestamp", "ts", "time", "datetime", "date", "invoicedate", "invoice_date",
                  "order_date", "orderdate", "order_purchase_timestamp", "created_at", "event_time",
                  "purchase_date", "transaction_timestamp", "transaction_date"),
    "amount": ("amount", "total", "total_amount", "totalprice", "total_price", "order_total",
               "line_total",
                   "sales_value", "sales", "revenue", "net_amount", "payment_value"),
    "price": ("price", "unitprice", "unit_price"),
    "order": ("order", "order_id", "orderid", "invoice", "invoiceno", "invoice_no", "invoice_id",
              "basket_id", "transaction_id", "receipt_id", "order_number"),
    "item": ("item", "item_id", "product", "product_id", "productid", "sku", "stockcode",
             "stock_code", "article_id"),
    "quantity": ("quantity", "qty", "units"),
    "category": ("category", "product_category", "category_code", "category_name", "department"),
    "discount": ("discount", "discount_amount", "total_discount"),
    "currency": ("currency", "currency_code"),
}  # fmt: skip
"""Field -> column names that are recognised without `--map`, compared without case."""


def parse_map(text: str) -> dict[str, str]:
    """`user=customer_id,amount=total` as a dict. Raises SettingsError for what it can't be.

    >>> parse_map("user=customer_id, amount=Total paid")
    {'user': 'customer_id', 'amount': 'Total paid'}
    """
    found: dict[str, str] = {}
    for part in filter(None, (p.strip() for p in text.split(","))):
        name, equals, column = (p.strip() for p in part.partition("="))
        if not equals or not column:
            raise SettingsError(f"--map: {part!r} is not field=column, such as user=customer_id.")
        if name not in FIELDS:
            raise SettingsError(f"--map: {name!r} is no field; these are: {', '.join(FIELDS)}.")
        found[name] = column
    return found


def resolve(columns: Sequence[str], given: Mapping[str, str]) -> dict[str, str]:
    """Field -> column: what was given, and known names for the rest.

    Without an amount, price (times quantity, if there is one) serves. Raises SettingsError for a
    column that isn't there or a needed field that no column fits.

    >>> resolve(["Customer ID", "InvoiceDate", "Price", "extra"], {})
    {'user': 'Customer ID', 'timestamp': 'InvoiceDate', 'price': 'Price'}
    """
    there = f"The file has: {', '.join(columns)}."
    missing = [f"{field}={column}" for field, column in given.items() if column not in columns]
    if missing:
        raise SettingsError(f"--map {','.join(missing)}: no such column. {there}")
    by_name = {_plain(column): column for column in reversed(columns)}
    mapping = dict(given)
    taken = set(given.values())
    for field, names in FIELDS.items():
        if field in mapping:
            continue
        column = next((by_name[n] for n in map(_plain, names) if n in by_name), None)
        if column is not None and column not in taken:
            mapping[field] = column
            taken.add(column)
    if "amount" in mapping and "price" not in given:
        mapping.pop("price", None)
    needed = {"user": "user", "timestamp": "timestamp"}
    absent = [n for n in needed if n not in mapping]
    if "amount" not in mapping and "price" not in mapping:
        absent.append("amount")
    if absent:
        example = ",".join(f"{name}=COLUMN" for name in absent)
        raise SettingsError(
            f"No column looks like {' or '.join(absent)}; use --map {example}. {there}"
        )
    return {field: mapping[field] for field in FIELDS if field in mapping}


def _plain(name: str) -> str:
    return "".join(c for c in name.lower() if c.isalnum())
