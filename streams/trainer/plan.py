"""Decides what the trainer does next. Pure: clock and everything seen are arguments.

Time is counted by the labels: it is the time up to which every shard's questions have matured. So
a replay of a year and a year behave alike, and a shop that stands still is not trained on again.

In this order, one at a time:

1. A promotion that was decided but not completed is completed.
2. A challenger waits until the labels of `judge_days` have become known that neither it nor the
   champion was trained on. Then it is judged by them. No other is trained meanwhile.
3. A challenger is trained when the labels of `retrain_days` have become known since the newest
   training, or when drift was noticed since. It learns what was known at the cut. That is a point
   of a fixed grid, not the moment of the decision: a trainer that was killed makes the same
   challenger again. A trainer that comes late takes a point behind which the labels of
   `judge_days` are known already, and judges at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import msgspec

from streams.core.features import DAY_MS

__all__ = [
    "RETRY_DAYS",
    "Action",
    "Challenger",
    "Complete",
    "Current",
    "Decision",
    "Judge",
    "Reject",
    "Rules",
    "Seen",
    "Train",
    "Wait",
    "Why",
    "known_until",
    "labels_between",
    "next_action",
    "removable",
]

RETRY_DAYS: Final = 7
"""A training that failed for lack of labels is tried again after so many days of them."""
_SHARD_SILENT_DAYS: Final = 7
"""A shard whose newest label is so much older than the others' no longer holds the clock back."""
_JOURNAL_DAYS: Final = 8
"""Journals are kept for a week, and name the model that scored each step."""

Why = Literal["schedule", "drift"]


@dataclass(frozen=True)
class Rules:
    """When to train and to judge, in days of labels; `keep`: judged challengers that stay."""

    retrain_days: int
    judge_days: int
    min_labels: int
    """New labels without which nothing is trained."""
    judge_labels: int
    """Labels without which nothing is judged."""
    on_drift: bool
    keep: int


@dataclass(frozen=True)
class Current:
    """The champion: the model that `CURRENT` names. `outputs`: what its files compute."""

    version: str
    horizon_days: int
    labels_until_ms: int
    outputs: frozenset[str]


@dataclass(frozen=True)
class Challenger:
    """A model that a trainer made, judged or not. It learned what was known at `cut_ms`."""

    version: str
    horizon_days: int
    cut_ms: int
    outputs: frozenset[str]
    why: Why = "schedule"
    trained_at_ms: int = 0
    rows: int = 0


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """The verdict on one challenger, as the store keeps it. Times in ms since 1970."""

    number: int
    """One more than the decision before."""
    version: str
    champion: str
    """What it was compared with, and replaces if it won."""
    promote: bool
    why: str
    cut_ms: int
    """Up to when the challenger's labels were known."""
    decided_at_ms: int
    rows: int = 0
    """Labels it was judged by, those that became known in (after, until]."""
    after_ms: int = 0
    until_ms: int = 0
    log_loss: tuple[float | None, float | None] = (None, None)
    """The champion's and the challenger's, in nats; None: not compared."""
    deviance: tuple[float | None, float | None] = (None, None)


@dataclass(frozen=True)
class Seen:
    """Everything that is there now.

    made: the trainers' models in the store. decisions: in their order, numbered from 1.
    completed: numbers of those whose promotion is done. matured: labels by the day, since 1970, in
    which they became known; known_ms: up to when they are complete, 0 if there are none. drift_ms:
    when the newest drift was noticed, 0 if none was. failed_cut_ms: the newest cut that could not
    be trained on, 0 if there is none.
    """

    current: Current
    made: Sequence[Challenger]
    decisions: Sequence[Decision]
    completed: frozenset[int]
    matured: Mapping[int, int]
    known_ms: int
    drift_ms: int = 0
    failed_cut_ms: int = 0

    @property
    def undecided(self) -> list[Challenger]:
        """Challengers that wait, the oldest first."""
        decided = {decision.version for decision in self.decisions}
        waiting = (made for made in self.made if made.version not in decided)
        return sorted(waiting, key=lambda made: (made.cut_ms, made.version))

    @property
    def trained_until_ms(self) -> int:
        """The newest cut, also of models that have been removed; 0 if there is none."""
        cuts = [*(made.cut_ms for made in self.made), *(d.cut_ms for d in self.decisions)]
        return max(cuts, default=0)


@dataclass(frozen=True)
class Complete:
    """Do what was decided: name the winner in `CURRENT` if that still names whom it beat."""

    decision: Decision


@dataclass(frozen=True)
class Judge:
    """Compare with the champion by the labels that became known in (after, until]."""

    challenger: Challenger
    after_ms: int
    until_ms: int


@dataclass(frozen=True)
class Reject:
    """Decide against a challenger that can't be compared."""

    challenger: Challenger
    why: str


@dataclass(frozen=True)
class Train:
    """Train on what was known at the cut."""

    cut_ms: int
    why: Why


@dataclass(frozen=True)
class Wait:
    """Nothing to do. `state`: idle, or waiting with a challenger."""

    state: Literal["idle", "waiting"]
    why: str


Action = Complete | Judge | Reject | Train | Wait


def known_until(newest_ms: Mapping[int, int]) -> int:
    """Up to when all labels are known, given each shard's newest; 0 without any.

    Shards are not equally far: what the slowest has not answered is not known. One that has been
    silent for a week, or no longer exists, is left out.
    """
    last = max(newest_ms.values(), default=0)
    return min(
        (ms for ms in newest_ms.values() if ms > last - _SHARD_SILENT_DAYS * DAY_MS), default=0
    )


def labels_between(matured: Mapping[int, int], after_ms: int, until_ms: int) -> int:
    """About how many labels became known in (after, until]: whole days, those that touch it."""
    if until_ms <= after_ms:
        return 0
    first, last = after_ms // DAY_MS, (until_ms - 1) // DAY_MS
    return sum(count for day, count in matured.items() if first <= day <= last)


def next_action(seen: Seen, rules: Rules) -> Action:
    """What to do now; see the module for the order."""
    for decision in seen.decisions:
        if decision.promote and decision.number not in seen.completed:
            return Complete(decision)
    for challenger in seen.undecided:
        return _with(challenger, seen, rules)
    return _training(seen, rules)


def _with(challenger: Challenger, seen: Seen, rules: Rules) -> Action:
    """What becomes of one that waits."""
    champion = seen.current
    if challenger.version == champion.version:
        return Reject(challenger, "somebody has put it into use without a comparison")
    if challenger.horizon_days != champion.horizon_days:
        return Reject(
            challenger,
            f"it looks {challenger.horizon_days} days ahead, the champion {champion.horizon_days}",
        )
    if missing := champion.outputs - challenger.outputs:
        return Reject(challenger, f"it lacks {', '.join(sorted(missing))}, which the champion has")
    after_ms = max(challenger.cut_ms, champion.labels_until_ms)
    due_ms = after_ms + rules.judge_days * DAY_MS
    labels = labels_between(seen.matured, after_ms, seen.known_ms)
    if seen.known_ms >= due_ms and labels >= rules.judge_labels:
        return Judge(challenger, after_ms, seen.known_ms)
    return Wait(
        "waiting",
        f"{challenger.version} is judged once the labels of {rules.judge_days} days, and "
        f"{rules.judge_labels:,} of them, are known; {labels:,} are",
    )


def _training(seen: Seen, rules: Rules) -> Train | Wait:
    # A challenger that knows nothing newer than the champion can't be better by much.
    base_ms = max(seen.trained_until_ms, seen.current.labels_until_ms)
    why: Why = "schedule"
    if seen.failed_cut_ms > base_ms:
        tried_ms, days = seen.failed_cut_ms, RETRY_DAYS
    else:
        tried_ms, days = base_ms, rules.retrain_days
    cut_ms = _cut(tried_ms, days, seen.known_ms, rules)
    if cut_ms <= tried_ms and rules.on_drift and seen.drift_ms > tried_ms:
        # Not before the answer to an earlier alarm can have been judged.
        after_pause_ms = _cut(tried_ms, rules.judge_days, seen.known_ms, rules)
        if after_pause_ms >= seen.drift_ms:
            cut_ms, why = after_pause_ms, "drift"
    if cut_ms <= tried_ms:
        return Wait("idle", f"the next training needs the labels of {days} more days")
    fresh = labels_between(seen.matured, base_ms, cut_ms)
    if fresh < rules.min_labels:
        return Wait(
            "idle",
            f"{fresh:,} labels have become known since the newest training; "
            f"{rules.min_labels:,} are needed",
        )
    return Train(cut_ms, why)


def _cut(base_ms: int, days: int, known_ms: int, rules: Rules) -> int:
    """The newest point of a grid of so many days; `base_ms` itself if there is none yet. If even
    a later point can be judged at once, the newest such one: of a finer grid, so that it is recent.
    """
    can_be_judged_ms = known_ms - rules.judge_days * DAY_MS
    late_ms = _grid(base_ms, min(days, rules.judge_days), can_be_judged_ms)
    return late_ms if late_ms >= base_ms + days * DAY_MS else _grid(base_ms, days, known_ms)


def _grid(base_ms: int, days: int, known_ms: int) -> int:
    """The newest point up to `known_ms` of a grid of so many days that begins at the first midnight
    from `base_ms` on; `base_ms` itself if there is none yet."""
    begin_ms, step_ms = -(-base_ms // DAY_MS) * DAY_MS, days * DAY_MS
    steps = (known_ms - begin_ms) // step_ms
    return begin_ms + steps * step_ms if steps > 0 else base_ms


def removable(seen: Seen, rules: Rules, now_ms: int) -> list[Challenger]:
    """Models of trainers that nobody needs any more. Judged ones beyond the `keep` newest go; the
    champion, one that waits, and a champion that was replaced within eight days (a journal may
    still name it, to recover by) stay. Models of people always stay."""
    waiting = {challenger.version for challenger in seen.undecided}
    replaced = {
        decision.champion: decision.decided_at_ms for decision in seen.decisions if decision.promote
    }
    needed = {
        version for version, at in replaced.items() if at > now_ms - _JOURNAL_DAYS * DAY_MS
    } | {decision.version for decision in seen.decisions
         if decision.promote and decision.number not in seen.completed}  # fmt: skip
    judged = sorted(
        (made for made in seen.made if made.version not in waiting | {seen.current.version}),
        key=lambda made: (made.cut_ms, made.version),
        reverse=True,
    )
    return [made for made in judged[rules.keep :] if made.version not in needed]
