"""The evaluation itself: replay, cut, score, train, judge, promote, in the order of time.

At each weekly cut: the shard has taken in every order before it; the eligible users are scored;
the baselines score the same rows; and every four weeks a challenger is trained on what had matured
two weeks before, and judged on what has matured since. What a champion or the learner knows at a
cut is therefore what production would have known.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.artifact import load_artifact
from models.bands import BANDS, CUSTOMERS, FEW_ORDERS, band_of_rows
from models.baselines.baselines import Baselines, fit_baselines
from models.champion import Champion
from models.manifest import Eligibility, GroupGain
from models.training.promotion import Verdict, judge
from models.training.train import train
from schemas.definitions import Definitions
from schemas.errors import ArtifactError, SettingsError
from schemas.messages import Drift
from streams.core.config import CoreConfig
from streams.core.features import DAY_MS
from streams.evaluation.baselines import baseline_scores, history_summary
from streams.evaluation.history import History
from streams.evaluation.protocol import Protocol
from streams.evaluation.rhythm import HorizonFit
from streams.evaluation.rows import CLICK_ONLY, CutRows, cut_rows, matured, training_rows
from streams.evaluation.sequence import SEQUENCE_ROWS, SequenceChallenger
from streams.evaluation.shard import ReplayedShard
from streams.replay.records import Source

__all__ = ["RETRAIN_DAYS", "Promotion", "Replayed", "ReplayedHistory", "replay"]

RETRAIN_DAYS: Final = 28
FIRST_TRAINING_DAYS: Final = 84
"""The first champion comes so long before the test, if there is enough to train on by then."""
JUDGE_DAYS: Final = 14
"""A challenger is judged on the labels that became known in so many days after its training."""
TRAINING_ROWS: Final = 100_000
"""A challenger learns from about so many: weekly rows of one customer share most of their label."""

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Promotion:
    """One challenger: when, trained on how many rows of those that there were, and what became of
    it."""

    at_ms: int
    version: str
    rows: int
    of_rows: int
    promoted: bool
    why: str


@dataclass
class Replayed:
    """What a replay leaves: the cuts with all scores, and how the champions followed each other."""

    cuts: list[CutRows] = field(default_factory=list)
    """Of customers, as the protocol asks for."""
    few: list[CutRows] = field(default_factory=list)
    """The same cuts, of those with fewer orders; without scores while no champion knows them."""
    promotions: list[Promotion] = field(default_factory=list)
    labels_learned: int = 0
    steps: int = 0
    blend_weights: dict[int, float] = field(default_factory=dict)
    """Cut -> the learner's say."""
    refused: Counter[str] = field(default_factory=Counter)
    """Records that the shard could not use, by reason."""
    drifts: list[Drift] = field(default_factory=list)
    """Changes of customers that the learner noticed along the way."""
    feature_groups: list[GroupGain] = field(default_factory=list)
    """What each group of features gives the last champion, on what its training held back."""
    alerted: tuple[NDArray[np.int64], NDArray[np.int64]] = (
        np.empty(0, np.int64), np.empty(0, np.int64),
    )  # fmt: skip
    """Of each alert that the shard raised: the user (index into the history), and when (ms)."""


@dataclass(frozen=True)
class ReplayedHistory:
    """A history, how its customers' rhythm fits the horizon, and what its replay left."""

    source: Source
    history: History
    protocol: Protocol
    config: CoreConfig
    fit: HorizonFit
    replayed: Replayed


def replay(
    history: History,
    protocol: Protocol,
    config: CoreConfig,
    *,
    definitions: Definitions | None = None,
    batch_records: int = 500,
    seed: int = 7,
    threads: int = 1,
    progress: Progress = lambda _what, _done: None,
    challenger: SequenceChallenger | None = None,
) -> Replayed:
    """Replays `history`, by these definitions (None: what ships). The `challenger`, if there is
    one, is trained along the way and scores beside the champion. Raises SettingsError if no
    champion could be trained before the test."""
    config = replace(
        config,
        sweep_interval_ms=DAY_MS,
        keep_examples=False,  # training has its rows from the cuts
        keep_events_days=0,
        keep_features_days=0,
        min_orders=protocol.min_orders,
        active_within_ms=protocol.active_within_days * DAY_MS,
    )
    shard = ReplayedShard(
        history.records, config, protocol.horizon_days, batch_records, definitions,
        tails=challenger is not None,
    )  # fmt: skip
    number = {user: i for i, user in enumerate(history.users)}
    done = Replayed()
    baselines: Baselines | None = None
    with tempfile.TemporaryDirectory(prefix="tideline-evaluate-") as directory:
        trainer = _Trainer(protocol, Path(directory), seed, threads)
        for i, cut in enumerate(protocol.cuts):
            shard.run_until(cut)
            if _is_training_day(protocol, cut):
                trainer.challenge(shard, done, cut)
                near = cut >= protocol.test_from - RETRAIN_DAYS * DAY_MS
                if challenger is not None and near and challenger.due(cut):
                    trainer.rival(challenger, shard, done, cut)
                baselines = fit_baselines(history_summary(history, cut))
            if cut >= protocol.test_from and shard.champion is None:
                raise SettingsError(
                    "No champion could be trained before the test begins: "
                    + trainer.trouble
                    + _refusals(shard)
                )
            rows = shard.eligible(1, protocol.active_within_days)
            user = np.array([number[u] for u in shard.state.users[rows]], np.int64)
            x, events = shard.features(rows), shard.tails(rows)
            enough = band_of_rows(x, protocol.min_orders) == BANDS.index(CUSTOMERS)
            for band, at, to in (CUSTOMERS, enough, done.cuts), (FEW_ORDERS, ~enough, done.few):
                found = cut_rows(
                    history, cut, user[at], x[at], protocol.horizon_days,
                    events[at] if events is not None and band == CUSTOMERS else None,
                )  # fmt: skip
                if cut >= protocol.test_from and baselines is not None and _knows(shard, band):
                    _add_scores(found, shard, baselines, history, band)
                    if challenger is not None and found.events is not None:
                        _add_challenger(found, challenger)
                to.append(found)
            if cut >= protocol.test_from:
                done.blend_weights[cut] = shard.learner.blend_weight if shard.learner else 0.0
            progress("replay", (i + 1) / len(protocol.cuts))
    done.steps = shard.steps
    done.drifts = shard.drifts
    done.refused = shard.refused
    done.alerted = (
        np.array([number[user] for user, _ in shard.raised], np.int64),
        np.array([raised_ms for _, raised_ms in shard.raised], np.int64),
    )
    done.labels_learned = shard.learner.counts["learned"] if shard.learner else 0
    return done


def _refusals(shard: ReplayedShard) -> str:
    refused = ", ".join(f"{reason} {n:,}" for reason, n in shard.refused.most_common())
    return f" Orders that could not be used: {refused}." if refused else ""


def _is_training_day(protocol: Protocol, cut: int) -> bool:
    """Every four weeks, so that one falls on the first test cut; earlier ones teach the learner."""
    since = (cut - protocol.test_from) // DAY_MS
    early = max(FIRST_TRAINING_DAYS, 2 * protocol.horizon_days)
    return since % RETRAIN_DAYS == 0 and since >= -early


class _Trainer:
    """Trains challengers and promotes those that win."""

    def __init__(self, protocol: Protocol, root: Path, seed: int, threads: int) -> None:
        self._protocol = protocol
        self._root = root
        self._seed = seed
        self._threads = threads
        self._seen_until_ms = 0  # labels known by then may have taught the champion
        self._until_ms = 0
        self.trouble = "there was nothing to train on."

    def challenge(self, shard: ReplayedShard, done: Replayed, now_ms: int) -> None:
        protocol = self._protocol
        horizon = protocol.horizon_days
        until = now_ms if shard.champion is None else now_ms - JUDGE_DAYS * DAY_MS
        self._until_ms = until
        data, few = (
            training_rows(cuts, until_ms=until, horizon_days=horizon, most=TRAINING_ROWS)
            for cuts in (done.cuts, done.few)
        )
        if data is None:
            return
        try:
            summary = train(
                data if few is None else data.joined(few),
                root=self._root,
                date=datetime.fromtimestamp(until / 1000, UTC).date().isoformat(),
                horizon_days=horizon,
                eligibility=Eligibility(protocol.min_orders, protocol.active_within_days),
                source="evaluation",
                seed=self._seed,
                threads=self._threads,
                make_current=False,
            )
        except ArtifactError as error:  # too little has matured yet
            self.trouble = str(error)
            return
        challenger = load_artifact(summary.path)
        verdict = self._verdict(shard.champion, challenger, done, until, now_ms)
        there = matured(done.cuts, until_ms=until, horizon_days=horizon)
        of_rows = sum(len(cut.user) for cut in there)
        done.promotions.append(
            Promotion(
                now_ms, challenger.version, len(data.x), of_rows, verdict.promote, verdict.why
            )
        )
        if verdict.promote:
            shard.promote(challenger)
            done.feature_groups = summary.feature_groups
            self._seen_until_ms = until

    def rival(
        self, challenger: SequenceChallenger, shard: ReplayedShard, done: Replayed, now_ms: int
    ) -> None:
        """Train a challenger of another kind on what `challenge` has just had, or a sample of it,
        and judge it on what neither has learned."""
        champion, horizon = shard.champion, self._protocol.horizon_days
        if champion is None:
            return
        until = self._until_ms
        taught = training_rows(done.cuts, until_ms=until, horizon_days=horizon, most=SEQUENCE_ROWS)
        if taught is not None:
            later = training_rows(done.cuts, after_ms=until, until_ms=now_ms, horizon_days=horizon)
            challenger.challenge(champion.score, taught, later, now_ms)

    def _verdict(
        self, champion: Champion | None, challenger: Champion, done: Replayed, until: int, now: int
    ) -> Verdict:
        nothing = (float("nan"), float("nan"))
        if champion is None:
            return Verdict(True, "the first", 0, nothing, nothing)
        later = training_rows(
            done.cuts, after_ms=max(until, self._seen_until_ms), until_ms=now,
            horizon_days=self._protocol.horizon_days,
        )  # fmt: skip
        if later is None:
            return Verdict(False, "nothing has matured since", 0, nothing, nothing)
        return judge(champion, challenger, later)


def _add_challenger(rows: CutRows, challenger: SequenceChallenger) -> None:
    """What it says of rows that the champion has scored and that have events."""
    champion = rows.scores["champion/churn"], rows.scores["champion/value"]
    x = np.where(CLICK_ONLY, np.float32(np.nan), rows.x)  # as in the rows that taught it
    assert rows.events is not None  # noqa: S101
    rows.scores.update(challenger.scores(champion, x, rows.events))


def _knows(shard: ReplayedShard, band: str) -> bool:
    champion = shard.champion
    return champion is not None and band in champion.bands and champion.has_outlook_of(band)


def _add_scores(
    rows: CutRows, shard: ReplayedShard, baselines: Baselines, history: History, band: str
) -> None:
    """The scores of live, of a band that the champion knows, and those of the baselines."""
    champion = shard.champion
    assert champion is not None  # noqa: S101  (it knows the band)
    live, outlook = shard.score(rows.x), champion.outlook(rows.x, band)
    low, high = shard.spend_interval(rows.x, live)
    rows.scores.update(
        {
            "blend/spend_low": low,
            "blend/spend_high": high,
            "blend/churn": live.p_churn,
            "champion/churn": live.p_champion,
            "learner/churn": live.p_learner,
            "champion/value": live.spend,
            "champion/next_visit": outlook.p_buy_7d,
            "champion/next_order_days": outlook.next_order_days,
        }
    )
    if band == CUSTOMERS:
        rows.scores["champion/partial"] = champion.p_partial(rows.x)
    rows.scores.update(
        baseline_scores(baselines, history, rows.cut_ms, rows.user, champion.horizon_days)
    )
