"""Finds the scorer of a champion version: the current one, or one that a journal still names.

Promotion is a line in a file: `CURRENT` in the directory of artifacts names the version to use
(`tideline models promote` and `tideline train` write it). A worker reads it every second, or every
five from an object store (`ScorerStore.refresh`), loads and checks the version, and from its next
step on every shard scores with it; the journal holds the version of each step, so replay uses the
very same model. If an artifact fails its checks, or the store can't be reached, the model in use
stays.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.artifact import (
    CURRENT_FILE,
    MANIFEST_FILE,
    artifact_path,
    artifacts_root,
    current_version,
    default_artifact_path,
    load_artifact,
)
from models.blend import Scores
from models.champion import MODEL_FILES, Champion, Outlook
from models.everyone import EveryoneScorer
from models.explain import Explainer
from models.long import LongValue
from models.places import LocalPlace, Place, at, place
from schemas.errors import ArtifactError, ModelsUnavailable
from schemas.messages import LearnerSnapshot

__all__ = [
    "ExplainingScorer",
    "ScorerStore",
    "Switch",
    "artifact_directory",
    "artifact_place",
    "watch",
]

_log = logging.getLogger(__name__)

_FILES = (MANIFEST_FILE, *MODEL_FILES)


def artifact_place(named: str) -> Place:
    """Where models are: at the path or URL in the setting `artifact`, else those shipped.

    It is a directory of artifacts with a file `CURRENT`, or the directory of one artifact.
    Raises SettingsError.
    """
    return place(named) if named else LocalPlace(artifacts_root())


def artifact_directory(named: str) -> Place:
    """The directory of the artifact in use now. Raises ArtifactError, ModelsUnavailable."""
    found = artifact_place(named)
    return default_artifact_path(found) if found.holds(CURRENT_FILE) else found


class ExplainingScorer:
    """`streams.core.config.Scorer`: everybody's scores, and reasons in words for alerts."""

    def __init__(self, champion: Champion, currency: str) -> None:
        self.champion = champion
        self._everyone = EveryoneScorer(champion)
        self._explainer = Explainer(champion, currency)
        self.champion_version = champion.version
        self.horizon_days = champion.horizon_days
        self.min_orders = self._everyone.min_orders
        self.typical = self._everyone.typical
        self.long_seen_days = self._everyone.long_seen_days
        self._warned = False

    def covers(self, orders: NDArray[np.integer]) -> NDArray[np.bool_]:
        """As `models.everyone.EveryoneScorer.covers`."""
        return self._everyone.covers(orders)

    def score(self, x: NDArray[np.float32], learner: LearnerSnapshot | None) -> Scores:
        """As `models.everyone.EveryoneScorer.score`; logs the first score that is not a number."""
        scores = self._everyone.score(x, learner)
        if not self._warned and np.isnan(scores.p_churn).any():
            self._warned = True  # once; `tideline_scores_refused_total` goes on counting
            _log.error(
                "champion %s gave %s of %s customers a score that is not a number; they keep the "
                "one they had. Promote another: tideline models promote VERSION",
                self.champion_version, int(np.isnan(scores.p_churn).sum()), len(x),
            )  # fmt: skip
        return scores

    def spend_interval(
        self,
        orders: NDArray[np.integer],
        p_churn: NDArray[np.float32],
        spend: NDArray[np.float32],
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """As `models.everyone.EveryoneScorer.spend_interval`."""
        return self._everyone.spend_interval(orders, p_churn, spend)

    def forecast(self, x: NDArray[np.float32]) -> Outlook:
        """As `models.everyone.EveryoneScorer.forecast`."""
        return self._everyone.forecast(x)

    def long_value(self, x: NDArray[np.float32]) -> LongValue:
        """As `models.everyone.EveryoneScorer.long_value`."""
        return self._everyone.long_value(x)

    def reasons(self, x: NDArray[np.float32], learner: LearnerSnapshot | None) -> list[list[str]]:
        """What moved `p_churn` most in each row of `x` float32 [k, F], the strongest first."""
        return self._explainer.in_words(x, learner)


@dataclass(frozen=True)
class Switch:
    """What `ScorerStore.refresh` found: another version now in use, or why it is not."""

    version: str
    refused: ArtifactError | None = None


class ScorerStore:
    """Loads artifacts once each, from one directory.

    `where` is a directory of artifacts with a file `CURRENT`, which is followed, or the directory
    of one artifact, which stays. Older versions are looked for beside the current one. `currency`
    is what reasons name money in. Raises ArtifactError if the current artifact can't be used, and
    ModelsUnavailable.
    """

    def __init__(self, where: Path | Place, currency: str) -> None:
        place = at(where)
        self._currency = currency
        self.followed = place.holds(CURRENT_FILE)
        self.poll_seconds = place.poll_seconds
        self._directory = place if self.followed else place.parent
        current = place / current_version(place) if self.followed else place
        self._current = self._load(current)
        self._by_version = {self._current.champion_version: self._current}
        self._refused: tuple[str, object] | None = None

    @property
    def current(self) -> ExplainingScorer:
        """The champion for new steps."""
        return self._current

    def get(self, version: str) -> ExplainingScorer:
        """The scorer of `version`; '' is the current one.

        Loads a version that was not used before. Raises ArtifactError, ModelsUnavailable.
        """
        if not version:
            return self._current
        if version not in self._by_version:
            path = artifact_path(version, self._directory)
            if not path.holds(MANIFEST_FILE):
                raise ArtifactError(
                    f"Model {version}, which {CURRENT_FILE} or the journal names, is not in "
                    f"{self._directory}. Put that artifact back, from where it was trained or a "
                    "backup; it may go once a checkpoint has passed the steps that it scored."
                )
            scorer = self._load(path)
            if scorer.champion_version != version:
                raise ArtifactError(
                    f"{path} holds artifact {scorer.champion_version}. Name the directory as the "
                    "manifest does: journals name artifacts, and must find them."
                )
            self._by_version[version] = scorer
        return self._by_version[version]

    def refresh(self) -> Switch | None:
        """Switches to the version that `CURRENT` names. None if nothing changed.

        A refused artifact is tried again only when its files or `CURRENT` have changed. Raises
        ModelsUnavailable, and the one in use stays.
        """
        if not self.followed:
            return None
        tried: tuple[str, object] = ("", None)
        try:
            version = current_version(self._directory)
            if version == self._current.champion_version:
                self._refused = None
                return None
            # Looked at first: a file that comes while the rest is loaded is one to try again for.
            tried = version, self._stamp(version)
            if self._refused == tried:
                return None
            self._current = self.get(version)
        except ArtifactError as error:
            if tried == self._refused:
                return None
            self._refused = tried
            return Switch(tried[0], error)
        self._refused = None
        return Switch(tried[0])

    def _load(self, path: Place) -> ExplainingScorer:
        return ExplainingScorer(load_artifact(path), self._currency)

    def _stamp(self, version: str) -> Hashable:
        """A value that changes with the artifact's files."""
        return (self._directory / version).stamp(_FILES)


async def watch(
    store: ScorerStore, notify: Callable[[Switch], None], seconds: float | None = None
) -> None:
    """Refreshes the store until cancelled; calls `notify` with every switch and every refusal.

    `seconds` between two reads; None: `ScorerStore.poll_seconds`.
    """
    loop = asyncio.get_running_loop()
    away = False
    while store.followed:
        await asyncio.sleep(store.poll_seconds if seconds is None else seconds)
        # Loading takes a tenth of a second, most of it outside the interpreter's lock, and an
        # object store longer.
        try:
            switch = await loop.run_in_executor(None, store.refresh)
        except ModelsUnavailable as error:
            if not away:
                _log.warning(
                    "champion %s stays in use, and nothing else can be promoted for now: %s",
                    store.current.champion_version, error,
                )  # fmt: skip
            away = True
            continue
        if away:
            _log.info("the store of models answers again")
            away = False
        if switch is None:
            continue
        if switch.refused is None:
            _log.info(
                "champion %s is in use from the next step on (%s days)",
                switch.version, store.current.horizon_days,
            )  # fmt: skip
        else:
            _log.error(
                "champion %s is refused, %s stays in use: %s",
                switch.version or "(none)", store.current.champion_version, switch.refused,
            )  # fmt: skip
        notify(switch)
