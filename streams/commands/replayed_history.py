"""What commands share that replay an order history: its options, progress bars, and the replay."""
# ruff: noqa: PLC0415  (heavy imports wait until the command runs)

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from streams.commands.history_options import (
    history_options,
    print_report,
    read_orders,
    take_history_options,
)
from streams.commands.horizon import check_horizon, horizon_anyway_option

if TYPE_CHECKING:
    from schemas.definitions import Definitions
    from streams.evaluation.run import ReplayedHistory
    from streams.evaluation.sequence import SequenceChallenger
    from streams.replay.records import Source
    from streams.settings import Settings

__all__ = ["Given", "progress_bars", "replay_options", "replayed_history", "source_of"]

Progress = Callable[[str, float], None]


class _Days(click.ParamType):
    """`28d`, or just 28: whole days."""

    name = "days"

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        found = re.fullmatch(r"(\d+)\s*d?", str(value).strip())
        if not found or not 1 <= int(found[1]) <= 365:
            self.fail(f"{value!r} is not a number of days from 1d to 365d, such as 28d", param, ctx)
        return int(found[1])


def replay_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say what to replay, and how; `Given.of` takes them."""
    options = (
        click.option(
            "--orders",
            type=click.Path(dir_okay=False, path_type=Path),
            help="Your orders: CSV, Excel, Parquet or JSON (user, timestamp, amount; order id, "
            "lines).",
        ),
        click.option(
            "--dataset",
            type=click.Choice(["completejourney"]),
            help="A known history instead of a file.",
        ),
        history_options,
        click.option(
            "--horizon", type=_Days(), default="28d", show_default=True,
            help="Churn means no order in so many days.",
        ),
        horizon_anyway_option,
        click.option(
            "--threads", default=1, show_default=True, type=click.IntRange(1, 64),
            help="For training; the figures differ in the last digits.",
        ),
        click.option(
            "--seed", default=7, show_default=True, help="The same seed gives the same figures."
        ),
    )  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


@dataclass(frozen=True)
class Given:
    """What `replay_options` said."""

    orders: Path | None
    dataset: str | None
    horizon_days: int
    horizon_anyway: bool
    threads: int
    seed: int
    history: dict[str, Any]
    """Options of `history_options`."""

    @staticmethod
    def of(options: dict[str, Any]) -> Given:
        """From a command's options. Raises click.UsageError unless they name one history."""
        given = dict(options)
        orders, dataset = given.pop("orders"), given.pop("dataset")
        if (orders is None) == (dataset is None):
            raise click.UsageError("Name either --orders FILE or --dataset completejourney.")
        return Given(
            orders=orders,
            dataset=dataset,
            horizon_days=given.pop("horizon"),
            horizon_anyway=given.pop("horizon_anyway"),
            threads=given.pop("threads"),
            seed=given.pop("seed"),
            history=given,
        )

    @property
    def name(self) -> str:
        """Of the history."""
        return self.dataset or (self.orders.name if self.orders else "")


@contextmanager
def progress_bars(*, quiet: bool) -> Iterator[Progress]:
    """Bars on stderr, one for each thing that is told; `quiet`: they go away at the end."""
    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.progress import SpinnerColumn, TaskID, TimeElapsedColumn

    with Bars(
        SpinnerColumn(), *Bars.get_default_columns(), TimeElapsedColumn(),
        console=Console(stderr=True), transient=quiet,
    ) as bars:  # fmt: skip
        bar_of: dict[str, TaskID] = {}

        def progress(what: str, done: float) -> None:
            if what not in bar_of:
                bar_of[what] = bars.add_task(what, total=1.0)
            bars.update(bar_of[what], completed=done)

        yield progress


def replayed_history(
    settings: Settings,
    given: Given,
    progress: Progress,
    *,
    quiet: bool,
    definitions: Definitions | None = None,
    challenger: SequenceChallenger | None = None,
) -> ReplayedHistory:
    """Read a history, and let it unfold by these definitions (None: what ships), beside the
    `challenger` if there is one. `quiet`: nothing is said but errors."""
    from streams.evaluation.history import read_history
    from streams.evaluation.protocol import longest_horizon_days, plan_protocol
    from streams.evaluation.rhythm import usual_gap_days
    from streams.evaluation.run import ReplayedHistory, replay
    from streams.shard.config import core_config

    config = core_config(settings)
    source = source_of(given.orders, take_history_options(given.history), quiet=quiet)
    history = read_history(source, config.decode.currency, config.decode.rates)
    protocol = plan_protocol(history, given.horizon_days, settings.alerts.min_orders, None)
    placed = history.standing()
    fit = check_horizon(
        usual_gap_days(placed.user, placed.ts_ms),
        customers=len(history.users),
        horizon_days=given.horizon_days,
        gone_after_days=protocol.active_within_days,
        longest_days=longest_horizon_days(history),
        option="--horizon {}d",
        anyway=given.horizon_anyway,
        quiet=quiet,
    )
    replayed = replay(
        history, protocol, config, definitions=definitions, seed=given.seed,
        threads=given.threads, progress=progress, challenger=challenger,
    )  # fmt: skip
    return ReplayedHistory(source, history, protocol, config, fit, replayed)


def source_of(orders: Path | None, options: dict[str, Any], *, quiet: bool) -> Source:
    """The history in a file of orders, or Complete Journey's for None."""
    from schemas.errors import SettingsError
    from streams.replay import completejourney

    if orders is None:
        return completejourney.orders()
    found = read_orders(orders, options)
    if not quiet:
        print_report(found.report)
    if found.report.one_order_each:
        raise SettingsError(found.report.one_order_each)
    return found
