"""A later release replaces the workers one by one, under load; a downgrade is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

import schemas.releases
from schemas.releases import LEVEL, RELEASE
from tests.faults.drill import Drill
from tests.upgrades.next_release import NEXT_RELEASE, make_next_release

pytestmark = [
    pytest.mark.full,
    pytest.mark.kafka,
    pytest.mark.clickhouse,
    pytest.mark.timeout(1_800),
]


@pytest.mark.fault("rolling upgrade of two workers, then a downgrade")
def test_rolling_upgrade_under_load_loses_nothing_and_a_downgrade_is_refused(
    fault: Drill, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = (str(make_next_release(tmp_path / "next")), "worker")
    # Samples hold whole feature rows, and the next release has more features.
    here = fault.build(model_score_sample_share=0)
    a, b = fault.worker("a"), fault.worker("b")
    here.own(a, b)
    fault.load(12_000, rate=300)
    fault.under_load(2_000)
    assert a.stop()[0] == 0
    new_a = here.worker("new-a", program)
    here.own(new_a, b)
    with fault.recovery():
        assert b.stop()[0] == 0
        new_b = here.worker("new-b", program)
        here.own(new_a, new_b)
    went_on = f"continuing with the state that Tideline {RELEASE} wrote"
    assert new_a.log.count(went_on) + new_b.log.count(went_on) >= 4
    # This release judges the state that the next one has left, so it must be allowed to read it.
    # Names that it does not know are dropped; the rest must equal the replay.
    with monkeypatch.context() as patch:
        patch.setattr(schemas.releases, "LEVEL", LEVEL + 1)
        fault.finish(new_a, new_b)
    assert "Traceback" not in new_a.log + new_b.log
    fault.refused("back", f"was written by Tideline {NEXT_RELEASE}", f"this version ({RELEASE})")
