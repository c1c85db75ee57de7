"""The sequence challenger of an evaluation: trained and judged when champions are, never promoted.

Nothing serves it (D-090), so it scores the test's rows beside the champion and the verdict of the
rule of promotion is told. It is there twice: alone (`sequence`), and averaged with the champion
(`pooled`): log-odds of churn, and spend. How much of either is settled on labels that matured after
both were trained, on half of the customers; the other half judges.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.baselines.metrics import log_loss, tweedie_deviance
from models.champion import OUTPUTS
from models.sequence.fit import training
from models.sequence.model import SequenceModel
from models.sequence.train import train_sequence
from models.training.dataset import DAY_MS, Dataset
from models.training.promotion import Scored, Verdict, judge_scores
from schemas.errors import ArtifactError

__all__ = [
    "SEQUENCE_ROWS",
    "SequenceChallenger",
    "SequenceTraining",
    "pool",
    "settled",
]

SEQUENCE_ROWS: Final = 16_000
"""It learns from a sample of so many rows: each takes 0.27 ms an epoch, on one core."""
SEQUENCE_DAYS: Final = 56
"""It is trained every so often: half as often as champions, of which each takes a tenth of it."""
_WEIGHTS: Final = tuple(i / 10 for i in range(11))
_HALF: Final = 0.5


@dataclass(frozen=True)
class SequenceTraining:
    """One training: when, on how many rows, how many epochs, and the verdicts; `weights`: how much
    of the pooled churn and spend is the sequence's."""

    at_ms: int
    rows: int
    epochs: int
    alone: Verdict
    pooled: Verdict
    weights: tuple[float, float]

    def as_dict(self) -> dict[str, Any]:
        """For JSON, without the date."""
        verdicts = {"sequence": self.alone, "pooled": self.pooled}
        return {
            "rows": self.rows, "epochs": self.epochs,
            "weights": dict(zip(OUTPUTS, self.weights, strict=True)),
            **{
                name: {"would_promote": v.promote, "why": v.why, "rows": v.rows}
                for name, v in verdicts.items()
            },
        }  # fmt: skip


@dataclass
class SequenceChallenger:
    """Trains the model again and again, and scores with the newest. Raises `ArtifactError` if jax
    or onnx is missing."""

    horizon_days: int
    seed: int
    progress: Callable[[str, float], None] = lambda _what, _done: None
    out: Path | None = None
    """Where the newest model is written."""
    trainings: list[SequenceTraining] = field(default_factory=list)
    trouble: str = ""
    """Why the last training failed, if it did."""
    model: SequenceModel | None = None
    _weights: tuple[float, float] = (_HALF, _HALF)

    def __post_init__(self) -> None:
        training("network")  # a library that is missing is told now, not after the replay

    def due(self, now_ms: int) -> bool:
        """Whether it is time for the next training; always before the first one."""
        last = self.trainings[-1].at_ms if self.trainings else -(1 << 60)
        return now_ms - last >= SEQUENCE_DAYS * DAY_MS

    def challenge(
        self,
        score: Callable[[NDArray[np.float32]], Scored],
        taught: Dataset,
        later: Dataset | None,
        now_ms: int,
    ) -> None:
        """Train on `taught`, and judge on the rows of `later`, which matured after it, against a
        champion that did not learn them either: `score` says its scores of rows."""
        what = f"sequence {len(self.trainings) + 1}"
        try:
            self.model = train_sequence(
                taught, self.horizon_days, seed=self.seed,
                progress=lambda done: self.progress(what, done),
            )  # fmt: skip
        except ArtifactError as error:  # too little has matured yet
            self.trouble = str(error)
            return
        if self.out is not None:
            self.model.write(self.out)
        if later is None:
            nothing = (float("nan"), float("nan"))
            alone = pooled = Verdict(False, "nothing has matured since", 0, nothing, nothing)
            self._weights = (_HALF, _HALF)
        else:
            champion, own = score(later.x[:]), self._score(later)
            alone = judge_scores(later, champion, own)
            settles = later.user % 2 == 0
            self._weights = settled(later.take(settles), _at(champion, settles), _at(own, settles))
            pooled = judge_scores(
                later.take(~settles),
                _at(champion, ~settles),
                pool(_at(champion, ~settles), _at(own, ~settles), self._weights),
            )
        self.trainings.append(
            SequenceTraining(
                now_ms, len(taught.x), self.model.description.epochs, alone, pooled, self._weights
            )
        )

    def scores(
        self, champion: Scored, x: NDArray[np.float32], events: NDArray[np.float32]
    ) -> Mapping[str, NDArray[np.floating[Any]]]:
        """What it says of rows, by method and task; nothing before its first training."""
        if self.model is None:
            return {}
        own = self.model.score(x, events)
        both = pool(champion, own, self._weights)
        return {
            f"{method}/{task}": values
            for method, scored in (("sequence", own), ("pooled", both))
            for task, values in zip(("churn", "value"), scored, strict=True)
        }

    def _score(self, data: Dataset) -> Scored:
        assert self.model is not None and data.events is not None  # noqa: S101, PT018
        return self.model.score(data.x[:], data.events)


def pool(champion: Scored, sequence: Scored, weights: tuple[float, float]) -> Scored:
    """Averages of both: of log-odds, and of amounts; the sequence's part by `weights`."""
    odds = [np.log(p) - np.log1p(-p) for p in (champion[0].astype(np.float64), sequence[0])]
    of_churn, of_spend = weights
    p = 1.0 / (1.0 + np.exp(-((1.0 - of_churn) * odds[0] + of_churn * odds[1])))
    spend = (1.0 - of_spend) * champion[1] + of_spend * sequence[1]
    return p.astype(np.float32), spend.astype(np.float32)


def settled(later: Dataset, champion: Scored, sequence: Scored) -> tuple[float, float]:
    """The weights that cost least on some rows."""
    if not len(later.x):
        return (_HALF, _HALF)
    found = [pool(champion, sequence, (w, w)) for w in _WEIGHTS]
    losses = [log_loss(later.churned, p) for p, _ in found]
    deviances = [tweedie_deviance(later.spend, spend) for _, spend in found]
    return _WEIGHTS[int(np.argmin(losses))], _WEIGHTS[int(np.argmin(deviances))]


def _at(scored: Scored, rows: NDArray[np.bool_]) -> Scored:
    return scored[0][rows], scored[1][rows]
