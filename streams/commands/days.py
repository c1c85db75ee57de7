"""The option type FROM-TO for a span of days; imports nothing heavy, for quick `--help`."""

from __future__ import annotations

from typing import Any

import click

__all__ = ["Days"]


class Days(click.ParamType):
    """FROM-TO, such as 0-30, as (from, to)."""

    name = "FROM-TO"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        start, dash, stop = str(value).partition("-")
        if not (dash and start.isdigit() and stop.isdigit()):
            self.fail(f"{value!r} is not like 0-30 (the first 30 days)", param, ctx)
        return int(start), int(stop)
