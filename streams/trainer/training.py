"""Makes challengers from live examples, and compares them: what takes time and memory.

Both draw at most `rows` examples (`streams.live`), so memory is bounded by that number, however
many customers there are.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from models.artifact import load_artifact
from models.champion import OUTLOOK
from models.manifest import Eligibility
from models.places import Place
from models.training.dataset import Dataset, split_by_time
from models.training.promotion import Verdict, judge
from models.training.train import train
from schemas.errors import ArtifactError
from streams.clickhouse.client import ClickHouseTarget
from streams.clickhouse.examples import Examples
from streams.clickhouse.label_counts import LabelCounts, read_label_counts
from streams.evaluation.live import LONGEST_HEAD_DAYS, learnable
from streams.evaluation.protocol import VISIT_DAYS
from streams.live import read_live
from streams.trainer.plan import Challenger, Current, Why
from streams.trainer.store import about

__all__ = ["LiveLabels", "TooFew"]

_SOURCE = "live examples"
_HEAD_DAYS = dict(zip(OUTLOOK, (VISIT_DAYS, LONGEST_HEAD_DAYS), strict=True))


def _require_splits(data: Dataset, horizon_days: int) -> None:
    """Fail before the first head is fitted, not at the last: labels of some heads are known later.
    Raises ArtifactError."""
    split_by_time(data, horizon_days)
    for name, label in data.more.items():
        known = ~np.isnan(label)
        if name in _HEAD_DAYS and not known.all():
            split_by_time(data, _HEAD_DAYS[name], among=known)


class TooFew(Exception):
    """The labels that are known don't suffice for a model that could replace the champion."""


@dataclass(frozen=True)
class LiveLabels:
    """The labels in ClickHouse. `rows`: examples drawn at most; `threads` of LightGBM."""

    target: ClickHouseTarget
    eligibility: Eligibility
    rows: int
    threads: int
    seed: int = 7
    wall_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000

    def counts(self, horizon_days: int) -> LabelCounts:
        """Raises SinkUnavailable, SinkRefused."""
        return read_label_counts(self.target, horizon_days, self.eligibility.min_orders)

    def train(self, root: Place, current: Current, cut_ms: int, why: Why) -> str:
        """A challenger of what was known at the cut, complete in `root`; returns its version.

        The same labels give the same version, so a training that was interrupted is repeated.
        Raises TooFew, SinkUnavailable, SinkRefused, ModelsUnavailable.
        """
        which = Examples(
            self.target, current.horizon_days, until_ms=cut_ms,
            min_orders=self.eligibility.min_orders,
        )  # fmt: skip
        live = read_live(which, self.rows)
        if live is None:
            raise TooFew("no label is known")
        data, without = learnable(live.data)
        if missing := current.outputs & {*without}:
            raise TooFew(
                f"no label of {', '.join(sorted(missing))} is known yet, which the champion has"
            )
        try:
            _require_splits(data, current.horizon_days)
            return train(
                data,
                root=root,
                date=datetime.fromtimestamp(cut_ms / 1000, UTC).date().isoformat(),
                horizon_days=current.horizon_days,
                eligibility=self.eligibility,
                source=_SOURCE,
                history=f"- {live.sentence()}",
                seed=self.seed,
                threads=self.threads,
                make_current=False,
                keep_long=load_artifact(root / current.version),
                about=about(cut_ms, why, self.wall_ms(), len(data.x)),
            ).version
        except ArtifactError as error:
            raise TooFew(str(error)) from error

    def judge(
        self, root: Place, current: Current, challenger: Challenger, after_ms: int, until_ms: int
    ) -> Verdict:
        """The rule of `models.training.promotion`, on the labels that became known in (after,
        until]: with the features that were served.

        Raises ArtifactError, SinkUnavailable, SinkRefused, ModelsUnavailable.
        """
        models = [load_artifact(root / version)
                  for version in (current.version, challenger.version)]  # fmt: skip
        later = read_live(
            Examples(
                self.target, current.horizon_days, after_ms, until_ms, self.eligibility.min_orders
            ),
            self.rows,
        )
        if later is None:
            nothing = (float("nan"), float("nan"))
            return Verdict(False, "the labels are gone", 0, nothing, nothing)
        return judge(models[0], models[1], later.data)
