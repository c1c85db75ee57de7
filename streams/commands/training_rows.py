"""Where `tideline train` has its rows from: order files, live examples, or both."""
# ruff: noqa: PLC0415  (heavy imports wait until the command runs)

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import click

from streams.commands.history_options import print_report, read_orders
from streams.commands.horizon import check_horizon

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from models.training.dataset import Dataset
    from streams.evaluation.history import History
    from streams.evaluation.rhythm import HorizonFit
    from streams.evaluation.training import TrainingCuts
    from streams.history.report import Report
    from streams.live import Live
    from streams.replay.records import Block, Source
    from streams.settings import Settings

__all__ = ["LIVE_ROWS", "LiveRows", "OrderRows", "Progress", "TrainingRows"]

LIVE_ROWS: Final = 200_000
"""With their features about 130 MB."""
Progress = Callable[[str, float], None]


class TrainingRows(Protocol):
    """Rows to train on, and to judge by."""

    @property
    def source(self) -> str:
        """What they come from, in a few words."""
        ...

    @property
    def notes(self) -> list[str]:
        """How they were read: Markdown lists for the model card."""
        ...

    @property
    def horizon(self) -> str:
        """How the horizon compares with how often customers order, in words; '' if unknown."""
        ...

    def taught(self, until_ms: int | None, progress: Progress) -> Dataset:
        """The rows whose labels were known then, or are now. Raises SettingsError for none."""
        ...

    def later(self, after_ms: int) -> Dataset | None:
        """The rows whose labels became known after that time; None if none did."""
        ...

    def baselines(self, data: Dataset) -> Mapping[str, NDArray[np.float64]]:
        """Other scores of the rows that were `taught`."""
        ...

    def as_dict(self) -> dict[str, Any]:
        """What was read, for JSON."""
        ...


@dataclass
class OrderRows:
    """Rows of an order history, replayed through the feature code."""

    settings: Settings
    horizon_days: int
    source: str
    _read: Source
    _reports: list[Report]
    _blocks: list[Block]
    _history: History
    _rhythm: HorizonFit
    _replayed: TrainingCuts | None = None

    @staticmethod
    def read(
        settings: Settings, orders: Sequence[Path], days: tuple[int, int] | None,
        options: dict[str, Any], *, horizon_days: int, anyway: bool, quiet: bool,
    ) -> OrderRows:  # fmt: skip
        """Read and check the files; without files Complete Journey. Raises SettingsError."""
        from streams.evaluation.history import read_history
        from streams.evaluation.training import longest_horizon_days
        from streams.shard.config import core_config

        source, described, reports = _source(orders, days, options)
        for report in () if quiet else reports:
            print_report(report)
        blocks = list(_without_erased(source, settings) if orders else source)
        rules = core_config(settings).decode
        history = read_history(blocks, rules.currency, rules.rates)
        rhythm = check_horizon(
            history,
            horizon_days=horizon_days,
            gone_after_days=int(settings.alerts.active_within_days),
            longest_days=longest_horizon_days(history),
            option="--horizon-days {}",
            anyway=anyway,
            quiet=quiet,
        )
        return OrderRows(
            settings, horizon_days, described, source, reports, blocks, history, rhythm
        )

    @property
    def notes(self) -> list[str]:
        return [report.markdown() for report in self._reports]

    @property
    def horizon(self) -> str:
        return " ".join(filter(None, (self._rhythm.sentence(), self._rhythm.gone_sentence())))

    @property
    def users(self) -> list[str]:
        """The ids that the rows' users are numbers of."""
        return self._history.users

    def replay(self, progress: Progress) -> TrainingCuts:
        """Every weekly cut, replayed once."""
        from streams.evaluation.training import replay_cuts
        from streams.shard.config import core_config

        if self._replayed is None:
            self._replayed = replay_cuts(
                self._blocks,
                self._history,
                horizon_days=self.horizon_days,
                min_orders=self.settings.alerts.min_orders,
                active_within_days=int(self.settings.alerts.active_within_days),
                rules=core_config(self.settings).decode,
                progress=progress,
            )
        return self._replayed

    def taught(self, until_ms: int | None, progress: Progress) -> Dataset:
        from schemas.errors import SettingsError

        data = self.replay(progress).rows(until_ms=until_ms)
        if data is None:
            raise SettingsError(
                _nobody(self.horizon_days, self.settings.alerts.min_orders)
                if until_ms is None
                else f"No label was known by {_day(until_ms)}: use a later --as-of, at least "
                f"{self.horizon_days + 28} days after the first order."
            )
        return data

    def later(self, after_ms: int) -> Dataset | None:
        return None if self._replayed is None else self._replayed.rows(after_ms=after_ms)

    def baselines(self, data: Dataset) -> Mapping[str, NDArray[np.float64]]:
        return {} if self._replayed is None else self._replayed.baselines(data)

    def as_dict(self) -> dict[str, Any]:
        return {"history": self._read.summary(), "rhythm": self._rhythm.as_dict()}


@dataclass
class LiveRows:
    """Live examples; and rows of an order history beside them where they are few."""

    settings: Settings
    horizon_days: int
    rows: int
    orders: OrderRows | None = None
    _found: dict[str, Any] = field(default_factory=dict)
    _said: list[str] = field(default_factory=list)

    @property
    def source(self) -> str:
        return f"live examples and {self.orders.source}" if self.orders else "live examples"

    @property
    def notes(self) -> list[str]:
        said = "\n".join(f"- {line}" for line in self._said)
        return [said, *(self.orders.notes if self.orders else [])]

    @property
    def horizon(self) -> str:
        return self.orders.horizon if self.orders else ""

    def taught(self, until_ms: int | None, progress: Progress) -> Dataset:
        from models.training.promotion import MIN_ROWS
        from schemas.errors import SettingsError
        from streams.evaluation.live import beside, learnable
        from streams.privacy.pseudonyms import pseudonyms

        live = self._examples(0, until_ms, progress)
        found = 0 if live is None else live.found
        if live is None or (self.orders is None and found < MIN_ROWS):
            raise SettingsError(self._too_few(found, MIN_ROWS, until_ms))
        data, room = live.data, self.rows - len(live.data.x)
        self._said = [live.sentence()]
        if self.orders is not None and room > 0:
            key = pseudonyms(self.settings)
            history = self.orders.taught(until_ms, progress)
            data = beside(data, history, self.orders.users, key.user if key else str, self.rows)
            beside_them = len(data.x) - len(live.data.x)
            self._said.append(
                f"{beside_them:,} of {len(history.x):,} rows of the orders beside them, without "
                "clicks"
            )
        elif self.orders is not None:
            self._said.append(f"no rows of the orders: the {self.rows:,} of --rows are all live")
        data, unknown = learnable(data)
        if unknown:
            self._said.append(
                f"no label of {', '.join(unknown)} is known, so the model goes without; --orders "
                "FILE has them"
            )
        self._found = {
            "examples": found, "rows": len(live.data.x), "weeks": live.weeks,
            "rows_of_orders": len(data.x) - len(live.data.x), "without": unknown,
        }  # fmt: skip
        for line in self._said:
            click.echo(f"{line[0].upper()}{line[1:]}.", err=True)
        return data

    def later(self, after_ms: int) -> Dataset | None:
        live = self._examples(after_ms, None, lambda _what, _done: None)
        return None if live is None else live.data

    def baselines(self, data: Dataset) -> Mapping[str, NDArray[np.float64]]:
        """None: they are fitted to whole histories, and live examples come without theirs."""
        return {}

    def as_dict(self) -> dict[str, Any]:
        orders = self.orders.as_dict() if self.orders else {"history": {}, "rhythm": {}}
        return orders | {"live": self._found}

    def _examples(self, after_ms: int, until_ms: int | None, progress: Progress) -> Live | None:
        from streams.clickhouse.client import clickhouse_target
        from streams.clickhouse.examples import Examples
        from streams.live import read_live

        target = clickhouse_target(self.settings)
        which = Examples(target, self.horizon_days, after_ms, until_ms)
        return read_live(which, self.rows, progress)

    def _too_few(self, found: int, needed: int, until_ms: int | None) -> str:
        from streams.clickhouse.client import clickhouse_target
        from streams.clickhouse.examples import horizons

        there = horizons(clickhouse_target(self.settings))
        others = ", ".join(
            f"--horizon-days {days} ({count:,})"
            for days, count in there.items()
            if days != self.horizon_days
        )
        known = "" if until_ms is None else f" that were known by {_day(until_ms)}"
        return (
            f"The table examples has {found:,} of {self.horizon_days} days{known}, and at least "
            f"{needed} are needed. "
            + (f"There are others: {others}. " if others else "")
            + "Workers keep one per customer and horizon while TIDELINE_MODEL_KEEP_EXAMPLES is "
            "true, each a horizon after it was asked."
            + (" Until then, add --orders FILE." if self.orders is None else " Leave --live out.")
        )


def _day(ms: int) -> str:
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d}"


def _nobody(horizon_days: int, min_orders: int) -> str:
    return (
        f"Nobody had {min_orders} orders by any weekly cut that is {horizon_days} days before the "
        "end, so there is nothing to learn from. Use a longer history, or a shorter "
        "--horizon-days; and if customers do come back, check which column --map names as user."
    )


def _source(
    orders: Sequence[Path], days: tuple[int, int] | None, options: dict[str, Any]
) -> tuple[Source, str, list[Report]]:
    from schemas.errors import SettingsError
    from streams.replay import completejourney

    if orders:
        from streams.history.several import Histories

        found = Histories([read_orders(path, options) for path in orders])
        for report in found.reports:
            if report.one_order_each:
                raise SettingsError(report.one_order_each)
        return found, ", ".join(path.name for path in orders), found.reports
    span = f" days {days[0]}-{days[1]}" if days else ""
    return completejourney.orders(days=days), f"Complete Journey{span}", []


def _without_erased(source: Source, settings: Settings) -> Iterable[Block]:
    """Your own orders may still hold people who were erased here."""
    from schemas.errors import BrokerUnavailable
    from streams.evaluation.training import without_erased
    from streams.kafka.access import kafka_access
    from streams.kafka.reach import require_reachable
    from streams.privacy.erasure_board import read_board

    try:
        require_reachable(kafka_access(settings), 2.0)
        board = asyncio.run(read_board(settings))
    except BrokerUnavailable as error:
        click.echo(
            f"Warning: people who were erased are not left out of these orders: {error}", err=True
        )
        return source
    return without_erased(source, board.forgotten_until)
