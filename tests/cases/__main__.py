"""Prints each case, what is right and what comes out: `python -m tests.cases [DIRECTORY]`.

DIRECTORY holds cases as they were handed in, a folder each: files, and traffic for a worker.
Without it, the built-in ones about files run; those about traffic are a test of the usual suite,
`tests/integration/test_producers.py`. Exit status 1 if any is not right, or has not run.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

import click

from streams.commands.support import print_table
from streams.local.stack import LocalStack
from tests.cases.built_in import BUILT_IN
from tests.cases.handed_in import CASES
from tests.cases.handed_in_live import LIVE
from tests.cases.live import LiveCase, NotRun, run_live, servers
from tests.cases.run import Case, run_case


@click.command()
@click.argument(
    "directory", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path)
)
@click.option("--only", default="", help="Run the cases whose name has this in it.")
def main(directory: Path | None, only: str) -> None:
    """Run the cases of DIRECTORY, or the built-in ones."""
    if directory is None:
        wrong = _files([case for case in BUILT_IN if only in case.name])
        click.echo("Cases about traffic are tests: tests/integration/test_producers.py")
    else:
        wrong = _handed_in(directory.resolve(), only)
    click.echo("All right." if not wrong else f"{wrong} are not right.")
    sys.exit(bool(wrong))


def _handed_in(directory: Path, only: str) -> int:
    """Run what is in `directory`; how many of its cases are not right."""
    there = {
        folder.name for folder in directory.iterdir()
        if folder.is_dir() and not folder.name.startswith(("_", ".")) and only in folder.name
    }  # fmt: skip
    wrong = _files([case for case in CASES if case.name in there], directory)
    wrong += _live([case for case in LIVE if case.name in there], directory)
    for name in sorted(there - {case.name for case in (*CASES, *LIVE)}):
        wrong += _show(name, not_run="no right answer is known here yet")
    return wrong


def _files(cases: Iterable[Case], directory: Path | None = None) -> int:
    wrong = 0
    for case in cases:
        with tempfile.TemporaryDirectory(prefix="tideline-case-") as folder:
            got = run_case(case, Path(folder), directory).got
        wrong += _show(case.name, case.expected, got)
    return wrong


def _live(cases: list[LiveCase], directory: Path) -> int:
    """All on one broker and one ClickHouse, which are started for them."""
    wrong = 0
    stack: LocalStack | None = None
    with ExitStack() as running:
        for case in cases:
            try:
                if stack is None:
                    place = running.enter_context(tempfile.TemporaryDirectory(prefix="tideline-"))
                    stack = running.enter_context(servers(Path(place)))
                folder = running.enter_context(tempfile.TemporaryDirectory(prefix="tideline-case-"))
                got = run_live(case, Path(folder), directory, stack)
            except NotRun as reason:
                wrong += _show(case.name, case.expected, not_run=str(reason))
            else:
                wrong += _show(case.name, case.expected, got, case.note)
    return wrong


def _show(name: str, expected: str = "", got: str = "", note: str = "", not_run: str = "") -> bool:
    """Print what came of a case; whether that is not right."""
    right = not not_run and got == expected
    rows = [("expected", expected)] if expected else []
    rows.append(("not run", not_run) if not_run else ("got", "the same" if right else got))
    if note:
        rows.append(("note", note))
    print_table((name, "right" if right else "NOT RUN" if not_run else "WRONG"), rows)
    click.echo()
    return not right


if __name__ == "__main__":
    main()
