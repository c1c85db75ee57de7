"""`tideline erase`: forget a person everywhere, or look whether anything is left of them."""
# ruff: noqa: PLC0415  (kafka-python and aiokafka are imported when the command runs)

from __future__ import annotations

import asyncio
import getpass
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import click

from streams.commands.support import (
    Invocation,
    json_option,
    pass_invocation,
    print_json,
    print_table,
)

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from streams.privacy.erase import Outcome
    from streams.settings import Settings

__all__ = ["erase"]

NOTHING_FOUND: Final = 3
UNFINISHED: Final = 4
_PATIENCE_SECONDS: Final = 10.0  # after which a silent shard is worth a remark


@click.command()
@click.argument("user", metavar="USER")
@click.option("--yes", is_flag=True, help="Don't ask.")
@click.option("--verify", "only_verify", is_flag=True, help="Erase nothing; look what is left.")
@click.option("--no-wait", is_flag=True, help="Don't wait for shards that no worker runs now.")
@click.option(
    "--timeout",
    type=click.FloatRange(0),
    metavar="SECONDS",
    help="Wait so long for the shards at most. Default: until they are done.",
)
@click.option("--operator", default=None, help="Who is doing this, for the audit. Default: you.")
@json_option
@pass_invocation
@click.pass_context
def erase(
    ctx: click.Context,
    invocation: Invocation,
    user: str,
    yes: bool,
    only_verify: bool,
    no_wait: bool,
    timeout: float | None,
    operator: str | None,
    as_json: bool,
) -> None:
    """Forget a person: in the shards' state, in checkpoints and in ClickHouse.

    What they did before doesn't come back when Kafka's topics are read again; what they do from now
    on counts from zero. It works while traffic goes on, and may be interrupted and run again. USER
    may be - to read the user id from standard input, which keeps it out of the shell's history.

    Records in Kafka's topics stay until their retention. The audit (table erasures) names nobody.

    Exit status: 0 done, 3 nothing was found, 4 not finished (run it again). With --verify: 0
    nothing is left, 1 something is.
    """
    if user == "-":
        user = click.get_text_stream("stdin").readline().rstrip("\r\n")
    if not 1 <= len(user) <= 128:
        raise click.BadParameter("a user id has 1 to 128 characters", param_hint="USER")
    settings = invocation.settings
    if only_verify:
        ctx.exit(_verify(settings, user, as_json))
    if as_json and not yes:
        raise click.UsageError("--json needs --yes: there is nobody to ask")
    wait_seconds = 2 * _PATIENCE_SECONDS if no_wait and timeout is None else timeout
    ctx.exit(
        asyncio.run(
            _erase(settings, user, yes, operator or getpass.getuser(), wait_seconds, as_json)
        )
    )


async def _erase(
    settings: Settings, user: str, yes: bool, operator: str, wait: float | None, as_json: bool
) -> int:
    from streams.privacy import erase as steps
    from streams.privacy.erasure_board import board_of

    await asyncio.to_thread(steps.check_key, settings)
    async with board_of(settings) as board:
        request = steps.new_request(settings, board, user, operator)
        person = steps.person_of(settings, request, user)
        rows = await asyncio.to_thread(steps.preview, settings, person)
        if not yes:
            found = ", ".join(f"{d.rows:,} in {d.table}" for d in rows if d.rows) or "no rows"
            click.echo(f"ClickHouse has of this person: {found}.")
            click.confirm("Erase this person? It can't be undone.", abort=True, err=True)
        with _bar() as bar:
            shards = len(request.ends)
            task = bar.add_task("asking the shards", total=shards)

            def on_wait(waiting: Sequence[int], seconds: float) -> None:
                bar.update(
                    task, completed=shards - len(waiting), description=_told(waiting, seconds)
                )

            def on_table(table: str) -> None:
                bar.update(task, description=f"deleting from {table}")

            outcome = await steps.erase(
                settings,
                board,
                request,
                person,
                timeout_seconds=wait,
                on_wait=on_wait,
                on_table=on_table,
            )
    _report(outcome, as_json)
    return {"erased": 0, "nothing_found": NOTHING_FOUND}.get(outcome.verdict, UNFINISHED)


def _bar() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    return Progress(
        BarColumn(bar_width=20), MofNCompleteColumn(), TimeElapsedColumn(),
        TextColumn("{task.description}"), console=console, transient=True,
    )  # fmt: skip


def _told(waiting: Sequence[int], seconds: float) -> str:
    if not waiting:
        return "all shards have forgotten"
    which = f"shard{'s' if len(waiting) > 1 else ''} {', '.join(map(str, waiting))}"
    if seconds < _PATIENCE_SECONDS:
        return f"waiting for {which}"
    return f"waiting for {which}: does a worker run? Ctrl-C is safe; run this again later"


def _report(outcome: Outcome, as_json: bool) -> None:
    deleted = {d.table: d.rows for d in outcome.deleted}
    if as_json:
        print_json(
            {
                "erasure_id": outcome.request.erasure_id,
                "person": outcome.request.digest,
                "outcome": outcome.verdict,
                "shards": len(outcome.request.ends),
                "shards_done": len(outcome.reports),
                "shards_found": sum(r.found for r in outcome.reports),
                "shards_waiting": list(outcome.waiting),
                "rows_deleted": deleted,
                "seconds": round(outcome.seconds, 2),
            }
        )
        return
    done = f"{len(outcome.reports)} of {len(outcome.request.ends)} shards"
    rows = ", ".join(f"{n:,} from {table}" for table, n in deleted.items() if n) or "no rows"
    if outcome.verdict == "nothing_found":
        click.echo(
            "Nothing was found of this user, in no shard and no table. Is the id right? Events "
            "that they sent up to now will not count if they are read again."
        )
        return
    known = "knew the person" if any(r.found for r in outcome.reports) else "didn't know the person"
    click.echo(f"{done} are done, and {known}; deleted: {rows}.")
    if outcome.waiting:
        click.echo(
            f"Not finished: shard {', '.join(map(str, outcome.waiting))} has not answered. It "
            "forgets the person when a worker runs it. Run this again then, for ClickHouse's sake.",
            err=True,
        )
        return
    click.echo(
        f"Erased in {outcome.seconds:.1f} s; the table erasures has it as "
        f"{outcome.request.erasure_id}. "
        "Until their retention, Kafka's topics still hold the person's records; they don't count. "
        "`tideline erase --verify USER` looks what is left where."
    )


def _verify(settings: Settings, user: str, as_json: bool) -> int:
    from streams.privacy.erase import check_key
    from streams.privacy.erase_verify import verify

    check_key(settings)
    with _bar() as bar:
        task: TaskID = bar.add_task("looking", total=None)
        found, erasures = asyncio.run(
            verify(
                settings, user, lambda place: bar.update(task, description=f"looking in {place}")
            )
        )
    left = [each for each in found if each.state == "left"]
    if as_json:
        print_json(
            {
                "erased": bool(erasures),
                "left": sum(each.count for each in left),
                "found": [
                    {"place": f.place, "what": f.what, "count": f.count, "state": f.state}
                    for f in found
                ],
            }
        )
        return 1 if left else 0
    if found:
        print_table(
            ("STATE", "WHERE", "COUNT", "WHAT"),
            ((f.state, f.place, f"{f.count:,}", f.what) for f in found),
        )
    past = "was erased" if erasures else "was never erased"
    if left:
        click.echo(f"This user {past}, and something is left: run `tideline erase` for them.")
    else:
        click.echo(f"This user {past}. Nothing is left that should be gone.")
    return 1 if left else 0
