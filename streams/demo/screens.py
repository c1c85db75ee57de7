"""Where the demo shows itself: a live view on a terminal, or lines on stderr."""

from __future__ import annotations

import time
from typing import Protocol

import click
from rich.console import Console
from rich.live import Live

from streams.demo.view import View, draw, newest_that_fit

__all__ = ["LineScreen", "LiveScreen", "Screen"]

LINE_SECONDS = 2.0


class Screen(Protocol):
    """Shows progress. `newest` is how many alerts it has room for."""

    @property
    def newest(self) -> int: ...
    def say(self, text: str) -> None:
        """One line, before the first `show` or after `close`."""

    def show(self, view: View) -> None: ...
    def close(self) -> None:
        """Leave the last view where it is. Safe to call twice."""


class LiveScreen:
    """Redraws in place, on stdout."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console()
        self._live: Live | None = None

    @property
    def newest(self) -> int:
        return newest_that_fit(self._console.height)

    def say(self, text: str) -> None:
        self._console.out(text, highlight=False)

    def show(self, view: View) -> None:
        if self._live is None:
            self._console.out()
            self._live = Live(console=self._console, auto_refresh=False)
            self._live.start()
        size = self._console.size
        self._live.update(draw(view, size.width, size.height), refresh=True)

    def close(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None


class LineScreen:
    """One line every few seconds, on stderr, for logs."""

    newest = 0

    def __init__(self) -> None:
        self._next_at: float | None = None

    def say(self, text: str) -> None:
        click.echo(text, err=True)

    def show(self, view: View) -> None:
        now = time.monotonic()
        if self._next_at is None:
            click.echo(view.notice, err=True)
        elif now < self._next_at:
            return
        self._next_at = now + LINE_SECONDS
        click.echo(progress_line(view), err=True)

    def close(self) -> None:
        pass


def progress_line(view: View) -> str:
    """Everything that matters, in one line."""
    ledger = view.figures.ledger
    lag = "-" if view.lag_records is None else f"{view.lag_records:,}"
    labels = view.learner.labels if view.learner else 0
    return (
        f"{ledger.clock.date().isoformat() if ledger.clock else 'starting':<10}  "
        f"sent {view.sent:>9,}  scored {ledger.scored:>9,}  {view.events_per_second:>7,.0f}/s  "
        f"lag {lag:>9}  alerts {view.figures.alerts_opened:>6,}  labels {labels:>6,}  {view.state}"
    )
