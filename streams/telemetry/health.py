"""Decides whether a process is alive and ready, and says why not; D-064.

A process is alive unless a restart would probably help: whoever asks restarts it (Kubernetes, an
operator). It is ready while what it does reaches those who read it. Facts go in, sentences come
out; the facts are gathered elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["Facts", "Health", "Place", "Recovery", "Sink", "judge", "pages"]

REBALANCE_FACTOR: Final = 5
"""A rebalance may wait for other members, up to their longest interval between two polls."""


@dataclass(frozen=True)
class Recovery:
    """What a recovery still has to replay, and what it had to at its beginning."""

    steps_left: int
    records_left: int
    records: int

    @property
    def share_done(self) -> float:
        """
        >>> Recovery(3, 250, 1_000).share_done, Recovery(0, 0, 0).share_done
        (0.75, 1.0)
        """
        return 1 - self.records_left / self.records if self.records else 1.0


@dataclass(frozen=True)
class Place:
    """One partition that the process works on, with what belongs to it: for a worker a shard."""

    name: str
    state: str
    """`running`, or what it does instead: recovering, suspended, waiting."""
    behind_records: int = 0
    """Offsets between the next one to process and the end of the log."""
    still_seconds: float = 0.0
    """Since it moved, or had nothing to read."""
    was_well: bool = False
    """Whether it moved, or had nothing to read, since the process began."""
    recovery: Recovery | None = None
    """None: it is not replaying."""


@dataclass(frozen=True)
class Sink:
    """The rows that are on their way to ClickHouse."""

    state: str
    """ok, retrying, failed or closed."""
    is_full: bool
    """Steps wait until it has room."""
    oldest_seconds: float
    """For how long its oldest row has waited."""


@dataclass(frozen=True)
class Facts:
    """What is known of a process."""

    looked_seconds: float
    """How long ago these facts were gathered, by the loop that does all work."""
    kafka_seconds: float = 0.0
    """How long ago Kafka last answered a question."""
    unassigned_seconds: float = 0.0
    """For how long the group has not said which partitions are ours; 0: it has."""
    was_assigned: bool = True
    """Whether it ever has since the process began."""
    places: tuple[Place, ...] = ()
    sink: Sink | None = None
    troubles: tuple[str, ...] = ()
    """Other reasons why it is not ready."""


@dataclass(frozen=True)
class Health:
    """Why a process is not alive, and why it is not ready: sentences; none: it is."""

    dead: tuple[str, ...]
    unready: tuple[str, ...]
    places: tuple[Place, ...] = ()


def judge(facts: Facts, stuck_seconds: float) -> Health:
    """What a process is, if something that stands still so long is stuck (0: nothing ever is).

    A restart is never the answer to a server that is away, and is tried once: what was not well
    since the process began would not be after another restart either.
    """
    dead = tuple(_dead(facts, stuck_seconds)) if stuck_seconds else ()
    unready = tuple(_unready(facts, stuck_seconds or float("inf")))
    return Health(dead, (*dead, *unready), facts.places)


def _dead(facts: Facts, stuck_seconds: float) -> Iterator[str]:
    if facts.looked_seconds > stuck_seconds:
        yield f"the event loop has not run for {facts.looked_seconds:.0f} s"
        return  # nothing else is known
    if facts.kafka_seconds > stuck_seconds:
        return
    if facts.was_assigned and facts.unassigned_seconds > REBALANCE_FACTOR * stuck_seconds:
        yield f"a rebalance has not ended for {facts.unassigned_seconds:.0f} s"
    sink = facts.sink
    if sink is not None and (sink.is_full or sink.state != "ok"):
        return  # steps wait for ClickHouse
    for place in facts.places:
        if _stuck(place, stuck_seconds) and place.was_well:
            yield _stands_still(place)


def _unready(facts: Facts, stuck_seconds: float) -> Iterator[str]:
    if facts.kafka_seconds > stuck_seconds:
        yield f"Kafka has not answered for {facts.kafka_seconds:.0f} s"
    if not facts.was_assigned:
        yield "the group has not given it any partitions yet"
    elif facts.unassigned_seconds:
        yield "a rebalance is under way"
    for place in facts.places:
        if place.state != "running":
            yield f"{place.name} is {place.state}{_progress(place.recovery)}"
        elif _stuck(place, stuck_seconds) and not place.was_well:
            yield f"{_stands_still(place)}; a restart has not helped"
    sink = facts.sink
    if sink is None:
        return
    if sink.state != "ok":
        yield f"ClickHouse does not take rows ({sink.state}); the log says why"
    elif sink.oldest_seconds > stuck_seconds:
        yield f"rows have waited for ClickHouse for {sink.oldest_seconds:.0f} s"
    yield from facts.troubles


def _stuck(place: Place, stuck_seconds: float) -> bool:
    return (
        place.state == "running"
        and place.behind_records > 0
        and place.still_seconds > stuck_seconds
    )


def _stands_still(place: Place) -> str:
    return (
        f"{place.name} is {place.behind_records:,} records behind and has not moved for "
        f"{place.still_seconds:.0f} s"
    )


def _progress(recovery: Recovery | None) -> str:
    if recovery is None:
        return ""
    return (
        f": {recovery.share_done:.0%} replayed, {recovery.records_left:,} records in "
        f"{recovery.steps_left:,} steps left"
    )


def pages(health: Callable[[], Health]) -> Callable[[str], tuple[str, str, bytes] | None]:
    """The pages /healthz and /readyz, in JSON: 200, or 503 with the reasons."""

    def page(path: str) -> tuple[str, str, bytes] | None:
        if path not in ("/healthz", "/readyz"):
            return None
        found = health()
        reasons = found.dead if path == "/healthz" else found.unready
        body: dict[str, Any] = {"ok": not reasons, "reasons": reasons}
        if path == "/readyz":
            body["recovery"] = {
                place.name: {
                    "share_done": round(place.recovery.share_done, 4),
                    "records_left": place.recovery.records_left,
                    "steps_left": place.recovery.steps_left,
                }
                for place in found.places
                if place.recovery is not None
            }
        status = "503 Service Unavailable" if reasons else "200 OK"
        return status, "application/json; charset=utf-8", json.dumps(body).encode()

    return page
