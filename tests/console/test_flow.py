"""The picture of moves: thick as they are many, in order, without crossing at a segment."""

from __future__ import annotations

import re
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from streams.console.flow import MOST_RIBBONS, WIDTH, Move, Picture, Ribbon, picture

NAMES = ("new", "active", "at_risk", "lapsed", "")


def drawn(*moves: Move, order: tuple[str, ...] = ()) -> Picture:
    found = picture(moves, order)
    assert found is not None
    return found


def heights(ribbon: Ribbon) -> tuple[float, float, float, float]:
    """Top and bottom where it leaves, top and bottom where it arrives."""
    numbers = [float(each) for each in re.findall(r"[\d.]+", ribbon.path)]
    return numbers[1], numbers[-1], numbers[7], numbers[8]


def test_nobody_moved_is_no_picture() -> None:
    assert picture([]) is None
    assert picture([Move("new", "active", 0)]) is None


def test_a_ribbon_is_as_thick_as_its_moves_are_many() -> None:
    found = drawn(Move("new", "active", 30), Move("active", "lapsed", 10))
    thick = [bottom - top for top, bottom, *_ in map(heights, found.ribbons)]
    assert abs(thick[0] / thick[1] - 3) < 0.05 or abs(thick[1] / thick[0] - 3) < 0.05
    assert found.moves == 40


def test_segments_stand_in_their_own_order_and_have_one_tone() -> None:
    found = drawn(
        Move("lapsed", "active", 1), Move("new", "lapsed", 2), Move("x", "new", 3),
        order=("new", "active", "lapsed"),
    )  # fmt: skip
    left = [node.name for node in found.nodes if not node.entered]
    assert left == ["new", "lapsed", "x"]
    tones = {(node.name, node.tone) for node in found.nodes}
    assert len(tones) == len({name for name, _ in tones})


def test_rare_moves_are_counted_and_not_drawn() -> None:
    moves = [Move(f"a{n}", f"b{n}", 100 - n) for n in range(MOST_RIBBONS + 3)]
    found = drawn(*moves)
    assert len(found.ribbons) == MOST_RIBBONS
    assert found.left_out == sum(100 - n for n in range(MOST_RIBBONS, MOST_RIBBONS + 3))
    assert found.moves == sum(move.moves for move in moves)


@settings(max_examples=150)
@given(st.dictionaries(st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES[:-1])),
                       st.integers(1, 10**6), min_size=1))  # fmt: skip
def test_ribbons_fill_their_bars_without_overlap(counts: dict[tuple[str, str], int]) -> None:
    found = drawn(*(Move(a, b, n) for (a, b), n in counts.items()), order=NAMES[:-1])
    for node in found.nodes:
        own = [r for r in found.ribbons if (r.entered if node.entered else r.left) == node.name]
        ends = [heights(r)[2:] if node.entered else heights(r)[:2] for r in own]
        spans = sorted((min(pair), max(pair)) for pair in ends)
        assert abs(spans[0][0] - node.y) < 0.2
        assert abs(spans[-1][1] - node.y - node.height) < 0.3
        assert all(a[1] <= b[0] + 0.2 for a, b in pairwise(spans))
        assert 0 <= node.x <= WIDTH
        assert node.y + node.height <= found.height
