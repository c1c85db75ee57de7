"""The benchmark's command line: `python -m tests.bench`, and `make bench`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import click

from schemas.errors import TidelineError
from streams.commands.support import json_option
from tests.bench.recovery import recovery
from tests.bench.run import PARTS, Options, names, run

__all__ = ["bench"]

_QUICK_EVENTS: Final = 1_000_000
_EVENTS: Final = 1_500_000
_ROUNDS: Final = 3


class _Group(click.Group):
    """Shows the parts in its help, and turns our errors into messages."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Parts (--only)"):
            formatter.write_dl([(name, part.help) for name, part in PARTS.items()])
        super().format_commands(ctx, formatter)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except TidelineError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=_Group, invoke_without_command=True,
             context_settings={"help_option_names": ["-h", "--help"]})  # fmt: skip
@click.option("--only", multiple=True, metavar="NAME",
              help="A part, or a contender, or a kind of them (peer, floor, tideline); repeat it "
              "for several.")  # fmt: skip
@click.option("--without", multiple=True, metavar="NAME",
              help="A contender, a kind, or a peer's environment to leave out.")  # fmt: skip
@click.option("--quick", is_flag=True, help="Fewer events and one round: minutes, and rough.")
@click.option("--rounds", type=click.IntRange(1),
              help=f"Turns of each contender.  [default: {_ROUNDS}]")  # fmt: skip
@click.option("--events", type=click.IntRange(100_000),
              help=f"Of the topic.  [default: {_EVENTS}]")  # fmt: skip
@click.option("--broker", type=click.Choice(["tansu", "kafka"]), default="tansu", show_default=True,
              help="The broker that all read from.")  # fmt: skip
@click.option("--out", type=click.Path(file_okay=False, path_type=Path),
              default=Path(".tideline/bench"), show_default=True,
              help="Directory for results.json and the charts.")  # fmt: skip
@click.option("--keep", is_flag=True,
              help="Keep what the results hold already, and add rounds to theirs.")  # fmt: skip
@click.option("--record", is_flag=True,
              help="Write the results, charts, docs/benchmark.md and `tideline capacity`'s "
              "figures of this clone.")  # fmt: skip
@json_option
@click.pass_context
def bench(
    ctx: click.Context, only: tuple[str, ...], without: tuple[str, ...], quick: bool,
    rounds: int | None, events: int | None, broker: str, out: Path, keep: bool, record: bool,
    as_json: bool,
) -> None:  # fmt: skip
    """Measure Tideline and its peers on this machine.

    Without a command the whole benchmark runs, in about 30 minutes, on its own broker and
    ClickHouse. Peers are installed on first use. It ends with targets beside measured values, and
    exits with 1 if a ratio misses its target in every round.
    """
    if ctx.invoked_subcommand is not None:
        return
    known = names()
    unknown = sorted((set(only) | set(without)) - known)
    if unknown:
        raise click.UsageError(
            f"there is no {', '.join(unknown)}; there are {', '.join(sorted(known))}"
        )
    options = Options(
        only=frozenset(only), without=frozenset(without), quick=quick,
        rounds=rounds or (1 if quick else _ROUNDS),
        events=events or (_QUICK_EVENTS if quick else _EVENTS),
        broker=broker, out=out, keep=keep, record=record, as_json=as_json,
    )  # fmt: skip
    ctx.exit(run(options))


bench.add_command(recovery)

if __name__ == "__main__":
    bench(prog_name="python -m tests.bench")
