"""The shop's days as events, through one shard: the examples of a live run, without Kafka.

Everything that decides is what workers run: decoding, windows, features, questions and answers.
The event contract has no number of results; a search without result is one that no view follows,
and is mostly repeated in other words.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.training.dataset import Dataset
from schemas.features import FEATURE_NAMES
from streams.core.hashing import hashes
from streams.core.texts import TableRows
from streams.evaluation.live import Asked, further_labels, learnable
from tests.core.driving import T0, Driver, SilenceScorer, config
from tests.core.oracle import DAY_MS
from tests.evaluation.clicks.law import SESSIONS, Shop

__all__ = ["Examples", "examples"]

_ITEMS: Final = 400
_ITEMS_OF_CATEGORY: Final = 25
_SEARCHES_TOO: Final = 0.05  # share of other sessions that begin with a search
_LAST_START_MS: Final = DAY_MS - 3_600_000  # no session goes on past midnight
_CLICK_EVERY_MS: Final = 40_000
_SILENCE: Final = FEATURE_NAMES.index("days_since_order")

_encode: Final = msgspec.json.Encoder().encode

Row = tuple[bytes | None, bytes | None, int]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Examples:
    """Matured questions [k], as `examples` has them: number of the customer int64, asked_ms int64,
    churned bool, spend float32, first_order_ms int64 (0: none within the horizon); x float32 [k, F]
    """

    user: Ints
    asked_ms: Ints
    churned: NDArray[np.bool_]
    spend: NDArray[np.float32]
    first_order_ms: Ints
    x: NDArray[np.float32]
    horizon_days: int

    @property
    def day(self) -> Ints:
        """The first day after each question, int64 [k]."""
        return (self.asked_ms - T0) // DAY_MS

    def before(self, day: int) -> Dataset:
        """What `train --live` makes of those that had matured by the beginning of a day."""
        end_ms = T0 + day * DAY_MS
        known = self.asked_ms + self.horizon_days * DAY_MS <= end_ms
        user = hashes([_name(u) for u in self.user[known].tolist()])
        asked, x = self.asked_ms[known], self.x[known]
        silence_ms = np.round(x[:, _SILENCE].astype(np.float64) * DAY_MS).astype(np.int64)
        churned, spend = self.churned[known], self.spend[known]
        first = self.first_order_ms[known]
        others = Asked(user, asked, churned, first, asked - silence_ms)
        more = further_labels(
            self.horizon_days, user, asked, churned, spend, first, x, others, end_ms
        )
        return learnable(Dataset(x, churned, spend, asked, user.view(np.int64), more))[0]


def examples(
    shop: Shop,
    horizon_days: int,
    rng: np.random.Generator,
    progress: Callable[[float], None] = lambda _done: None,
) -> Examples:
    """All matured questions of the shop's days, and the features that were served."""
    driver = Driver(config(sample_share=0.0), SilenceScorer(horizon_days))
    found: list[TableRows] = []
    for day in range(shop.days):
        clicks, orders = _events(shop, day, rng)
        end_ms = T0 + (day + 1) * DAY_MS
        driver.feed_rows(clicks, orders, clock_ms=end_ms - 1)
        driver.sweep(end_ms)
        found += [out.tables["examples"] for out in driver.outputs if "examples" in out.tables]
        driver.outputs.clear()
        driver.log.clear()
        progress((day + 1) / shop.days)
    names = [name for rows in found for name in rows["user_id"]]
    return Examples(
        np.array([int(name[1:]) for name in names], np.int64),
        np.concatenate([rows["asked_at"] for rows in found]),
        np.concatenate([rows["churned"] for rows in found]).astype(np.bool_),
        np.concatenate([rows["spend"] for rows in found]).astype(np.float32),
        np.concatenate([rows["first_order_at"] for rows in found]),
        np.concatenate([rows["features"] for rows in found]),
        horizon_days,
    )


def _name(user: int) -> str:
    return f"u{user}"


def _events(shop: Shop, day: int, rng: np.random.Generator) -> tuple[list[Row], list[Row]]:
    """A day's clicks and orders, each in time order."""
    buyers = np.flatnonzero(shop.ordered[:, day])
    counts = shop.sessions[:, day].astype(np.int64)
    who = np.concatenate([np.repeat(np.arange(len(counts)), kind) for kind in counts.T])
    what = np.repeat(np.arange(len(SESSIONS)), counts.sum(axis=0))
    user = np.concatenate([who, buyers])
    kinds = [*(SESSIONS[kind] for kind in what.tolist()), *["order"] * len(buyers)]
    start = T0 + day * DAY_MS + rng.integers(1, _LAST_START_MS, len(user))
    first_item = rng.integers(0, _ITEMS, len(user))
    views = 1 + rng.poisson(1.5, len(user))
    searches = rng.random(len(user)) < _SEARCHES_TOO
    again = rng.poisson(1.5, len(user))
    worth = np.round(rng.lognormal(3.0, 0.5, len(user)), 2)
    stars = rng.integers(0, 2, len(user))
    clicks: list[Row] = []
    orders: list[Row] = []
    columns = zip(
        user.tolist(), kinds, start.tolist(), first_item.tolist(), views.tolist(),
        searches.tolist(), again.tolist(), worth.tolist(), stars.tolist(), strict=True,
    )  # fmt: skip
    for i, (u, kind, ts, item, seen, searched, repeats, amount, star) in enumerate(columns):
        session = f"s{day}-{i}"
        steps = _steps(kind, seen, searched, repeats, star)
        for j, step in enumerate(steps):
            place = item + j % 3
            at_ms = ts + j * _CLICK_EVERY_MS
            about = step if step["type"] in ("search", "support") else step | _product(place)
            ids = {"event_id": f"{session}-{j}", "user_id": _name(u), "session_id": session}
            clicks.append((_name(u).encode(), _encode(ids | about | {"ts": at_ms}), at_ms))
        if kind == "order":
            at_ms = ts + len(steps) * _CLICK_EVERY_MS
            placed = {
                "event_id": session, "user_id": _name(u), "type": "placed", "ts": at_ms,
                "order_id": session, "amount": amount,
                "lines": [_product(item) | {"amount": amount}],
            }  # fmt: skip
            orders.append((_name(u).encode(), _encode(placed), at_ms))
    clicks.sort(key=lambda row: row[2])
    orders.sort(key=lambda row: row[2])
    return clicks, orders


def _steps(
    kind: str, views: int, searches: bool, repeats: int, star: int
) -> list[dict[str, object]]:
    """The clicks of a session, in order."""
    if kind == "no_result":
        return [{"type": "search", "query": f"nothing like it {i}"} for i in range(1 + repeats)]
    steps: list[dict[str, object]] = [{"type": "view"}] * views
    if searches:
        steps.insert(0, {"type": "search", "query": "something"})
    last: dict[str, list[dict[str, object]]] = {
        "plain": [],
        "cart_left": [{"type": "cart_add"}],
        "support": [{"type": "support"}],
        "praise": [{"type": "review", "rating": 4.0 + star}],
        "low_rating": [{"type": "review", "rating": 1.0 + star}],
        "order": [{"type": "cart_add"}],
    }
    return steps + last[kind]


def _product(item: int) -> dict[str, object]:
    return {"item_id": f"i{item}", "category": f"c{item // _ITEMS_OF_CATEGORY}"}
