"""Where `tideline train` has its rows from: order files, live examples, or both."""
# ruff: noqa: PLC0415  (heavy imports wait until the command runs)

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import click

from streams.commands.history_options import print_report, read_orders
from streams.commands.horizon import check_horizon

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from models.training.dataset import Dataset
    from streams.evaluation.rhythm import HorizonFit
    from streams.evaluation.sampled import SampledRows
    from streams.evaluation.spooled import SpooledHistory
    from streams.evaluation.training import Sample, TrainingHistory
    from streams.history.report import Report
    from streams.live import Live
    from streams.replay.records import Source
    from streams.settings import Settings

__all__ = ["LiveRows", "OrderRows", "Progress", "Taught", "TrainingRows"]

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Taught:
    """Rows to train on, and other scores of them (see `models.training.train`)."""

    data: Dataset
    baselines: Mapping[str, NDArray[np.floating[Any]]]


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

    def taught(self, until_ms: int | None) -> Taught:
        """The rows whose labels were known then, or are now. Raises SettingsError for none."""
        ...

    def later(self, after_ms: int) -> Dataset | None:
        """The rows whose labels became known after that time; None if none did."""
        ...

    def as_dict(self) -> dict[str, Any]:
        """What was read, for JSON."""
        ...


@dataclass
class OrderRows:
    """Rows of an order history, replayed through the feature code; at most `rows` of them."""

    rows: int
    history: TrainingHistory
    _read: list[_Read]
    _rhythm: HorizonFit
    _said: list[str] = field(default_factory=list)
    _found: dict[str, int] = field(default_factory=dict)

    @staticmethod
    def read(
        settings: Settings, orders: Sequence[Path], days: tuple[int, int] | None,
        options: dict[str, Any], directory: Path, rows: int, progress: Progress, *,
        horizon_days: int, anyway: bool, quiet: bool, name_of: Callable[[str], str] | None = None,
    ) -> OrderRows:  # fmt: skip
        """Read and check the files, and sort them in `directory`; without files Complete Journey.
        `name_of`: what rows name customers by, if not by their id. Raises SettingsError."""
        from streams.evaluation.spooled import SpooledHistory
        from streams.evaluation.training import TrainingHistory, longest_horizon_days
        from streams.memory import release_memory
        from streams.shard.config import core_config

        alerts, rules = settings.alerts, core_config(settings).decode
        spooled = SpooledHistory(directory, rules)
        read = _spool(spooled, orders, days, options, settings, quiet, progress)
        release_memory()  # of the largest file; every peak comes on top of what is kept
        survey = spooled.survey(progress)
        release_memory()
        rhythm = check_horizon(
            survey.gap_days,
            customers=survey.customers,
            horizon_days=horizon_days,
            gone_after_days=int(alerts.active_within_days),
            longest_days=longest_horizon_days(survey.first_ms, survey.last_ms),
            option="--horizon-days {}",
            anyway=anyway,
            quiet=quiet,
        )
        history = TrainingHistory(
            spooled,
            survey,
            horizon_days=horizon_days,
            min_orders=1,  # who has fewer than customers makes a model of their own
            active_within_days=int(alerts.active_within_days),
            rules=rules,
            progress=progress,
            customers_from=alerts.min_orders,
            name_of=name_of,
        )
        return OrderRows(rows, history, read, rhythm)

    @property
    def source(self) -> str:
        return ", ".join(read.name for read in self._read)

    @property
    def notes(self) -> list[str]:
        said = ["\n".join(f"- {line}" for line in self._said)] if self._said else []
        return said + [read.report.markdown() for read in self._read if read.report is not None]

    @property
    def horizon(self) -> str:
        return " ".join(filter(None, (self._rhythm.sentence(), self._rhythm.gone_sentence())))

    def sample(self, most: int, until_ms: int | None, into: SampledRows | None = None) -> Sample:
        """At most so many rows, beside those that are there. Raises SettingsError for none."""
        from schemas.errors import SettingsError

        sample = self.history.rows(most, until_ms=until_ms, into=into)
        if sample is None:
            raise SettingsError(
                _nobody(self.history.horizon_days)
                if until_ms is None
                else f"No label was known by {_day(until_ms)}: use a later --as-of, at least "
                f"{self.history.horizon_days + 28} days after the first order."
            )
        return sample

    def taught(self, until_ms: int | None) -> Taught:
        from streams.memory import release_memory

        sample = self.sample(self.rows, until_ms)
        rows, there = len(sample.data.x), sample.of_rows
        self._found = {"rows": rows, "of": there}
        if there > self.rows:
            line = f"a sample of {rows:,} of {there:,} rows, one per customer and week"
            self._said = [line]
            click.echo(f"{line[0].upper()}{line[1:]}.", err=True)
        baselines = self.history.baselines(sample)
        release_memory()  # of the replay, before the fit needs it
        return Taught(sample.data, baselines)

    def later(self, after_ms: int) -> Dataset | None:
        sample = self.history.rows(self.rows, after_ms=after_ms)
        return None if sample is None else sample.data

    def as_dict(self) -> dict[str, Any]:
        found = [read.summary for read in self._read]
        history = found[0] if len(found) == 1 else {"files": found}
        return {"history": history, "rhythm": self._rhythm.as_dict(), "sample": self._found}


@dataclass
class LiveRows:
    """Live examples; and rows of an order history beside them where they are few."""

    settings: Settings
    horizon_days: int
    rows: int
    progress: Progress
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

    def taught(self, until_ms: int | None) -> Taught:
        from models.training.promotion import MIN_ROWS
        from schemas.errors import SettingsError
        from streams.evaluation.live import learnable

        live = self._examples(0, until_ms, self.progress)
        found = 0 if live is None else live.found
        if live is None or (self.orders is None and found < MIN_ROWS):
            raise SettingsError(self._too_few(found, MIN_ROWS, until_ms))
        drawn = len(live.drawn)
        self._said, room = [live.sentence()], self.rows - drawn
        if self.orders is not None and room > 0:
            there = self.orders.sample(room, until_ms, live.drawn).of_rows
            self._said.append(
                f"{len(live.drawn) - drawn:,} of {there:,} rows of the orders beside them, without "
                "clicks"
            )
        elif self.orders is not None:
            self._said.append(f"no rows of the orders: {self.rows:,} live ones are --max-rows")
        # Other scores are fitted to whole histories, and live examples come without theirs.
        data, unknown = learnable(live.data)
        if unknown:
            self._said.append(
                f"no label of {', '.join(unknown)} is known, so the model goes without; --orders "
                "FILE has them"
            )
        self._found = {
            "examples": found, "rows": drawn, "weeks": live.weeks,
            "rows_of_orders": len(data.x) - drawn, "without": unknown,
        }  # fmt: skip
        for line in self._said:
            click.echo(f"{line[0].upper()}{line[1:]}.", err=True)
        return Taught(data, {})

    def later(self, after_ms: int) -> Dataset | None:
        live = self._examples(after_ms, None, lambda _what, _done: None)
        return None if live is None else live.data

    def as_dict(self) -> dict[str, Any]:
        orders = self.orders.as_dict() if self.orders else {"history": {}, "rhythm": {}}
        return orders | {"live": self._found}

    def _examples(self, after_ms: int, until_ms: int | None, progress: Progress) -> Live | None:
        from streams.clickhouse.client import clickhouse_target
        from streams.clickhouse.examples import Examples
        from streams.live import read_live

        target = clickhouse_target(self.settings)
        least = self.settings.alerts.min_orders
        which = Examples(target, self.horizon_days, after_ms, until_ms, least)
        return read_live(which, self.rows, progress, others_come=self.orders is not None)

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


def _nobody(horizon_days: int) -> str:
    return (
        f"Nobody had ordered by any weekly cut that is {horizon_days} days before the "
        "end, so there is nothing to learn from. Use a longer history, or a shorter "
        "--horizon-days; and if customers do come back, check which column --map names as user."
    )


@dataclass(frozen=True)
class _Read:
    """A source whose records are in the spool: its name, what it says of itself, and the report of
    a file."""

    name: str
    summary: dict[str, Any]
    report: Report | None


def _spool(
    spooled: SpooledHistory,
    orders: Sequence[Path],
    days: tuple[int, int] | None,
    how: dict[str, Any],
    settings: Settings,
    quiet: bool,
    progress: Callable[[str, float], None],
) -> list[_Read]:
    """Read every source and sort its records, one after the other: a file takes much more memory
    than its rows will."""
    from streams.evaluation.training import without_erased

    forgotten_until = _forgotten_until(settings) if orders else None
    sources = []
    paths = orders or (None,)
    for number, path in enumerate(paths):
        source, about = _read(path, days, how, quiet)
        blocks = without_erased(source, forgotten_until) if forgotten_until else source
        for written in spooled.add(blocks):
            of_this = min(written / max(source.expected_records or 0, 1), 1.0)
            progress("sort", (number + of_this) / len(paths))
        sources.append(about)
        del source, blocks
    return sources


def _read(
    path: Path | None, days: tuple[int, int] | None, options: dict[str, Any], quiet: bool
) -> tuple[Source, _Read]:
    from schemas.errors import SettingsError
    from streams.replay import completejourney

    if path is None:
        span = f" days {days[0]}-{days[1]}" if days else ""
        year = completejourney.orders(days=days)
        return year, _Read(f"Complete Journey{span}", year.summary(), None)
    found = read_orders(path, options)
    if found.report.one_order_each:
        raise SettingsError(found.report.one_order_each)
    if not quiet:
        print_report(found.report)
    return found, _Read(path.name, found.summary(), found.report)


def _forgotten_until(settings: Settings) -> Callable[[str], int] | None:
    """Your own orders may still hold people who were erased here: until when to leave out a user.
    None: that is not known."""
    from schemas.errors import BrokerUnavailable
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
        return None
    return board.forgotten_until
