"""Groups rows into orders, and says what each order is worth and what came back of it.

1. Rows without an order id, user and time belong to the order above (Shopify, Magento); what only
   the first row of an order has is the whole order's. A guest with an e-mail address is a customer.
2. Other guests, cancelled and unpaid orders are left out, and counted.
3. Rows of one user and order id are one order; an amount is its total once, or the sum of lines.
4. Negative lines are a return; discounts and shipping only change the amount. Refunds are returns.
   A line of a cancelling invoice is a return of the earlier order that it takes back (`reversals`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from streams.history.cancelled import Cancelled, cancelled_orders
from streams.history.exports import Mapped
from streams.history.fields import ORDER_LEVEL_NAMES, plain
from streams.history.guests import by_email
from streams.history.levels import (
    Groups,
    Level,
    amount_level,
    first_known,
    group_rows,
    once_or_sum,
)
from streams.history.outcomes import is_charge
from streams.history.reversals import InvoiceLines, orders_reversed
from streams.history.rows import Cells, matches
from streams.history.table import IDS_TOGETHER, ReadOptions, RowTable

__all__ = ["Lines", "Orders", "orders_of"]

_LEFT: Final = {"cancelled": "cancelled, voided or failed", "pending": "not paid yet"}
_CANCELLED: Final = "cancelled"
AT_CHARACTERS: Final = 18  # of an order that goes by its time: at-1709287200000
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Lines:
    """The products of all orders, order by order, [k] each."""

    item: Cells
    cents: Ints
    quantity: Floats
    category: Cells
    discount_cents: Ints


@dataclass(frozen=True)
class Orders:
    """m placed and returned events in time order; a placed one comes before its return."""

    user: Cells
    order: Cells
    document: Cells
    """What made the event: the order, or the invoice that takes back a part of it."""
    ts_ms: Ints
    cents: Ints
    discount_cents: Ints
    currency: Cells
    returned: NDArray[np.bool_]
    first_line: Ints
    """int64 [m + 1]: event i has the lines first_line[i] to first_line[i + 1]."""
    lines: Lines
    cancelled: Cancelled | None = None

    def __len__(self) -> int:
        return len(self.ts_ms)

    def total(self, rows: NDArray[np.bool_]) -> dict[str, float]:
        """Money of some events, by currency ("" where none is named)."""
        words = [*self.currency.words(), ""]
        codes = self.currency.codes[rows] % len(words)
        cents = np.bincount(codes, self.cents[rows], minlength=len(words))
        there = np.bincount(codes, minlength=len(words)) > 0
        return {w: round(float(c)) / 100 for w, c, t in zip(words, cents, there, strict=True) if t}


def orders_of(table: RowTable, mapped: Mapped, options: ReadOptions) -> Orders:
    """The orders in a table; rows that are not used get their reason, and choices are noted.

    Raises SettingsError if it is not clear whether amounts are orders' or lines'.
    """
    table = _filled(table)
    found = by_email(table.user, table.email)
    table = replace(table, user=found.user)
    _leave_out(table, found.shared)
    guests = int((found.named & table.reasons.used).sum())
    if guests:
        table.choices["guests"] = (
            f"{guests:,} guest rows are customers by e-mail ({mapped.columns['email']})"
        )
    groups, level = _grouped(table, mapped, options)
    amount = table.of_line if table.amount is None else table.amount
    assert amount is not None  # noqa: S101  (resolve asks for one)
    if level == "order":
        table.choices["amounts"] = "one per order (its rows repeat it, or leave it blank)"
    elif "order" in mapped.columns:
        table.choices["amounts"] = "one per row" + (
            ", price times quantity" if table.amount is None else ", added up by order"
        )
    # a row without an amount is one of an order whose total another row has, or unusable
    by_order = _known_amount(groups, amount) if level == "order" else ~np.isnan(amount)
    table.reasons.leave_out(~by_order, "no amount", fault=True)
    used = np.flatnonzero(table.reasons.used)
    charge = _charges(table, mapped)[used]
    taken, order_of = _with_reversed(_taken(table, used), amount[used], mapped, level)
    orders = _build(taken, amount[used], charge, level)
    named = np.append(order_of, -1)[orders.document.codes]
    return replace(
        orders,
        order=Cells(named, orders.document.texts),
        cancelled=cancelled_orders(table, (_LEFT["cancelled"], _CANCELLED)),
    )


def _filled(table: RowTable) -> RowTable:
    """With what only some rows of an order have, user and time among it, on all its rows."""
    n = len(table.number)
    order, user, email = table.order.codes, table.user.codes, table.email.codes
    product = (table.item.codes >= 0) | (table.name.codes >= 0)
    further = (order < 0) & (user < 0) & table.time_blank & product
    if n and further.any():
        at = np.maximum.accumulate(np.where(further, -1, np.arange(n)))
        order = np.where(further & (at >= 0), order[np.maximum(at, 0)], order)
        # an order without an id is known by its user and time alone
        user = np.where(further & (at >= 0), user[np.maximum(at, 0)], user)
        email = np.where(further & (at >= 0), email[np.maximum(at, 0)], email)
        ts = np.where(further & (at >= 0), table.ts_ms[np.maximum(at, 0)], table.ts_ms)
        blank = np.where(further & (at >= 0), table.time_blank[np.maximum(at, 0)], table.time_blank)
        table = replace(table, ts_ms=ts, time_blank=blank)
    user, email = (_spread(order, codes, -1) for codes in (user, email))
    found = replace(
        table, order=Cells(order, table.order.texts), user=Cells(user, table.user.texts),
        email=Cells(email, table.email.texts),
    )  # fmt: skip
    time_known = np.where(found.time_blank | ~found.reasons.used, -1, found.ts_ms)
    ts = _spread(order, time_known, -1, first=True)
    blank = found.time_blank & (ts < 0)
    status = table.status
    if len(status):
        none = len(table.outcomes) - 1
        status = _spread(order, np.where(status == none, -1, status), -1, first=True)
        status = np.where(status < 0, none, status)
    currency = _spread(order, found.currency.codes, -1, first=True)
    return replace(
        found, ts_ms=np.where(found.time_blank & ~blank, ts, found.ts_ms), time_blank=blank,
        status=status, currency=Cells(currency, found.currency.texts),
        cancelled=_spread(order, np.where(table.cancelled, 1, -1), -1, first=True) > 0,
    )  # fmt: skip


def _spread(order: Ints, values: Ints, none: int, *, first: bool = False) -> Ints:
    """`values` [n], and where there is `none`, the one that the order's other rows agree on (or
    the `first` of them)."""
    gaps = (values == none) & (order >= 0)
    known = (values != none) & (order >= 0)
    if not gaps.any() or not known.any():
        return values
    orders, at = np.unique(order[known], return_index=True)
    size = int(order.max()) + 1
    value = np.full(size, none, np.int64)
    value[orders] = values[known][at]
    if not first:
        differ = known.copy()
        differ[known] = value[order[known]] != values[known]
        value[order[differ]] = none  # two users with one order id: it is not known whose row it is
    return np.where(gaps, value[np.maximum(order, 0)], values)


def _leave_out(table: RowTable, shared: NDArray[np.bool_]) -> None:
    reasons, user, order = table.reasons, table.user, table.order
    if len(table.status):
        outcomes = np.array(table.outcomes, dtype=object)
        for outcome, reason in _LEFT.items():
            rows = (outcomes == outcome)[table.status]
            reasons.leave_out(rows, reason, fault=False, show=order.text)
    reasons.leave_out(table.cancelled, _CANCELLED, fault=False, show=order.text)
    # without the address: examples are in the model card, too
    reasons.leave_out(
        shared, "no user (guest), and its e-mail is that of several customers", fault=False
    )
    reasons.leave_out(user.codes < 0, "no user (guest)", fault=False)
    reasons.leave_out(table.time_blank, "no time", fault=True)
    lengths = [
        np.append(np.asarray(pc.utf8_length(cells.texts), np.int64), AT_CHARACTERS)[cells.codes]
        for cells in (user, order)
    ]
    reasons.leave_out(
        lengths[0] + lengths[1] > IDS_TOGETHER,
        f"user and order id are longer than {IDS_TOGETHER} characters together", fault=True,
    )  # fmt: skip


def _grouped(table: RowTable, mapped: Mapped, options: ReadOptions) -> tuple[Groups, Level]:
    """The groups of all rows (those left out in none that counts), and what the amounts are."""
    used = table.reasons.used
    # rows that are left out get users of their own, so that no order has them
    user = np.where(used, table.user.codes, -1 - np.arange(len(used)))
    groups = group_rows(user, table.order.codes, table.ts_ms)
    if table.amount is None or "order" not in mapped.columns:
        return groups, "line"  # nothing says that two rows of one time are one order's
    if options.amount_per is not None:
        return groups, options.amount_per
    column = mapped.columns["amount"]
    if mapped.export and mapped.export.level and plain(column) in mapped.export.columns["amount"]:
        return groups, mapped.export.level
    names = {column: plain(column) in ORDER_LEVEL_NAMES}
    return groups, amount_level(
        column, names, groups, np.where(used, table.amount, np.nan), table.of_line
    )


def _known_amount(groups: Groups, amount: Floats) -> NDArray[np.bool_]:
    """Whether a row or another one of its order has an amount, bool [n]."""
    if not len(groups.start):
        return np.zeros(0, np.bool_)
    known = np.add.reduceat((~np.isnan(amount[groups.row])).astype(np.int64), groups.start) > 0
    found: NDArray[np.bool_] = known[groups.of_rows()]
    return found


def _taken(table: RowTable, rows: Ints) -> RowTable:
    """Some rows of a table; the reasons stay those of all."""
    return replace(
        table,
        number=table.number[rows],
        **{name: getattr(table, name).take(rows)
           for name in ("user", "email", "order", "item", "name", "category", "currency")},
        **{name: getattr(table, name)[rows]
           for name in ("ts_ms", "time_blank", "quantity", "discount", "refund", "cancelled",
                        "returned")},
        of_line=None if table.of_line is None else table.of_line[rows],
        status=table.status[rows] if len(table.status) else table.status,
    )  # fmt: skip


def _with_reversed(
    table: RowTable, amount: Floats, mapped: Mapped, level: Level
) -> tuple[RowTable, Ints]:
    """The table with a document for each pair of a cancelling invoice and an order that it takes
    lines back from, beside its orders; and the order of each document, int64 [documents]."""
    order, texts = table.order.codes, table.order.texts
    itself = np.arange(len(texts), dtype=np.int64)
    pattern = mapped.export.undoing if mapped.export else ""
    if not pattern or level != "line" or table.of_line is None:
        return table, itself
    undoing = np.append(matches(texts, pattern), False)[order]
    back = undoing & (amount < 0)
    # an invoice that also charges something is one sum, and stays whole
    whole = np.zeros(len(texts) + 1, np.bool_)
    whole[order[undoing & (amount > 0)]] = True
    lines = InvoiceLines(
        table.user.codes, table.order, table.item, table.ts_ms, table.quantity,
        np.abs(np.nan_to_num(table.of_line)), back,
    )  # fmt: skip
    able = (back & ~whole[order]) | (~undoing & (amount >= 0))
    reverses = np.full(len(order), -1, np.int64)
    reverses[able] = orders_reversed(lines.take(np.flatnonzero(able)))
    lengths = [
        np.append(np.asarray(pc.utf8_length(cells.texts), np.int64), 0)
        for cells in (table.user, table.order)
    ]
    together = lengths[0][table.user.codes] + lengths[1][order] + lengths[1][reverses]
    linked = (reverses >= 0) & (together < IDS_TOGETHER)
    if back.any():
        table.choices["cancellations"] = (
            f"{int(linked.sum()):,} lines of cancelling invoices are returns of an earlier order, "
            f"{int((back & ~linked).sum()):,} of none that is in the file"
        )
    if not linked.any():
        return table, itself
    pairs, of_row = np.unique(order[linked] * len(texts) + reverses[linked], return_inverse=True)
    invoice, taken_from = np.divmod(pairs, len(texts))
    names = pc.binary_join_element_wise(
        texts.take(pa.array(invoice)), texts.take(pa.array(taken_from)), pa.scalar("-", texts.type)
    )
    document = order.copy()
    document[linked] = len(texts) + of_row.reshape(-1)
    cells = Cells(document, pa.concat_arrays([texts, names]))
    return replace(table, order=cells), np.append(itself, taken_from)


def _build(table: RowTable, amount: Floats, charge: NDArray[np.bool_], level: Level) -> Orders:
    """Events of the rows that are used, all of them with a user, a time and an amount."""
    groups = group_rows(table.user.codes, table.order.codes, table.ts_ms)
    m, of_row = len(groups.start), groups.of_rows()
    amount = np.where(table.returned, -np.abs(amount), amount)
    if level == "order":
        total = first_known(groups, amount) if m else np.zeros(0)
        amount = total[of_row]
    back = _is_back(amount, charge, of_row, m)
    cents = np.round(amount * 100)
    placed, undone = (_totals(level, cents * keep, of_row, groups) for keep in (~back, back))
    undone = -undone
    below = placed < 0  # more discount than goods
    undone, placed = undone + np.where(below, -placed, 0), np.maximum(placed, 0)
    n_placed = np.bincount(of_row[~back], minlength=m)
    n_back = np.bincount(of_row[back], minlength=m)
    has_placed = (n_placed > 0) & ~below
    refund = np.minimum(_refunds(table, cents, level, of_row, groups), placed)
    undone = np.where(refund > 0, np.minimum(undone + refund, np.maximum(placed, undone)), undone)
    has_back = (n_back > 0) | below | (refund > 0)
    discount = np.round(once_or_sum(groups, table.discount) * 100)
    negative_charge = charge & (amount < 0) & (level == "line")
    discount += np.bincount(of_row[negative_charge & ~back], -cents[negative_charge & ~back],
                            minlength=m) if m else 0  # fmt: skip
    ts = [_earliest(table.ts_ms, of_row, keep, m) for keep in (~back, back)]
    first = groups.row[groups.start] if m else np.zeros(0, np.int64)
    parts = [np.flatnonzero(has_placed), np.flatnonzero(has_back)]
    group = np.concatenate(parts)
    returned = np.repeat([False, True], [len(p) for p in parts])
    back_ts = np.where(n_back > 0, ts[1], ts[0])
    event_ts = np.concatenate([ts[0][parts[0]], back_ts[parts[1]]])
    event_cents = np.concatenate([placed[parts[0]], undone[parts[1]]]).astype(np.int64)
    sequence = np.lexsort((returned, event_ts))
    group, returned = group[sequence], returned[sequence]
    rows = first[group]
    lines, first_line = _lines(table, level, amount, charge, back, of_row, group, returned)
    return Orders(
        user=table.user.take(rows),
        order=table.order.take(rows),
        document=table.order.take(rows),
        ts_ms=event_ts[sequence],
        cents=event_cents[sequence],
        discount_cents=np.where(returned, 0, discount[group]).astype(np.int64),
        currency=table.currency.take(rows),
        returned=returned,
        first_line=first_line,
        lines=lines,
    )


def _charges(table: RowTable, mapped: Mapped) -> NDArray[np.bool_]:
    """Rows that are no product: by the item's id or by its name, bool [n]."""
    found = np.zeros(len(table.number), np.bool_)
    invoice = mapped.columns.get("item", "").lower() in ("stockcode", "stock_code")
    for cells, codes in ((table.item, invoice), (table.name, False)):
        words = np.array(
            [is_charge(w, of_invoice=codes) for w in cells.words()] + [False], np.bool_
        )
        found |= words[cells.codes]
    return found


def _is_back(amount: Floats, charge: NDArray[np.bool_], of_row: Ints, m: int) -> NDArray[np.bool_]:
    """Rows that are of a return, bool [n]: negative products, and the charges beside them if the
    order has nothing else; of an order of charges alone, all if they add up to less than 0."""
    negative = (amount < 0) & ~charge
    sold = np.bincount(of_row[(amount >= 0) & ~charge], minlength=m) > 0
    undone = np.bincount(of_row[negative], minlength=m) > 0
    less = np.bincount(of_row, amount, minlength=m) < 0
    charges_too = ~sold & (undone | less)
    found: NDArray[np.bool_] = negative | (charge & charges_too[of_row])
    return found


def _totals(level: Level, cents: Floats, of_row: Ints, groups: Groups) -> Floats:
    m = len(groups.start)
    if level == "line" or not m:
        return np.bincount(of_row, cents, minlength=m).astype(np.float64)
    return cents[groups.row[groups.start]]


def _refunds(table: RowTable, cents: Floats, level: Level, of_row: Ints, groups: Groups) -> Floats:
    """Cents that were refunded of each order, float64 [m]: by column, or all by its status."""
    m = len(groups.start)
    by_column = np.round(once_or_sum(groups, table.refund) * 100)
    if not len(table.status) or not m:
        return by_column
    whole = np.array([o == "refunded" for o in table.outcomes], np.bool_)[table.status]
    each = np.where(whole & (cents > 0), cents, 0)
    if level == "order":
        full = np.maximum.reduceat(each[groups.row], groups.start)
    else:
        full = np.bincount(of_row, each, minlength=m)
    part = np.array([o == "partly refunded" for o in table.outcomes], np.bool_)[table.status]
    unknown = int((np.bincount(of_row[part], minlength=m).astype(bool) & (by_column == 0)).sum())
    if unknown:
        table.notes.append(
            f"{unknown:,} orders are partly refunded, and no column says how much: they count in "
            "full. Name it with --map refund=COLUMN."
        )
    return np.where(by_column > 0, by_column, full)


def _earliest(ts_ms: Ints, of_row: Ints, keep: NDArray[np.bool_], m: int) -> Ints:
    found = np.full(m, np.iinfo(np.int64).max, np.int64)
    np.minimum.at(found, of_row[keep], ts_ms[keep])
    return found


def _lines(
    table: RowTable, level: Level, amount: Floats, charge: NDArray[np.bool_],
    back: NDArray[np.bool_], of_row: Ints, group: Ints, returned: NDArray[np.bool_],
) -> tuple[Lines, Ints]:  # fmt: skip
    """The products of each event, and where each event's begin; `group` and `returned` are [m]."""
    item = table.item if len(table.item.texts) else table.name
    event = np.full((int(of_row.max()) + 1 if len(of_row) else 0, 2), -1, np.int64)
    event[group, returned.astype(np.int64)] = np.arange(len(group))
    of_event = event[of_row, back.astype(np.int64)] if len(of_row) else of_row
    rows = np.flatnonzero((item.codes >= 0) & ~charge & (of_event >= 0))
    rows = rows[np.argsort(of_event[rows], kind="stable")]
    worth = amount if level == "line" else _share(table, amount, of_row, charge)
    counts = np.bincount(of_event[rows], minlength=len(group))
    lines = Lines(
        item.take(rows),
        np.round(np.abs(worth[rows]) * 100).astype(np.int64),
        table.quantity[rows],
        table.category.take(rows),
        np.round(np.nan_to_num(table.discount[rows]) * 100).astype(np.int64)
        if level == "line" else np.zeros(len(rows), np.int64),
    )  # fmt: skip
    return lines, np.r_[0, np.cumsum(counts)].astype(np.int64)


def _share(table: RowTable, total: Floats, of_row: Ints, charge: NDArray[np.bool_]) -> Floats:
    """A line's worth where only the order's is known: by its price, else by its quantity."""
    if table.of_line is not None and not np.isnan(table.of_line).all():
        return np.nan_to_num(table.of_line)
    weight = np.where(charge, 0.0, np.maximum(table.quantity, 1e-9))
    whole = np.bincount(of_row, weight)
    return total * weight / np.maximum(whole[of_row], 1e-9) if len(of_row) else total
