"""How good the value within a year would have been: asked about once, and then waited for.

The last 365 days of the history are held out, or half of it if it is shorter: then the value within
so many days is measured, which the same curves say. What taught them was known before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.bands import BANDS, CUSTOMERS
from models.baselines.baselines import Baselines, fit_baselines
from models.long import LONG_DAYS
from models.training.dataset import Dataset
from models.training.long_fit import LongFit, fit_long
from models.training.season_fit import fit_season
from streams.core.features import DAY_MS
from streams.evaluation.baselines import history_summary
from streams.evaluation.history import History
from streams.evaluation.measure import day, share_inside, value_figures
from streams.evaluation.protocol import Protocol
from streams.evaluation.rows import CutRows, training_rows
from streams.evaluation.run import TRAINING_ROWS, Replayed

__all__ = ["long_figures"]

_ROWS: Final = 0.5
"""The part of `TRAINING_ROWS` that each group of customers gives."""


def long_figures(history: History, protocol: Protocol, replayed: Replayed) -> dict[str, Any]:
    """Figures of the long horizon beside BG/NBD and Gamma-Gamma.

    `days`: how far ahead; `as_of`: from which day; `seen_days`: how far ahead labels reached by
    then; `customers` and `one_order`: by method, each group's figures (None without rows); `why`
    there are none, else ''. Raises `ArtifactError` without scipy.
    """
    span = (history.last_ms - history.first_ms) // DAY_MS
    days = int(min(LONG_DAYS, span // 2))
    cuts = [ms for ms in protocol.cuts if ms + days * DAY_MS <= history.last_ms + 1]
    if not cuts:
        return _none(days, f"{span} days of orders are too few.")
    asked = _Asked(history, protocol, days, cuts[-1])
    data = asked.taught(replayed)
    if data is None:
        return _none(days, "no label was known by then.")
    own = data.band(protocol.min_orders) == BANDS.index(CUSTOMERS)
    fit = fit_long(data, fit_season(data, protocol.horizon_days, own))
    if fit.horizon is None:
        return _none(days, fit.trouble)
    baselines = fit_baselines(history_summary(history, asked.cut_ms))
    return {
        "days": days,
        "as_of": day(asked.cut_ms),
        "seen_days": fit.horizon.seen_days,
        "customers": asked.figures(replayed.cuts, fit, baselines),
        "one_order": asked.figures(replayed.few, fit, baselines),
        "why": "",
    }


def _none(days: int, why: str) -> dict[str, Any]:
    return {
        "days": days, "as_of": None, "seen_days": 0, "customers": None, "one_order": None,
        "why": why,
    }  # fmt: skip


@dataclass(frozen=True)
class _Asked:
    """Who is asked about at `cut_ms`, and what they spend within `days`."""

    history: History
    protocol: Protocol
    days: int
    cut_ms: int

    def taught(self, replayed: Replayed) -> Dataset | None:
        """What was known by then."""
        data, few = (
            training_rows(
                cuts, until_ms=self.cut_ms, horizon_days=self.protocol.horizon_days,
                most=int(_ROWS * TRAINING_ROWS), history=self.history,
            )
            for cuts in (replayed.cuts, replayed.few)
        )  # fmt: skip
        return data if data is None or few is None else data.joined(few)

    def figures(
        self, cuts: list[CutRows], fit: LongFit, baselines: Baselines
    ) -> dict[str, Any] | None:
        """Of the users of one group, by method."""
        rows = next(cut for cut in cuts if cut.cut_ms == self.cut_ms)
        if not len(rows.user) or fit.horizon is None:
            return None
        end_ms = self.cut_ms + self.days * DAY_MS
        truth: NDArray[np.float64] = self.history.spend(self.cut_ms, end_ms)[rows.user]
        idle, value = fit.within(rows.x, self.days)
        ends = fit.horizon.of(idle, value, rows.x, self.days)
        rival = baselines.value(history_summary(self.history, self.cut_ms, rows.user), self.days)
        inside = {"coverage_80": share_inside(truth, ends)}
        return {
            "live": value_figures(truth, value) | inside,
            "bgnbd_gg": value_figures(truth, rival) | {"coverage_80": None},
        }
