"""`tideline segments`: a shop's own segments and audiences, from the reviewed file into force."""
# ruff: noqa: PLC0415  (heavy imports wait until the command runs)

from __future__ import annotations

import asyncio
import getpass
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from schemas.errors import FatalError
from streams.commands.segments_try import try_
from streams.commands.support import (
    Invocation,
    json_option,
    pass_invocation,
    print_json,
    print_table,
)

if TYPE_CHECKING:
    from schemas.definitions import Definitions
    from streams.campaigns.preview import Preview
    from streams.core.rulebook import Rulebook
    from streams.kafka.log import KafkaLog
    from streams.settings import Settings

__all__ = ["segments"]

_T = TypeVar("_T")
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group()
def segments() -> None:
    """Define segments and audiences in a reviewed file.

    The file is YAML: `tideline segments example` prints one to start from, and docs/segments.md has
    the language. Nothing changes before `apply`.
    """


@segments.command()
def example() -> None:
    """Print a file to start from: tiers, stages and policy as they ship."""
    from streams.campaigns import standard_file

    click.echo(standard_file().decode(), nl=False)


@segments.command()
@click.argument("file", type=_FILE)
@json_option
@pass_invocation
def check(invocation: Invocation, file: Path, as_json: bool) -> None:
    """Check a file by itself, without Kafka. For a pull request."""
    settings = invocation.settings
    from streams.campaigns import read_definitions
    from streams.core.rulebook import rulebook_of

    currency = settings.stream.currency
    found = read_definitions(file.read_bytes(), file=str(file), currency=currency)
    rulebook_of(found, currency)
    if as_json:
        print_json({"version": found.version, **_counts(found)})
        return
    counts = ", ".join(f"{n} {what}" for what, n in _counts(found).items())
    click.echo(f"{file} is in order: {counts}.")


@segments.command()
@click.argument("file", type=_FILE)
@click.option("--no-sizes", is_flag=True, help="Only what differs: read no customer's state.")
@json_option
@pass_invocation
def plan(invocation: Invocation, file: Path, no_sizes: bool, as_json: bool) -> None:
    """Show what a file would change, and for whom, against what is in force.

    Sizes are those of the shards' newest checkpoints: who is a member now, who would enter and
    leave if the file were applied, what other segments have the same people, five of them with the
    values that decided, and what it costs to evaluate. Of past days it shows an estimate from the
    open label questions, which are a sample of the customers of each day who ordered within
    TIDELINE_ALERTS_ACTIVE_WITHIN_DAYS. Nothing is changed.
    """
    settings = invocation.settings

    async def go(log: KafkaLog) -> tuple[Definitions, Definitions, Preview | None]:
        new, old = await _read(log, settings, file)
        return new, old, None if no_sizes else await _preview(log, settings, new)

    new, old, sizes = _with_log(settings, go)
    from streams.campaigns import differences
    from streams.campaigns.plan_text import difference_lines, plan_document

    found, book = differences(old, new), _book(new, settings)
    if as_json:
        print_json(plan_document(new, old, found, book, sizes))
        return
    in_force = f"number {old.number}" if old.number else "what ships"
    click.echo(
        f"{'Against' if found else 'No difference from'} {in_force}, which is in force"
        f"{':' if found else '.'}"
    )
    for line in difference_lines(found):
        click.echo(line)
    if sizes is not None:
        _print_sizes(book, sizes)


def _print_sizes(book: Rulebook, sizes: Preview) -> None:
    from streams.campaigns.plan_text import HEADINGS, segment_lines, size_rows
    from streams.core.times import iso_utc

    if not sizes.users:
        click.echo("\nNo shard has a checkpoint yet, so there are no sizes.")
        return
    click.echo(f"\n{sizes.users:,} users, as of {iso_utc(sizes.as_of_ms)}:")
    print_table(HEADINGS, size_rows(book, sizes))
    for name, of in sizes.segments.items():
        click.echo()
        for line in segment_lines(name, of):
            click.echo(line)


@segments.command(name="apply")
@click.argument("file", type=_FILE)
@click.option("--note", default="", help="Why, for the history.")
@click.option("--yes", is_flag=True, help="Don't ask.")
@json_option
@pass_invocation
def apply_(invocation: Invocation, file: Path, note: str, yes: bool, as_json: bool) -> None:
    """Put a file into force. Shards take it with their next step, and look at everybody by it.

    A file with a mistake changes nothing. Who is in which segment follows within seconds for those
    who are active, and for all others with the sweep that begins at once.
    """
    settings = invocation.settings
    from streams.campaigns import differences
    from streams.campaigns.plan_text import difference_lines
    from streams.campaigns.published import publish, signed

    async def go(log: KafkaLog) -> tuple[Definitions, Definitions, bool]:
        new, old = await _read(log, settings, file)
        found = differences(old, new)
        if not found:
            return new, old, False
        if not as_json:
            for line in difference_lines(found):
                click.echo(line)
        if not yes and not click.confirm("Put this into force?", err=True):
            raise click.Abort
        new = signed(new, getpass.getuser(), note, time.time_ns() // 1_000_000)
        await publish(log, settings.topic_names.definitions, new)
        return new, old, True

    new, old, done = _with_log(settings, go)
    if as_json:
        print_json(
            {"applied": done, "number": (new if done else old).number, "version": new.version}
        )
    elif done:
        click.echo(f"Number {new.number} is applied ({new.version}).")
    else:
        click.echo(f"Nothing to do: number {old.number} says the same.")


@segments.command()
@json_option
@pass_invocation
def history(invocation: Invocation, as_json: bool) -> None:
    """Show what was applied, when, by whom and why; the newest last."""
    settings = invocation.settings
    from streams.campaigns.published import all_published
    from streams.core.times import iso_utc

    async def go(log: KafkaLog) -> list[Definitions]:
        return await all_published(log, settings.topic_names.definitions)

    found = _with_log(settings, go)
    if as_json:
        import msgspec

        print_json([msgspec.to_builtins(each) for each in found])
        return
    if not found:
        click.echo("Nothing was applied yet: tiers, stages and policy are those that ship.")
        return
    print_table(
        ("NUMBER", "VERSION", "APPLIED", "BY", "SEGMENTS", "AUDIENCES", "NOTE"),
        [
            (
                str(each.number), each.version, iso_utc(each.applied_at_ms), each.applied_by,
                str(len(each.segments)), str(len(each.audiences)), each.note,
            )
            for each in found
        ],
    )  # fmt: skip


@segments.command()
@click.argument("segment")
@click.argument("user")
@json_option
@pass_invocation
def explain(invocation: Invocation, segment: str, user: str, as_json: bool) -> None:
    """Show why a user is in a segment or not: each condition with the value that it saw.

    By the definitions in force and the newest checkpoint of the user's shard. USER is the id as the
    shop sends it, not a pseudonym.
    """
    settings = invocation.settings
    from streams.campaigns.preview import Explained
    from streams.campaigns.preview import explain as explained

    async def go(log: KafkaLog) -> tuple[Explained, int, bool] | None:
        old = await _in_force(log, settings)
        book = _book(old, settings)
        if segment not in book.segments:
            raise _no_such_segment(segment, book)
        async for state in _states(log, settings):
            found = explained(state, book, segment, user)
            if found is not None:
                return found.explained, state.meta.clock_ms, found.member
        return None

    found = _with_log(settings, go)
    if found is None:
        raise FatalError(
            f"No shard knows a user {user!r} as of its newest checkpoint. Check the id; a new user "
            "is there after TIDELINE_STREAM_CHECKPOINT_INTERVAL_SECONDS."
        )
    why, as_of_ms, member = found
    from streams.core.times import iso_utc

    if as_json:
        print_json(
            {"user": user, "segment": segment, "member": member, "as_of": iso_utc(as_of_ms),
             "conditions": why.lines}
        )  # fmt: skip
        return
    click.echo(f"{user} is {'' if member else 'not '}in {segment}, as of {iso_utc(as_of_ms)}:")
    for line in why.lines:
        click.echo(f"  {line}")


segments.add_command(try_)


# -- what they share


def _with_log(settings: Settings, go: Callable[[KafkaLog], Awaitable[_T]]) -> _T:
    from streams.kafka.access import kafka_access
    from streams.kafka.log import KafkaLog

    async def run() -> _T:
        log = KafkaLog(kafka_access(settings))
        await log.start()
        try:
            return await go(log)
        finally:
            await log.stop()

    return asyncio.run(run())


async def _in_force(log: KafkaLog, settings: Settings) -> Definitions:
    from schemas.definitions import STANDARD
    from streams.campaigns.published import all_published

    found = await all_published(log, settings.topic_names.definitions)
    return found[-1] if found else STANDARD


async def _read(log: KafkaLog, settings: Settings, file: Path) -> tuple[Definitions, Definitions]:
    """The file's definitions, and those in force."""
    from streams.campaigns.published import proposed

    return await proposed(
        log, settings.topic_names.definitions, file.read_bytes(),
        file=str(file), currency=settings.stream.currency, now_ms=time.time_ns() // 1_000_000,
    )  # fmt: skip


def _book(definitions: Definitions, settings: Settings) -> Rulebook:
    from streams.core.rulebook import rulebook_of

    return rulebook_of(definitions, settings.stream.currency)


def _states(log: KafkaLog, settings: Settings) -> Any:
    from streams.campaigns.states import newest_states

    return newest_states(log, settings.topic_names, settings.kafka.partitions)


async def _preview(log: KafkaLog, settings: Settings, new: Definitions) -> Preview:
    from rich.console import Console
    from rich.progress import Progress

    from streams.campaigns.preview import Preview, preview

    found, book = Preview(), _book(new, settings)
    with Progress(console=Console(stderr=True), transient=True) as bars:
        bar = bars.add_task("read the shards' checkpoints", total=settings.kafka.partitions)
        async for state in _states(log, settings):
            await asyncio.to_thread(preview, state, book, found)
            bars.advance(bar)
    return found


def _no_such_segment(segment: str, book: Rulebook) -> FatalError:
    from difflib import get_close_matches

    alike = get_close_matches(segment, book.segments, 1)
    known = f"Did you mean {alike[0]}?" if alike else (
        f"There are: {', '.join(book.segments) or 'none; apply a file first'}."
    )  # fmt: skip
    return FatalError(f"No segment {segment!r} is in force. {known}")


def _counts(found: Definitions) -> dict[str, int]:
    return {
        "segments": len(found.segments),
        "audiences": len(found.audiences),
        "values": len(found.values),
    }
