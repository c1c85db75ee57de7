"""`make shop`: plays a made-up shop's Monday on real Kafka, and compares it with a recount."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from schemas.errors import TidelineError
from streams.commands.support import json_option
from streams.local import kafka
from tests.shop.play import Options, Played, play
from tests.shop.verdict import show

__all__ = ["shop"]


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--customers", type=click.IntRange(50), default=2_000, show_default=True,
              help="Customers of the shop.")  # fmt: skip
@click.option("--orders", type=click.IntRange(50),
              help="Orders before Monday.  [default: 10 for each customer]")  # fmt: skip
@click.option("--seed", default=1, show_default=True, help="Of everything that is made up.")
@click.option("--fresh", is_flag=True, help="Backfill first: no worker has ever run.")
@click.option("--keep", is_flag=True, help="Keep files, logs and the servers' data.")
@json_option
def shop(
    customers: int, orders: int | None, seed: int, fresh: bool, keep: bool, as_json: bool
) -> None:
    """Play a made-up shop's Monday on real Kafka: three years of orders in files, live traffic, a
    backfill and a worker that are killed. Then every customer's orders, revenue and windows are
    compared with a plain recount. Exits with 1 if anything differs."""
    missing = kafka.available()
    if missing is not None:
        raise click.ClickException(missing)
    options = Options(customers, orders or 10 * customers, seed, fresh)
    started = time.monotonic()
    with ExitStack() as stack:
        if keep:
            directory = Path(tempfile.mkdtemp(prefix="tideline-shop-"))
        else:
            temporary = tempfile.TemporaryDirectory(prefix="tideline-shop-")
            directory = Path(stack.enter_context(temporary))
        try:
            played = play(options, directory, lambda line: click.echo(line, err=True))
        except TidelineError as error:
            raise click.ClickException(str(error)) from error
        finally:
            if keep:
                click.echo(f"kept: {directory}", err=True)
    seconds = time.monotonic() - started
    if as_json:
        click.echo(json.dumps(_as_dict(played, options, seconds), indent=2))
    else:
        console = Console(width=None if sys.stdout.isatty() else 160)
        show(played.checks, console)
        wrong = sum(not check.holds for check in played.checks)
        words = f"{wrong} of them differ" if wrong else "all equal"
        console.print(f"{len(played.checks)} checks: {words} ({seconds:.0f} s, seed {seed})")
    sys.exit(0 if played.holds else 1)


def _as_dict(played: Played, options: Options, seconds: float) -> dict[str, Any]:
    return {
        "customers": options.customers, "orders": options.orders, "seed": options.seed,
        "fresh": options.fresh, "seconds": round(seconds, 1), **played.facts,
        "checks": [
            {"what": c.what, "expected": c.expected, "got": c.got, "differs": list(c.differs)}
            for c in played.checks
        ],
        "equal": played.holds,
    }  # fmt: skip


if __name__ == "__main__":
    shop()
