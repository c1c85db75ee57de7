"""Visitors of a made-up shop whose law is known: is their chance to order ranked and calibrated?

    python -m tests.evaluation.visitors --seeds 1,2,3

A quarter of the visitors are keen: they come more often, and orders follow their sessions more
often, most of all after something was put into the cart. Interest ends after 25 days on average.
Who has ordered once goes on as a customer. Everything runs through a worker's code; a champion is
made of the answers that were known after two thirds of the days, and judged on the visitors asked
about later.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from models.artifact import load_artifact
from models.bands import VISITORS
from models.baselines.metrics import auc, expected_calibration_error, log_loss
from models.manifest import Eligibility
from models.training.dataset import Dataset
from models.training.train import train
from schemas.features import FEATURE_NAMES
from tests.core import driving
from tests.core.driving import T0, Driver, SilenceScorer, config, order
from tests.core.oracle import DAY_MS

__all__ = ["Measured", "measured"]

Wire = dict[str, Any]
HORIZON_DAYS: Final = 28
TAUGHT_SHARE: Final = 0.65
KEEN_SHARE, ENDS = 0.25, 1 / 25
SESSIONS: Final = (0.12, 0.35)  # a day: others, keen
ORDERS: Final = (0.006, 0.06)  # after a session
CARTS: Final = (0.05, 0.3)
CART_MORE: Final = 2.5  # times as often after a cart
AGAIN, LEAVES = 1 / 20, 1 / 120  # a day, of customers


@dataclass(frozen=True)
class Measured:
    """One draw: visitors asked about after the training."""

    taught: int
    judged: int
    rate: float
    """Share that ordered within the horizon."""
    predicted: float
    auc: dict[str, float]
    log_loss: dict[str, float]
    ece: float


@dataclass
class _Shop:
    """Hidden from everybody but the law, [n] each."""

    came: NDArray[np.int64]
    keen: NDArray[np.int64]
    gone: NDArray[np.bool_]
    ordered: NDArray[np.bool_]

    def day(self, day: int, rng: np.random.Generator) -> tuple[list[Wire], list[Wire]]:
        """A day's clicks and orders."""
        n, start = len(self.came), T0 + day * DAY_MS
        here = (self.came <= day) & ~self.gone
        sessions = rng.poisson(np.take(SESSIONS, self.keen) * here)
        again = here & self.ordered & (rng.random(n) < AGAIN)
        clicks: list[Wire] = []
        orders = [order(f"u{u}", start + DAY_MS - 2, _worth(rng)) for u in np.flatnonzero(again)]
        for u in np.flatnonzero(sessions).tolist():
            for _ in range(int(sessions[u])):
                at = start + int(rng.integers(1, DAY_MS - 4_000_000))
                cart = rng.random() < CARTS[self.keen[u]]
                steps = ["view"] * (1 + rng.poisson(1.5)) + ["cart_add"] * cart
                clicks += [
                    driving.click(f"u{u}", at + 30_000 * i, kind, item_id=f"i{rng.integers(99)}")
                    for i, kind in enumerate(steps)
                ]
                chance = ORDERS[self.keen[u]] * (CART_MORE if cart else 1.0)
                if not self.ordered[u] and rng.random() < chance:
                    self.ordered[u] = True
                    orders.append(order(f"u{u}", at + 3_600_000, _worth(rng)))
        ends = np.where(self.ordered, LEAVES, ENDS)
        self.gone |= here & (rng.random(n) < ends)
        return sorted(clicks, key=lambda c: c["ts"]), sorted(orders, key=lambda o: o["ts"])


def _worth(rng: np.random.Generator) -> float:
    return round(float(rng.lognormal(3.0, 0.5)), 2)


def _examples(visitors: int, days: int, seed: int) -> list[dict[str, Any]]:
    """Rows of `examples`, as workers write them."""
    rng = np.random.default_rng(seed)
    shop = _Shop(
        rng.integers(0, days, visitors), (rng.random(visitors) < KEEN_SHARE).astype(np.int64),
        np.zeros(visitors, np.bool_), np.zeros(visitors, np.bool_),
    )  # fmt: skip
    driver = Driver(config(sample_share=0.0), SilenceScorer(HORIZON_DAYS, min_orders=2))
    rows: list[dict[str, Any]] = []
    for day in range(days):
        clicks, orders = shop.day(day, rng)
        driver.feed(clicks, orders, clock_ms=T0 + (day + 1) * DAY_MS - 1)
        driver.sweep(T0 + (day + 1) * DAY_MS)
        rows += driver.rows("examples")
        driver.outputs.clear()
        driver.log.clear()
    return rows


def _dataset(rows: list[dict[str, Any]]) -> Dataset:
    return Dataset(
        np.stack([row["features"] for row in rows]),
        np.array([row["churned"] for row in rows], np.bool_),
        np.array([row["spend"] for row in rows], np.float32),
        np.array([row["asked_at"] for row in rows], np.int64),
        np.array([int(row["user_id"][1:]) for row in rows], np.int64),
    )


def measured(visitors: int, days: int, seed: int) -> Measured:
    """One draw of the shop."""
    rows = _examples(visitors, days, seed)
    cut_ms = T0 + int(TAUGHT_SHARE * days) * DAY_MS
    taught = _dataset([row for row in rows if row["matured_at"] <= cut_ms])
    later = [row for row in rows if row["asked_at"] >= cut_ms and not row["lifetime_orders"]]
    judged = _dataset(later)
    with tempfile.TemporaryDirectory() as directory:
        summary = train(
            taught, root=Path(directory), date="2026-11-30", horizon_days=HORIZON_DAYS,
            eligibility=Eligibility(2, 84), source="a made-up shop",
        )  # fmt: skip
        p = load_artifact(summary.path).score_or_nan(judged.x[:], VISITORS)[0].astype(np.float64)
    ordered = ~judged.churned
    views, silence = (
        judged.x[:, FEATURE_NAMES.index(name)].astype(np.float64)
        for name in ("view_30d", "days_since_activity")
    )
    known = int((taught.x[:, FEATURE_NAMES.index("lifetime_orders")] == 0).sum())
    constant = np.full(len(p), ordered.mean())
    return Measured(
        known, len(p), float(ordered.mean()), float(1.0 - p.mean()),
        {"Tideline": auc(ordered, 1.0 - p), "views": auc(ordered, np.nan_to_num(views)),
         "recency": auc(ordered, -np.nan_to_num(silence, nan=1e4))},
        {"Tideline": log_loss(ordered, 1.0 - p), "constant": log_loss(ordered, constant)},
        expected_calibration_error(ordered, 1.0 - p),
    )  # fmt: skip


@click.command()
@click.option("--visitors", default=8_000, show_default=True)
@click.option("--days", default=240, show_default=True)
@click.option("--seeds", default="1,2,3", show_default=True, help="One draw of the shop for each.")
def main(visitors: int, days: int, seeds: str) -> None:
    """Measure the scores of visitors."""
    drawn = [int(seed) for seed in seeds.split(",")]
    click.echo(
        "| draw | taught, judged | ordered, predicted | AUC: Tideline, views, recency "
        "| log loss, constant | ECE |\n| --- | --- | --- | --- | --- | --- |"
    )
    for seed in track(drawn, description="visitors", console=Console(stderr=True)):
        found = measured(visitors, days, seed)
        area = ", ".join(f"{value:.3f}" for value in found.auc.values())
        loss = ", ".join(f"{value:.4f}" for value in found.log_loss.values())
        click.echo(
            f"| {seed} | {found.taught:,}, {found.judged:,} | {found.rate:.4f}, "
            f"{found.predicted:.4f} | {area} | {loss} | {found.ece:.4f} |"
        )


if __name__ == "__main__":
    main()
