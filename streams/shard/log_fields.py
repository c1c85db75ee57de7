"""What a log line of a shard says for machines: the shard, its step, and offsets.

The names are those of the table `batches`, so a line finds its row. Where a line has one pair of
offsets, they are the next to process.
"""

from __future__ import annotations

from typing import Any

from schemas.lives import position_of
from streams.core.plan import Plan
from streams.core.state.shard_state import Meta

__all__ = ["of_shard", "of_state", "of_step"]


def of_shard(fact: str, shard: int, **more: Any) -> dict[str, Any]:
    """Of the shard alone; `more` are fields of `streams.telemetry.logs.FIELDS`."""
    return {"fact": fact, "shard": shard, **more}


def of_state(fact: str, meta: Meta, **more: Any) -> dict[str, Any]:
    """Of the state as it is: the last step, and where it goes on."""
    clicks, orders = meta.offsets
    places = {"clickstream_to": clicks, "orders_to": orders}
    return {**of_shard(fact, meta.shard), **_step(meta.seq), **places, **more}


def of_step(fact: str, shard: int, plan: Plan, **more: Any) -> dict[str, Any]:
    """Of one step: the ranges of offsets that it took."""
    return {
        **of_shard(fact, shard), **_step(plan.seq),
        "clickstream_from": plan.start[0], "clickstream_to": plan.stop[0],
        "orders_from": plan.start[1], "orders_to": plan.stop[1], **more,
    }  # fmt: skip


def _step(seq: int) -> dict[str, int]:
    return {"step": position_of(seq), "seq": seq}
