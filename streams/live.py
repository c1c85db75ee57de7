"""What the stream saw, as training data: the examples that ClickHouse keeps, drawn and labelled.

They are read twice, in a stream: first their hashes, weeks and labels, which tell up to which hash
each week and label is drawn; then the rows up to there, with their features. Memory is bounded by
the rows that are drawn.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from models.bands import BANDS
from models.training.dataset import Dataset
from models.training.sample import StratifiedSample
from streams.clickhouse.examples import Answers, Examples, answers, horizons, keys, matured
from streams.core.features import DAY_MS
from streams.evaluation.live import LONGEST_HEAD_DAYS, Asked, further_labels
from streams.evaluation.sampled import SampledRows

__all__ = ["Live", "read_live"]

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Live:
    """Examples as training data."""

    drawn: SampledRows
    found: int
    """Examples that there are, of which `drawn` has a part."""
    weeks: int
    """Weeks that they were asked in."""

    @property
    def data(self) -> Dataset:
        """The rows, without a copy."""
        data = self.drawn.dataset()
        assert data is not None  # noqa: S101  (there is one row at least)
        return data

    def sentence(self) -> str:
        """What was read, for people."""
        drawn = len(self.drawn)
        part = "all of them" if drawn == self.found else f"{drawn:,} of them drawn"
        return f"{self.found:,} live examples of {self.weeks} weeks, {part}"


def read_live(
    which: Examples,
    rows: int,
    progress: Progress = lambda _what, _done: None,
    *,
    others_come: bool = False,
) -> Live | None:
    """At most `rows` of the examples; None if there are none. `others_come`: rows of another kind
    will be added, until there are `rows`.

    Raises SinkUnavailable, SinkRefused.
    """
    every = max(horizons(which.target).get(which.horizon_days, 0), 1)
    sample, newest_ms, seen = StratifiedSample(rows), 0, 0
    for key in keys(which):
        sample.add(key.drawn, key.week, key.churned)
        newest_ms = max(newest_ms, int(key.asked_ms.max(initial=0)))
        seen += len(key.drawn)
        progress("live labels", min(seen / every, 1.0))
    progress("live labels", 1.0)
    if not len(sample):
        return None
    newest_ms += which.horizon_days * DAY_MS
    bounds = sample.bounds()
    found, first_ms = SampledRows(rows if others_come else len(sample)), []
    for part in matured(which, bounds):
        # More may have matured since the first look.
        k = min(len(part.x), len(sample) - len(found))
        found.add(part.x[:k], part.churned[:k], part.spend[:k], part.asked_ms[:k], part.user[:k])
        first_ms.append(part.first_order_ms[:k])
        progress("live examples", len(found) / len(sample))
    if not len(found):
        return None  # they have been erased since
    more = further_labels(
        which.horizon_days, found.column("user").view(np.uint64), found.column("as_of_ms"),
        found.column("churned"), found.column("spend"), np.concatenate(first_ms), found.x,
        _others(which, bounds), newest_ms,
    )  # fmt: skip
    found.label(0, more)
    weeks = len({week // len(BANDS) for week, _ in sample.counts})
    return Live(found, sum(sample.counts.values()), weeks)


def _others(which: Examples, bounds: dict[tuple[int, int], int]) -> Asked:
    """The other examples of the same users, where labels follow from them."""
    needed = which.horizon_days < LONGEST_HEAD_DAYS
    parts: list[Answers] = list(answers(which, bounds)) if needed else []
    none = np.empty(0, np.int64)
    return Asked(
        np.concatenate([none.view(np.uint64), *(part.user for part in parts)]),
        np.concatenate([none, *(part.asked_ms for part in parts)]),
        np.concatenate([none.astype(np.bool_), *(part.churned for part in parts)]),
        np.concatenate([none, *(part.first_order_ms for part in parts)]),
        np.concatenate([none, *(part.last_order_ms for part in parts)]),
    )
