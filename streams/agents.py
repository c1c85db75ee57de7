"""The path of an event, on one screen.

    Kafka: clickstream, orders ──batches──▶ agent ──▶ shard p ──▶ ClickHouse, Kafka
                                                        │  ▲
                                            journal, checkpoints

1. The transport gives the agent whole record batches (`streams/kafka/transport.py`).
2. The agent passes each batch to the shard of its partition (`streams/shard/engine.py`).
3. The shard plans a step, journals the plan, runs it and sends the effects
   (`streams/shard/shard.py` has the protocol; `streams/core/step.py` is what a step does).
4. Offsets are committed by the shard, behind a flushed sink and a flushed checkpoint; so the
   agent acks nothing. Faust would ack an event even if its processing had raised.

A rebalance suspends all shards, and then starts or resumes those that this worker owns.
"""

from __future__ import annotations

from typing import Any

import faust

from streams.kafka.transport import BatchSchema
from streams.shard.engine import Engine

__all__ = ["define_agents"]


def define_agents(app: faust.App, engine: Engine, topics: tuple[str, str]) -> None:
    """Connect the engine to a Faust app: one agent on both input topics, and the rebalances."""
    events = app.topic(*topics, schema=BatchSchema(), acks=False)

    @app.agent(events, name="shards")  # type: ignore[untyped-decorator]
    async def shards(batches: Any) -> None:
        async for batch in batches.noack():
            await engine.offer(batch)

    @app.on_partitions_revoked.connect  # type: ignore[untyped-decorator]
    async def revoked(_app: Any, _partitions: Any, **_: Any) -> None:
        await engine.revoked()

    @app.on_partitions_assigned.connect  # type: ignore[untyped-decorator]
    async def assigned(_app: Any, partitions: Any, **_: Any) -> None:
        await engine.assigned(tp.partition for tp in partitions if tp.topic in topics)

    # Faust holds receivers weakly; these live as long as the app.
    app.tideline_receivers = (revoked, assigned)
