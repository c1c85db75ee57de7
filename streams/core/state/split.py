"""Splits a shard's state by partition: makes the state with which each of its successors begins.

The number of partitions grows from n to a multiple m. Then every user of shard p is in one of its
successors, the shards p, p + n, p + 2n and so on, and these have users of shard p alone, whatever
the hash (`Partitioner.of_keys`). A successor has everything of its users, to the bit, in dense
rows. It continues with the clock, the step number and the champion of shard p.

Hashes of event ids and of pairs can't be separated by user, so each successor has all of them until
they expire: event ids after the lateness, pairs after the longest window. Contacts with people who
are not known yet are in all successors, too.
"""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from streams.core.partitioning import Partitioner
from streams.core.state.candidates import Budget
from streams.core.state.columns import ROW
from streams.core.state.shard_state import VALUE_BINS, Meta, ShardState
from streams.core.state.slots import Campaign
from streams.core.state.totals import Totals
from streams.core.texts import Strings

__all__ = ["split", "strays"]

_PARKED_AT_ONCE: Final = 4_096  # users: of so many only one block is not full


def split(state: ShardState, shard: int, to: Partitioner, offsets: tuple[int, int]) -> ShardState:
    """The state with which successor `shard` of `to.partitions` begins, at these offsets of its own
    input topics.

    `state` is not changed. Memory: that of the successor's users, and a copy of event ids and
    pairs. Raises ValueError if `shard` is no successor of this one.
    """
    meta = state.meta
    before = meta.partitions
    if not before or to.partitions % before or shard % before != meta.shard % before:
        raise ValueError(
            f"shard {shard} of {to.partitions} does not follow shard {meta.shard} of {before}"
        )
    named = np.flatnonzero(state.rows_by_user.named(np.arange(state.n)))
    names = state.rows_by_user.texts(named)
    rows = named[to.of_keys(names.data, names.at, names.size) == shard]
    child = ShardState(shard, state.features)
    child.restore_users(state.users[rows].tolist(), state.columns.pack(rows), np.empty(0, np.int64))
    room = child.columns.capacity
    child.counts = state.counts.part(rows, room)
    child.money = state.money.part(rows, room)
    place = np.full(state.n, -1, np.int64)
    place[rows] = np.arange(len(rows))
    child.questions = state.questions.part(place)
    bins = child.columns.value_bin[: len(rows)]
    child.value_histogram = np.bincount(bins[bins >= 0], minlength=VALUE_BINS)
    child.values_in_force = state.values_in_force.copy()
    child.ranks.load(state.ranks.export())
    child.ranks.divide(to.partitions // before)  # counted customers are of all successors
    waiting = _park(state, child, to)
    child.seen_ids = state.seen_ids.part(state.seen_ids.kept)
    child.pairs = state.pairs.part(state.pairs.kept)
    ours = np.concatenate([child.columns.user_hash[: len(rows)], child.parked.hashes()])
    child.known_orders = state.known_orders.part(np.isin(state.known_orders.records["owner"], ours))
    child.holds = state.holds.part(state.holds.kept)
    child.exposures = state.exposures.part(np.isin(state.exposures.records["owner"], ours))
    known = np.concatenate([state.rows_by_user.hashes, state.parked.hashes()])
    owner = state.contacts.records["owner"]  # some were contacted who are not known yet
    child.contacts = state.contacts.part(np.isin(owner, ours) | ~np.isin(owner, known))
    child.candidates.load(state.candidates.export())
    child.candidates.divide(to.partitions // before)
    child.meta = _meta(state, child, to, offsets)
    _go_on_sweeping(state, child, rows, waiting)
    return child


def strays(state: ShardState, of: Partitioner) -> int:
    """How many of the shard's users, parked ones among them, are of another of these partitions.
    No shard that follows it would have them."""
    named = np.flatnonzero(state.rows_by_user.named(np.arange(state.n)))
    names = state.rows_by_user.texts(named)
    found = np.count_nonzero(of.of_keys(names.data, names.at, names.size) != state.meta.shard)
    for _, users, _ in state.parked.blocks(state.meta.horizon_since):
        starts = np.cumsum(users.size, dtype=np.int64) - users.size
        found += np.count_nonzero(of.of_keys(users.data, starts, users.size) != state.meta.shard)
    return int(found)


def _park(state: ShardState, child: ShardState, to: Partitioner) -> int:
    """Give its parked users to `child`, in their order; returns how many of them the running sweep
    has not visited yet."""
    meta = state.meta
    left = meta.sweep_parked - meta.sweep_row
    waiting = -1
    names = bytearray()
    sizes: list[NDArray[np.int32]] = []
    packed: list[NDArray[np.void]] = []

    def put() -> None:
        if sizes:
            ids = Strings(np.frombuffer(bytes(names), np.uint8), np.concatenate(sizes))
            child.parked.add(ids, _joined(packed), meta.seq)
        names.clear()
        sizes.clear()
        packed.clear()

    for entries, users, rows in state.parked.blocks(meta.horizon_since):
        if left <= 0 and waiting < 0:
            put()  # a sweep takes whole blocks
            waiting = child.parked.entries
        left -= entries
        ends = np.cumsum(users.size, dtype=np.int64)
        starts = ends - users.size
        mine = np.flatnonzero(to.of_keys(users.data, starts, users.size) == child.meta.shard)
        for start, end in zip(starts[mine].tolist(), ends[mine].tolist(), strict=True):
            names += users.data[start:end].tobytes()
        if len(mine):
            sizes.append(users.size[mine])
            packed.append(rows[mine])
        if sum(map(len, sizes)) >= _PARKED_AT_ONCE:
            put()
    put()
    return child.parked.entries if waiting < 0 else waiting


def _joined(parts: list[NDArray[np.void]]) -> NDArray[np.void]:
    """All parts as one array, with the bytes between fields."""
    return np.concatenate([part.view(np.uint8) for part in parts]).view(ROW)


def _meta(state: ShardState, child: ShardState, to: Partitioner, offsets: tuple[int, int]) -> Meta:
    meta = msgspec.msgpack.decode(msgspec.msgpack.encode(state.meta), type=Meta)
    meta.shard, meta.partitions = child.meta.shard, to.partitions
    meta.offsets, meta.inputs_since = list(offsets), meta.seq
    # The tiers are cut again once there are twice as many live customers.
    everybody = int(state.value_histogram.sum())
    live = int(child.value_histogram.sum())
    meta.tier_total = meta.tier_total * live // everybody if everybody else 0
    # `stop` is an offset of the old topics: records of an erased person before it are left out. The
    # copier leaves them out of the new topics, so `stop` is 0 there. Each shard reports under its
    # own number, and finds that report if its state is made from the topics again.
    goes_on = meta.shard == state.meta.shard
    if not goes_on:  # one successor goes on with the sums, or they would double
        meta.campaigns = [
            Campaign(each.audience, each.salt, each.horizon_ms) for each in meta.campaigns
        ]
    # Sizes are counted again. One successor goes on with the hour's moves, and replaces what the
    # old shard told of sizes, even if none of its users is left.
    told = meta.totals
    meta.totals = Totals(hour=told.hour)
    if goes_on:
        meta.totals.moves, meta.totals.users = told.moves, told.users
    if meta.budget is not None:
        parts, which = to.partitions // state.meta.partitions, meta.shard // state.meta.partitions
        _divide_budget(meta.budget, parts, which, goes_on=goes_on)
    meta.erased = [
        msgspec.structs.replace(each, shard=meta.shard, stop=(0, 0)) for each in meta.erased
    ]
    return meta


def _divide_budget(budget: Budget, parts: int, which: int, *, goes_on: bool) -> None:
    """Divide what is left of today's alerts; one successor goes on with the account."""
    left = max(0, budget.share - budget.opened)
    if not goes_on:
        budget.opened = budget.candidates = budget.over = 0
    budget.share = budget.opened + left * (which + 1) // parts - left * which // parts


def _go_on_sweeping(
    state: ShardState, child: ShardState, rows: NDArray[np.int64], waiting: int
) -> None:
    """Let the running sweep visit the users that it has not visited yet, at the same pace."""
    meta, new = state.meta, child.meta
    visited = max(0, meta.sweep_row - meta.sweep_parked)
    parked_before = min(meta.sweep_row, meta.sweep_parked) * meta.partitions // new.partitions
    new.sweep_parked = parked_before + waiting
    new.sweep_row = parked_before + int(np.searchsorted(rows, visited))
