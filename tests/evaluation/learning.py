"""What the online learner is worth: on shops the champion has never seen, and after a change.

    python -m tests.evaluation.learning cold --seeds 2,3
    python -m tests.evaluation.learning drift --seeds 2,3

Made-up shops, with the rows of `tideline evaluate` and the learner itself. A local champion's loss
before it exists is that of two others, each trained on half of the customers and the labels known
when the local one is trained, and judged on the other half.
"""

from __future__ import annotations

import json
import math
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import click
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from models.artifact import default_artifact_path, load_artifact
from models.baselines.metrics import log_loss
from models.blend import BlendedScorer
from models.champion import Champion
from models.learner import OnlineLearner
from models.manifest import Eligibility
from models.training.dataset import Dataset
from models.training.train import train
from schemas.errors import ArtifactError
from schemas.features import PACKED_FEATURE_NAMES
from schemas.messages import Example
from streams.commands.support import print_table
from streams.core.features import DAY_MS
from streams.evaluation.history import read_history
from streams.evaluation.rows import CLICK_ONLY, CutRows, cut_rows, training_rows
from streams.evaluation.shard import ReplayedShard
from streams.history.read import read
from streams.history.table import ReadOptions
from streams.settings import Settings
from streams.shard.config import core_config
from tests.evaluation import shops

__all__ = ["Cold", "Drift", "after_a_change", "cold_start", "followed", "weekly_rows"]

HORIZON_DAYS: Final = 28
ELIGIBLE: Final = Eligibility(2, 3 * HORIZON_DAYS)
SHOPS: Final[dict[str, Callable[[int], shops.Orders]]] = {
    "weekly": lambda seed: shops.weekly(1_500, 300, seed),
    "gifts": lambda seed: shops.gifts(4_000, 400, seed),
    "cohort": lambda seed: shops.cohort(4_000, 300, seed),
    "wholesale": lambda seed: shops.wholesale(4_300, 300, seed),
    "subscribers": lambda seed: shops.subscribers(540, 260, 300, seed),
}
CHANGED_USERS, CHANGED_DAYS, CHANGED_AT = 1_500, 420, 0.55
BACK: Final = 1.05
"""The loss is back within so many times that of a champion trained on the new habits."""

Scored = dict[str, NDArray[np.floating]]


def weekly_rows(orders: shops.Orders) -> list[CutRows]:
    """One row per eligible customer and week, from the fifth week on, with what became of it."""
    with tempfile.TemporaryDirectory() as directory:
        path = shops.write(Path(directory) / "orders.csv", orders)
        source = read(path, ReadOptions(), int(time.time() * 1000))
        config = core_config(Settings())
        history = read_history(source, config.decode.currency, config.decode.rates)
    config = replace(
        config, sweep_interval_ms=DAY_MS, min_orders=ELIGIBLE.min_orders,
        active_within_ms=ELIGIBLE.active_within_days * DAY_MS,
    )  # fmt: skip
    shard = ReplayedShard(history.records, config, HORIZON_DAYS, 500)
    number = {user: i for i, user in enumerate(history.users)}
    found = []
    start = history.first_ms // DAY_MS * DAY_MS + 28 * DAY_MS
    for cut_ms in range(start, history.last_ms - HORIZON_DAYS * DAY_MS, 7 * DAY_MS):
        shard.run_until(cut_ms)
        rows = shard.eligible(ELIGIBLE.min_orders, ELIGIBLE.active_within_days)
        user = np.array([number[name] for name in shard.state.users[rows]], np.int64)
        x = shard.features(rows)
        x[:, CLICK_ONLY] = np.nan
        found.append(cut_rows(history, cut_ms, user, x, HORIZON_DAYS))
    return [cut for cut in found if len(cut.user)]


def followed(cuts: Sequence[CutRows], champion: Champion, seed: int = 0) -> list[Scored]:
    """Each cut's probabilities as they would have been said then, by `champion`, `learner` and
    `blend`: the learner has learned every label that was known by the cut."""
    rng = np.random.default_rng(seed)
    learner, scorer = OnlineLearner(champion.manifest), BlendedScorer(champion)
    said: list[Scored] = []
    taught = ordinal = 0
    for cut in cuts:
        while cuts[taught].cut_ms + HORIZON_DAYS * DAY_MS <= cut.cut_ms:
            for row in rng.permutation(len(cuts[taught].user)).tolist():
                ordinal += 1
                learner.learn(_example(cuts[taught], said[taught], row, ordinal, champion.version))
            taught += 1
        scores = scorer.score(cut.x, learner.snapshot())
        said.append(
            {"champion": scores.p_champion, "learner": scores.p_learner, "blend": scores.p_churn}
        )
    return said


def _example(cut: CutRows, said: Scored, row: int, ordinal: int, version: str) -> Example:
    return Example(
        shard=0, ordinal=ordinal, asked_at_ms=cut.cut_ms,
        matured_at_ms=cut.cut_ms + HORIZON_DAYS * DAY_MS, horizon_days=HORIZON_DAYS,
        x=cut.x[row].astype("<f4").tobytes(), p_champion=float(said["champion"][row]),
        p_learner=float(said["learner"][row]), p_churn=float(said["blend"][row]),
        spend_predicted=0.0, churned=bool(cut.truth.churned[row]),
        spend=float(cut.truth.spend[row]), champion_version=version, learner_version=0,
        features=PACKED_FEATURE_NAMES,
    )  # fmt: skip


def trained(data: Dataset) -> Champion:
    """A champion of these rows. Raises ArtifactError if they are too few."""
    with tempfile.TemporaryDirectory() as directory:
        summary = train(
            data, root=Path(directory), date="2020-01-01", horizon_days=HORIZON_DAYS,
            eligibility=ELIGIBLE, source="made up", seed=7, threads=1, make_current=False,
        )  # fmt: skip
        return load_artifact(summary.path)


def known(cuts: Sequence[CutRows], until_ms: int, after_ms: int = 0) -> Dataset:
    """The rows whose labels became known in (after, until]."""
    data = training_rows(
        list(cuts), after_ms=after_ms, until_ms=until_ms, horizon_days=HORIZON_DAYS
    )
    if data is None:
        raise ArtifactError("No label is known yet.")
    return data


def _half(data: Dataset, odd: int) -> Dataset:
    at = data.user % 2 == odd
    more = {name: label[at] for name, label in data.more.items()}
    return Dataset(
        data.x[at], data.churned[at], data.spend[at], data.as_of_ms[at], data.user[at], more
    )


def crossed(data: Dataset, cuts: Sequence[CutRows]) -> list[NDArray[np.float32]]:
    """Each cut's probabilities by a champion that was trained on the other half of customers."""
    halves = [trained(_half(data, 1 - odd)) for odd in (0, 1)]
    found = []
    for cut in cuts:
        p = np.empty(len(cut.user), np.float32)
        for odd, champion in enumerate(halves):
            at = cut.user % 2 == odd
            p[at] = champion.score_or_nan(cut.x[at])[0]
        found.append(p)
    return found


def _loss(cuts: Sequence[CutRows], said: Sequence[NDArray[np.floating]]) -> float:
    truth = np.concatenate([cut.truth.churned for cut in cuts])
    return log_loss(truth, np.concatenate(said).astype(np.float64))


@dataclass(frozen=True)
class Cold:
    """Mean log loss by who said it, over the cuts since the first label and before the local
    champion, and by week (days since the history began) over all."""

    before: dict[str, float]
    rows: int
    local_day: int
    by_week: dict[int, dict[str, float]]

    @property
    def closed(self) -> float:
        """The share of the way to the local champion that the blend has gone."""
        whole = self.before["champion"] - self.before["local"]
        return (self.before["champion"] - self.before["blend"]) / whole


def cold_start(cuts: Sequence[CutRows], shipped: Champion) -> Cold:
    """The shipped champion on a shop that it has never seen, until eight weeks after the first
    local champion can be trained."""
    day_0 = cuts[0].cut_ms - 28 * DAY_MS
    local, before, at = _first_local(cuts)
    said = followed(cuts, shipped)
    early = [i for i, cut in enumerate(cuts) if cut.cut_ms < at]
    for i, cut in enumerate(cuts):
        said[i]["local"] = before[i] if i in early else local.score_or_nan(cut.x)[0]
    first = cuts[0].cut_ms + HORIZON_DAYS * DAY_MS
    window = [i for i in early if cuts[i].cut_ms >= first]
    names = ("champion", "learner", "blend", "local")
    return Cold(
        {n: _loss([cuts[i] for i in window], [said[i][n] for i in window]) for n in names},
        sum(len(cuts[i].user) for i in window),
        (at - day_0) // DAY_MS,
        {
            (cut.cut_ms - day_0) // DAY_MS: {n: _loss([cut], [said[i][n]]) for n in names}
            for i, cut in enumerate(cuts)
            if first <= cut.cut_ms < at + 56 * DAY_MS
        },
    )


def _first_local(cuts: Sequence[CutRows]) -> tuple[Champion, list[NDArray[np.float32]], int]:
    """The champion, what stands for it on the cuts before, and when it can be trained."""
    for i, cut in enumerate(cuts):
        try:
            data = known(cuts, cut.cut_ms)
            return trained(data), crossed(data, cuts[:i]), cut.cut_ms
        except ArtifactError:
            continue
    raise ArtifactError("No local champion can be trained at all. Use a longer history.")


@dataclass(frozen=True)
class Drift:
    """Mean log loss by week since the change, by who said it. `local`: the champion from before;
    `retrained`: one trained every four weeks on all labels; `hindsight`: one that knows the new
    habits from the beginning."""

    before: dict[str, float]
    """In the eight weeks before."""
    by_week: dict[int, dict[str, float]]

    def weeks(self, name: str) -> float:
        """Weeks until its loss is back for good; infinite: not within the history."""
        late = [w for w, at in self.by_week.items() if at[name] > BACK * at["hindsight"]]
        last = max(late, default=-1)
        return math.inf if last == max(self.by_week) else last + 1


def after_a_change(cuts: Sequence[CutRows], changed_ms: int) -> Drift:
    """A local champion with and without the learner, while its customers change."""
    horizon = HORIZON_DAYS * DAY_MS
    local = trained(known(cuts, changed_ms))
    said = followed(cuts, local)
    retrained, at = local, changed_ms
    hindsight = crossed(known(cuts, cuts[-1].cut_ms + horizon, changed_ms + horizon), cuts)
    for i, cut in enumerate(cuts):
        if cut.cut_ms >= at + 28 * DAY_MS:
            retrained, at = trained(known(cuts, cut.cut_ms)), cut.cut_ms
        said[i] |= {
            "local": said[i]["champion"],
            "retrained": retrained.score_or_nan(cut.x)[0],
            "hindsight": hindsight[i],
        }
    names = ("local", "blend", "retrained", "hindsight")
    eight = [i for i, c in enumerate(cuts) if 0 < changed_ms - c.cut_ms <= 56 * DAY_MS]
    return Drift(
        {n: _loss([cuts[i] for i in eight], [said[i][n] for i in eight]) for n in names[:2]},
        {
            (cut.cut_ms - changed_ms) // (7 * DAY_MS): {
                n: _loss([cut], [said[i][n]]) for n in names
            }
            for i, cut in enumerate(cuts)
            if cut.cut_ms >= changed_ms
        },
    )


@click.group()
def main() -> None:
    """Measure the online learner on made-up shops."""


def _seeds(text: str, what: Sequence[str]) -> Iterator[tuple[str, int]]:
    every = [(name, int(seed)) for name in what for seed in text.split(",")]
    with Progress(console=Console(stderr=True)) as bar:
        yield from bar.track(every, description="shops")


_seeds_option = click.option(
    "--seeds", default="2,3", show_default=True, help="Draws of each shop."
)
_json_option = click.option("--json", "as_json", is_flag=True, help="By week, as JSON.")


@main.command()
@_seeds_option
@_json_option
def cold(seeds: str, as_json: bool) -> None:
    """The shipped champion on shops it has never seen, with the learner beside it."""
    shipped = load_artifact(default_artifact_path())
    found = {
        key: cold_start(weekly_rows(SHOPS[key[0]](key[1])), shipped)
        for key in _seeds(seeds, list(SHOPS))
    }
    if as_json:
        click.echo(json.dumps({f"{n} {s}": _plain(one) for (n, s), one in found.items()}, indent=2))
        return
    print_table(
        ["shop", "draw", "local champion from day", "rows before", "champion", "learner", "blend",
         "local", "closed"],
        [
            [name, str(seed), str(one.local_day), f"{one.rows:,}",
             *(f"{one.before[n]:.4f}" for n in ("champion", "learner", "blend", "local")),
             f"{one.closed:.0%}"]
            for (name, seed), one in found.items()
        ],
    )  # fmt: skip


@main.command()
@_seeds_option
@_json_option
def drift(seeds: str, as_json: bool) -> None:
    """A shop whose customers change their habits, with and without the learner."""
    found = {}
    for _, seed in _seeds(seeds, ["changed"]):
        cuts = weekly_rows(shops.changed(CHANGED_USERS, CHANGED_DAYS, seed, CHANGED_AT))
        at = shops.START_MS + int(CHANGED_AT * CHANGED_DAYS) * DAY_MS
        found[seed] = after_a_change(cuts, at)
    if as_json:
        click.echo(json.dumps({seed: _plain(one) for seed, one in found.items()}, indent=2))
        return
    names = ("local", "blend", "retrained", "hindsight")
    print_table(
        ["draw", "weeks since the change", *names],
        [
            [str(seed), f"{week} to {week + 3}",
             *(f"{np.mean([at[n] for w, at in one.by_week.items() if week <= w < week + 4]):.4f}"
               for n in names)]
            for seed, one in found.items()
            for week in range(0, max(one.by_week) - 2, 4)
        ],
    )  # fmt: skip
    print_table(
        ["draw", "weeks until the loss is back", "retrained"],
        [
            [str(s), f"{one.weeks('blend'):g}", f"{one.weeks('retrained'):g}"]
            for s, one in found.items()
        ],
    )


def _plain(one: Cold | Drift) -> dict[str, Any]:
    plain: dict[str, Any] = {"before": one.before, "by_week": one.by_week}
    if isinstance(one, Cold):
        plain["closed"] = one.closed
    return plain


if __name__ == "__main__":
    main()
