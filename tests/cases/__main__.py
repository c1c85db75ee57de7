"""Prints each case, what is right and what comes out: `python -m tests.cases [DIRECTORY]`.

DIRECTORY holds cases as they were handed in, a folder each. Without it, the built-in ones of the
same kinds run. Exit status 1 if any is not right.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import click

from streams.commands.support import print_table
from tests.cases.built_in import BUILT_IN
from tests.cases.handed_in import CASES
from tests.cases.run import run_case


@click.command()
@click.argument(
    "directory", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path)
)
@click.option("--only", default="", help="Run the cases whose name has this in it.")
def main(directory: Path | None, only: str) -> None:
    """Run the cases of DIRECTORY, or the built-in ones."""
    wrong = 0
    cases = BUILT_IN if directory is None else CASES
    for case in cases:
        if only not in case.name:
            continue
        if directory is not None and not (directory / case.name).is_dir():
            click.echo(f"{case.name}: not in {directory}", err=True)
            continue
        with tempfile.TemporaryDirectory(prefix="tideline-case-") as folder:
            done = run_case(case, Path(folder), None if directory is None else directory.resolve())
        wrong += not done.right
        rows = [("expected", case.expected), ("got", "the same" if done.right else done.got)]
        print_table((case.name, "right" if done.right else "WRONG"), rows)
        click.echo()
    click.echo("All right." if not wrong else f"{wrong} are wrong.")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
