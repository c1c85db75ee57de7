"""What left a shard and is not acknowledged yet: rows to ClickHouse, messages to Kafka."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Effects"]


@dataclass
class Effects:
    """What left for one or more steps and is not acknowledged yet."""

    waiting: deque[asyncio.Future[Any]] = field(default_factory=deque)

    def add(self, future: asyncio.Future[Any]) -> None:
        while self.waiting and self.waiting[0].done() and not self.waiting[0].exception():
            self.waiting.popleft()
        self.waiting.append(future)

    def so_far(self) -> Effects:
        """Those that have left until now."""
        return Effects(self.waiting.copy())

    async def flushed(self) -> None:
        """Wait for all that have left so far; raises the first failure."""
        for future in list(self.waiting):
            await asyncio.shield(future)
