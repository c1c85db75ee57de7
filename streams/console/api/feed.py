"""Follows what happens, for `/v1/stream`: churn alerts, and entries into and exits from audiences.

Read from the topics that other systems are fed by, so each message arrives at least once and of one
customer in order. An id says how far a client is in every partition, so that it continues exactly
there, after any pause that the topics remember.

    id = a0:12,a1:7,u0:3      next offset, of alerts (a) and audiences (u), by partition
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncGenerator, Collection, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec

from schemas.errors import StateError, TidelineError
from schemas.messages import AlertMessage, AudienceChange
from streams.kafka.log import Log
from streams.privacy.erasure_board import ErasureBoard

__all__ = [
    "KINDS",
    "Feed",
    "Happening",
    "Place",
    "TailedLog",
    "position_text",
    "read_position_text",
]

KINDS: Final = {"alerts": "a", "audiences": "u"}
"""What can be followed -> its letter in positions."""
LOOK_SECONDS: Final = 0.5
MOST_RECORDS: Final = 500
"""Read of a partition at once."""
_PLACE: Final = re.compile(r"([au])(\d{1,5}):(\d{1,19})")

Place = tuple[str, int]
"""Kind and partition."""


@dataclass(frozen=True)
class Happening:
    """One message. `name`: alert, audience, gap, alive or away; `data`: JSON."""

    name: str
    data: str
    user_id: str = ""
    position: str = ""


def position_text(position: Mapping[Place, int]) -> str:
    """
    >>> position_text({("alerts", 0): 12, ("audiences", 1): 3})
    'a0:12,u1:3'
    """
    return ",".join(
        f"{KINDS[kind]}{partition}:{offset}"
        for (kind, partition), offset in sorted(position.items())
    )


def read_position_text(text: str) -> dict[Place, int] | None:
    """The position in an id; None for a text that is none.

    >>> read_position_text("a0:12,u1:3"), read_position_text("a0:x")
    ({('alerts', 0): 12, ('audiences', 1): 3}, None)
    """
    by_letter = {letter: kind for kind, letter in KINDS.items()}
    found = {}
    for part in text.split(","):
        match = _PLACE.fullmatch(part)
        if match is None:
            return None
        found[by_letter[match[1]], int(match[2])] = int(match[3])
    return found


class TailedLog(Log, Protocol):
    """What `KafkaLog` is here."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def listed_ends(self, places: Collection[tuple[str, int]]) -> dict[tuple[str, int], int]:
        """The next offset of each topic and partition."""


class Feed:
    """The topics as all streams of the process read them; connected when the first one begins."""

    def __init__(
        self, log: TailedLog, erasures: ErasureBoard, topics: Mapping[str, str], partitions: int
    ) -> None:
        """`topics`: by kind."""
        self._log, self._erasures = log, erasures
        self._topics, self._partitions = dict(topics), partitions
        self._ends: dict[tuple[str, int], int] = {}
        self._connected = False
        self._looked_at = 0.0
        self._looking = asyncio.Lock()

    async def stop(self) -> None:
        """Disconnect."""
        if self._connected:
            await self._log.stop()

    async def _newest(self) -> dict[tuple[str, int], int]:
        """Ends of all partitions, at most half a second old, whoever asks."""
        async with self._looking:
            if not self._connected:
                await self._log.start()
                self._connected = True
            if time.monotonic() - self._looked_at >= LOOK_SECONDS:
                await self._erasures.refresh()
                places = [
                    (topic, partition)
                    for topic in self._topics.values()
                    for partition in range(self._partitions)
                ]
                self._ends = await self._log.listed_ends(places)
                self._looked_at = time.monotonic()
            return self._ends

    async def now(self, kinds: tuple[str, ...]) -> dict[Place, int]:
        """The position of whoever wants only what is to come. Raises BrokerUnavailable."""
        ends = await self._newest()
        return {
            (kind, partition): ends[self._topics[kind], partition]
            for kind in kinds
            for partition in range(self._partitions)
        }

    async def after(self, position: Mapping[Place, int]) -> AsyncGenerator[Happening, None]:
        """What has happened since, until nothing is left. Raises BrokerUnavailable."""
        position = dict(position)
        for place, start in sorted(position.items()):
            kind, partition = place
            topic = self._topics[kind]
            end = (await self._newest()).get((topic, partition), start)
            if end <= start:
                continue
            stop = min(end, start + MOST_RECORDS)
            try:
                records = await self._log.read(topic, partition, start, stop)
            except StateError:
                first, end = await self._log.ends(topic, partition)
                position[place] = first if first > start else end
                gone = position[place] - start
                yield Happening(
                    "gap",
                    msgspec.json.encode(
                        {"kind": kind, "partition": partition, "records": max(0, gone)}
                    ).decode(),
                    position=position_text(position),
                )
                continue
            for offset, value, ms in zip(
                records.offsets.tolist(), records.values, records.timestamps_ms.tolist(),
                strict=True,
            ):  # fmt: skip
                position[place] = offset + 1
                found = self._read(kind, value, ms)
                if found is not None:
                    yield Happening(*found, position=position_text(position))
            position[place] = stop

    def _read(self, kind: str, value: bytes | None, at_ms: int) -> tuple[str, str, str] | None:
        """Name, JSON and user; None for what is not shown to anybody."""
        try:
            if kind == "audiences":
                change = msgspec.json.decode(value or b"", type=AudienceChange)
                name, user_id = "audience", change.user_id
            else:
                alert = msgspec.json.decode(value or b"", type=AlertMessage)
                if alert.arm != "treat":
                    return None
                name, user_id = "alert", alert.user_id
        except msgspec.DecodeError:
            return None  # of a later release, or not ours: other systems skip it as well
        # With pseudonyms nobody is found: the topic of erasures knows people by their ids.
        if at_ms < self._erasures.forgotten_until(user_id):
            return None
        return name, (value or b"").decode(), user_id


def away(error: TidelineError) -> Happening:
    """Kafka does not answer; the stream goes on when it does."""
    return Happening("away", msgspec.json.encode({"why": str(error)}).decode())
