"""Writes the shop's history as its systems would: four files, none of them in order of time.

old-shop.csv         semicolons, decimal commas, a row per line; a return is a row with -1
orders-export-1.csv  Shopify's export, several rows per order
orders-export-2.csv  the same, of this morning; its first month repeats the other's last one
app-events.ndjson    Tideline's own events: clicks, orders, cancellations and returns
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from random import Random

from tests.shop.facts import Fact, Placed, Returned
from tests.shop.live import message
from tests.shop.truth import Exported, Files

__all__ = ["write"]

_SHOP_ZONE = timezone(timedelta(hours=-5))
_SHOPIFY = (
    "Name", "Email", "Financial Status", "Paid at", "Currency", "Subtotal", "Shipping", "Taxes",
    "Total", "Discount Code", "Discount Amount", "Created at", "Lineitem quantity",
    "Lineitem name", "Lineitem price", "Lineitem sku", "Cancelled at", "Refunded Amount",
    "Customer ID",
)  # fmt: skip


def write(files: Files, directory: Path, seed: int) -> list[Path]:
    """Write all files into `directory`; returns them in the order in which they are named."""
    directory.mkdir(parents=True, exist_ok=True)
    old = directory / "old-shop.csv"
    _write_old(old, files.old, Random(seed))
    paths = [old]
    for n, exported in enumerate((files.web_before, files.web_now), 1):
        paths.append(directory / f"orders-export-{n}.csv")
        _write_shopify(paths[-1], exported)
    paths.append(directory / "app-events.ndjson")
    _write_events(paths[-1], files.app)
    return paths


def _write_old(path: Path, facts: Iterable[Placed | Returned], rng: Random) -> None:
    """Rows of one order lie apart: the old shop exported its table of lines as it was."""
    rows = []
    for fact in facts:
        when = datetime.fromtimestamp(fact.ts_ms / 1000, UTC).strftime("%d.%m.%Y %H:%M:%S")
        if isinstance(fact, Placed):
            rows += [
                (fact.user, fact.order, when, line.item, line.quantity,
                 _money(line.cents // line.quantity, ","))
                for line in fact.lines
            ]  # fmt: skip
        else:
            rows.append((fact.user, fact.order, when, "sku-back", -1, _money(fact.cents, ",")))
    rng.shuffle(rows)
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file, delimiter=";")
        writer.writerow(("customer", "order_no", "order_date", "sku", "quantity", "unit_price"))
        writer.writerows(rows)


def _write_shopify(path: Path, exported: Iterable[Exported]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, _SHOPIFY, restval="")
        writer.writeheader()
        for each in exported:
            writer.writerows(_shopify_rows(each))


def _shopify_rows(each: Exported) -> list[dict[str, str]]:
    """The order's own columns are on its first row alone."""
    order = each.placed
    created = _shop_time(order.ts_ms)
    goods = sum(line.cents for line in order.lines)
    rows = [
        {
            "Name": order.order, "Email": each.email, "Created at": created,
            "Lineitem quantity": str(line.quantity), "Lineitem name": f"Thing {line.item}",
            "Lineitem price": _money(line.cents // line.quantity), "Lineitem sku": line.item,
        }
        for line in order.lines
    ]  # fmt: skip
    rows[0] |= {
        "Financial Status": each.status, "Paid at": created, "Currency": "USD",
        "Subtotal": _money(goods - order.discount_cents),
        "Shipping": _money(order.cents - goods + order.discount_cents), "Taxes": "0.00",
        "Total": _money(order.cents), "Discount Amount": _money(order.discount_cents),
        "Refunded Amount": _money(each.refunded_cents),
        "Cancelled at": _shop_time(order.ts_ms + 3_600_000) if each.cancelled else "",
        "Customer ID": order.user if each.named else "",
    }  # fmt: skip
    return rows


def _write_events(path: Path, facts: Iterable[Fact]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for fact in facts:
            file.write(json.dumps(message(fact, fact.event_id)) + "\n")


def _shop_time(ts_ms: int) -> str:
    return datetime.fromtimestamp(ts_ms / 1000, _SHOP_ZONE).strftime("%Y-%m-%d %H:%M:%S %z")


def _money(cents: int, point: str = ".") -> str:
    return f"{cents // 100}{point}{cents % 100:02}"
