"""A step takes about as long as it did when that was last written down."""

from __future__ import annotations

from tests.bench.guard import BASELINE, TOLERANCE, measured_ratio, verdict

ATTEMPTS = 3
"""Neighbours slow a step down more than the piece of work, but not all the time."""


def test_a_step_takes_as_long_as_on_record() -> None:
    said = [verdict(measured_ratio())]
    while said[-1] and len(said) < ATTEMPTS:
        said.append(verdict(measured_ratio()))
    assert said[-1] == "", said


def test_steps_of_twice_the_work_are_noticed() -> None:
    assert "times as long as on record" in verdict(measured_ratio(times=2))


def test_being_twice_as_slow_is_noticed_even_before_a_gain_had_to_be_written_down() -> None:
    assert verdict(2 * BASELINE / TOLERANCE * 1.001) != ""


def test_a_gain_has_to_be_written_down() -> None:
    assert "BASELINE" in verdict(BASELINE / 2)
