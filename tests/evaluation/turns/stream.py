"""The shop's days as events, and what a shard knows of its customers at weekly cuts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.training.dataset import Dataset
from streams.core.events.events import DecodeRules
from streams.core.events.records import Records
from streams.core.features import features
from streams.core.hashing import hashes
from streams.evaluation.training import states_at
from tests.core.driving import T0, to_records
from tests.core.oracle import DAY_MS
from tests.evaluation.turns.law import BROWSED, NOTHING_FOUND, ORDERED, SUPPORT, Shop

__all__ = ["Asked", "questions"]

FIRST_CUT_DAY: Final = 70
_ACTIVE_DAYS: Final = 84
_CLICK_EVERY_MS: Final = 40_000
_LAST_START_MS: Final = DAY_MS - 3_600_000  # no session goes on past midnight
_RULES: Final = DecodeRules(300_000, "USD", {"USD": 1.0})

_encode: Final = msgspec.json.Encoder().encode
Row = tuple[bytes | None, bytes | None, int]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Asked:
    """Questions [k] at weekly cuts: `user` and `day` int64 [k], and the rows of training."""

    user: Ints
    day: Ints
    data: Dataset

    def take(self, rows: NDArray[np.bool_]) -> Asked:
        return Asked(self.user[rows], self.day[rows], self.data.take(rows))


def questions(
    shop: Shop,
    horizon_days: int,
    rng: np.random.Generator,
    progress: Callable[[float], None] = lambda _done: None,
) -> Asked:
    """Of customers with two orders, the last one within 84 days, whose answer is known in the end.
    Events go through a worker's code: decoding, windows, features, and the last events."""
    records, amount = _records(shop, rng)
    days = list(range(FIRST_CUT_DAY, shop.days - horizon_days + 1, 7))
    cuts = [T0 + day * DAY_MS for day in days]
    number = {
        h: u for u, h in enumerate(hashes([_name(u) for u in range(len(shop.came))]).tolist())
    }
    found = []
    for i, (cut_ms, state) in enumerate(states_at(records, cuts, _RULES, tails=True)):
        c, n = state.columns, state.n
        recent = cut_ms - c.recent_orders_ms[:n, 0] <= _ACTIVE_DAYS * DAY_MS
        at = np.flatnonzero((c.orders[:n] >= 2) & recent)
        known_by = state.rows_by_user.hashes[at]
        user = np.array([number[h] for h in known_by.tolist()], np.int64)
        within = slice(days[i], days[i] + horizon_days)
        spend = amount[user, within].sum(axis=1).astype(np.float32)
        assert state.tails is not None
        found.append(
            (
                user, np.full(len(at), days[i]), features(state, at, cut_ms), spend,
                ~shop.ordered[user, within].any(axis=1), state.tails.of(known_by, cut_ms),
            )
        )  # fmt: skip
        progress((i + 1) / len(days))
    user, day, x, spend, churned, events = map(np.concatenate, zip(*found, strict=True))
    return Asked(
        user, day, Dataset(x, churned, spend, T0 + day * DAY_MS, user, events=events)
    )  # fmt: skip


def _name(user: int) -> str:
    return f"u{user}"


def _records(
    shop: Shop, rng: np.random.Generator
) -> tuple[tuple[Records, Records], NDArray[np.float64]]:
    """All clicks and orders in time order, and what each day's order is worth, [n, d]."""
    amount = np.where(shop.ordered, np.round(rng.lognormal(3.0, 0.5, shop.ordered.shape), 2), 0.0)
    user, day = np.nonzero(shop.session)
    start = T0 + day * DAY_MS + rng.integers(1, _LAST_START_MS, len(user))
    item = rng.integers(0, 400, len(user))
    clicks: list[Row] = []
    orders: list[Row] = []
    columns = zip(
        user.tolist(), start.tolist(), item.tolist(), shop.session[user, day].tolist(),
        shop.category[user, day].tolist(), amount[user, day].tolist(), strict=True,
    )  # fmt: skip
    for i, (u, ts, what, kind, category, worth) in enumerate(columns):
        ids = {"event_id": f"e{i}", "user_id": _name(u)}
        if kind == ORDERED:
            placed = ids | {"type": "placed", "ts": ts, "order_id": f"o{i}", "amount": worth}
            orders.append((_name(u).encode(), _encode(placed), ts))
            continue
        steps = {
            BROWSED: [
                # which two categories they are depends on the customer
                {
                    "type": "view",
                    "item_id": f"i{what + j}",
                    "category": f"k{2 * (u % 9) + category}",
                }
                for j in range(2)
            ],
            NOTHING_FOUND: [{"type": "search", "query": f"nothing like {what}"}],
            SUPPORT: [{"type": "support"}],
        }[kind]
        for j, step in enumerate(steps):
            at_ms = ts + j * _CLICK_EVERY_MS
            event = ids | step | {"event_id": f"e{i}-{j}", "session_id": f"s{i}", "ts": at_ms}
            clicks.append((_name(u).encode(), _encode(event), at_ms))
    clicks.sort(key=lambda row: row[2])
    orders.sort(key=lambda row: row[2])
    return (to_records(clicks), to_records(orders)), amount
