"""What new definitions would change now, and what they would have been on past days. Pure.

A shard's state says who would be a member at this moment. Of past days it has the open label
questions: each customer was asked on one day in every horizon, set by a hash, and what was known
then is kept. So the questions of one day are a sample of the customers of that day.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from schemas.definitions import SegmentDefinition
from schemas.features import FEATURE_NAMES
from schemas.segments import DIMENSIONS
from streams.core.features import DAY_MS, features
from streams.core.quantities import VALUE_RANK, UserQuantities, value_bin
from streams.core.rulebook import Rulebook
from streams.core.segments import count_ranks, first_true
from streams.core.state.ranks import rank_bin, share_below
from streams.core.state.shard_state import ShardState
from streams.rules import RuleSet
from streams.rules.compile import defined_by

__all__ = ["MAX_EXAMPLES", "Explained", "Preview", "SegmentPreview", "explain", "preview"]

MAX_EXAMPLES: Final = 5
_CHUNK: Final = 20_000  # users at a time: their features take 13 MB
_ALIKE: Final = {"orders": "lifetime_orders", "order_age": "days_since_order"}
_AS_ASKED: Final = {*FEATURE_NAMES, "p_churn", "expected_spend", *_ALIKE}
"""Names whose values are kept with a label question."""


@dataclass
class SegmentPreview:
    """One segment of the new definitions; sums over all shards."""

    size_in_force: int = 0
    size: int = 0
    """Members if the new definitions were in force now, holds aside."""
    enters: int = 0
    leaves: int = 0
    overlap: Counter[str] = field(default_factory=Counter)
    """Members that other segments of the new definitions have as well."""
    examples: list[Explained] = field(default_factory=list)
    past: dict[int, PastDay] = field(default_factory=dict)
    """By day (since 1970 UTC)."""
    past_unknown: str = ""
    """The name for which there are no past values; empty: there are for all."""


@dataclass
class PastDay:
    """What the label questions of one day say of a segment."""

    asked: int = 0
    """Customers asked about, who are a sample."""
    members: int = 0
    """Those of them for whom the condition was true."""
    weight: float = 0.0
    """So many customers each of them stands for."""

    @property
    def estimate(self) -> float:
        """Members among all who are asked about in turn."""
        return self.members * self.weight

    @property
    def error(self) -> float:
        """Half of the 95 % interval of the estimate, as of a Poisson count; if nobody was a member,
        its upper end (the rule of three: Hanley and Lippman-Hand, JAMA 1983)."""
        return self.weight * (1.96 * float(np.sqrt(self.members)) if self.members else 3.0)


@dataclass(frozen=True)
class Explained:
    """One user and what each comparison of a rule saw."""

    user: str
    lines: list[str]


@dataclass
class Preview:
    """All segments of new definitions; sums over all shards."""

    users: int = 0
    as_of_ms: int = 0
    """The oldest clock of the shards' checkpoints."""
    segments: dict[str, SegmentPreview] = field(default_factory=dict)


def preview(state: ShardState, book: Rulebook, into: Preview) -> None:
    """Add one shard. `state` is used up: parked users get rows again."""
    names = [each.name for each in book.definitions.segments]
    for name in names:
        into.segments.setdefault(name, SegmentPreview())
    while len(state.parked):
        state.unpark_oldest(_CHUNK)
    now_ms = state.meta.clock_ms
    into.as_of_ms = min(into.as_of_ms or now_ms, now_ms)
    bits = {slot.name: i for i, slot in enumerate(state.meta.segment_slots) if slot is not None}
    everybody = np.flatnonzero(state.rows_by_user.named(np.arange(state.n)))
    into.users += len(everybody)
    _rank(state, everybody, book, now_ms)
    for first in range(0, len(everybody), _CHUNK):
        rows = everybody[first : first + _CHUNK]
        q = UserQuantities(state, rows, features(state, rows, now_ms), now_ms, book.rules)
        members = _members(book, q, _in_force(state, rows, names, bits))
        for name in names:
            before = _member(state, rows, bits.get(name))
            after, found = members[name], into.segments[name]
            found.size_in_force += int(before.sum())
            found.size += int(after.sum())
            found.enters += int((after & ~before).sum())
            found.leaves += int((before & ~after).sum())
            for other in names:
                if other != name:
                    found.overlap[other] += int((after & members[other]).sum())
            wanted = MAX_EXAMPLES - len(found.examples)
            shown = np.flatnonzero(after & ~before if (after & ~before).any() else after)[:wanted]
            found.examples += [
                Explained(str(state.users[rows[i : i + 1]][0]), book.rules.explain(name, q, i))
                for i in shown.tolist()
            ]
    _add_past(state, book, into)


def _rank(state: ShardState, everybody: NDArray[np.int64], book: Rulebook, now_ms: int) -> None:
    """Let ranks be those of now: the sweep that counts them would come with the definitions."""
    state.ranks.keep(book.ranks)
    state.ranks.start_sweep()
    for first in range(0, len(everybody) if book.ranks else 0, _CHUNK):
        rows = everybody[first : first + _CHUNK]
        q = UserQuantities(state, rows, features(state, rows, now_ms), now_ms, book.rules)
        count_ranks(state, q, rows, rows, now_ms, book.definitions.lapsed_after_ms)
    state.ranks.end_sweep()


@dataclass(frozen=True)
class Standing:
    """Whether a user is in a segment now, and what its rules say."""

    member: bool
    explained: Explained


def explain(state: ShardState, book: Rulebook, segment: str, user: str) -> Standing | None:
    """Why a user is in a segment or not, by the state; None if the shard does not know the user."""
    if not state.knows(user):
        return None
    while user not in state.rows_by_user:
        state.unpark_oldest(_CHUNK)
    rows = np.array([state.rows_by_user.get(user)], np.int64)
    now_ms = state.meta.clock_ms
    q = UserQuantities(state, rows, features(state, rows, now_ms), now_ms, book.rules)
    names = [each.name for each in book.definitions.segments]
    bits = {slot.name: i for i, slot in enumerate(state.meta.segment_slots) if slot is not None}
    for name, member in _in_force(state, rows, names, bits).items():
        q.flags[f"segment.{name}"] = member
    lines = book.rules.explain(segment, q, 0)
    leave = f"{segment}.leave"
    if leave in book.rules.rules:
        lines += ["and leaves when:", *book.rules.explain(leave, q, 0)]
    return Standing(bool(q.flags[f"segment.{segment}"][0]), Explained(user, lines))


def _member(state: ShardState, rows: NDArray[np.int64], bit: int | None) -> NDArray[np.bool_]:
    if bit is None:
        return np.zeros(len(rows), np.bool_)
    member: NDArray[np.bool_] = (state.columns.segments[rows] & np.uint64(1 << bit)) != 0
    return member


def _in_force(
    state: ShardState, rows: NDArray[np.int64], names: Sequence[str], bits: Mapping[str, int]
) -> dict[str, NDArray[np.bool_]]:
    return {name: _member(state, rows, bits.get(name)) for name in names}


def _members(
    book: Rulebook, q: UserQuantities, before: Mapping[str, NDArray[np.bool_]]
) -> dict[str, NDArray[np.bool_]]:
    """Who is in each segment if these rules were applied now; members stay as `leave` says."""
    evaluation = book.rules.begin(q)
    members: dict[str, NDArray[np.bool_]] = {}
    outcomes: dict[str, NDArray[np.bool_]] = {}
    for rule in book.order:
        name = rule.partition(".")[0]
        if name in DIMENSIONS:
            continue
        outcomes[rule] = evaluation.outcome(rule).true
        if book.last_of[f"segment.{name}"] != rule:
            continue
        stays = before[name]
        if f"{name}.leave" in outcomes:
            stays = stays & ~outcomes[f"{name}.leave"]
        else:
            stays = np.zeros(q.size, np.bool_)
        members[name] = outcomes[name] | stays
        q.flags[f"segment.{name}"] = members[name]
    return members


class _Asked:
    """Quantities as they were when users were asked about; see `streams.rules.Quantities`. Ranks
    are among the customers of now."""

    def __init__(
        self, state: ShardState, x: NDArray[np.float32], scores: NDArray[Any], rules: RuleSet
    ) -> None:
        self._state, self._x, self._scores, self._rules = state, x, scores, rules
        self.flags: dict[str, NDArray[np.bool_]] = {}
        self.codes: dict[str, NDArray[np.int8]] = {}

    @property
    def size(self) -> int:
        return len(self._x)

    def number(self, name: str) -> NDArray[np.float64]:
        if name == "p_churn":
            return self._scores[:, 0].astype(np.float64)
        if name == "expected_spend":
            return self._scores[:, 3].astype(np.float64)
        column = FEATURE_NAMES.index(_ALIKE.get(name, name))
        return self._x[:, column].astype(np.float64)

    def code(self, name: str) -> NDArray[np.integer[Any]]:
        return self.codes[name]

    def flag(self, name: str) -> NDArray[np.bool_]:
        return self.flags[name]

    def rank(self, name: str) -> NDArray[np.float64]:
        numbers = self._rules.begin(self).number(name)
        if name == VALUE_RANK:
            bins = np.where(np.isnan(numbers), -1, value_bin(numbers.astype(np.float32)))
            return share_below(self._state.values_in_force, bins)
        return self._state.ranks.share_below(name, rank_bin(numbers))


def _add_past(state: ShardState, book: Rulebook, into: Preview) -> None:
    unknown = _not_kept(book)
    for name, found in into.segments.items():
        found.past_unknown = unknown.get(f"segment.{name}", "")
    for horizon_days, queue in state.questions.by_horizon.items():
        questions = queue.everything()
        if len(questions.rows):
            q = _Asked(state, questions.x, questions.scores, book.rules)
            day = questions.asked_ms // DAY_MS
            for name, member in _members_then(book, q, unknown).items():
                found = into.segments[name]
                for each in np.unique(day).tolist():
                    sample = found.past.setdefault(each, PastDay())
                    sample.asked += int((day == each).sum())
                    sample.members += int(member[day == each].sum())
                    sample.weight = float(horizon_days)


def _members_then(
    book: Rulebook, q: _Asked, unknown: Mapping[str, str]
) -> dict[str, NDArray[np.bool_]]:
    """Whose `when` was true when they were asked about, of the segments that can be told."""
    evaluation = book.rules.begin(q)
    members: dict[str, NDArray[np.bool_]] = {}
    for rule in book.order:
        thing = defined_by(rule)
        if book.last_of[thing] != rule or unknown.get(thing):
            continue
        if thing in DIMENSIONS:
            cases = [(name, evaluation.outcome(at).true) for name, at in book.cases[thing]]
            q.codes[thing] = first_true(cases, thing, q.size)
        else:
            name = rule.partition(".")[0]
            members[name] = q.flags[thing] = evaluation.outcome(name).true
    return members


def _not_kept(book: Rulebook) -> dict[str, str]:
    """What is defined -> the first name that it needs whose past values are not kept."""
    unknown: dict[str, str] = {}
    for rule in book.order:
        thing = defined_by(rule)
        for name in sorted(book.rules.names_of(rule)):
            of = name.removeprefix("rank(").removesuffix(")")
            if of in DIMENSIONS or of.startswith("segment."):
                reason = unknown.get(of, "")
            else:
                reason = "" if of in _AS_ASKED or of in book.rules.numbers else of
            if reason:
                unknown.setdefault(thing, reason)
    return unknown


def cost_ns(book: Rulebook, segment: SegmentDefinition) -> float:
    """Roughly, nanoseconds per user whenever one is looked at."""
    leave = f"{segment.name}.leave"
    cost = book.rules.cost_ns(segment.name)
    return cost + (book.rules.cost_ns(leave) if leave in book.rules.rules else 0.0)
