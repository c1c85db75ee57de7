"""The live view shows the figures it is given, and fits the terminal."""

from __future__ import annotations

from dataclasses import replace

import pytest
from rich.console import Console

from schemas.messages import LearnerSnapshot
from schemas.segments import DIMENSIONS
from streams.demo.figures import Figures, Ledger
from streams.demo.screens import progress_line
from streams.demo.view import View, draw


@pytest.fixture
def view(figures: Figures, learner: LearnerSnapshot) -> View:
    return View(
        title="Tideline on Apache Kafka 4.3.1 and ClickHouse",
        notice="Browsing is SIMULATED.",
        console_url="http://127.0.0.1:8380",
        elapsed_seconds=83.0,
        done_share=0.6,
        sent=1_200,
        events_per_second=18_230.4,
        lag_records=4_120,
        figures=figures,
        learner=learner,
        state="replaying",
    )


def _drawn(view: View, width: int = 80, height: int = 24) -> list[str]:
    console = Console(width=width, height=height, color_system=None, legacy_windows=False)
    with console.capture() as captured:
        console.print(draw(view, width, height))
    return captured.get().splitlines()


@pytest.mark.parametrize(("width", "height"), [(80, 24), (100, 30), (200, 60), (60, 24)])
def test_it_fits(view: View, width: int, height: int) -> None:
    lines = _drawn(view, width, height)
    assert len(lines) < height
    assert max(map(len, lines)) <= width


def test_it_fits_when_every_number_is_large(view: View) -> None:
    big = replace(view.figures, ledger=replace(view.figures.ledger, accepted=1_094_936,
                                               scored=1_094_936, duplicates=0, late=0,
                                               dead_letters=0))  # fmt: skip
    text = "\n".join(_drawn(replace(view, figures=big, lag_records=1_000_000)))
    assert "1,094,936 in = 1,094,936 scored + 0 dup + 0 late + 0 dead  balanced" in text
    assert "1,000,000 records lag" in text


def test_it_shows_everything(view: View) -> None:
    text = "\n".join(_drawn(view))
    for expected in (
        "http://127.0.0.1:8380",
        "Apache Kafka 4.3.1", "1:23", "2017-08-14", "replaying", "SIMULATED", "990 scored",
        "18,230 events/s", "4,120 records lag", "100 users", "40 labels, version 40", "35%",
        "learner 0.4123, champion 0.4311", "1,000 in = 990 scored + 6 dup + 3 late + 1 dead",
        "balanced", "7 open, 5 closed", "08-14 1000", "62%", "$41", "silent for 3.1 times",
    ):  # fmt: skip
        assert expected in text, expected
    for segments in DIMENSIONS.values():
        for segment in segments:
            assert segment.replace("_", " ") in text


def test_a_taller_terminal_shows_more_alerts(view: View) -> None:
    def alerts(height: int) -> int:
        return sum("silent for" in line for line in _drawn(view, 80, height))

    assert alerts(24) == 4
    assert alerts(40) == 12


def test_bars_are_proportional_and_none_is_invisible(view: View) -> None:
    lines = _drawn(view)
    length = {name: line[:40].count("█") for line in lines for name in DIMENSIONS["lifecycle"]
              if line.startswith(name.replace("_", " ") + " ")}  # fmt: skip
    assert length["active"] > length["visitor"] > length["at_risk"] >= length["lapsed"] >= 1


def test_an_unbalanced_ledger_can_not_be_overlooked(view: View) -> None:
    wrong = replace(view.figures, ledger=replace(view.figures.ledger, balanced=False))
    assert "NOT BALANCED" in "\n".join(_drawn(replace(view, figures=wrong)))


def test_the_beginning_has_nothing_to_show_and_says_so(view: View) -> None:
    empty = replace(view, figures=Figures(ledger=Ledger()), learner=None, lag_records=None)
    text = "\n".join(_drawn(empty))
    assert "no label has matured yet" in text
    assert "none yet" in text
    assert "BALANCED" not in text
    assert "starting" in text


def test_the_progress_line_has_the_same_numbers(view: View) -> None:
    line = progress_line(view)
    for expected in ("2017-08-14", "1,200", "990", "18,230/s", "4,120", "12", "40", "replaying"):
        assert expected in line
