"""`tideline bench`: the benchmark, and a measurement of its own. They live in tests/bench."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any, Final, NamedTuple

import click

from streams.commands.support import json_option

__all__ = ["BENCHES", "PARTS", "bench"]

_ROOT: Final = Path(__file__).parents[2]


class _Bench(NamedTuple):
    """Where a bench is, and what `tideline bench --help` says of it without importing it."""

    module: str
    attribute: str
    help: str


BENCHES: Final[dict[str, _Bench]] = {
    "recovery": _Bench(
        "tests.bench.recovery", "recovery", "Restart a worker with a million users' state."
    ),
}
PARTS: Final = {
    "contenders": "events per second of peers, floors and Tideline's layers, in turn",
    "latency": "event to alert, over the rate",
    "two_workers": "two workers on two cores",
    "start": "a worker's start to its first batch",
    "growth": "cost over partitions, users and windows",
    "memory": "a million users, active and dormant, and a sweep of them",
    "hour": "cost and memory over an hour of events",
    "recovery": "restart with a million users",
}
"""The parts of a whole run, in their order."""


def _module(name: str) -> Any:
    if not (_ROOT / "tests" / "bench").is_dir():
        raise click.ClickException(
            "The benchmarks are part of the source, not of the installed package. Run this in "
            "a clone: make setup && .venv/bin/tideline bench"
        )
    if str(_ROOT) not in sys.path:
        sys.path.insert(0, str(_ROOT))
    return importlib.import_module(name)


class _Group(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(BENCHES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in BENCHES:
            return None
        where = BENCHES[cmd_name]
        found = getattr(_module(where.module), where.attribute)
        assert isinstance(found, click.Command), where  # noqa: S101  (a mistake in BENCHES)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Parts (--only)"):
            formatter.write_dl(list(PARTS.items()))
        with formatter.section("Commands"):
            formatter.write_dl([(name, bench.help) for name, bench in BENCHES.items()])


@click.group(cls=_Group, invoke_without_command=True)
@click.option("--only", multiple=True, metavar="NAME",
              help="A part, or a contender, or a kind of them (peer, floor, tideline); repeat it "
              "for several.")  # fmt: skip
@click.option("--without", multiple=True, metavar="NAME",
              help="A contender, a kind, or a peer's environment to leave out.")  # fmt: skip
@click.option("--quick", is_flag=True, help="Fewer events and one round: minutes, and rough.")
@click.option("--rounds", type=click.IntRange(1), help="Turns of each contender.  [default: 3]")
@click.option("--events", type=click.IntRange(100_000), help="Of the topic.  [default: 1500000]")
@click.option("--broker", type=click.Choice(["tansu", "kafka"]), default="tansu", show_default=True,
              help="The broker that all read from.")  # fmt: skip
@click.option("--out", type=click.Path(file_okay=False, path_type=Path),
              default=Path(".tideline/bench"), show_default=True,
              help="Directory for results.json and the charts.")  # fmt: skip
@click.option("--keep", is_flag=True,
              help="Keep what the results hold already, and add rounds to theirs.")  # fmt: skip
@click.option("--record", is_flag=True,
              help="Write the results, charts, README and `tideline capacity`'s figures of this "
              "clone.")  # fmt: skip
@json_option
@click.pass_context
def bench(
    ctx: click.Context, only: tuple[str, ...], without: tuple[str, ...], quick: bool,
    rounds: int | None, events: int | None, broker: str, out: Path, keep: bool, record: bool,
    as_json: bool,
) -> None:  # fmt: skip
    """Measure Tideline and its peers on this machine, from a clone of its source.

    Without a command the whole benchmark runs, in about 30 minutes, on a broker and a ClickHouse of
    its own. Peers are installed on first use. It ends with targets beside measured values, and
    exits with 1 if a ratio misses its target in every round.
    """
    if ctx.invoked_subcommand is not None:
        return
    module = _module("tests.bench.run")
    known = module.names()
    unknown = sorted((set(only) | set(without)) - known)
    if unknown:
        raise click.UsageError(
            f"there is no {', '.join(unknown)}; there are {', '.join(sorted(known))}"
        )
    options = module.Options(
        only=frozenset(only), without=frozenset(without), quick=quick,
        rounds=rounds or (1 if quick else 3), events=events or (1_000_000 if quick else 1_500_000),
        broker=broker, out=out, keep=keep, record=record, as_json=as_json,
    )  # fmt: skip
    ctx.exit(module.run(options))
