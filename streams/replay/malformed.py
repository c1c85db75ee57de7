"""Spoils records in every way that a dead letter has a reason for."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import Final

from schemas.events import MAX_EVENT_BYTES
from streams.replay.records import InputRecord
from streams.replay.templates import Templates

__all__ = ["KINDS", "REASONS", "Malformed"]

REASONS: Final = MappingProxyType({
    "bad_json": "invalid_json",
    "missing_field": "invalid_field",
    "wrong_type": "invalid_field",
    "unknown_version": "unknown_version",
    "nan": "invalid_json",
    "absurd_timestamp": "absurd_timestamp",
    "null_key": "null_key",
    "wrong_key": "key_mismatch",
    "huge_payload": "too_large",
})  # fmt: skip
"""Kind -> the reason code of its dead letter."""
KINDS: Final = tuple(REASONS)
_HUGE_EVERY: Final = 20
_ABSURD_MS: Final = (1, -5, 32_503_680_000_000, 1_704_067_200_000_000)  # 1970, before, 3000, in µs


class Malformed:
    """Turns good records into malformed ones, the kinds taking turns."""

    def __init__(self, templates: Templates) -> None:
        self._templates = templates
        self._made = 0
        self._padding = b'"padding":"' + b"x" * MAX_EVENT_BYTES + b'",'

    def make(self, number: int, record: InputRecord) -> tuple[str, InputRecord]:
        """The kind, and the spoiled record: same topic, same time of sending."""
        turn, kind = divmod(self._made, len(KINDS))
        self._made += 1
        name = KINDS[kind]
        # Huge ones are a thousand times a usual event; at each turn they would be all the load.
        if name == "huge_payload" and turn % _HUGE_EVERY:
            name = "bad_json"
        if name == "null_key":
            return name, record._replace(key=None)
        if name == "wrong_key":
            return name, record._replace(key=b"someone-else")
        return name, record._replace(value=self._spoil(name, number, record.value))

    def _spoil(self, name: str, number: int, value: bytes) -> bytes:
        ts_at = value.index(b'"ts":') + 5
        ts_end = value.index(b",", ts_at)
        absurd = b"%d" % _ABSURD_MS[number % len(_ABSURD_MS)]
        ways: dict[str, Callable[[], bytes]] = {
            "bad_json": lambda: value[: len(value) // 2],
            "missing_field": lambda: value[: ts_at - 5] + value[ts_end + 1 :],
            "wrong_type": lambda: (
                value[:ts_at] + b'"' + value[ts_at:ts_end] + b'"' + value[ts_end:]
            ),
            "unknown_version": lambda: value.replace(b'"v":1', b'"v":99', 1),
            "nan": lambda: value[:ts_at] + b"NaN" + value[ts_end:],
            "absurd_timestamp": lambda: value[:ts_at] + absurd + value[ts_end:],
            "huge_payload": lambda: b"{" + self._padding + value[1:],
        }
        return ways[name]()
