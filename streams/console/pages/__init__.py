"""The pages, in the order of the navigation. A new one is a module beside this, and a line here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Literal

from streams.console.page import Ask, Page
from streams.console.pages.campaigns import campaigns
from streams.console.pages.customers import customers
from streams.console.pages.models import models
from streams.console.pages.pipeline import pipeline
from streams.console.pages.segments import segments
from streams.console.pages.settings import settings
from streams.console.pages.today import today

__all__ = ["ROUTES", "Route"]


@dataclass(frozen=True)
class Route:
    """One page of the navigation, at /NAME; its right has the same name (`access.RIGHTS`)."""

    name: str
    title: str
    key: str
    """`g` and this key open it; so does its number."""
    make: Callable[[Ask], Awaitable[Page]]
    live: Literal["batches", "clock", "never"] = "batches"
    """When it is made again: as the shards write batches, every two seconds, or never."""
    has_parts: bool = False
    """Whether there are pages below it, such as /customers/ann."""


ROUTES: Final = (
    Route("today", "Today", "t", today),
    Route("customers", "Customers", "c", customers, has_parts=True),
    Route("segments", "Segments", "s", segments, has_parts=True),
    Route("campaigns", "Campaigns", "a", campaigns, has_parts=True),
    Route("models", "Models", "m", models),
    Route("pipeline", "Pipeline", "p", pipeline, "clock"),
    Route("settings", "Settings", ",", settings, live="never"),
)  # fmt: skip
