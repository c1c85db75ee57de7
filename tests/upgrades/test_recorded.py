"""This build reads every release's recorded topics, and gets that release's results."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from schemas.features import COUNT_MEASURES, FEATURE_NAMES, MONEY_MEASURES, WINDOWS
from schemas.releases import LEVEL, RELEASE
from streams.core.state.layout import OWN
from streams.core.state.snapshot import comparable, exported, load
from tests.shard.rig import quick_shards
from tests.upgrades.record import Recording, kept, read, recordings, recovered
from tests.upgrades.results import differences, of_state
from tests.upgrades.shop import ERASED, of_topics

__all__ = ["quick_shards"]

pytestmark = [pytest.mark.usefixtures("quick_shards"), pytest.mark.timeout(600)]
every_release = pytest.mark.parametrize("path", recordings(), ids=lambda path: path.stem)
AGAIN = "Record this release again: python -m tests.upgrades.record"


@every_release
def test_recorded_release_is_read_with_its_own_results(path: Path) -> None:
    recording = read(path)
    state, rows = asyncio.run(recovered(of_topics(recording.topics)))
    gone = names_of(recording) - names_here()
    assert not differences(recording.state, of_state(state), gone)[:20]
    assert not differences(recording.rows, rows, gone)[:20]


def names_here() -> set[str]:
    sums = {f"{m}/{w.name}" for m in (*COUNT_MEASURES, *MONEY_MEASURES) for w in WINDOWS}
    return {*FEATURE_NAMES, *OWN.row.numbers, *OWN.order.numbers, *sums}


def names_of(recording: Recording) -> frozenset[str]:
    """The columns, sums and features that a release had."""
    user = next(iter(recording.state["columns"]))
    one = recording.state
    order = next(iter(one["orders"].values()))
    return frozenset([*one["columns"][user], *one["features"][user], *one["sums"][user], *order])


@every_release
def test_a_recording_has_something_of_everything(path: Path) -> None:
    state, rows = read(path).state, read(path).rows
    assert len(state["columns"]) > 20
    assert len(state["parked"]) > 5
    assert "user-11" in state["columns"]  # was parked, and has come back
    assert {ERASED} & {*state["columns"], *state["parked"]} == set()
    assert state["erased"] == ["erasure-1"]
    assert state["learner"]
    assert state["questions"]
    assert any(one["episode"] > 0 and one["alert_opened_ms"] for one in state["columns"].values())
    assert any(one["state"] for one in state["orders"].values())
    assert any(one["returned_cents"] for one in state["orders"].values())
    assert any(one["revenue_cents/90d"] for one in state["sums"].values())
    assert len(rows["batches"]) >= 4  # the steps after the checkpoint


@every_release
def test_recorded_state_is_written_and_read_again_as_this_builds_own(path: Path) -> None:
    """Its first checkpoint is this build's, whole, and loads to the same state."""
    recording = read(path)
    state, _ = asyncio.run(recovered(of_topics(recording.topics)))
    meta, arrays = exported(state)
    again = load(meta, {name: array.copy() for name, array in arrays.items()}, len(FEATURE_NAMES))
    (meta_a, arrays_a), (meta_b, arrays_b) = comparable(again), comparable(state)
    assert meta_a == meta_b
    assert {k: v.tobytes() for k, v in arrays_a.items()} == {
        k: v.tobytes() for k, v in arrays_b.items()
    }


def test_recording_and_level_of_this_release_are_up_to_date() -> None:
    """If this fails, this build keeps other things than its recording has. Before this release is
    published, record it again; after that, make a new release with a higher LEVEL."""
    by_release = {recording.release: recording for recording in map(read, recordings())}
    assert RELEASE in by_release, AGAIN
    mine = by_release[RELEASE]
    assert (mine.level, mine.kept) == (LEVEL, kept()), AGAIN
    for other in by_release.values():
        if other.level == LEVEL:
            assert other.kept == mine.kept, "raise LEVEL in schemas/releases.py"
        assert other.level <= LEVEL


def test_the_release_is_the_packages_version() -> None:
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    assert f'\nversion = "{RELEASE}"\n' in text
