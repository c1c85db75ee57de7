"""One shard that a command owns in place of a worker: recovered or given a state, changed between
two steps, and checkpointed. No worker of the group may run meanwhile; if one does, one of the two
notices.

It becomes the owner as a worker does (`streams.shard.shard` has the protocol), so a worker that was
overlooked is fenced off with its next step. If it takes the shard back, `checkpoint` raises Fenced.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from functools import partial

from streams.core.events.records import Records
from streams.core.plan import Plan
from streams.core.state.shard_state import ShardState
from streams.core.step import step
from streams.shard.checkpoint_run import CheckpointRun
from streams.shard.checkpoints import CheckpointStore
from streams.shard.journal import Fenced, Journal
from streams.shard.outgoing import Outgoing
from streams.shard.recovery import Recovery, empty_state
from streams.shard.services import Services

__all__ = ["OfflineShard"]


class OfflineShard:
    """Shard `number`. Call `recover` or `take` once, change `state`, then `checkpoint`."""

    def __init__(self, number: int, services: Services) -> None:
        self.number = number
        self.state = empty_state(number)
        self._s = services
        owner = f"{uuid.uuid4().hex[:12]}.offline"
        topics = services.topics
        self._journal = Journal(services.log, topics.journal, number, owner)
        self._store = CheckpointStore(services.page_log, topics.checkpoints, number, owner)
        self._outgoing = Outgoing(number, services)

    async def recover(self) -> ShardState:
        """Become the owner, and bring the state to where the last owner left it: what its journal
        has after its checkpoint is replayed, effects included.

        Raises StateError if a topic is damaged or has lost something, Fenced if a worker takes over
        meanwhile.
        """
        await self._s.erasures.refresh()
        recovery = Recovery(self.number, self._s, self._journal, self._store)
        found = await recovery.begin()
        self.state = found.state
        await recovery.replay(found.plans, self._step)
        return self.state

    async def take(self, state: ShardState) -> None:
        """Become the owner, and replace the shard's state, if it has any, with this one."""
        self._store.takeover = await self._journal.take_over()
        await self._store.replace_all()
        self.state = state

    def go_on(self, state: ShardState, services: Services) -> None:
        """Let the recovered shard continue with another state, on the topics of `services`."""
        self.state, self._s = state, services

    async def checkpoint(self) -> None:
        """Write the state whole and wait until it counts, with all effects of the replay.

        Raises Fenced if a worker has taken the shard over: what it goes on from is not this state.
        """
        if self._s.config.partitioner is not None:
            self.state.meta.partitions = self._s.config.partitioner.partitions
        await self._journal.rewritten()
        run = await CheckpointRun.begin(
            self.number, self._s, self._store, self.state, self._journal,
            self._outgoing.effects.so_far(), asyncio.Event(), (0, 0),
        )  # fmt: skip
        await run.done()
        if not await self._journal.still_ours():
            raise Fenced(
                f"shard {self.number}: a worker has taken it over meanwhile. Stop all workers, and "
                "run the command again."
            )

    async def _step(self, plan: Plan, records: Sequence[Records]) -> None:
        take = partial(step, self.state, plan, records, self._s.config)
        outputs = await asyncio.get_running_loop().run_in_executor(
            self._s.compute, take, self._s.scorer(plan.champion)
        )
        self._outgoing.send(outputs, records, replayed=True)
