"""Medians, spreads, ratios and percentiles."""

from __future__ import annotations

import doctest

import pytest

from tests.bench import figures
from tests.bench.figures import Figure, percentile, ratio


def test_the_examples_in_the_module_are_right() -> None:
    assert doctest.testmod(figures).failed == 0


def test_a_figure_needs_a_measurement() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Figure(())


def test_a_single_measurement_has_no_spread() -> None:
    assert Figure((7.0,)).spread == 0.0


def test_a_ratio_is_taken_round_by_round() -> None:
    """A round in which the machine was half as fast changes no ratio."""
    assert ratio((100.0, 50.0), (10.0, 5.0)).values == (10.0, 10.0)


def test_a_ratio_of_different_rounds_is_refused() -> None:
    with pytest.raises(ValueError, match="argument"):
        ratio((1.0, 2.0), (1.0,))


@pytest.mark.parametrize(("share", "value"), [(0.0, 1.0), (0.5, 50.0), (0.99, 99.0), (1.0, 100.0)])
def test_percentiles_are_nearest_ranks(share: float, value: float) -> None:
    assert percentile([float(i) for i in range(100, 0, -1)], share) == value


def test_a_percentile_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)
