"""Definitions as they are applied: the topic that has all of them, and who follows its newest."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import msgspec

from schemas.definitions import STANDARD, Definitions, alert_problems
from schemas.errors import StateError
from streams.campaigns.document import read_definitions
from streams.core.rulebook import rulebook_of
from streams.kafka.access import KafkaAccess
from streams.kafka.follower import Follower
from streams.kafka.log import Log
from streams.rules import RulesError

__all__ = ["DefinitionsFollower", "all_published", "proposed", "publish", "signed"]

_log = logging.getLogger(__name__)
_decoder = msgspec.json.Decoder(Definitions)


class DefinitionsFollower(Follower[Definitions]):
    """Follows the newest definitions that compile here; others leave the old ones in force, with a
    warning."""

    def __init__(self, where: KafkaAccess | Iterable[str], topic: str, currency: str) -> None:
        super().__init__(where, topic, "definitions", self._newest_of)
        self._currency = currency
        self.refused: str = ""
        """Why the newest in the topic are not in force; empty: they are."""

    def _newest_of(self, values: Iterable[bytes | None], topic: str) -> Definitions | None:
        for value in reversed(list(values)):
            try:
                found = _decoder.decode(value or b"")
                rulebook_of(found, self._currency)
                problem = " ".join(alert_problems(found))
            except (msgspec.DecodeError, RulesError) as exc:
                problem = str(exc)
            self.refused = problem
            if not problem:
                return found
            _log.warning("%s: the old definitions stay in force: %s", topic, problem)
        return None


async def all_published(log: Log, topic: str) -> list[Definitions]:
    """Everything that was applied, the oldest first.

    Raises BrokerUnavailable, and StateError for a record that is no definitions.
    """
    first, end = await log.ends(topic, 0)
    values = (await log.read(topic, 0, first, end)).values if end > first else ()
    try:
        return [_decoder.decode(value or b"") for value in values]
    except msgspec.DecodeError as exc:
        raise StateError(
            f"{topic} has a record that is no definitions: {exc}. A later release may have written "
            "it: use that one."
        ) from exc


async def proposed(
    log: Log, topic: str, content: bytes, *, file: str, currency: str, now_ms: int
) -> tuple[Definitions, Definitions]:
    """The definitions in a file's `content`, and those in force.

    Raises DocumentError or RulesError for a file with mistakes, StateError and BrokerUnavailable.
    """
    earlier = await all_published(log, topic)
    new = read_definitions(content, file=file, currency=currency, earlier=earlier, now_ms=now_ms)
    rulebook_of(new, currency)
    return new, earlier[-1] if earlier else STANDARD


async def publish(log: Log, topic: str, definitions: Definitions) -> None:
    """Let these be in force. Raises BrokerUnavailable."""
    await log.append(topic, 0, [(None, msgspec.json.encode(definitions))])


def signed(definitions: Definitions, by: str, note: str, now_ms: int) -> Definitions:
    """`definitions` with who applies them, why and when, for the history."""
    return msgspec.structs.replace(definitions, applied_at_ms=now_ms, applied_by=by, note=note)
