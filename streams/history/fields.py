"""The fields of an order, the column names that are known for them, and what `--map` says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from schemas.errors import SettingsError

__all__ = ["FIELDS", "ORDER_LEVEL_NAMES", "parse_map", "plain"]

FIELDS: Final[Mapping[str, tuple[str, ...]]] = {
    "user": ("user", "user_id", "userid", "customer", "customer_id", "customerid", "client_id",
             "household_id", "household_key", "member_id", "shopper_id", "buyer_id", "visitorid",
             "customer_unique_id", "customer_email", "email", "billing_email", "buyer_email",
             "customer_number", "customer_no", "customer_code"),
    "timestamp": ("timestamp", "ts", "time", "datetime", "date", "invoicedate", "invoice_date",
                  "order_date", "orderdate", "order_purchase_timestamp", "created_at",
                  "event_time", "purchase_date", "transaction_timestamp", "transaction_date",
                  "event_timestamp", "date_created", "order_created_at", "ordered_at", "placed_at",
                  "order_time", "order_datetime", "order_timestamp", "purchased_at", "created",
                  "date_time", "day"),
    "clock": ("order_time", "purchase_time", "transaction_time", "time"),
    "amount": ("amount", "total", "total_amount", "totalprice", "total_price", "order_total",
               "line_total", "sales_value", "sales", "revenue", "net_amount", "payment_value",
               "grand_total", "order_amount", "order_value", "total_sales", "amount_paid",
               "total_paid", "value", "spend"),
    "price": ("price", "unitprice", "unit_price", "item_price"),
    "order": ("order", "order_id", "orderid", "invoice", "invoiceno", "invoice_no", "invoice_id",
              "basket_id", "transaction_id", "receipt_id", "order_number", "order_no",
              "increment_id", "invoice_number", "transactionid", "receipt_number"),
    "item": ("sku", "product_id", "productid", "stockcode", "stock_code", "article_id", "item",
             "product", "item_id"),
    "name": ("description", "item_name", "product_name", "lineitem_name", "product_title"),
    "quantity": ("quantity", "qty", "units", "qty_ordered", "item_quantity", "order_item_quantity"),
    "category": ("category", "product_category", "category_code", "category_name", "department"),
    "discount": ("discount", "discount_amount", "total_discount"),
    "currency": ("currency", "currency_code", "order_currency", "order_currency_code"),
    "status": ("status", "order_status", "financial_status", "payment_status", "state",
               "item_status", "order_state"),
    "refund": ("refunded_amount", "amount_refunded", "total_refunded", "refund_amount",
               "refunded", "order_refund_amount", "refunded_total", "refund_total", "refund"),
    "cancelled": ("cancelled_at", "canceled_at", "cancelled_on", "cancellation_date"),
    "kind": ("type", "event_type", "transaction_type", "event", "event_name", "action",
             "behavior_type", "behavior", "activity_type"),
    "email": ("customer_email", "email", "billing_email", "buyer_email", "email_address",
              "billing_email_address", "customer_email_address", "email_billing"),
    "zone": (),  # of an export that says so: elsewhere it may be the customer's
    "captured": (),
}  # fmt: skip
"""Field -> column names that are recognised without `--map`, compared by letters and digits."""

ORDER_LEVEL_NAMES: Final = frozenset(
    ("total", "totalamount", "ordertotal", "totalprice", "grandtotal", "orderamount", "ordervalue",
     "paymentvalue", "totalpaid", "amountpaid", "ordertotalamount", "basketotal", "baskettotal",
     "invoicetotal", "grandtotalpurchased", "grandtotalbase", "totalcollected", "totalsales",
     "nettotal", "netordertotal", "invoiceamount", "totalordervalue")
)  # fmt: skip
"""Plain names of amounts that are an order's: repeated on its rows, they count once."""


def plain(name: str) -> str:
    """A column's name by its letters and digits, without case.

    >>> plain("Order Total (Amount)")
    'ordertotalamount'
    """
    return "".join(c for c in name.lower() if c.isalnum())


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
