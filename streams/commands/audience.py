"""`tideline audience`: who is in an audience now, as a file; or which audiences there are."""
# ruff: noqa: PLC0415  (the ClickHouse driver is imported when the command runs)

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from streams.commands.support import (
    Invocation,
    json_option,
    pass_invocation,
    print_json,
    print_table,
)

if TYPE_CHECKING:
    from streams.ops.audiences import Arms

__all__ = ["audience"]

_PROGRESS_ROWS = 100_000


@click.command()
@click.argument("name", required=False)
@click.option(
    "--format", "kind", type=click.Choice(["csv", "parquet", "json"]), default="csv",
    show_default=True, help="json: an object per line. parquet needs --output.",
)  # fmt: skip
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path),
    help="File to write, which appears when it is complete; else standard output.",
)  # fmt: skip
@click.option("--limit", type=click.IntRange(1), help="So many members, the most at stake first.")
@json_option
@pass_invocation
def audience(
    invocation: Invocation,
    name: str | None,
    kind: str,
    output: Path | None,
    limit: int | None,
    as_json: bool,
) -> None:
    """Who is in audience NAME now and may be contacted; without NAME, all audiences by size.

    Nobody who is held out is listed. In CSV, a text that a spreadsheet would take for a formula (it
    begins with = + - @) gets a ' before it, and the command says how many did. An audience that
    nobody is in is a file without rows, and exit status 0; an unknown one is an error.
    """
    from streams.clickhouse.client import clickhouse_target
    from streams.ops.audiences import audiences, members

    if name is None:
        if output or limit:
            raise click.UsageError("--output and --limit go with NAME")
        _list(audiences(clickhouse_target(invocation.settings)), as_json)
        return
    if as_json:
        raise click.UsageError("with NAME, --format json")
    if kind == "parquet" and output is None:
        raise click.UsageError("--format parquet needs --output FILE")
    target = clickhouse_target(invocation.settings)
    known = {each.audience: each for each in audiences(target)}
    if name not in known:
        raise click.ClickException(
            f"There is no audience {name}, or nobody has entered it yet. "
            + (f"There are: {', '.join(sorted(known))}." if known else "There are none.")
        )
    with _opened(output) as out:
        _write(members(target, name, limit), kind, out, name)


def _list(found: list[Arms], as_json: bool) -> None:
    from streams.ops.audiences import ARMS

    if as_json:
        print_json(
            [
                {"audience": each.audience, **each.users, "expected_spend": each.expected_spend,
                 "newest_at": each.newest_at.isoformat()}
                for each in found
            ]
        )  # fmt: skip
        return
    if not found:
        click.echo("There are no audiences yet, or nobody has entered one.")
        return
    rows = (
        (e.audience, *(f"{e.users.get(arm, 0):,}" for arm in ARMS), f"{e.expected_spend:,.0f}",
         e.newest_at.isoformat(timespec="seconds"))
        for e in found
    )  # fmt: skip
    print_table(
        ("AUDIENCE", "TO CONTACT", "HOLDOUT", "GLOBAL HOLDOUT", "EXPECTED SPEND", "NEWEST"), rows
    )


def _write(rows: Iterator[tuple[Any, ...]], kind: str, out: BinaryIO, name: str) -> None:
    from streams.ops.audience_files import Written, write_members
    from streams.ops.audiences import COLUMNS

    written = Written()
    for count in write_members(rows, COLUMNS, kind, out, written):
        if count % _PROGRESS_ROWS == 0:
            click.echo(f"{count:,} members", err=True)
    if not written.rows:
        click.echo(f"Nobody is in audience {name} now.", err=True)
        return
    click.echo(f"{written.rows:,} members of {name}", err=True)
    if written.quoted:
        click.echo(
            f"{written.quoted:,} texts begin with = + - or @ and got a ' before them, so that no "
            "spreadsheet runs them; --format json has them as they are.",
            err=True,
        )


@contextlib.contextmanager
def _opened(path: Path | None) -> Iterator[BinaryIO]:
    """Standard output, or a file that takes its name when all is in it; only its owner may read it,
    since it names people."""
    if path is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    number, part = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(number, "wb") as out:
            yield out
        os.replace(part, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(part)
        raise
