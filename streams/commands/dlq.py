"""`tideline dlq`: look at dead letters, and send them back once their cause is fixed."""
# ruff: noqa: PLC0415  (kafka-python is imported when the command runs)

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from streams.commands.support import (
    Invocation,
    json_option,
    pass_invocation,
    print_json,
    print_table,
)

if TYPE_CHECKING:
    from schemas.messages import DeadLetter

__all__ = ["dlq"]

_reason_option = click.option("--reason", help="Only letters with this reason code.")


@click.group()
def dlq() -> None:
    """Look at dead letters, and replay them.

    A record that can't be used becomes a dead letter with its reason, and the stream goes on.
    """


@dlq.command("list")
@_reason_option
@json_option
@pass_invocation
def list_(invocation: Invocation, reason: str | None, as_json: bool) -> None:
    """How many dead letters there are, by topic and reason."""
    settings = invocation.settings
    from streams import dlq as letters

    counts = letters.count_by_reason(_matching(letters.read(settings), reason))
    if as_json:
        print_json([{"topic": topic, "reason": why, "letters": n} for topic, why, n in counts])
    elif counts:
        print_table(
            ("TOPIC", "REASON", "LETTERS"), ((topic, why, f"{n:,}") for topic, why, n in counts)
        )
    else:
        click.echo("No dead letters.")


@dlq.command()
@click.argument("origin", metavar="TOPIC/PARTITION/OFFSET")
@json_option
@pass_invocation
def show(invocation: Invocation, origin: str, as_json: bool) -> None:
    """One dead letter: its reason and what was kept of the record.

    TOPIC/PARTITION/OFFSET is where the record came from, such as orders/2/1234.
    """
    match = re.fullmatch(r"([A-Za-z0-9._-]+)/(\d+)/(\d+)", origin)
    if not match:
        raise click.BadParameter(f"{origin!r} is not like orders/2/1234")
    settings = invocation.settings
    from streams import dlq as letters

    wanted = (match[1], int(match[2]), int(match[3]))
    for letter in letters.read(settings):
        if (letter.topic, letter.partition, letter.offset) == wanted:
            _print_letter(letter, letters.not_replayable(letter), as_json)
            return
    raise click.ClickException(
        f"There is no dead letter from {origin}; `tideline dlq list` shows what there is."
    )


@dlq.command()
@_reason_option
@click.option("--topic", help="Only letters that came from this topic.")
@click.option("--yes", is_flag=True, help="Do it. Without this, only say what would be sent.")
@click.option("--dry-run", is_flag=True, help="Only say what would be sent (the default).")
@json_option
@pass_invocation
def replay(
    invocation: Invocation,
    reason: str | None,
    topic: str | None,
    yes: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Send dead letters back to the topic, partition and key they had.

    Fix the cause first, or they come back. Records already used are dropped as duplicates, so
    sending one twice does no harm. A letter whose payload was truncated stays where it is.
    """
    if yes and dry_run:
        raise click.UsageError("--yes and --dry-run exclude each other")
    settings = invocation.settings
    from streams import dlq as letters

    found = _matching(letters.read(settings), reason, topic)
    kept = [letter for letter in found if letters.not_replayable(letter) is not None]
    sendable = [letter for letter in found if letters.not_replayable(letter) is None]
    sent = letters.replay(settings, sendable) if yes else 0
    if as_json:
        print_json({"replayable": len(sendable), "not_replayable": len(kept), "sent": sent})
        return
    for name, why, n in letters.count_by_reason(sendable):
        click.echo(f"{'sent' if yes else 'would send'} {n:,} to {name} ({why})")
    for name, why, n in letters.count_by_reason(kept):
        click.echo(f"not replayable: {n:,} from {name} ({why}): payload missing or truncated")
    if not found:
        click.echo("No dead letters match.")
    elif sendable and not yes:
        click.echo("Nothing was sent. Add --yes to send them.")


def _matching(
    letters: Iterable[DeadLetter], reason: str | None, topic: str | None = None
) -> list[DeadLetter]:
    return [
        letter
        for letter in letters
        if reason in (None, letter.reason) and topic in (None, letter.topic)
    ]


def _print_letter(letter: DeadLetter, why_not: str | None, as_json: bool) -> None:
    payload = _text(letter.payload)
    rows = {
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "reason": letter.reason,
        "detail": letter.detail,
        "recorded_at": datetime.fromtimestamp(letter.recorded_at_ms / 1000, UTC).isoformat(),
        "key": _text(letter.key),
        "payload_bytes": letter.payload_bytes,
        "replayable": why_not is None,
        "payload": payload,
    }
    if as_json:
        print_json(rows)
        return
    if why_not:
        rows["replayable"] = f"no: {why_not}"
    print_table(("FIELD", "VALUE"), ((name, str(value)) for name, value in rows.items()))


def _text(raw: bytes | None) -> str | None:
    """Readable and safe to print: a broken record may hold terminal control codes."""
    if raw is None:
        return None
    text = raw.decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
