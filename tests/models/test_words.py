"""Every feature can be said, and reads well: all sentences are in `words.txt`, to be read by eye.

After a change: `python -m tests.models.test_words` rewrites the file; read it before committing.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from models.words import words
from schemas.features import FEATURE_NAMES, FEATURES
from tests.models.synthetic import F, at

SNAPSHOT = Path(__file__).with_name("words.txt")
NAN = float("nan")
# (value, typical): nothing, one, some, many, where most have none, and unknown
CASES = {
    "count": [(0, 3), (1, 0), (2.5, 1), (12_345, 250), (7, NAN)],
    "days": [(0.4, 9.2), (1.2, 9.2), (41.4, 9.2), (3, 0.3), (400, NAN), (NAN, 9.2), (NAN, NAN)],
    "currency": [(0, 40), (12.5, 0), (1_234.5, 40.25), (7, NAN)],
    "stars": [(4, 4.5), (1.5, NAN), (NAN, 4.5)],
    "ratio": [(0, 0.15), (0.004, 0.15), (0.25, 0), (NAN, 0.15)],
}
# What only makes sense once there was an order, is unknown before.
UNKNOWN_BEFORE_AN_ORDER = {"mean_order_value"}


def customers(feature: int) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """(row, typical row) of each case; an order 41 days ago where others come every 12."""
    spec = FEATURES[feature]
    if spec.name in ("days_since_order", "silence_over_gap"):
        return [
            _pair(days_since_order=(silence, 9.2), gap_mean_days=(gap, 7))
            for silence, gap in [
                (41.4, 11.8), (2, 11.8), (1.2, 11.8), (0.3, 11.8), (6, 1.2), (3, 0.4), (1.1, 1),
                (0.2, 0.4), (41.4, NAN), (0.4, NAN), (1.3, NAN), (NAN, NAN),
            ]
        ]  # fmt: skip
    cases = CASES[spec.unit] + ([(NAN, 40)] if spec.name in UNKNOWN_BEFORE_AN_ORDER else [])
    return [_pair(**{spec.name: case}) for case in cases]


def _pair(**values: tuple[float, float]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    row, typical = np.zeros(F, np.float32), np.zeros(F, np.float32)
    row[at("gap_lifetime_mean_days")] = NAN
    for name, (value, usual) in values.items():
        row[at(name)], typical[at(name)] = value, usual
    return row, typical


def every_sentence() -> str:
    lines = []
    for feature, spec in enumerate(FEATURES):
        lines.append(f"{spec.name} [{spec.unit}]")
        lines += [f"    {words(feature, *pair, 'EUR')}" for pair in customers(feature)]
    return "\n".join(lines) + "\n"


def test_the_sentences_are_those_that_were_read() -> None:
    assert every_sentence() == SNAPSHOT.read_text(encoding="utf-8")


@pytest.mark.parametrize("feature", range(F), ids=FEATURE_NAMES)
def test_a_sentence_has_words_units_and_grammar(feature: int) -> None:
    spec = FEATURES[feature]
    for pair in customers(feature):
        said = words(feature, *pair, "EUR")
        assert "nan" not in said.split(), said
        assert not re.search(r"_|\d[dh]\b|half-life|  | ;|\be-?\d|-0\b", said), said
        assert not re.search(r"(?<![\d.,])1 (?:days|hours|orders|visits|events|reviews)\b", said)
        assert not re.search(r"(?:(?<![\d.,])(?:[02-9]|\d\d+)|[.,]\d+) (?:day|order|visit)\b", said)
        if spec.unit == "currency" and re.search(r"\d", said.split(" in the last ")[0]):
            assert "EUR" in said
    assert "EUR" in every_sentence() or spec.unit != "currency"


def test_other_currencies_have_their_own_cents() -> None:
    row, typical = _pair(revenue_30d=(1_234.5, 900))
    said = words(at("revenue_30d"), row, typical, "JPY")
    assert said == "spent 1,234 JPY in the last 30 days; typically 900 JPY"


if __name__ == "__main__":
    SNAPSHOT.write_text(every_sentence(), encoding="utf-8")
