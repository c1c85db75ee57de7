"""The order exports that are known by their columns, and which column of each is which field."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from schemas.errors import SettingsError
from streams.history.fields import FIELDS, plain

__all__ = ["Export", "Mapped", "recognise", "resolve"]

Level = Literal["order", "line"]


@dataclass(frozen=True)
class Export:
    """One kind of file. All column names are plain (`fields.plain`)."""

    name: str
    signature: tuple[tuple[str, ...], ...]
    """It is this export if all columns of one of these are there."""
    columns: Mapping[str, tuple[str, ...]]
    """Field -> columns, the best first; they come before the usual names."""
    level: Level | None = None
    """Whether the amount is an order's or a line's; None: as the rows show."""
    added: tuple[str, ...] = ()
    """Columns that are added to the amount of a line, where they are there."""
    taken_off: tuple[str, ...] = ()
    statuses: Mapping[str, str] = field(default_factory=dict)
    """Plain status -> outcome, where the word means something else than elsewhere."""
    note: str = ""
    without: tuple[str, ...] = ()
    """Fields that no usual name may fill: the export has no such column."""
    undoing: str = ""
    """A pattern of the order ids that take back lines of earlier orders; empty: there are none."""
    local_times: bool = False
    """Whether it writes times as the shop's clock shows them."""


EXPORTS: Final = (
    Export(
        "Shopify orders",
        (("financialstatus", "lineitemprice"), ("financialstatus", "paidat", "total")),
        {
            "user": ("customerid", "email"), "timestamp": ("createdat",), "order": ("name",),
            "amount": ("total",), "price": ("lineitemprice",), "quantity": ("lineitemquantity",),
            "item": ("lineitemsku", "lineitemname"), "name": ("lineitemname",),
            "status": ("financialstatus",), "refund": ("refundedamount",),
            "cancelled": ("cancelledat",), "discount": ("discountamount",),
            "currency": ("currency",),
        },
        level="order",
        without=("kind", "category", "clock"),
    ),
    Export(
        "WooCommerce orders",
        (
            ("ordertotalamount", "orderstatus"), ("orderkey", "billingemail"),
            ("numitemssold", "totalsales", "status"), ("ordernumber", "orderstatus", "itemcost"),
            ("ordertotal", "billingemail"), ("ordernumber", "emailbilling"),
        ),
        {
            "user": ("customerid", "customeruserid", "customeruser", "customeremail",
                     "billingemail", "emailbilling", "billingemailaddress"),
            "timestamp": ("datecreatedgmt", "orderdate", "datecreated", "date", "paiddate"),
            "order": ("orderid", "ordernumber", "id"),
            "amount": ("ordertotalamount", "ordertotal", "totalsales", "total"),
            "price": ("itemcost", "itemprice"), "quantity": ("quantity", "itemquantity", "qty"),
            "item": ("sku", "productid", "itemname", "productname"),
            "name": ("itemname", "productname"),
            "status": ("orderstatus", "status"),
            "refund": ("orderrefundamount", "refundedtotal", "totalrefunded", "refundtotal"),
            "discount": ("cartdiscountamount", "discounttotal", "discountamount"),
            "currency": ("ordercurrency", "currency"),
        },
        level="order",
        without=("kind", "clock"),
    ),
    Export(
        "Magento orders",
        (
            ("purchasepoint", "grandtotalpurchased"), ("incrementid", "grandtotal"),
            ("grandtotalbase", "purchasedate"), ("incrementid", "basegrandtotal"),
            ("grandtotalbase", "status", "customeremail"),
        ),
        {
            "user": ("customerid", "customeremail"),
            "timestamp": ("createdat", "purchasedate", "purchasedon"),
            "order": ("incrementid", "id", "entityid"),
            "amount": ("grandtotalpurchased", "grandtotal", "grandtotalbase", "basegrandtotal"),
            "status": ("status", "state"), "refund": ("totalrefunded", "basetotalrefunded"),
            "currency": ("ordercurrencycode", "basecurrencycode"),
        },
        level="order",
        statuses={"closed": "refunded", "new": "pending"},  # closed: wholly refunded, in Magento
        without=("kind", "clock"),
    ),
    Export(
        "Square sales",
        (
            ("timezone", "netsales", "transactionid"), ("timezone", "totalcollected"),
            ("grosssales", "netsales", "paymentid"),
        ),
        {
            "user": ("customerid", "customerreferenceid", "customername"),
            "timestamp": ("date",), "clock": ("time",), "zone": ("timezone",),
            "order": ("transactionid", "paymentid"),
            "amount": ("totalcollected", "netsales"), "quantity": ("qty", "quantity", "count"),
            "item": ("sku", "item"), "name": ("item",), "category": ("category",),
            "discount": ("discounts",), "refund": ("partialrefunds",), "kind": ("eventtype",),
        },
        without=("price", "status"),
        local_times=True,
    ),
    Export(
        "Stripe payments",
        (("amountrefunded", "customerid"), ("amountrefunded", "createdutc"),
         ("amountrefunded", "createddateutc"), ("amountrefunded", "customeremail")),
        {
            "user": ("customerid", "customeremail"),
            "timestamp": ("createddateutc", "createdutc", "created", "createddate"),
            "order": ("id", "paymentintentid"),
            "amount": ("amount", "convertedamount"), "refund": ("amountrefunded",),
            "status": ("status",), "captured": ("captured",), "currency": ("currency",),
        },
        level="order",
        without=("item", "name", "kind", "clock"),
    ),
    Export(
        "Amazon orders",
        (("amazonorderid", "purchasedate"), ("orderid", "orderitemid", "buyeremail")),
        {
            "user": ("buyeremail", "buyerid", "buyername"), "timestamp": ("purchasedate",),
            "order": ("amazonorderid", "orderid"), "amount": ("itemprice",),
            "quantity": ("quantity", "quantitypurchased"), "item": ("sku", "asin"),
            "name": ("productname",), "status": ("orderstatus", "itemstatus"),
            "discount": ("itempromotiondiscount",), "currency": ("currency",),
        },
        level="line",
        added=("shippingprice", "giftwrapprice"),
        taken_off=("itempromotiondiscount", "shippromotiondiscount"),
        without=("kind", "price", "clock"),
    ),
    Export(
        "Olist orders",
        (("orderpurchasetimestamp", "customerid"),),
        {
            "user": ("customeruniqueid", "customerid"), "timestamp": ("orderpurchasetimestamp",),
            "order": ("orderid",), "amount": ("paymentvalue",), "price": ("price",),
            "item": ("productid",), "category": ("productcategorynameenglish",
                                                 "productcategoryname"),
            "status": ("orderstatus",),
        },
        note="In Olist's files customer_id is another one in each order: nobody has two orders by "
        "it. The customer is customer_unique_id.",
        without=("kind", "clock"),
    ),
    Export(
        "invoice lines (UCI Online Retail)",
        (("stockcode", "invoicedate"),),
        {
            "user": ("customerid",), "timestamp": ("invoicedate",),
            "order": ("invoiceno", "invoice"), "price": ("unitprice", "price"),
            "quantity": ("quantity",), "item": ("stockcode",), "name": ("description",),
        },
        level="line",
        without=("kind", "clock"),
        undoing=r"^[Cc]\d",
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Mapped:
    """Which column is which field, and what is known of the file by its export."""

    columns: Mapping[str, str]
    """Field -> column."""
    export: Export | None
    given: frozenset[str]
    """Fields that `--map` named."""
    added: tuple[str, ...] = ()
    taken_off: tuple[str, ...] = ()

    @property
    def needed(self) -> list[str]:
        """Every column that must be read, once each."""
        return list(dict.fromkeys([*self.columns.values(), *self.added, *self.taken_off]))

    def words(self) -> str:
        """The mapping in one line, as `--map` takes it."""
        shown = dict(self.columns)
        for sign, columns in (("+", self.added), ("-", self.taken_off)):
            for column in columns:
                shown["amount"] = f"{shown['amount']} {sign} {column}"
        return ", ".join(f"{name}={column}" for name, column in shown.items())


def recognise(columns: Sequence[str]) -> Export | None:
    """The export whose columns these are.

    >>> recognise(["InvoiceNo", "StockCode", "Quantity", "InvoiceDate"]).name
    'invoice lines (UCI Online Retail)'
    """
    names = {plain(c) for c in columns}
    return next((e for e in EXPORTS if any(names >= set(s) for s in e.signature)), None)


def resolve(
    columns: Sequence[str], given: Mapping[str, str], empty: Collection[str] = ()
) -> Mapped:
    """Field -> column: what was given; else as the export has it; else by the usual names.

    `empty` are columns without a value among the first rows; another that fits comes before them.
    With a price and no amount, price times quantity serves. Raises SettingsError for a column that
    is not there, or a needed field that no column fits.

    >>> resolve(["Customer ID", "InvoiceDate", "Price", "extra"], {}).words()
    'user=Customer ID, timestamp=InvoiceDate, price=Price'
    """
    there = f"The file has: {', '.join(columns)}."
    missing = [f"{name}={column}" for name, column in given.items() if column not in columns]
    if missing:
        raise SettingsError(f"--map {','.join(missing)}: no such column. {there}")
    export = recognise(columns)
    by_name = {plain(column): column for column in reversed(columns)}
    mapping, taken = dict(given), set(given.values())
    for name, usual in FIELDS.items():
        if name in mapping:
            continue
        known = export.columns.get(name, ()) if export else ()
        # what an export is known to lack is not looked for under another's names
        others = () if export and (known or name in export.without) else map(plain, usual)
        fitting = [by_name[n] for n in (*known, *others) if n in by_name]
        fitting = [c for c in fitting if c not in taken]
        if fitting:
            mapping[name] = next((c for c in fitting if c not in empty), fitting[0])
            taken.add(mapping[name])
    if "price" in given and "amount" not in given:
        mapping.pop("amount", None)
    if "user" in given and "email" not in given:
        mapping.pop("email", None)  # who the customers are was said
    _check_needed(mapping, there)
    extra = export is not None and "amount" in mapping and "amount" not in given
    return Mapped(
        {name: mapping[name] for name in FIELDS if name in mapping},
        export,
        frozenset(given),
        tuple(by_name[n] for n in export.added if n in by_name) if export and extra else (),
        tuple(by_name[n] for n in export.taken_off if n in by_name) if export and extra else (),
    )


def _check_needed(mapping: Mapping[str, str], there: str) -> None:
    absent = [name for name in ("user", "timestamp") if name not in mapping]
    if "amount" not in mapping and "price" not in mapping:
        absent.append("amount")
    if absent:
        example = ",".join(f"{name}=COLUMN" for name in absent)
        raise SettingsError(
            f"No column looks like {' or '.join(absent)}; use --map {example}. {there}"
        )
