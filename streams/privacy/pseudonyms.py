"""Replaces user ids by pseudonyms in the rows for ClickHouse and the alerts topic.

    pseudonym = <key id> "." <first 32 hex digits of HMAC-SHA256(key, user id in UTF-8)>
    key id    = first 8 hex digits of SHA-256("tideline pseudonym key" NUL key)

The key id follows from the key, so that no two keys have the same id. The key and a list of
users reveal who is who (`tideline pseudonyms`); the results alone don't, not even by trying all
ids. State, and Tideline's own topics, keep user ids: they are as close to the events as the input
topics. D-023 says why here, D-022 how to change the key.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any, Final

import msgspec
import numpy as np

from schemas.messages import AlertMessage, AudienceChange
from streams.core.step import Outputs
from streams.core.texts import Coded
from streams.settings import Secret, Settings

__all__ = ["CONCEALED", "KEY_ID_DIGITS", "PATTERN", "Pseudonyms", "pseudonyms"]

_KEPT: Final = 1 << 17  # pseudonyms remembered: most rows are of users seen lately
_DIGITS: Final = 32  # 128 bits: no two of a billion users get the same one by chance
KEY_ID_DIGITS: Final = 8
PATTERN: Final = f"^[0-9a-f]{{{KEY_ID_DIGITS}}}[.][0-9a-f]{{{_DIGITS}}}$"
"""Regular expression of what a pseudonym looks like."""

CONCEALED: Final[Mapping[str, str]] = {
    "user_id": "user",
    "record_key": "user",
    # These are hashes of the user id that need no key: so they are keyed as well.
    "alert_id": "row",
    "change_id": "row",
    "event_id": "row",  # of a contact: the shop's own, which may have the user id in it
    # What was sent by or about a person; `tideline dlq show` has it, from Kafka.
    "payload": "nothing",
    "detail": "nothing",
}
"""Column of any table -> what becomes of it."""


class Pseudonyms:
    """One key. Pure: the same key and user give the same pseudonym, in every run."""

    def __init__(self, key: Secret) -> None:
        secret = key.reveal().encode()
        named = hashlib.sha256(b"tideline pseudonym key\0" + secret).hexdigest()
        self.key_id: str = named[:KEY_ID_DIGITS]

        def hashed(text: str) -> str:
            return hmac.digest(secret, text.encode(), "sha256").hex()[:_DIGITS]

        def user(user_id: str) -> str:
            return f"{self.key_id}.{hashed(user_id)}"

        self._ways: dict[str, Callable[[str], str]] = {
            "user": lru_cache(_KEPT)(user),
            # Apart from all user ids: those have no NUL at their beginning (Kafka keys are text).
            "row": lambda row_id: hashed(f"\0row\0{row_id}") if row_id else "",
            "nothing": lambda _: "",
        }

    def __repr__(self) -> str:
        return f"Pseudonyms({self.key_id})"

    def user(self, user_id: str) -> str:
        """The pseudonym of one user.

        >>> Pseudonyms(Secret("0123456789abcdef0123456789abcdef")).user("u-42")
        '13483877.ffc304dc8ccbca862ed8e4dfcf2aee7f'
        """
        return self._ways["user"](user_id)

    def outgoing(self, outputs: Outputs) -> Outputs:
        """`outputs` as others may see them. Dead letters for Kafka stay whole: they are replayed
        from there, and are next to the input topics."""
        return replace(
            outputs,
            tables={name: self._table(table) for name, table in outputs.tables.items()},
            alerts=[self._alert(alert) for alert in outputs.alerts],
            audiences=[self._audience(change) for change in outputs.audiences],
        )

    def _table(self, table: Mapping[str, Any]) -> dict[str, Any]:
        return {
            name: self._column(column, self._ways[CONCEALED[name]]) if name in CONCEALED else column
            for name, column in table.items()
        }

    @staticmethod
    def _column(column: Any, way: Callable[[str], str]) -> Any:
        if isinstance(column, Coded):
            return Coded(column.codes, [way(_text(name)) for name in column.names])
        values = column.tolist() if isinstance(column, np.ndarray) else column
        return [way(_text(value)) for value in values]

    def _alert(self, alert: AlertMessage) -> AlertMessage:
        return msgspec.structs.replace(
            alert, alert_id=self._ways["row"](alert.alert_id), user_id=self.user(alert.user_id)
        )

    def _audience(self, change: AudienceChange) -> AudienceChange:
        return msgspec.structs.replace(
            change, change_id=self._ways["row"](change.change_id), user_id=self.user(change.user_id)
        )


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def pseudonyms(settings: Settings) -> Pseudonyms | None:
    """What replaces user ids in results; None where no key is set."""
    key = settings.privacy.pseudonym_key
    return Pseudonyms(key) if key.reveal() else None
