"""`tideline bench`: measurements, each a command of its own. They live in tests/bench."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Final, NamedTuple

import click

__all__ = ["BENCHES", "bench"]

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


class _Group(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(BENCHES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in BENCHES:
            return None
        where = BENCHES[cmd_name]
        if not (_ROOT / "tests" / "bench").is_dir():
            raise click.ClickException(
                "The benchmarks are part of the source, not of the installed package. Run this in "
                "a clone: make setup && .venv/bin/tideline bench"
            )
        if str(_ROOT) not in sys.path:
            sys.path.insert(0, str(_ROOT))
        found = getattr(importlib.import_module(where.module), where.attribute)
        assert isinstance(found, click.Command), where  # noqa: S101  (a mistake in BENCHES)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, bench.help) for name, bench in BENCHES.items()])


@click.group(cls=_Group)
def bench() -> None:
    """Measure Tideline on this machine, from a clone of its source.

    Each starts the broker and the ClickHouse that it needs, on loopback, and stops them.
    """
