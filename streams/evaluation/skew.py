"""Recomputes sampled live scores from the log, and compares them bit by bit.

Live, a score is made on a worker's state, which has been through checkpoints, crashes and
rebalances. Here the input topics are read again by the journal's steps, on a state of our own, with
the same core that training uses; features and scores of every sampled user are computed again. The
two must be equal to the last bit; any difference is skew, and is named by column.

Where the state of our own begins, the first that there is:
 1. the state that the last run left in the directory given;
 2. the journal's first step, if the journal still has it;
 3. the newest checkpoint. Then only what was sampled since can be checked, so keep a directory.

Where a command has changed the state between two steps (a backfill), only 3 can be.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from schemas.errors import StateError
from schemas.features import FEATURE_NAMES, FEATURES_HASH
from schemas.lives import follows, position_of
from schemas.topics import TopicNames
from streams.core.config import CoreConfig, Scorer
from streams.core.events.records import SOURCES, Records
from streams.core.features import features
from streams.core.plan import Plan
from streams.core.state import snapshot
from streams.core.state.shard_state import ShardState
from streams.core.step import step
from streams.core.texts import Texts
from streams.kafka.log import Log
from streams.shard.checkpoints import CheckpointStore
from streams.shard.journal import Entry, Journal, Rewritten, Step, Takeover, valid_steps

__all__ = ["SCORES", "Difference", "Sample", "Skew", "check_shard"]

SCORES = ("p_churn", "p_champion", "p_learner", "expected_spend")
READ_RECORDS = 50_000  # read at once, over as many steps as they span
EXAMPLES_KEPT = 20


@dataclass(frozen=True)
class Sample:
    """One row of `score_samples`: scores float32 [4] in the order of SCORES, x float32 [F]."""

    seq: int
    user_id: str
    scored_at_ms: int
    scores: NDArray[np.float32]
    x: NDArray[np.float32]
    features_hash: str


@dataclass(frozen=True)
class Difference:
    """One value that came out otherwise."""

    shard: int
    seq: int
    user_id: str
    column: str
    live: float
    offline: float


@dataclass
class Skew:
    """What the comparison found; `+=` adds shards up."""

    sampled: int = 0
    checked: int = 0
    mismatched: int = 0
    """Samples with at least one difference."""
    by_column: Counter[str] = field(default_factory=Counter)
    unchecked: Counter[str] = field(default_factory=Counter)
    """Samples that could not be checked, by why."""
    examples: list[Difference] = field(default_factory=list)

    def __iadd__(self, other: Skew) -> Skew:
        self.sampled += other.sampled
        self.checked += other.checked
        self.mismatched += other.mismatched
        self.by_column.update(other.by_column)
        self.unchecked.update(other.unchecked)
        self.examples = (self.examples + other.examples)[:EXAMPLES_KEPT]
        return self


class _Saved(msgspec.Struct):
    """A state of our own, kept between runs (MessagePack)."""

    journal_offset: int
    journal_owner: str | None
    meta: bytes
    arrays: dict[str, tuple[str, bytes]]
    """Name -> numpy dtype and bytes."""


async def check_shard(
    log: Log,
    topics: TopicNames,
    shard: int,
    samples: Sequence[Sample],
    config: CoreConfig,
    scorers: Callable[[str], Scorer],
    *,
    keep: Path | None = None,
    name_of: Callable[[str], str] = str,
    progress: Callable[[float], None] = lambda _done: None,
) -> Skew:
    """Recompute the samples of one shard.

    `name_of` gives a user's name in the samples, where results have pseudonyms. `keep` is the
    directory in which the state stays for the next run; without it, nothing stays. Raises
    StateError if the log has lost what is needed, ArtifactError if a model has.
    """
    names = (topics.clickstream, topics.orders)
    found = Skew(sampled=len(samples))
    wanted = _by_step(samples, found)
    journal = Journal(log, topics.journal, shard, owner="")
    first, end = await log.ends(topics.journal, shard)
    state, offset, owner = await _begin(log, topics, shard, first, keep)
    entries = await journal.entries(max(first, offset), end)
    rewritten = [at for at, entry in entries if isinstance(entry, Rewritten)]
    if rewritten:
        state, offset, owner = await _checkpoint(log, topics, shard, first)
        if offset <= rewritten[-1]:
            found.unchecked["since a command changed the state"] += sum(map(len, wanted.values()))
            return found
        entries = [(at, entry) for at, entry in entries if at >= offset]
    known = owner if offset >= first else None
    plans = valid_steps((entry for _, entry in entries), known)
    plans = [plan for plan in plans if plan.seq > state.meta.seq]
    if plans and not follows(plans[0].seq, state.meta.seq):
        raise StateError(
            f"The journal {topics.journal}/{shard} begins at step {position_of(plans[0].seq)}; the "
            f"state to go on from is at step {position_of(state.meta.seq)}, and the steps between "
            "are gone, or the shard was started over. Delete the directory given with --keep, and "
            "run this more often than the journal's retention."
        )
    # Older samples: of steps before, or of an earlier life, whose journal is gone.
    begins = plans[0].seq if plans else state.meta.seq + 1
    # Rows come in the order of steps: those after the newest sample may still be on their way.
    last = max(wanted, default=0)
    plans = [plan for plan in plans if plan.seq <= last]
    if plans and not state.meta.seq:
        state.meta.offsets = list(plans[0].start)
    for seq in [seq for seq in wanted if seq < begins]:
        found.unchecked["before where this run begins"] += len(wanted.pop(seq))
    names_known = _Names(name_of)
    done = 0
    for part in _parts(plans):
        spans = [(part[0].start[s], part[-1].stop[s]) for s in SOURCES]
        read = [await log.read(names[s], shard, *spans[s]) for s in SOURCES]
        for plan in part:
            scorer = scorers(plan.champion)
            records = [_cut(read[s], plan.start[s], plan.stop[s]) for s in SOURCES]
            step(state, plan, records, config, scorer)
            if plan.seq in wanted:
                _compare(state, names_known.resolved(state, wanted.pop(plan.seq)), scorer, found)
        done += len(part)
        progress(done / len(plans))
    found.unchecked["after the log ends"] += sum(map(len, wanted.values()))
    found.unchecked = +found.unchecked
    if keep is not None:
        _save(keep, shard, state, *_go_on_at(entries, state.meta.seq, (max(first, offset), owner)))
    return found


def _go_on_at(
    entries: Sequence[tuple[int, Entry]], seq: int, before: tuple[int, str | None]
) -> tuple[int, str | None]:
    """The journal offset after step `seq`, and who owned the shard there."""
    at, owner = before
    current = owner
    for offset, entry in entries:
        if isinstance(entry, Takeover):
            current = entry.owner
        elif isinstance(entry, Step) and entry.plan.seq <= seq:
            at, owner = offset + 1, entry.owner if current is None else current
    return at, owner


def _by_step(samples: Iterable[Sample], found: Skew) -> dict[int, list[Sample]]:
    wanted: dict[int, list[Sample]] = defaultdict(list)
    for sample in samples:
        if sample.features_hash != FEATURES_HASH or len(sample.x) != len(FEATURE_NAMES):
            found.unchecked["made by another version, with other features"] += 1
        else:
            wanted[sample.seq].append(sample)
    return wanted


class _Names:
    """Finds users by the names that results have."""

    def __init__(self, name_of: Callable[[str], str]) -> None:
        self._name_of = name_of
        self._user_of: dict[str, str] = {}
        self._named: set[str] = set()

    def resolved(self, state: ShardState, samples: Sequence[Sample]) -> list[Sample]:
        """The samples with user ids as the state has them."""
        if self._name_of is str:
            return list(samples)
        self._learn(state.rows_by_user)
        if any(s.user_id not in self._user_of for s in samples):
            self._learn(state.parked.everyone(0)[0])
        return [replace(s, user_id=self._user_of.get(s.user_id, s.user_id)) for s in samples]

    def _learn(self, users: Iterable[str]) -> None:
        for user in set(users) - self._named:
            self._named.add(user)
            self._user_of[self._name_of(user)] = user


def _parts(plans: Sequence[Plan]) -> Iterable[Sequence[Plan]]:
    """Runs of steps that take about READ_RECORDS records together."""
    start = total = 0
    for i, plan in enumerate(plans):
        total += sum(plan.stop) - sum(plan.start)
        if total >= READ_RECORDS:
            yield plans[start : i + 1]
            start, total = i + 1, 0
    if start < len(plans):
        yield plans[start:]


def _cut(records: Records, start: int, stop: int) -> Records:
    first, last = np.searchsorted(records.offsets, (start, stop))
    return records[int(first) : int(last)]


def _compare(state: ShardState, samples: Sequence[Sample], scorer: Scorer, found: Skew) -> None:
    """Right after its step, a sample's user has the very state that was scored."""
    known = []
    for sample in samples:
        if state.knows(sample.user_id):
            known.append(sample)
        else:
            _note(found, state, sample, [("user_id", 1.0, 0.0)])
    if not known:
        return
    # Who was parked by that step gets a row, and is parked again by a later sweep.
    rows = state.rows_of(Texts.of([s.user_id for s in known]))
    x = features(state, rows, state.meta.clock_ms)
    made = scorer.score(x, state.meta.learner)
    scores = np.stack([made.p_churn, made.p_champion, made.p_learner, made.spend], axis=1)
    for sample, row, score in zip(known, x, scores, strict=True):
        differ = [
            (FEATURE_NAMES[i], float(sample.x[i]), float(row[i])) for i in _unequal(sample.x, row)
        ]
        differ += [
            (SCORES[i], float(sample.scores[i]), float(score[i]))
            for i in _unequal(sample.scores, score)
        ]
        if sample.scored_at_ms != state.meta.clock_ms:
            differ.append(("scored_at", sample.scored_at_ms, state.meta.clock_ms))
        _note(found, state, sample, differ)


def _unequal(a: NDArray[np.float32], b: NDArray[np.float32]) -> list[int]:
    """Where the bits differ; one "unknown" is like another."""
    bits = np.ascontiguousarray(a).view(np.uint32) != np.ascontiguousarray(b).view(np.uint32)
    return np.flatnonzero(bits & ~(np.isnan(a) & np.isnan(b))).tolist()


def _note(
    found: Skew, state: ShardState, sample: Sample, differ: list[tuple[str, float, float]]
) -> None:
    found.checked += 1
    found.mismatched += bool(differ)
    for column, live, offline in differ:
        found.by_column[column] += 1
        if len(found.examples) < EXAMPLES_KEPT:
            found.examples.append(
                Difference(state.meta.shard, sample.seq, sample.user_id, column, live, offline)
            )


# -- where to begin


async def _begin(
    log: Log, topics: TopicNames, shard: int, first: int, keep: Path | None
) -> tuple[ShardState, int, str | None]:
    """(state, journal offset to go on from, owner of the shard there)."""
    saved = _load(keep, shard)
    if saved is not None:
        return saved
    empty = ShardState(shard, len(FEATURE_NAMES))
    if first == 0:
        return empty, 0, None
    return await _checkpoint(log, topics, shard, first)


async def _checkpoint(
    log: Log, topics: TopicNames, shard: int, first: int
) -> tuple[ShardState, int, str | None]:
    empty = ShardState(shard, len(FEATURE_NAMES))
    stored = await CheckpointStore(log, topics.checkpoints, shard, "skew").load()
    if stored is None:
        return empty, first, None
    manifest = stored.manifest
    state = snapshot.load(stored.meta, stored.arrays, len(FEATURE_NAMES))
    return state, manifest.journal_offset, manifest.journal_owner


def _path(keep: Path, shard: int) -> Path:
    return keep / f"shard-{shard}.state"


def _save(keep: Path, shard: int, state: ShardState, offset: int, owner: str | None) -> None:
    meta, arrays = snapshot.exported(state)
    packed = {name: (a.dtype.str, a.tobytes()) for name, a in arrays.items()}
    keep.mkdir(parents=True, exist_ok=True)
    path = _path(keep, shard)
    fresh = path.with_suffix(".new")
    fresh.write_bytes(msgspec.msgpack.encode(_Saved(offset, owner, meta, packed)))
    os.replace(fresh, path)


def _load(keep: Path | None, shard: int) -> tuple[ShardState, int, str | None] | None:
    if keep is None or not _path(keep, shard).exists():
        return None
    path = _path(keep, shard)
    try:
        saved = msgspec.msgpack.decode(path.read_bytes(), type=_Saved)
        arrays: dict[str, NDArray[Any]] = {
            name: np.frombuffer(bytearray(raw), np.dtype(dtype))
            for name, (dtype, raw) in saved.arrays.items()
        }
        state = snapshot.load(saved.meta, arrays, len(FEATURE_NAMES))
    except (OSError, ValueError, KeyError, msgspec.DecodeError) as error:
        raise StateError(
            f"{path} can't be used ({error}). Delete it; the next run starts from the log."
        ) from error
    return state, saved.journal_offset, saved.journal_owner
