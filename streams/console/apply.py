"""Puts an edited document of definitions into force, as `tideline segments apply` does."""

from __future__ import annotations

import msgspec

from streams.campaigns import DocumentError, differences, read_definitions
from streams.campaigns.published import all_published, publish
from streams.console.access import Refused
from streams.console.definitions import in_force
from streams.kafka.log import Log

__all__ = ["put_into_force"]


async def put_into_force(
    log: Log, topic: str, document: str, base: int, note: str, who: str, currency: str, now_ms: int
) -> str:
    """Check the document beside all that was ever applied, and publish it; returns what was done.

    `base`: the number that was in force when it was previewed. Raises Refused: somebody applied
    other definitions since then, or the document is wrong. Raises BrokerUnavailable, StateError.
    """
    earlier = await all_published(log, topic)
    now = in_force(earlier)
    if now.number != base:
        raise Refused(
            409,
            f"Number {now.number} by {now.applied_by} is in force by now, and you previewed "
            f"against number {base}. Preview again, so that nothing of theirs is lost.",
        )
    try:
        new = read_definitions(
            document.encode(errors="replace"), file="segments.yaml", currency=currency,
            earlier=earlier, now_ms=now_ms,
        )  # fmt: skip
    except DocumentError as error:
        first = error.problems[0]
        raise Refused(
            400, f"Line {first.line}, column {first.column}: {first.what}; {first.fix}. Preview it."
        ) from error
    if not differences(now, new):
        return f"Nothing to do: number {now.number} says the same."
    await publish(
        log,
        topic,
        msgspec.structs.replace(new, applied_at_ms=now_ms, applied_by=who, note=note),
    )
    return f"Number {new.number} is applied ({new.version}). Shards take it with their next step."
