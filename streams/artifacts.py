"""Finds the scorer of a champion version: the current one, or one that a journal still names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.artifact import load_artifact
from models.blend import Scorer, Scores
from models.champion import Champion
from models.explain import reason_words, reasons
from schemas.messages import LearnerSnapshot
from streams.errors import ArtifactError

__all__ = ["ExplainingScorer", "ScorerStore"]


class ExplainingScorer:
    """`streams.core.config.Scorer`: the blend, and reasons in words for alerts."""

    def __init__(self, champion: Champion) -> None:
        self._champion = champion
        self._blend = Scorer(champion)
        self.champion_version = champion.version
        self.horizon_days = champion.horizon_days

    def score(self, x: NDArray[np.float32], learner: LearnerSnapshot | None) -> Scores:
        return self._blend.score(x, learner)

    def reasons(self, x: NDArray[np.float32]) -> list[list[str]]:
        """What raised each row's churn probability, the strongest first."""
        return [
            [reason_words(reason) for reason in row if reason.delta > 0]
            for row in reasons(self._champion, x)
        ]


class ScorerStore:
    """Loads artifacts once. Older versions are looked for beside the current one."""

    def __init__(self, current: Path) -> None:
        self._directory = current.parent
        self._current = ExplainingScorer(load_artifact(current))
        self._by_version = {self._current.champion_version: self._current}

    def get(self, version: str) -> ExplainingScorer:
        """The scorer of `version`; '' is the current one. Raises ArtifactError."""
        if not version:
            return self._current
        if version not in self._by_version:
            path = self._directory / version
            if not path.is_dir():
                raise ArtifactError(
                    f"the journal holds steps scored by model {version}, which is not in "
                    f"{self._directory}. Put that artifact back until a checkpoint has passed them."
                )
            self._by_version[version] = ExplainingScorer(load_artifact(path))
        return self._by_version[version]
