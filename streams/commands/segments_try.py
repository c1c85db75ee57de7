"""`tideline segments try`: a file of definitions on an order history."""
# ruff: noqa: PLC0415  (heavy imports wait until the command runs)

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from streams.commands.history_options import history_options
from streams.commands.support import (
    Invocation,
    json_option,
    pass_invocation,
    print_json,
    print_table,
)

if TYPE_CHECKING:
    from schemas.definitions import Expected
    from streams.evaluation.tried import Tried, TriedSegment

__all__ = ["try_"]

_BARS = "▁▂▃▄▅▆▇█"
_WIDTH = 26


@click.command(name="try")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--orders", type=click.Path(dir_okay=False, path_type=Path),
              help="Your orders: CSV, Excel, Parquet or JSON.")  # fmt: skip
@click.option("--dataset", type=click.Choice(["completejourney"]),
              help="A known history instead of a file.")  # fmt: skip
@history_options
@json_option
@pass_invocation
def try_(
    invocation: Invocation,
    /,
    file: Path,
    orders: Path | None,
    dataset: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Show what the segments of a file would have been on an order history.

    The history unfolds in one shard, by its own clock, scored by the champion of
    TIDELINE_MODEL_ARTIFACT, which may have learned from the same time. Histories have no clicks:
    what counts them is 0. Nothing is written anywhere.
    """
    if (orders is None) == (dataset is None):
        raise click.UsageError("Name either --orders FILE or --dataset completejourney.")
    settings = invocation.settings
    from models.registry import ScorerStore, artifact_place
    from streams.campaigns import read_definitions
    from streams.commands.replayed_history import progress_bars, source_of
    from streams.evaluation.history import read_history
    from streams.evaluation.tried import try_on
    from streams.shard.config import core_config

    config = core_config(settings)
    currency = config.decode.currency
    definitions = read_definitions(file.read_bytes(), file=str(file), currency=currency)
    champion = ScorerStore(artifact_place(settings.model.artifact), currency).current.champion
    source = source_of(orders, options, quiet=as_json)
    history = read_history(source, currency, config.decode.rates)
    with progress_bars(quiet=as_json) as progress:
        found = try_on(
            history.records, config, champion, champion.horizon_days, definitions,
            lambda share: progress("replay the history", share),
        )  # fmt: skip
    if as_json:
        print_json(_document(found))
        return
    click.echo(
        f"{found.customers:,} customers, {_date(found.first_day)} to {_date(found.last_day)}, "
        f"scored by {champion.version}"
    )
    days = found.last_day - found.first_day + 1
    print_table(
        (
            "SEGMENT", "AT THE END", "MOST", "IN A DAY", "OUT A DAY", "EXPECTED", "ALSO IN",
            "SIZE OVER TIME",
        ),
        [
            (
                each.name, f"{len(of.members):,}", f"{max(of.sizes.values()):,}",
                f"{sum(of.entered.values()) / days:.1f}", f"{sum(of.left.values()) / days:.1f}",
                _expected(each.expect, len(of.members), sum(of.entered.values()) / days),
                _overlap(each.name, found), _line(of),
            )
            for each in definitions.segments
            for of in (found.segments[each.name],)
        ],
    )  # fmt: skip


def _date(day: int) -> str:
    return f"{datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=day):%Y-%m-%d}"


def _expected(expect: Expected, size: int, per_day: float) -> str:
    """What the owner expects, and whether it is so."""
    told = []
    for what, span, value in (("", expect.size, size), (" a day", expect.per_day, per_day)):
        if span is not None:
            low, high = span
            outside = "" if low <= value <= high else " OUTSIDE"
            told.append(f"{low:,}..{high:,}{what}{outside}")
    return ", ".join(told) or "-"


def _overlap(name: str, found: Tried) -> str:
    members = found.segments[name].members
    if not members:
        return "-"
    shares = {
        other: len(members & of.members) / len(members)
        for other, of in found.segments.items()
        if other != name
    }
    most = sorted(shares, key=lambda other: -shares[other])[:3]
    return ", ".join(f"{other} {shares[other]:.0%}" for other in most if shares[other]) or "-"


def _line(of: TriedSegment) -> str:
    """Sizes over time as bars: of equal parts of the days, the last size each."""
    sizes = list(of.sizes.values())
    parts = [sizes[(i + 1) * len(sizes) // _WIDTH - 1] for i in range(min(_WIDTH, len(sizes)))]
    most = max(parts, default=0)
    return "".join(_BARS[(len(_BARS) - 1) * size // most if most else 0] for size in parts)


def _document(found: Tried) -> dict[str, Any]:
    return {
        "from": _date(found.first_day),
        "to": _date(found.last_day),
        "customers": found.customers,
        "segments": {
            name: {
                "size": len(of.members),
                "overlap": {
                    other: len(of.members & others.members)
                    for other, others in found.segments.items()
                    if other != name
                },
                "days": {
                    _date(day): {
                        "size": size, "entered": of.entered.get(day, 0), "left": of.left.get(day, 0)
                    }
                    for day, size in of.sizes.items()
                },
            }
            for name, of in found.segments.items()
        },
    }  # fmt: skip
