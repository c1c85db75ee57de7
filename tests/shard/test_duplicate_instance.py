"""Two workers under one instance id, recognised by how the group behaves."""

from __future__ import annotations

import pytest

from streams.shard.duplicate_instance import TIMES, WITHIN_SECONDS, DuplicateInstanceWatch


def is_duplicate(assignments: list[tuple[set[int], float]]) -> bool:
    watch = DuplicateInstanceWatch()
    return [watch.assigned(shards, at) for shards, at in assignments][-1]


def test_the_same_shards_again_and_again_in_a_short_time() -> None:
    same = [({0, 1}, 2.0 * n) for n in range(TIMES)]
    assert is_duplicate(same)
    assert not is_duplicate(same[:-1])


@pytest.mark.parametrize(
    "assignments",
    [
        [({0, 1}, WITHIN_SECONDS * n) for n in range(TIMES)],  # rebalances now and then
        [({0, 1} if n % 2 else {0}, float(n)) for n in range(TIMES)],  # somebody comes and goes
        [(set(), float(n)) for n in range(TIMES)],  # more workers than shards: nothing to do
    ],
)
def test_other_rebalances_are_not_taken_for_it(assignments: list[tuple[set[int], float]]) -> None:
    assert not is_duplicate(assignments)
