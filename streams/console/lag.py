"""Asks the lag monitor, a process of its own that may be away, for what it sees: JSON over HTTP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote

import aiohttp
import msgspec

from streams.settings import Settings

__all__ = ["LagMonitor", "LagSeen", "lag_url"]

_SECONDS: Final = 3.0
_MOST_BYTES: Final = 4_000_000
_MOST_GROUPS: Final = 12
"""Groups whose partitions are asked for."""


@dataclass(frozen=True)
class LagSeen:
    """What the monitor said, or why it said nothing."""

    problem: str = ""
    """Why there is nothing, and what to do; empty: there is."""
    blind: str = ""
    """Why the monitor itself sees nothing; what it says is then old, or empty."""
    observed_ms: int | None = None
    groups: Sequence[Mapping[str, Any]] = ()
    """As /v1/groups has them: without partitions."""
    partitions: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    """By group, of those that are Tideline's or not ok."""
    canary: Mapping[str, Any] = field(default_factory=dict)
    """As /v1/canary has it; empty: it could not be had."""
    problems: Sequence[str] = ()
    """What Kafka did not answer, in words."""


def lag_url(settings: Settings) -> str:
    """Where the monitor is: the console's own setting, else [web]; empty: nowhere."""
    web = settings.web
    return settings.console.lag_url or (
        f"http://{web.metrics_host}:{web.metrics_port}" if web.metrics_port else ""
    )


class _Group(msgspec.Struct):
    """As `streams.lag.report.group_document` has it; what is missing is not known."""

    consumer_group: str
    status: str
    ours: bool = False
    members: int | None = None
    total_records: int | None = None
    max_seconds: float | None = None
    records_per_second: float | None = None
    partition_count: int | None = None


class _Groups(msgspec.Struct):
    blind: str
    observed_at_ms: int | None = None
    groups: list[_Group] = []
    problems: list[str] = []


class _Part(msgspec.Struct):
    topic: str
    partition: int
    status: str
    since_ms: int = 0
    lag_records: int | None = None
    lag_seconds: float | None = None
    no_seconds: str = ""
    records_per_second: float | None = None
    seconds_to_close: float | None = None
    seconds_to_loss: float | None = None
    retention_ratio: float | None = None
    hot: bool = False
    subscribed: bool = True
    owner: str = ""


class _CanaryPart(msgspec.Struct):
    partition: int
    age_seconds: float
    waiting: int = 0


class _Canary(msgspec.Struct):
    partitions: list[_CanaryPart] = []
    troubles: dict[str, str] = {}


class LagMonitor:
    """Asks one monitor. An answer is not kept: lag of a while ago is no lag."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")

    async def look(self) -> LagSeen:
        """What it sees now. Never raises for what the monitor does."""
        if not self._url:
            return LagSeen(
                problem="No lag monitor is named. Start `tideline lag --serve`, and set "
                "TIDELINE_CONSOLE_LAG_URL to its address."
            )
        try:
            timeout = aiohttp.ClientTimeout(total=_SECONDS)
            async with aiohttp.ClientSession(timeout=timeout) as session:
                return await self._seen(session)
        except (aiohttp.ClientError, TimeoutError, ValueError, msgspec.MsgspecError) as error:
            why = "it took too long" if isinstance(error, TimeoutError) else str(error)
            return LagSeen(
                problem=f"The lag monitor at {self._url} does not answer ({why[:200]}). Start "
                "`tideline lag --serve` with TIDELINE_WEB_METRICS_PORT, or set "
                "TIDELINE_CONSOLE_LAG_URL to where it is."
            )

    async def _seen(self, session: aiohttp.ClientSession) -> LagSeen:
        found = msgspec.convert(await self._get(session, "/v1/groups"), _Groups)
        named = [each.consumer_group for each in found.groups if each.ours or each.status != "ok"]
        details = await asyncio.gather(
            *(self._parts(session, name) for name in named[:_MOST_GROUPS]),
            self._get(session, "/v1/canary"),
            return_exceptions=True,
        )
        *parts, canary = details
        return LagSeen(
            blind=found.blind,
            observed_ms=found.observed_at_ms,
            groups=[msgspec.to_builtins(each) for each in found.groups],
            partitions={
                name: each for name, each in zip(named, parts, strict=False)
                if isinstance(each, list)
            },
            canary=_canary_of(canary),
            problems=found.problems,
        )  # fmt: skip

    async def _parts(self, session: aiohttp.ClientSession, name: str) -> list[dict[str, Any]]:
        found = await self._get(session, f"/v1/groups/{quote(name, safe='')}")
        parts = msgspec.convert(found.get("partitions", []), list[_Part])
        return [msgspec.to_builtins(each) for each in parts]

    async def _get(self, session: aiohttp.ClientSession, path: str) -> dict[str, Any]:
        """A JSON object, whatever its status: a monitor that is blind says so with 503."""
        async with session.get(self._url + path, allow_redirects=False) as answer:
            body = await answer.content.read(_MOST_BYTES)
            if not answer.content.at_eof():
                raise ValueError(f"{path} has more than {_MOST_BYTES:,} bytes")
        found = json.loads(body)
        if not isinstance(found, dict):
            raise ValueError("it is no lag monitor")
        return found


def _canary_of(found: Any) -> dict[str, Any]:
    try:
        made: dict[str, Any] = msgspec.to_builtins(msgspec.convert(found, _Canary))
    except msgspec.ValidationError:
        return {}
    return made
