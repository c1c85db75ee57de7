"""Renders synthetic events as JSON bytes: fixed parts once, numbers filled in per event."""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from schemas.events import EVENT_VERSION, OrderLine

__all__ = ["Templates"]

_TAILS: Final = 4_096  # different (type, item, category) combinations
_BASKETS: Final = 512
_ITEMS: Final = 5_000
_CATEGORIES: Final = 60
_RETURN_EVERY: Final = 25
_TYPES: Final = (
    "view",
    "search",
    "cart_add",
    "cart_remove",
    "wishlist",
    "review",
    "share",
    "support",
)
_SHARES: Final = (0.58, 0.15, 0.14, 0.03, 0.03, 0.04, 0.01, 0.02)


class Templates:
    """Pre-rendered events. Ids are `<seed in hex>-<number of the event>`, so unique per seed."""

    def __init__(self, seed: int, rng: np.random.Generator) -> None:
        self._rng = rng
        self.prefix = f"{seed & 0xFFFFFFFF:x}-".encode()
        self._click = (
            b'{"event_id":"' + self.prefix + b'%d","user_id":"%b","ts":%d,"session_id":"%b-%d"%b'
        )
        self._tails = [_tail(rng) for _ in range(_TAILS)]
        self._baskets = [_basket(rng) for _ in range(_BASKETS)]
        self._keys: dict[int, bytes] = {}
        self._bought: dict[bytes, tuple[int, bytes]] = {}

    def keys(self, users: NDArray[np.int64]) -> list[bytes]:
        """The key of each user, int64 [n] -> n times `u<number>`."""
        known, numbers = self._keys, users.tolist()
        for user in set(numbers).difference(known):
            known[user] = b"u%d" % user
        return [known[user] for user in numbers]

    def clicks(self, first: int, keys: list[bytes], ts_ms: list[int]) -> list[bytes]:
        """One clickstream event per key; `first` numbers them. A session is a user's half hour."""
        n = len(keys)
        click, tails = self._click, self._tails
        chosen = self._rng.integers(0, _TAILS, n).tolist()
        return [
            click % (number, key, ts, key, ts // 1_800_000, tails[tail])
            for number, key, ts, tail in zip(
                range(first, first + n), keys, ts_ms, chosen, strict=True
            )
        ]

    def order(self, number: int, key: bytes, ts_ms: int) -> bytes:
        """An order: mostly placed, now and then a return of what the same user bought last."""
        bought = self._bought.pop(key, None) if number % _RETURN_EVERY == 0 else None
        if bought is not None:
            kind, (order, tail) = b"returned", bought
        else:
            kind, order = b"placed", number
            tail = self._baskets[int(self._rng.integers(_BASKETS))]
            self._bought[key] = order, tail
        return b'{"event_id":"%b%d","user_id":"%b","type":"%b","ts":%d,"order_id":"o%b%d"%b' % (
            self.prefix, number, key, kind, ts_ms, self.prefix, order, tail,
        )  # fmt: skip


def _tail(rng: np.random.Generator) -> bytes:
    kind = str(rng.choice(_TYPES, p=_SHARES))
    item = int(rng.integers(_ITEMS))
    fields: dict[str, object] = {"v": EVENT_VERSION, "type": kind, "simulated": True}
    fields["category"] = f"c{item % _CATEGORIES}"
    if kind == "search":
        fields["query"] = f"item {item}"
    else:
        fields["item_id"] = f"i{item}"
    if kind == "review":
        fields["rating"] = float(rng.integers(1, 6))
    return b"," + msgspec.json.encode(fields)[1:]


def _basket(rng: np.random.Generator) -> bytes:
    lines, cents = [], 0
    for _ in range(int(rng.integers(1, 6))):
        item, price = int(rng.integers(_ITEMS)), int(rng.integers(99, 9_999))
        lines.append(OrderLine(f"i{item}", price / 100, 1.0, f"c{item % _CATEGORIES}"))
        cents += price
    fields = {"v": EVENT_VERSION, "currency": "USD", "amount": cents / 100, "lines": lines}
    if rng.random() < 0.1:
        fields["coupon"] = "WELCOME"
    return b"," + msgspec.json.encode(fields)[1:]
