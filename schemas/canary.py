"""A canary: a record of the lag monitor's synthetic user, which is no event.

It goes to one partition of the clickstream, as a shop's events do, and the shard writes a row of
`canaries` for it. Nothing else counts it: it has neither `event_id` nor `type`, so that no reader
takes it for an event.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

__all__ = ["CANARY_KEYS", "Canary", "is_canary"]

CANARY_KEYS: Final = b"tideline-canary-"
"""What the keys of canaries begin with. A user id that does is no harm: its events are events."""


class Canary(msgspec.Struct, frozen=True):
    """The record's value, as JSON."""

    kind: Literal["canary"]
    user_id: str
    """The record's key, as every event has it."""
    sent_at_ms: int
    """By the monitor's clock, in milliseconds since 1970 UTC."""
    v: Literal[1] = 1


_decoder: Final = msgspec.json.Decoder(Canary)


def is_canary(key: bytes, value: bytes) -> bool:
    """Whether a clickstream record that is no event is a canary. Never raises.

    >>> key = "tideline-canary-7"
    >>> is_canary(key.encode(), msgspec.json.encode(Canary("canary", key, 1_700_000_000_000)))
    True
    >>> is_canary(b"ann", b'{"kind": "canary", "user_id": "ann", "sent_at_ms": 1}')
    False
    """
    if not key.startswith(CANARY_KEYS):
        return False
    try:
        return _decoder.decode(value).user_id.encode() == key
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return False
