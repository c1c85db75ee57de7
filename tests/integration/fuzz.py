"""Messages that no shop should send, seeded, and the reason each must be refused for."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from schemas.events import MAX_EVENT_BYTES

__all__ = ["Fuzzed", "fuzzed"]


@dataclass(frozen=True)
class Fuzzed:
    """One message. `reason` is the dead letter's code."""

    order: bool
    key: bytes | None
    value: bytes | None
    reason: str


def fuzzed(count: int, seed: int, at_ms: int) -> Iterator[Fuzzed]:
    """`count` bad messages; every way takes its turn, with details that the seed decides."""
    rng = random.Random(seed)
    ways = (
        _random_bytes, _truncated, _invalid_utf8, _not_finite, _deep, _wrong_type, _missing,
        _other_shape, _null_key, _null_value, _stranger, _version, _absurd, _huge,
    )  # fmt: skip
    for n in range(count):
        way = ways[n % len(ways)]
        # Megabytes each: a few are enough.
        if way in (_huge, _deep) and n // len(ways) % 40:
            way = _truncated
        order = rng.random() < 0.5
        event = _event(rng, n, order, at_ms)
        key, value, reason = way(rng, event)
        yield Fuzzed(order, key, value, reason)


Answer = tuple[bytes | None, bytes | None, str]


def _event(rng: random.Random, n: int, order: bool, at_ms: int) -> dict[str, Any]:
    event = {"event_id": f"fuzz-{n}", "user_id": f"victim-{rng.randrange(50)}", "ts": at_ms, "v": 1}
    if order:
        return event | {"type": "placed", "order_id": f"fuzz-order-{n}", "amount": 9.5,
                        "lines": [{"item_id": "i1", "amount": 9.5}]}  # fmt: skip
    return event | {"type": "view", "item_id": "i1"}


def _key(event: dict[str, Any]) -> bytes:
    return str(event["user_id"]).encode()


def _bytes(event: dict[str, Any]) -> bytes:
    return json.dumps(event).encode()


def _random_bytes(rng: random.Random, event: dict[str, Any]) -> Answer:
    # 0x00 to 0x08 open no JSON value and are no white space.
    head = bytes([rng.randrange(9)])
    return _key(event), head + rng.randbytes(rng.randrange(200)), "invalid_json"


def _truncated(rng: random.Random, event: dict[str, Any]) -> Answer:
    whole = _bytes(event)
    return _key(event), whole[: rng.randrange(len(whole))], "invalid_json"


def _invalid_utf8(rng: random.Random, event: dict[str, Any]) -> Answer:
    broken = _bytes(event).replace(b"fuzz-", b"fu\xff\xfe" + bytes([0x80 + rng.randrange(64)]), 1)
    return _key(event), broken, "invalid_json"


def _not_finite(rng: random.Random, event: dict[str, Any]) -> Answer:
    word = rng.choice(["NaN", "Infinity", "-Infinity"])
    return _key(event), _bytes(event | {"ts": "@"}).replace(b'"@"', word.encode()), "invalid_json"


def _deep(rng: random.Random, event: dict[str, Any]) -> Answer:
    depth = 40_000
    opened, closed = rng.choice([(b"[", b"]"), (b'{"a":', b"}")])
    return _key(event), opened * depth + b"1" + closed * depth, "*"


def _wrong_type(rng: random.Random, event: dict[str, Any]) -> Answer:
    field = rng.choice(["event_id", "user_id", "ts", "type"])
    wrong: Any = rng.choice([None, [], {}, True, 1.5, [[]]])
    return _key(event), _bytes(event | {field: wrong}), "invalid_field"


def _missing(rng: random.Random, event: dict[str, Any]) -> Answer:
    field = rng.choice(["event_id", "user_id", "ts", "type"])
    return _key(event), _bytes({k: v for k, v in event.items() if k != field}), "invalid_field"


def _other_shape(rng: random.Random, event: dict[str, Any]) -> Answer:
    value = rng.choice([b"[]", b"null", b"1", b'"text"', b"{}", b"true", b"[1,2,3]", b'{"ts":1}'])
    return _key(event), value, "invalid_field"


def _null_key(rng: random.Random, event: dict[str, Any]) -> Answer:
    return None, rng.choice([_bytes(event), b"", rng.randbytes(20)]), "null_key"


def _null_value(rng: random.Random, event: dict[str, Any]) -> Answer:
    return _key(event), None, "null_value"


def _stranger(rng: random.Random, event: dict[str, Any]) -> Answer:
    key = rng.choice([b"", b"\xff\xfe", b"victim", rng.randbytes(9)])
    return key, _bytes(event), "key_mismatch"


def _version(rng: random.Random, event: dict[str, Any]) -> Answer:
    other = rng.choice([0, -1, 2, 3, 99, 2**40])
    return _key(event), _bytes(event | {"v": other}), "unknown_version"


def _reason_of(ts: int, true_ts: int) -> str:
    plausible = 631_152_000_000 <= ts < 4_102_444_800_000
    return "future_timestamp" if plausible and ts > true_ts else "absurd_timestamp"


def _absurd(rng: random.Random, event: dict[str, Any]) -> Answer:
    borders = [631_151_999_999, 4_102_444_800_000]  # just outside 1990 to 2099
    ts = rng.choice([-1, 0, 1, event["ts"] * 1000, event["ts"] + 10**10, 2**62, *borders])
    return _key(event), _bytes(event | {"ts": ts}), _reason_of(ts, event["ts"])


def _huge(rng: random.Random, event: dict[str, Any]) -> Answer:
    padding = "x" * (MAX_EVENT_BYTES + rng.randrange(1000))
    return _key(event), _bytes(event | {"padding": padding}), "too_large"
