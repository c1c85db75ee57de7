"""`tideline deliver`: brings changes of audiences to other systems; and what they did not take."""
# ruff: noqa: PLC0415  (Kafka's and HTTP's clients are imported when the command runs)

from __future__ import annotations

import logging
import os
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from streams import stopping
from streams.commands.support import (
    Invocation,
    json_option,
    pass_invocation,
    print_json,
    print_table,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from schemas.messages import Undelivered
    from streams.settings import Settings

__all__ = ["deliver"]

_destination_option = click.option("--destination", help="Only those of this destination.")
_reason_option = click.option("--reason", help="Only those with this reason code.")


@click.group(invoke_without_command=True)
@click.pass_context
def deliver(context: click.Context) -> None:
    """Deliver changes of audiences to the destinations of TIDELINE_DELIVER_DESTINATIONS_FILE.

    Each destination has its own consumer group: one that is slow or away holds up no other, and
    continues where it was. A change is delivered at least once, of a person in order, again until
    it is taken. `tideline deliver undelivered` shows what was refused, and why.
    """
    invocation = context.ensure_object(Invocation)
    if context.invoked_subcommand is not None:
        stopping.release()
        return
    settings = invocation.start_logging()
    requests = stopping.StopRequests.listen()
    from streams.deliver.service import run

    logging.getLogger(__name__).info("delivery started")
    run(settings, requests)


@deliver.command()
@json_option
@pass_invocation
def check(invocation: Invocation, as_json: bool) -> None:
    """Read the file of destinations, and the secrets it names, and show it. Sends nothing."""
    from streams.deliver.destinations import load_destinations

    found = load_destinations(invocation.settings.deliver.destinations_file, os.environ)
    rows = [
        (
            each.name,
            each.format,
            each.url.split("/")[2],
            ", ".join(sorted(each.audiences)) if each.audiences is not None else "*",
            str(len(each.secrets)),
        )
        for each in found
    ]
    if as_json:
        names = ("destination", "format", "host", "audiences", "secrets")
        print_json([dict(zip(names, row, strict=True)) for row in rows])
        return
    print_table(("DESTINATION", "FORMAT", "HOST", "AUDIENCES", "SECRETS"), rows)


@deliver.command()
@_destination_option
@_reason_option
@click.option("--each", is_flag=True, help="One line per change, the newest first.")
@click.option("--limit", default=50, show_default=True, help="--each: so many lines; 0: all.")
@json_option
@pass_invocation
def undelivered(
    invocation: Invocation,
    destination: str | None,
    reason: str | None,
    each: bool,
    limit: int,
    as_json: bool,
) -> None:
    """How many changes were refused, by destination and reason; or each of them."""
    settings = invocation.settings
    from streams.deliver import letters

    if each:
        found = _matching(letters.read(settings), destination, reason, _is_erased(settings))
        _print_each(found, limit, as_json)
        return
    kinds = [
        kind
        for kind in letters.kinds(settings)
        if destination in (None, kind.destination) and reason in (None, kind.reason)
    ]
    if as_json:
        print_json([asdict(kind) for kind in kinds])
    elif kinds:
        print_table(
            ("DESTINATION", "REASON", "WAIT", "SENT AGAIN", "NEWEST", "FOR EXAMPLE"),
            ((k.destination, k.reason, f"{k.letters:,}", f"{k.resent:,}", _time(k.newest_ms),
              k.example) for k in kinds),
        )  # fmt: skip
        click.echo("Fix the cause, then `tideline deliver resend --yes` sends them again.")
    else:
        click.echo("Nothing is undelivered.")


@deliver.command()
@_destination_option
@_reason_option
@click.option("--yes", is_flag=True, help="Do it. Without this, only say what would be sent.")
@click.option("--again", is_flag=True, help="Also those that were sent again before.")
@json_option
@pass_invocation
def resend(
    invocation: Invocation,
    destination: str | None,
    reason: str | None,
    yes: bool,
    again: bool,
    as_json: bool,
) -> None:
    """Send undelivered changes again, each to its destination, under the same change_id.

    A change is left where it is if the person has had a later one of that audience since
    (superseded), or if Kafka no longer has the changes by which to tell (expired, after 7 days):
    then compare the destination with `tideline audience NAME`.
    """
    settings = invocation.settings
    from streams.deliver import letters

    found = _matching(
        letters.read(settings, again=again), destination, reason, _is_erased(settings)
    )
    choice = letters.choose(settings, found)
    sent = 0
    if yes and choice.sendable:
        with click.progressbar(
            length=len(choice.sendable), label="sending", file=sys.stderr
        ) as bar:
            sent = letters.resend(
                settings, choice.sendable, lambda done: bar.update(done - bar.pos)
            )
    kept = letters.by_reason(choice.kept)
    if as_json:
        print_json(
            {"sendable": len(choice.sendable), "sent": sent,
             "kept": [{"destination": d, "why": why, "changes": n} for d, why, n in kept]}
        )  # fmt: skip
        return
    for name, why, n in letters.by_reason((each, each.reason) for each in choice.sendable):
        click.echo(f"{'sent' if yes else 'would send'} {n:,} to {name} ({why})")
    for name, why, n in kept:
        click.echo(f"left where they are: {n:,} for {name} ({why})")
    if not found:
        click.echo("Nothing undelivered matches.")
    elif choice.sendable and not yes:
        click.echo("Nothing was sent. Add --yes to send them.")


def _is_erased(settings: Settings) -> Callable[[Undelivered], bool]:
    """Whether the person of a letter was erased after it was written."""
    import asyncio

    from streams.privacy.erasure_board import read_board

    board = asyncio.run(read_board(settings))

    def is_erased(letter: Undelivered) -> bool:
        user = (letter.key or b"").decode(errors="replace")
        return bool(board.requests) and letter.recorded_at_ms < board.forgotten_until(user)

    return is_erased


def _matching(
    found: list[Undelivered],
    destination: str | None,
    reason: str | None,
    is_erased: Callable[[Undelivered], bool],
) -> list[Undelivered]:
    return [
        letter
        for letter in found
        if destination in (None, letter.destination)
        and reason in (None, letter.reason)
        and not is_erased(letter)
    ]


def _print_each(found: list[Undelivered], limit: int, as_json: bool) -> None:
    from streams.deliver.letters import origin

    found.sort(key=lambda letter: (-letter.recorded_at_ms, origin(letter)))
    shown = found[:limit] if limit else found
    if as_json:
        print_json(
            [
                {"origin": origin(x), "reason": x.reason, "detail": x.detail,
                 "recorded_at": _time(x.recorded_at_ms)}
                for x in shown
            ]
        )  # fmt: skip
        return
    print_table(
        ("WHICH", "TIME", "REASON", "DETAIL"),
        ((origin(x), _time(x.recorded_at_ms), x.reason, _printable(x.detail)) for x in shown),
    )
    if len(shown) < len(found):
        click.echo(f"{len(found) - len(shown):,} more; --limit 0 shows all.")


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)


def _time(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="seconds")
