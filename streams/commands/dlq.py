"""`tideline dlq`: look at dead letters, and send them back once their cause is fixed."""
# ruff: noqa: PLC0415  (kafka-python is imported when the command runs)

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from dataclasses import asdict
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
@click.option("--each", is_flag=True, help="One line per letter that waits, the newest first.")
@click.option("--limit", default=50, show_default=True, help="--each: so many lines; 0: all.")
@json_option
@pass_invocation
def list_(
    invocation: Invocation, reason: str | None, each: bool, limit: int, as_json: bool
) -> None:
    """How many dead letters wait, by topic and reason; or each of them."""
    settings = invocation.settings
    from streams.kafka import dead_letters as letters
    from streams.privacy.erasure_board import letters_of_erased

    if each:
        found = _matching(
            letters.read(settings, letters_of_erased(settings), payloads=False), reason
        )
        _print_each(found, limit, as_json)
        return
    kinds = [
        kind
        for kind in letters.kinds(settings, letters_of_erased(settings))
        if reason in (None, kind.reason)
    ]
    if as_json:
        print_json([asdict(kind) for kind in kinds])
    elif kinds:
        rows = (
            (k.topic, k.reason, f"{k.letters:,}", f"{k.replayed:,}", _time(k.newest_ms), k.example)
            for k in kinds
        )
        print_table(("TOPIC", "REASON", "LETTERS", "REPLAYED", "NEWEST", "FOR EXAMPLE"), rows)
        click.echo(f"`tideline dlq show {kinds[0].example}` shows one; `list --each` lists them.")
    else:
        click.echo("No dead letters.")


def _print_each(found: list[DeadLetter], limit: int, as_json: bool) -> None:
    from streams.kafka.dead_letters import origin

    found.sort(key=lambda letter: (-letter.recorded_at_ms, origin(letter)))
    shown = found[:limit] if limit else found
    if as_json:
        print_json(
            [
                {"origin": origin(each), "reason": each.reason, "detail": each.detail,
                 "recorded_at": _time(each.recorded_at_ms), "payload_bytes": each.payload_bytes}
                for each in shown
            ]
        )  # fmt: skip
        return
    print_table(
        ("FROM", "TIME", "REASON", "DETAIL"),
        ((origin(x), _time(x.recorded_at_ms), x.reason, _text(x.detail.encode()) or "")
         for x in shown),
    )  # fmt: skip
    if len(shown) < len(found):
        click.echo(f"{len(found) - len(shown):,} more; --limit 0 shows all.")


@dlq.command()
@click.argument("origin", metavar="TOPIC/PARTITION/OFFSET")
@json_option
@pass_invocation
def show(invocation: Invocation, origin: str, as_json: bool) -> None:
    """One dead letter: its reason and what was kept of the record.

    TOPIC/PARTITION/OFFSET is where the record came from, such as orders/2/1234.
    """
    wanted = _parsed(origin)
    settings = invocation.settings
    from streams.kafka import dead_letters as letters
    from streams.privacy.erasure_board import letters_of_erased

    for letter in letters.read(settings, letters_of_erased(settings), again=True):
        if (letter.topic, letter.partition, letter.offset) == wanted:
            _print_letter(letter, letters.not_replayable(settings, letter), as_json)
            return
    raise click.ClickException(
        f"There is no dead letter from {origin}; `tideline dlq list` shows what there is."
    )


@dlq.command()
@click.argument("origins", metavar="[TOPIC/PARTITION/OFFSET]...", nargs=-1)
@_reason_option
@click.option("--topic", help="Only letters that came from this topic.")
@click.option("--yes", is_flag=True, help="Do it. Without this, only say what would be sent.")
@click.option("--again", is_flag=True, help="Also those that were sent back before.")
@click.option("--dry-run", is_flag=True, help="Only say what would be sent (the default).")
@json_option
@pass_invocation
def replay(
    invocation: Invocation,
    origins: tuple[str, ...],
    reason: str | None,
    topic: str | None,
    yes: bool,
    again: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Send dead letters back to the topic, partition and key they had.

    Fix the cause first, or they come back as new letters. What was sent back is not sent again
    unless you say so. It may be interrupted and run again: a record that was used already counts
    once. A letter whose payload was truncated stays where it is.
    """
    if yes and dry_run:
        raise click.UsageError("--yes and --dry-run exclude each other")
    settings = invocation.settings
    from streams.kafka import dead_letters as letters
    from streams.privacy.erasure_board import letters_of_erased

    wanted = {"/".join(map(str, _parsed(each))) for each in origins}
    found = [
        letter
        for letter in _matching(
            letters.read(settings, letters_of_erased(settings), again=again), reason, topic
        )
        if not wanted or letters.origin(letter) in wanted
    ]
    kept = [letter for letter in found if letters.not_replayable(settings, letter) is not None]
    sendable = [letter for letter in found if letters.not_replayable(settings, letter) is None]
    sent = 0
    if yes and sendable:
        with click.progressbar(length=len(sendable), label="sending", file=sys.stderr) as bar:
            sent = letters.replay(settings, sendable, lambda done: bar.update(done - bar.pos))
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


def _parsed(origin: str) -> tuple[str, int, int]:
    match = re.fullmatch(r"([A-Za-z0-9._-]+)/(\d+)/(\d+)", origin)
    if not match:
        raise click.BadParameter(f"{origin!r} is not like orders/2/1234")
    return match[1], int(match[2]), int(match[3])


def _time(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="seconds")


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
