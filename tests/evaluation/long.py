"""The value within a year beside BG/NBD and Gamma-Gamma, on made-up shops whose next year is known.

    python -m tests.evaluation.long wholesale,gifts,cohort,weekly,subscribers,big --seeds 2,3,4

The last 365 days of each shop are held out; `--years` is what there is before them, so with 1 no
label of a year is known. Prints a table for customers with two orders or more, and one for those
with one: Tideline, and after the comma BG/NBD.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import click
import numpy as np
from numpy.typing import NDArray

from models.baselines.metrics import bias, decile_mape, normalised_gini
from models.long import LONG_DAYS
from models.training.long_fit import fit_long
from models.training.season_fit import fit_season
from schemas.features import FEATURE_NAMES
from streams.evaluation.spooled import SpooledHistory, Survey
from streams.evaluation.training import TrainingHistory
from streams.history.read import read
from streams.history.table import ReadOptions
from streams.settings import Settings
from streams.shard.config import core_config
from tests.evaluation import shops
from tests.evaluation.big_shop import write_months

__all__ = ["Held", "Hidden", "held_out", "main"]

ROWS: Final = 40_000
HORIZON_DAYS: Final = 28
SPARE_DAYS: Final = 38
"""Before the first rows, and until a weekly one is due."""
MAKERS: Final[dict[str, tuple[Callable[..., shops.Orders], int]]] = {
    "wholesale": (shops.wholesale, 180), "gifts": (partial(shops.gifts, users=3_000), 180),
    "cohort": (shops.cohort, 270), "weekly": (partial(shops.weekly, users=1_000), 84),
    "subscribers": (partial(shops.subscribers, users=600, shoppers=400), 180),
}  # fmt: skip
"""By kind: what makes it, and days since the last order after which nobody is asked about."""
BIG: Final = (3_000, 180)
HEAD: Final = (
    "| shop | years before | labels reach | rows | Gini | predicted / spent | decile MAPE "
    "| in 80 % interval |\n| --- | --- | --- | --- | --- | --- | --- | --- |"
)
_ORDERS: Final = FEATURE_NAMES.index("lifetime_orders")


@dataclass(frozen=True)
class Held:
    """One group of customers as it came out, [n] each."""

    truth: NDArray[np.float64]
    ours: NDArray[np.float64]
    rival: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]

    def where(self, rows: NDArray[np.bool_]) -> Held:
        """Some of them, bool [n]."""
        return Held(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))

    def figures(self) -> list[float]:
        """Ours and the rival's Gini, bias and decile MAPE, and the share in our interval."""
        found = [
            measure(self.truth, values)
            for measure in (normalised_gini, bias, decile_mape)
            for values in (self.ours, self.rival)
        ]
        low, high = self.low * (1.0 - 1e-6), self.high * (1.0 + 1e-6)
        return [*found, float(((self.truth >= low) & (self.truth <= high)).mean())]


@dataclass(frozen=True)
class Hidden:
    """A shop whose last year was hidden."""

    seen_days: int
    customers: Held
    one_order: Held


def held_out(paths: Sequence[Path], active_within_days: int) -> Hidden:
    """Learn from all but the last 365 days of these files, and predict those."""
    rules = core_config(Settings()).decode
    with tempfile.TemporaryDirectory() as directory:
        spooled = SpooledHistory(Path(directory), rules)
        for path in paths:
            list(spooled.add(read(path, ReadOptions(), int(time.time() * 1000))))
        survey = spooled.survey(_silent)
        return _held_out(spooled, survey, active_within_days)


def _held_out(spooled: SpooledHistory, survey: Survey, active_within_days: int) -> Hidden:
    of: Any = partial(
        TrainingHistory, spooled, survey, min_orders=1, active_within_days=active_within_days,
        rules=core_config(Settings()).decode,
    )  # fmt: skip
    asked = of(horizon_days=LONG_DAYS)
    last = asked.rows(10**9, after_ms=survey.last_ms - 7 * shops.DAY_MS)
    cut_ms = int(last.data.as_of_ms.max())
    test = last.data.take(last.data.as_of_ms == cut_ms)
    rival = asked.baselines(last)["value/bgnbd_gg"][last.data.as_of_ms == cut_ms]
    taught = of(horizon_days=HORIZON_DAYS).rows(ROWS, until_ms=cut_ms).data
    season = fit_season(taught, HORIZON_DAYS, taught.x[:, _ORDERS] >= 2)
    fit = fit_long(taught, season)
    if fit.horizon is None:
        raise ValueError(fit.trouble)
    idle, value = fit.within(test.x, LONG_DAYS)
    low, high = fit.horizon.of(idle, value, test.x)
    every = Held(test.spend.astype(float), value, rival.astype(float), low, high)
    one = test.x[:, _ORDERS] == 1
    return Hidden(fit.horizon.seen_days, every.where(~one), every.where(one))


def _silent(_what: str, _done: float) -> None:
    """No progress."""


def made(kind: str, seed: int, years: int, directory: Path) -> tuple[list[Path], int]:
    """The files of a shop with so many years before the one to predict."""
    days = LONG_DAYS * (years + 1) + SPARE_DAYS
    if kind == "big":
        return write_months(directory, BIG[0], days=days, seed=seed), BIG[1]
    make, active = MAKERS[kind]
    return [shops.write(directory / "orders.csv", make(days=days, seed=seed))], active


def _line(name: str, years: int, seen: int, rows: float, figures: Sequence[float]) -> str:
    pairs = [f"{figures[i]:.3f}, {figures[i + 1]:.3f}" for i in (0, 2, 4)]
    return (
        f"| {name} | {years} | {seen} days | {rows:,.0f} | {' | '.join(pairs)} | {figures[6]:.1%} |"
    )


@click.command()
@click.argument("kinds")
@click.option("--seeds", default="2,3,4", show_default=True, help="One draw of each shop for each.")
@click.option("--years", default="1,2", show_default=True, help="Of history, before the last one.")
def main(kinds: str, seeds: str, years: str) -> None:
    """Measure the value within a year on KINDS of shops, joined by commas."""
    lines: dict[str, list[str]] = {"customers": [], "one_order": []}
    for kind in kinds.split(","):
        for before in map(int, years.split(",")):
            found = []
            for seed in map(int, seeds.split(",")):
                with tempfile.TemporaryDirectory() as directory:
                    hidden = held_out(*made(kind, seed, before, Path(directory)))
                found.append(hidden)
                figures = hidden.customers.figures()
                name = f"{kind} {seed}"
                click.echo(
                    _line(name, before, hidden.seen_days, len(hidden.customers.truth), figures),
                    err=True,
                )
            for group, to in lines.items():
                held = [getattr(one, group) for one in found]
                held = [one for one in held if len(one.truth) >= 50]
                if held:
                    mean = np.mean([one.figures() for one in held], axis=0).tolist()
                    rows = float(np.mean([len(one.truth) for one in held]))
                    to.append(_line(kind, before, found[0].seen_days, rows, mean))
    for group, to in lines.items():
        click.echo(f"{group}, means of {seeds}\n\n{HEAD}\n" + "\n".join(to) + "\n")


if __name__ == "__main__":
    main()
