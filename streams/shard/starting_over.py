"""What an operator does to start the shards' state over: the end of an error message."""

from __future__ import annotations

from typing import Final

__all__ = ["START_OVER"]

START_OVER: Final = (
    "stop all workers and run `tideline reset`. Every shard then begins a new life with what the "
    "input topics still hold, and `tideline backfill` brings older orders back. The views show the "
    "new life alone; older rows stay in score_history and alert_history. The database stays "
    "the same."
)
