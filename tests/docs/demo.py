"""The README's block of the demo's output: figures of a recorded run, drawn by the demo's own code.

`demo.json` beside this file holds the figures of one look while the demo ran, and the summary that
`make demo ARGS="--until-done --json"` printed; put newer ones there to bring them up to date.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from schemas.messages import LearnerSnapshot
from streams.demo.figures import Figures, Ledger
from streams.demo.view import View, draw

__all__ = ["RECORDED", "block", "summary_lines", "view_lines"]

RECORDED: Final = Path(__file__).with_name("demo.json")
_WIDTH: Final = 80


def view_lines(seen: dict[str, Any]) -> list[str]:
    """What an 80-column terminal shows for the recorded figures, from the rates to the ledger."""
    loss = seen["log_loss"]
    learner = LearnerSnapshot(
        version=seen["version"], champion_version="", features=[],
        labels=seen["labels"], blend_weight=seen["blend_weight"], intercept=0.0, logit_weight=1.0,
        weights=[], mean=[], scale=[], log_loss_learner=loss["learner"],
        log_loss_champion=loss["champion"], log_loss_blend=loss["blend"],
    )  # fmt: skip
    figures = Figures(
        ledger=Ledger(seen["scored"], seen["scored"], balanced=True, shards=4),
        segments=seen["segments"],
    )
    view = View(
        title="", notice="", elapsed_seconds=0.0, done_share=0.0, sent=0,
        events_per_second=seen["events_per_second"], lag_records=seen["lag_records"],
        figures=figures, learner=learner, state="", console_url="",
    )  # fmt: skip
    assert figures.users == seen["users"]
    console = Console(width=_WIDTH, file=io.StringIO(), color_system=None, legacy_windows=False)
    with console.capture() as captured:
        console.print(draw(view, _WIDTH, 24))
    lines = [line.rstrip() for line in captured.get().splitlines()]
    first = next(i for i, line in enumerate(lines) if "events/s" in line)
    last = next(i for i, line in enumerate(lines) if line.startswith("ledger"))
    return lines[first : last + 1]


def summary_lines(summary: dict[str, Any]) -> list[str]:
    """The summary as JSON, in lines of up to 90 characters."""
    pieces = [f"{json.dumps(key)}: {json.dumps(value)}, " for key, value in summary.items()]
    lines, line = [], "{"
    for piece in pieces:
        if len(line) + len(piece) > 90:
            lines.append(line.rstrip())
            line = " "
        line += piece
    return [*lines, f"{line}...}}"]


def block() -> str:
    """Both, as Markdown."""
    recorded = json.loads(RECORDED.read_text())
    view, summary = recorded["view"], recorded["summary"]
    return "\n".join(
        [
            "While it runs, in an 80-column terminal:",
            "",
            "```text",
            *view_lines(view),
            "```",
            "",
            'And `make demo ARGS="--until-done --json"`, recorded on two cores:',
            "",
            "```text",
            *summary_lines(summary),
            "```",
        ]
    )
