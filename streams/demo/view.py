"""Draws the live view from given numbers: fits 80 columns and 24 lines, and uses more if there are.

Knows nothing of Kafka, ClickHouse or time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from schemas.messages import LearnerSnapshot
from schemas.segments import DIMENSIONS
from streams.demo.figures import Alert, Figures

__all__ = ["FIXED_LINES", "View", "alert_lines", "draw", "newest_that_fit"]

FIXED_LINES: Final = 20
"""Lines of the view without the alerts and the last line of the terminal."""
_MOST_ALERTS: Final = 12
_FULL_WIDTH: Final = 110  # beyond it, bars and reasons gain nothing
_TITLES: Final = {"lifecycle": "lifecycle", "value_tier": "value tier"}
_COLOURS: Final = {
    "visitor": "bright_black", "new": "cyan", "active": "green", "at_risk": "yellow",
    "lapsed": "red", "none": "bright_black", "low": "blue", "medium": "cyan", "high": "green",
}  # fmt: skip


@dataclass(frozen=True)
class View:
    """Everything that is drawn."""

    title: str
    notice: str
    console_url: str
    """Where the console is; '' if there is none."""
    elapsed_seconds: float
    done_share: float
    """Of the event time that is replayed, 0 to 1, as processed by the shard furthest behind."""
    sent: int
    events_per_second: float
    lag_records: int | None
    figures: Figures
    learner: LearnerSnapshot | None
    state: str
    """What is going on, in a few words."""


def newest_that_fit(height: int) -> int:
    """How many alerts a terminal of this height has room for."""
    return max(2, min(_MOST_ALERTS, height - FIXED_LINES))


def draw(view: View, width: int, height: int) -> RenderableType:
    """The whole view for a terminal of this size."""
    width = min(width, _FULL_WIDTH)
    ledger = view.figures.ledger
    return Group(
        _ends(Text(view.title, "bold"), Text(_clock(view.elapsed_seconds), "bright_black"), width),
        _progress(view, width),
        Text(f"console   {view.console_url or 'not installed'}", no_wrap=True),
        Text(view.notice, "italic bright_black", no_wrap=True, overflow="ellipsis"),
        Text(),
        _speed(view, width),
        Text(),
        _segments(view.figures.segments, width),
        Text(),
        *_learner(view.learner),
        _ledger(view),
        Text(),
        Text(
            f"newest alerts ({view.figures.alerts_opened - view.figures.alerts_closed:,} open, "
            f"{view.figures.alerts_closed:,} closed)",
            "bold",
        ),
        alert_lines(view.figures.newest_alerts[: newest_that_fit(height)], width)
        if view.figures.newest_alerts
        else Text("none yet: an alert needs a history to tell from", "bright_black"),
        *([] if ledger.accepted else [Text("waiting for the first batch", "bright_black")]),
    )


def _ends(left: Text, right: Text, width: int) -> Table:
    row = Table.grid(expand=False)
    row.add_column(width=width - len(right) - 1, no_wrap=True, overflow="ellipsis")
    row.add_column(width=len(right) + 1, justify="right", no_wrap=True)
    row.add_row(left, right)
    return row


def _progress(view: View, width: int) -> Table:
    day = view.figures.ledger.clock
    text = f" {_day(day) if day else 'starting':<10}  {view.state}"
    row = Table.grid(expand=False)
    row.add_column(width=max(10, width - 46))
    row.add_column(width=46, no_wrap=True, overflow="ellipsis")
    row.add_row(ProgressBar(total=1.0, completed=min(1.0, view.done_share)), Text(text))
    return row


def _speed(view: View, width: int) -> Table:
    lag = "-" if view.lag_records is None else f"{view.lag_records:,}"
    cells = (  # with their shares of the width
        (f"{view.figures.ledger.scored:,}", "scored", 0.22),
        (f"{view.events_per_second:,.0f}", "events/s", 0.24),
        (lag, "records lag", 0.31),
        (f"{view.figures.users:,}", "users", 0.23),
    )
    row = Table.grid(expand=False)
    for _, _, share in cells:
        row.add_column(width=int(width * share), no_wrap=True)
    row.add_row(*(Text.assemble((number, "bold"), " ", (unit, "bright_black"))
                  for number, unit, _ in cells))  # fmt: skip
    return row


def _segments(segments: Mapping[str, Mapping[str, int]], width: int) -> Table:
    row = Table.grid(expand=False)
    half = width // 2
    row.add_column(width=half)
    row.add_column(width=half)
    dimensions = ("lifecycle", "value_tier")
    row.add_row(*(_bars(name, segments.get(name, {}), half - 2) for name in dimensions))
    return row


def _bars(dimension: str, sizes: Mapping[str, int], width: int) -> Table:
    """One bar per segment, in the order the contract names them."""
    most = max(sizes.values(), default=0)
    bars = Table.grid(expand=False)
    bars.add_column(width=10, no_wrap=True)
    bars.add_column(width=6, justify="right", no_wrap=True)
    bars.add_column(width=width - 16, no_wrap=True)
    bars.add_row(Text(_TITLES[dimension], "bold", no_wrap=True), Text("users", "bright_black"))
    for segment in DIMENSIONS[dimension]:
        users = sizes.get(segment, 0)
        length = (users * (width - 17) + most // 2) // most if most else 0
        bar = "█" * max(length, 1 if users else 0)
        bars.add_row(segment.replace("_", " "), f"{users:,}", Text(f" {bar}", _COLOURS[segment]))
    return bars


def _learner(learner: LearnerSnapshot | None) -> tuple[Text, Text]:
    if learner is None or not learner.labels:
        return _line("learner", "no label has matured yet: the champion scores alone"), Text()
    share = f"blend weight {learner.blend_weight:.0%}"
    head = _line("learner", f"{learner.labels:,} labels, version {learner.version:,}; {share}")
    losses = (learner.log_loss_learner, learner.log_loss_champion, learner.log_loss_blend)
    if None in losses:
        return head, Text()
    losses_text = "log loss: learner {:.4f}, champion {:.4f}, blend {:.4f}".format(*losses)
    return head, _line("", losses_text)


def _ledger(view: View) -> Text:
    ledger = view.figures.ledger
    parts = ((ledger.duplicates, "dup"), (ledger.late, "late"), (ledger.dead_letters, "dead"))
    others = "".join(f" + {n:,} {name}" for n, name in parts)
    line = _line("ledger", f"{ledger.accepted:,} in = {ledger.scored:,} scored{others}  ")
    if ledger.accepted:
        line.append(*(("balanced", "green") if ledger.balanced else ("NOT BALANCED", "bold red")))
    return line


def _line(name: str, text: str) -> Text:
    line = Text(no_wrap=True, overflow="ellipsis")
    return line.append(f"{name:<10}", "bold").append(text)


def alert_lines(alerts: tuple[Alert, ...], width: int) -> Table:
    """One line per alert: when, who, how sure, what is at stake, why."""
    user = min(12, max((len(alert.user_id) for alert in alerts), default=0))
    rows = Table.grid(padding=(0, 1), expand=False)
    rows.add_column(width=5, no_wrap=True)
    rows.add_column(width=user, no_wrap=True, overflow="ellipsis")
    rows.add_column(width=4, justify="right", no_wrap=True)
    rows.add_column(width=5, justify="right", no_wrap=True)
    rows.add_column(width=max(10, width - user - 19), no_wrap=True, overflow="ellipsis")
    for alert in alerts:
        rows.add_row(
            Text(alert.raised_at.strftime("%m-%d"), "bright_black"),
            alert.user_id,
            Text(f"{alert.p_churn:.0%}", "yellow"),
            f"${alert.priority:,.0f}",
            Text("; ".join(alert.reasons)),
        )
    return rows


def _day(when: datetime) -> str:
    return when.date().isoformat()


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02d}"
