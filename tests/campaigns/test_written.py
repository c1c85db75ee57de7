"""A file that is made of definitions is read as the same definitions."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.definitions import (
    STANDARD,
    AlertRules,
    Audience,
    ContactCap,
    Definitions,
    Expected,
    PolicyRow,
    SegmentDefinition,
)
from streams.campaigns import content_version, read_definitions, standard_file, written

HERE = Path(__file__).parent
FILES = {
    "whole": (HERE / "whole.yaml").read_bytes(),
    "standard": standard_file(),
    "console": (HERE.parent / "console" / "segments.yaml").read_bytes(),
}


def read(content: bytes, currency: str, *earlier: Definitions) -> Definitions:
    return read_definitions(content, file="x", currency=currency, earlier=earlier)


@pytest.mark.parametrize("name", FILES)
def test_a_file_comes_back(name: str) -> None:
    currency = "USD" if name == "console" else "EUR"
    found = read(FILES[name], currency)
    again = read(written(found, currency).encode(), currency, found)
    assert content_version(again) == found.version


def test_what_ships_comes_back() -> None:
    again = read(written(STANDARD, "EUR").encode(), "EUR")
    assert again.value_tier == STANDARD.value_tier
    assert again.lifecycle == STANDARD.lifecycle
    assert again.policy == STANDARD.policy


_LETTERS = st.characters(exclude_categories=("C", "Z"), include_characters=" ")
words = (
    st.text(_LETTERS, min_size=1, max_size=30)
    .map(lambda text: " ".join(text.split()))
    .filter(lambda text: bool(text) and text.isprintable())
)
shares = st.integers(0, 99).map(lambda n: n / 100) | st.sampled_from([0.015, 0.3333, 1 / 8])
durations = st.integers(1, 10**8).map(lambda n: n * 10) | st.sampled_from([86_400_000])


@settings(max_examples=150)
@given(title=words, action=words, share=shares, time_ms=durations, cost=st.integers(0, 10**6))
def test_any_text_share_time_and_cost_comes_back(
    title: str, action: str, share: float, time_ms: int, cost: int
) -> None:
    segment = SegmentDefinition(
        "quiet", 'value_tier == "high" and days_since_order > 1h30m', "orders == 0", time_ms,
        title, title, Expected((1, 2), None),
    )  # fmt: skip
    of = Definitions(
        1, "", (segment,), (("worth", "2 * orders"),), STANDARD.value_tier, STANDARD.lifecycle,
        time_ms, (Audience("first", "quiet", "salt-1", share, 3, "mail", title, "", time_ms),),
        (PolicyRow("true", action[:64].strip() or "x", cost / 100, share),),
        AlertRules(0.5, 0.25, time_ms, 7, (1_260, 480)), ContactCap(3, time_ms % 86_400_000 or 1),
        True, "orders > 3", min(share, 0.2), "salt-2" if share else "",
    )  # fmt: skip
    again = read(written(of, "EUR").encode(), "EUR")
    assert msgspec.structs.replace(again, version="", number=1) == of
