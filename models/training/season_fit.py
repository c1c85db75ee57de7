"""Learns a shop's season (`models.season`) from its customers' weeks.

A season needs a full year of rows and a horizon more. It is estimated on the earlier rows and
rejected if it raises the log loss of the later rows by more than two standard errors: a week seen
once may have been an exception, and in a shop whose customers all came at once, the habits of new
customers would look like a season. A stricter test is impossible: before the second Christmas,
hardly any week is evidence for the first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.baselines.metrics import error_of_mean
from models.curve import EventBase
from models.season import SEASON_FEATURE, Season, estimate_levels
from models.training.curve_fit import CURVE_ROWS, fit_event_base
from models.training.dataset import DAY_MS, Dataset, spread
from schemas.features import YEAR_DAYS

__all__ = ["fit_season"]

_DAYS: Final = 7
"""The labels of `_HEAD` say whether an order came within so many days."""
_HEAD: Final = "p_buy_7d"
_MOST_ROWS: Final = 200_000
"""52 numbers need no more."""
_ERRORS: Final = 2.0
_NEWTON_STEPS: Final = 8
_ROUNDS: Final = 3
"""The curve that gives the expected orders runs on the clock that is estimated, so both are
repeated; they converge quickly."""


def fit_season(
    data: Dataset, horizon_days: int, among: NDArray[np.bool_] | None = None
) -> Season | None:
    """The season of a shop, from weekly rows `data`, or from those where `among` bool [n] is true.

    None if there are too few rows, or they show no season. Raises `ArtifactError` without scipy.
    """
    label = data.more.get(_HEAD)
    if label is None:
        return None
    known = ~np.isnan(label) & ~np.isnan(data.x[:, SEASON_FEATURE])
    rows = _Rows(data, spread(known if among is None else known & among, _MOST_ROWS))
    # of weekly rows, a year may take a day off and a week more
    later_days = min(_span_days(rows.as_of_ms) - YEAR_DAYS - _DAYS, YEAR_DAYS)
    if later_days < horizon_days:
        return None
    later = rows.as_of_ms > rows.as_of_ms.max() - int(later_days * DAY_MS)
    early, rest = rows.where(~later), rows.where(later)
    season = _estimate(early)
    if season is None or _is_refuted(_curve(early, season), _curve(early, None), rest):
        return None
    return _estimate(rows)


@dataclass(frozen=True)
class _Rows:
    """Some rows of the data, at these positions, int64 [k]: features are copied where needed."""

    data: Dataset
    at: NDArray[np.int64]

    @property
    def x(self) -> NDArray[np.float32]:
        return self.data.x[self.at]

    @property
    def as_of_ms(self) -> NDArray[np.int64]:
        return self.data.as_of_ms[self.at]

    @property
    def ordered(self) -> NDArray[np.bool_]:
        """Whether an order came within `_DAYS`, bool [k]."""
        ordered: NDArray[np.bool_] = self.data.more[_HEAD][self.at] > 0
        return ordered

    def where(self, chosen: NDArray[np.bool_]) -> _Rows:
        return _Rows(self.data, self.at[chosen])


def _span_days(as_of_ms: NDArray[np.int64]) -> float:
    return float(as_of_ms.max() - as_of_ms.min()) / DAY_MS + _DAYS if len(as_of_ms) else 0.0


def _curve(rows: _Rows, season: Season | None) -> EventBase:
    some = np.linspace(0, len(rows.at) - 1, min(len(rows.at), CURVE_ROWS)).astype(np.int64)
    few = _Rows(rows.data, rows.at[some])
    return fit_event_base(few.x, few.ordered, _DAYS, order=True, season=season)


def _is_refuted(seasonal: EventBase, flat: EventBase, rows: _Rows) -> bool:
    worse = _losses(seasonal, rows) - _losses(flat, rows)
    return float(worse.mean()) > _ERRORS * error_of_mean(worse, rows.data.user[rows.at])


def _losses(curve: EventBase, rows: _Rows) -> NDArray[np.float64]:
    """Log losses in nats, float64 [n], with the intercept refitted to these rows: the test is about
    how weeks differ from each other, not about how often customers ordered a year before."""
    ordered = rows.ordered
    z = curve.log_odds(rows.x)
    for _ in range(_NEWTON_STEPS):
        p = 1.0 / (1.0 + np.exp(-z))
        z = z + (ordered - p).sum() / max(float((p * (1.0 - p)).sum()), 1e-9)
    return np.logaddexp(0.0, np.where(ordered, -z, z))


def _estimate(rows: _Rows) -> Season | None:
    """Of the latest whole years among `rows`."""
    years = int(_span_days(rows.as_of_ms) // YEAR_DAYS)
    oldest_ms = rows.as_of_ms.max() - int(years * YEAR_DAYS * DAY_MS)
    whole = rows.where(rows.as_of_ms > oldest_ms)
    x, ordered = whole.x, whole.ordered
    middle = x[:, SEASON_FEATURE].astype(np.float64) + _DAYS / 2
    season: Season | None = None
    for _ in range(_ROUNDS):
        log_odds = _curve(rows, season).log_odds(x)
        hazard = np.logaddexp(0.0, log_odds)  # -log(1 - p)
        if season is not None:
            hazard = hazard / season.level(middle)
        season = estimate_levels(hazard, ordered, middle)
        if season.is_flat:
            return None
    return season
