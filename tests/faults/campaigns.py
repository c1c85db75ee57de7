"""Segments and audiences that every drill has in force, and what must hold of feeds.

Nobody who is held out is in one, and each change of those who are not is there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec
import numpy as np

from schemas.definitions import Audience, Definitions, SegmentDefinition
from schemas.messages import AudienceChange
from streams.core.audiences import arms_of
from streams.core.hashing import hashes
from streams.core.state.slots import TREAT
from streams.kafka.access import kafka_access
from streams.kafka.log import KafkaLog
from streams.settings import Settings
from tests.integration.verdict import Verdict
from tests.shard.oracle import Oracle

__all__ = ["DEFINITIONS", "check_feeds"]

_HOUR_MS = 3_600_000
DEFINITIONS = Definitions(
    number=1,
    version="drill",
    segments=(
        SegmentDefinition("buyers", "orders > 0"),
        SegmentDefinition("quiet", "days_since_activity > 12h", "days_since_activity < 1h"),
        SegmentDefinition("browsing", "view_1h >= 1", hold_ms=10_000),
        SegmentDefinition("rich", "segment.buyers and rank(lifetime_revenue) >= 70%"),
    ),
    audiences=(
        Audience("all", "buyers", "all/1", 0.3, horizon_ms=6 * _HOUR_MS),
        Audience("first", "quiet", "first/1", 0.2, 1, "mail", horizon_ms=_HOUR_MS),
        Audience("second", "buyers", "second/1", 0.0, 2, "mail"),
        Audience("leaving", "alerts", "leaving/1", 0.5),
    ),
    global_holdout_share=0.1,
    global_salt="everywhere/1",
    applied_at_ms=1,
)


async def check_feeds(settings: Settings, oracles: Mapping[int, Oracle], verdict: Verdict) -> None:
    """Compare the topic of audience changes with the journal's replay."""
    sent = await _sent(settings, oracles)
    wanted = {c.change_id for oracle in oracles.values() for out in oracle.outputs
              for c in out.audiences}  # fmt: skip
    found = {change.change_id for change in sent}
    verdict.missing("changes in feeds", len(wanted - found), next(iter(wanted - found), ""))
    verdict.surplus("changes in feeds", len(found - wanted), next(iter(found - wanted), ""))
    held = list(_held_out(sent))
    verdict.surplus("held-out people in feeds", len(held), next(iter(held), ""))
    assert wanted, "nobody was in a feed, so this proves nothing"


async def _sent(settings: Settings, shards: Iterable[int]) -> list[AudienceChange]:
    topic = settings.topic_names.audiences
    log = KafkaLog(kafka_access(settings))
    await log.start()
    try:
        values: list[bytes] = []
        for shard in shards:
            first, end = await log.ends(topic, shard)
            if end > first:
                values += [v or b"" for v in (await log.read(topic, shard, first, end)).values]
    finally:
        await log.stop()
    return [msgspec.json.decode(value, type=AudienceChange) for value in values]


def _held_out(sent: list[AudienceChange]) -> Iterable[str]:
    salts = {each.name: each for each in DEFINITIONS.audiences}
    for change in sent:
        audience = salts[change.audience]
        (arm,) = arms_of(
            hashes([change.user_id]), audience.salt, audience.holdout_share, DEFINITIONS
        )
        if arm != np.int8(TREAT):
            yield f"{change.user_id} in {change.audience}"
