"""`tideline repartition`: move an application to more partitions."""
# ruff: noqa: PLC0415  (Kafka's clients and the model are imported when the command runs)

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import click

from streams.commands.support import Invocation, json_option, pass_invocation, print_json

if TYPE_CHECKING:
    from streams.kafka.copying import Copier, Refused
    from streams.repartition import Move, Moved

__all__ = ["repartition"]

_SAY_SECONDS: Final = 60.0  # between two lines about what still comes in
_REMIND_SECONDS: Final = 10.0  # between two lines about workers that still run
_NAMED: Final = 1_000  # records that were refused; the others are only counted


@click.command()
@click.option(
    "--partitions",
    type=click.IntRange(2),
    required=True,
    metavar="M",
    help="The new number of partitions: a multiple of the present one.",
)
@click.option(
    "--clickstream-topic",
    required=True,
    metavar="NAME",
    help="The new topic of clickstream events; created if it does not exist.",
)
@click.option(
    "--orders-topic",
    required=True,
    metavar="NAME",
    help="The new topic of order events; created if it does not exist.",
)
@click.option(
    "--wait",
    type=click.FloatRange(0),
    metavar="SECONDS",
    help="Wait at most this long for the workers to stop. Default: no limit.",
)
@click.option(
    "--follow",
    is_flag=True,
    help="Keep copying new records from the old topics, until Ctrl-C.",
)
@click.option(
    "--quiet",
    type=click.FloatRange(0, min_open=True),
    metavar="SECONDS",
    help="With --follow: end after this long without a new record.",
)
@json_option
@pass_invocation
def repartition(
    invocation: Invocation,
    partitions: int,
    clickstream_topic: str,
    orders_topic: str,
    wait: float | None,
    follow: bool,
    quiet: float | None,
    as_json: bool,
) -> None:
    """Move to more partitions, without losing state or events.

    Run it with the current settings. It creates the new topics, waits until no worker runs, splits
    the state of every shard, and copies the records that the shards have not read yet. Then start
    the workers with the settings that it prints, and move the producers to the new topics. With
    --follow it keeps copying what producers still write into the old topics.

    It may be interrupted at any moment and run again.
    """
    if quiet is not None and not follow:
        raise click.UsageError("--quiet needs --follow")
    from streams.repartition import Move

    move = Move(invocation.settings, partitions, clickstream_topic, orders_topic)
    started = time.monotonic()
    for name in move.prepare():
        _say(f"{name} has {partitions} partitions.")
    stopped = 0.0
    if move.is_split():
        _say("The shards were split by an earlier run.")
    else:
        stopped = _split(move, wait)
    report = asyncio.run(_copy(move, follow, quiet, stopped))
    if as_json:
        print_json(report | {"seconds": round(time.monotonic() - started, 2)})


async def _copy(move: Move, follow: bool, quiet: float | None, stopped: float) -> dict[str, Any]:
    """Returns what --json shows."""
    refused: list[Refused] = []
    async with await move.copier() as copier:
        catching_up = time.monotonic()
        await copier.start()
        if copier.expired:
            _say(f"Retention deleted {copier.expired:,} offsets before they could be copied.")
        await _catch_up(copier, refused)
        stopped += time.monotonic() - catching_up if stopped else 0.0
        _say(f"Copied {copier.copied:,} records that the shards had not read yet.")
        settings = "\n".join(f"  {name}={value}" for name, value in move.changes.items())
        _say(f"Start the workers with these settings, and move the producers:\n{settings}")
        if follow:
            await _follow(copier, quiet, refused)
    if copier.refused:
        _say(f"{copier.refused:,} records were refused by the broker, and were not copied.")
    return _report(move, copier, refused, stopped)


def _say(line: str) -> None:
    click.echo(line, err=True)


def _split(move: Move, wait: float | None) -> float:
    """Returns how long the shards have stood still."""
    reminded = -_REMIND_SECONDS
    stopped_at = time.monotonic()

    def on_wait(members: list[str]) -> None:
        nonlocal reminded, stopped_at
        stopped_at = time.monotonic()
        if stopped_at - reminded >= _REMIND_SECONDS:
            reminded = stopped_at
            _say(f"Stop the workers: {len(members)} run ({', '.join(members)}).")

    def on_moved(moved: Moved) -> None:
        into = ", ".join(map(str, moved.into))
        _say(
            f"Shard {moved.shard} was split by an earlier run."
            if moved.earlier
            else f"Shard {moved.shard}: {moved.users:,} users into shards {into}, "
            f"{moved.seconds:.1f} s"
        )

    asyncio.run(move.split_all(wait, on_wait, on_moved))
    return time.monotonic() - stopped_at


async def _catch_up(copier: Copier, refused: list[Refused]) -> None:
    """Copy up to where the old topics end now."""
    ends = await copier.ends()
    said = time.monotonic()
    while left := await copier.left(ends):
        if time.monotonic() - said > _REMIND_SECONDS:
            said = time.monotonic()
            _say(f"{copier.copied:,} records copied, about {left:,} to go.")
        await _copy_some(copier, refused)


async def _copy_some(copier: Copier, refused: list[Refused]) -> bool:
    """Whether there was something; names what was refused."""
    expired, some = copier.expired, await copier.copy_some()
    for each in some or ():
        if len(refused) < _NAMED:
            refused.append(each)
            _say(
                f"{each.topic}/{each.partition}, offset {each.offset}: the broker refused the "
                f"record, so it is not copied: {each.why}."
            )
    if copier.expired > expired:
        _say(f"Retention deleted {copier.expired - expired:,} offsets before they could be copied.")
    return some is not None


async def _follow(copier: Copier, quiet_seconds: float | None, refused: list[Refused]) -> None:
    _say("Copying new records from the old topics. Ctrl-C ends it.")
    said = last = time.monotonic()
    before = copier.copied
    with _interrupts() as interrupted:
        while quiet_seconds is None or time.monotonic() - last < quiet_seconds:
            if interrupted.is_set():
                _say("Interrupted. Run the command again if producers still write there.")
                break
            if await _copy_some(copier, refused):
                last = time.monotonic()
            if time.monotonic() - said >= _SAY_SECONDS:
                _say(f"{copier.copied - before:,} records copied in the last minute.")
                said, before = time.monotonic(), copier.copied


@contextlib.contextmanager
def _interrupts() -> Iterator[asyncio.Event]:
    """An event that Ctrl-C sets, so that it comes between two commits."""
    event, loop = asyncio.Event(), asyncio.get_running_loop()
    before = signal.getsignal(signal.SIGINT)  # of asyncio.run
    loop.add_signal_handler(signal.SIGINT, event.set)
    try:
        yield event
    finally:
        loop.remove_signal_handler(signal.SIGINT)
        signal.signal(signal.SIGINT, before)


def _report(move: Move, copier: Copier, refused: list[Refused], stopped: float) -> dict[str, Any]:
    return {
        "partitions": {"from": move.settings.kafka.partitions, "to": move.partitions},
        "shards": [
            {
                "shard": m.shard, "into": list(m.into), "users": m.users,
                "seconds": round(m.seconds, 3), "earlier": m.earlier,
            }
            for m in move.moved
        ],
        "copied": copier.copied,
        "left_out": copier.skipped,
        "expired": copier.expired,
        "refused": copier.refused,
        "refused_records": [asdict(each) for each in refused],
        "settings": move.changes,
        "stopped_seconds": round(stopped, 2),
    }  # fmt: skip
