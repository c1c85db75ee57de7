"""One trainer: looks at labels and models, does the one thing that is due, and tells of it.

Everything that must survive is in the store of models (`streams.trainer.store`). So a trainer may
be killed at any moment, and the next one, here or elsewhere, goes on:

    killed while it trains                nothing is there; the same challenger is made again
    behind the artifact                   the challenger waits for its decision
    behind the decision                   the promotion is completed
    behind `CURRENT`                      the promotion is marked as completed
    before its rows are in ClickHouse     they are written again: the same rows
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Protocol

from models.places import Place
from models.training.promotion import Verdict
from schemas.errors import ArtifactError
from streams.clickhouse.label_counts import LabelCounts
from streams.telemetry.metrics import Metrics
from streams.trainer import rows
from streams.trainer.plan import (
    Action,
    Challenger,
    Complete,
    Current,
    Decision,
    Judge,
    Reject,
    Rules,
    Seen,
    Train,
    Wait,
    Why,
    known_until,
    labels_between,
    next_action,
    removable,
)
from streams.trainer.store import ModelStore, Superseded
from streams.trainer.training import TooFew

__all__ = ["Labels", "Trainer"]

_log = logging.getLogger(__name__)


class Labels(Protocol):
    """Where labels are counted, learned from and judged by (`streams.trainer.training`)."""

    def counts(self, horizon_days: int) -> LabelCounts: ...
    def train(self, root: Place, current: Current, cut_ms: int, why: Why) -> str: ...
    def judge(
        self, root: Place, current: Current, challenger: Challenger, after_ms: int, until_ms: int
    ) -> Verdict: ...


class Trainer:
    """`write` takes rows of `trainer_log` and says whether they arrived; `wall_ms` is the clock."""

    def __init__(
        self,
        store: ModelStore,
        labels: Labels,
        rules: Rules,
        write: Callable[[Sequence[rows.Row]], bool],
        metrics: Metrics,
        wall_ms: Callable[[], int],
    ) -> None:
        self._store = store
        self._labels = labels
        self._rules = rules
        self._write = write
        self._metrics = metrics
        self._wall_ms = wall_ms
        self._failed_cut_ms = 0
        self._failures: list[rows.Row] = []
        self._told: set[tuple[str, str]] = set()
        self._said = ""

    def turn(self) -> Action:
        """One look, and what is due; returns what that was. `Wait`: nothing is due now.

        Raises SinkUnavailable, SinkRefused, ModelsUnavailable, and ArtifactError if the champion
        can't be read.
        """
        seen = self._look()
        action = next_action(seen, self._rules)
        try:
            self._do(action, seen)
        except Superseded:
            _log.info("another trainer has decided first; looking again")
        self._store.look()
        self._tidy(seen)
        self._tell()
        return action

    def _look(self) -> Seen:
        self._store.look()
        current = self._store.current
        counts = self._labels.counts(current.horizon_days)
        seen = Seen(
            current=current,
            made=self._store.made,
            decisions=self._store.decisions,
            completed=self._store.completed,
            matured=counts.matured,
            known_ms=known_until(counts.newest_ms),
            drift_ms=counts.drift_ms,
            failed_cut_ms=self._failed_cut_ms,
        )
        self._metrics.trainer_new_labels.set(
            labels_between(seen.matured, seen.trained_until_ms, seen.known_ms)
        )
        return seen

    def _do(self, action: Action, seen: Seen) -> None:
        match action:
            case Complete(decision):
                self._complete(decision)
            case Judge(challenger, after_ms, until_ms):
                self._state("judging")
                self._judge(challenger, seen.current, after_ms, until_ms)
            case Reject(challenger, why):
                self._decide(challenger, seen.current, Verdict(False, why, 0, _NONE, _NONE), 0, 0)
            case Train():
                self._state("training")
                self._train(action, seen.current)
            case Wait(state, why):
                self._state(state)
                if why != self._said:
                    self._said = why
                    _log.info("%s: %s", state, why)

    def _train(self, action: Train, current: Current) -> None:
        _log.info("training on the labels up to %s (%s)", _day(action.cut_ms), action.why)
        started = self._wall_ms()
        try:
            version = self._labels.train(self._store.root, current, action.cut_ms, action.why)
        except TooFew as error:
            self._failed_cut_ms = action.cut_ms
            self._metrics.trainer_trainings.labels("too_few").inc()
            self._failures.append(
                rows.too_few(action, str(error), current.version, self._wall_ms())
            )
            _log.warning("no training on the labels up to %s: %s", _day(action.cut_ms), error)
            return
        seconds = (self._wall_ms() - started) / 1000
        self._metrics.trainer_trainings.labels("trained").inc()
        self._metrics.trainer_training_seconds.set(seconds)
        _log.info("challenger %s was trained in %.0f s", version, seconds)

    def _judge(
        self, challenger: Challenger, current: Current, after_ms: int, until_ms: int
    ) -> None:
        try:
            verdict = self._labels.judge(self._store.root, current, challenger, after_ms, until_ms)
        except ArtifactError as error:
            verdict = Verdict(False, f"it can't be compared: {error}", 0, _NONE, _NONE)
        self._decide(challenger, current, verdict, after_ms, until_ms)

    def _decide(
        self, challenger: Challenger, current: Current, verdict: Verdict, after_ms: int,
        until_ms: int,
    ) -> None:  # fmt: skip
        decision = self._store.decide(
            lambda number: Decision(
                number=number,
                version=challenger.version,
                champion=current.version,
                promote=verdict.promote,
                why=verdict.why,
                cut_ms=challenger.cut_ms,
                decided_at_ms=self._wall_ms(),
                rows=verdict.rows,
                after_ms=after_ms,
                until_ms=until_ms,
                log_loss=_known(verdict.log_loss),
                deviance=_known(verdict.deviance),
            )
        )
        self._metrics.trainer_decisions.labels("promoted" if verdict.promote else "rejected").inc()
        if verdict.promote:
            self._complete(decision)
        else:
            _log.info("challenger %s is rejected: %s", challenger.version, verdict.why)

    def _complete(self, decision: Decision) -> None:
        try:
            in_use = self._store.complete(decision)
        except ArtifactError as error:
            _log.error("challenger %s has won and can't be used: %s", decision.version, error)
            return
        if in_use:
            _log.info("challenger %s is the champion now: %s", decision.version, decision.why)
        else:
            _log.warning(
                "challenger %s has won over %s, which somebody has replaced meanwhile; it is not "
                "put into use",
                decision.version, decision.champion,
            )  # fmt: skip

    def _tidy(self, seen: Seen) -> None:
        """Remove what nobody needs any more."""
        here = Seen(
            self._store.current, self._store.made, self._store.decisions, self._store.completed,
            seen.matured, seen.known_ms,
        )  # fmt: skip
        for challenger in removable(here, self._rules, self._wall_ms()):
            _log.info("removing %s, which is neither used nor needed", challenger.version)
            self._store.remove(challenger)
        self._metrics.trainer_models.set(len(self._store.made))

    def _tell(self) -> None:
        """Write what is not in ClickHouse yet. It may be there from before a restart: the same rows
        count once."""
        champion = self._store.current.version
        decided = {d.version: d for d in self._store.decisions}
        new = [*self._failures]
        for challenger in self._store.made:
            won = decided.get(challenger.version)
            new.append(rows.trained(challenger, won.champion if won else champion))
        new += [rows.decided(decision) for decision in decided.values()]
        new = [row for row in new if _key(row) not in self._told]
        if new and self._write(new):
            self._told |= {_key(row) for row in new}
            self._failures = []

    def _state(self, state: str) -> None:
        self._metrics.set_trainer_state(state)


_NONE = (float("nan"), float("nan"))


def _known(pair: tuple[float, float]) -> tuple[float | None, float | None]:
    """JSON has no NaN."""
    return tuple(value if math.isfinite(value) else None for value in pair)  # type: ignore[return-value]


def _key(row: rows.Row) -> tuple[str, str]:
    return (row["version"] or str(row["labels_until"]), row["event"])


def _day(ms: int) -> str:
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d}"
