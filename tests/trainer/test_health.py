"""Whether the trainer says that it is ready, and why not."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from schemas.errors import ModelsUnavailable
from streams.telemetry.metrics import Metrics
from streams.trainer.app import _turns
from streams.trainer.plan import Wait


class _Trainer:
    """Its turns wait for the test, and are as it says."""

    def __init__(self) -> None:
        self.may_turn, self.turned = threading.Semaphore(0), threading.Semaphore(0)
        self.error: Exception | None = None
        self.turns = 0

    def turn(self) -> Any:
        if self.turns:
            self.turned.release()  # what the last one came to is noted by now
        self.turns += 1
        assert self.may_turn.acquire(timeout=60)
        if self.error is not None:
            raise self.error
        return Wait("idle", "")


def test_it_is_ready_while_it_can_read_labels_and_models() -> None:
    async def go() -> None:
        trainer, metrics, troubles = _Trainer(), Metrics(), ["no look has ended"]
        part = _turns(trainer, 0.001, metrics, troubles, print)  # type: ignore[arg-type]

        async def next_turn(error: Exception | None) -> list[str]:
            trainer.error = error
            trainer.may_turn.release()
            assert await asyncio.to_thread(trainer.turned.acquire, timeout=60)
            return list(troubles)

        await part.start()
        assert troubles == ["no look has ended"]
        assert await next_turn(None) == []
        away = await next_turn(ModelsUnavailable("the store is away"))
        assert away == ["the trainer can't go on for now; the log says why"]
        assert await next_turn(None) == []
        trainer.may_turn.release(1_000_000)
        await part.stop()

    asyncio.run(go())
