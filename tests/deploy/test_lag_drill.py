"""The lag drill's parts that need no server; `make lag-drill` runs it."""

from __future__ import annotations

import pytest

from streams.telemetry.metrics import LAG_STATUSES
from tests.deploy.files import ROOT, alerts, records
from tests.deploy.lag_drill import DRILLS, INCOMPLETE, Drill, Noticed
from tests.deploy.promql import problems
from tests.docs.test_pages import _options

each_drill = pytest.mark.parametrize("drill", DRILLS, ids=lambda drill: drill.name)


@each_drill
def test_a_drill_asks_for_what_exists(drill: Drill) -> None:
    assert drill.status in {*LAG_STATUSES, INCOMPLETE}
    assert drill.alert in {alert.name for alert in alerts()}
    assert problems(drill.metric, set(records())) == []
    if drill.shows:
        named, taken = _options(drill.look.split())
        assert named <= taken
    else:
        assert problems(drill.look, set()) == []


@each_drill
def test_its_runbook_names_first_what_it_looks_at(drill: Drill) -> None:
    runbook = (ROOT / drill.rule.runbook).read_text()
    assert drill.look in runbook.split("## First look")[1].split("## Fix")[0]


def test_a_drill_has_failed_if_anybody_noticed_nothing() -> None:
    quick = next(drill for drill in DRILLS if drill.rule.for_seconds <= 60)
    slow = next(drill for drill in DRILLS if drill.rule.for_seconds > 60)
    assert Noticed(1, 2, 3, 4, 5).complete(quick)
    for name in ("status", "metric", "rule", "fires", "first_look"):
        seen = Noticed(1, 2, 3, 4, 5)
        setattr(seen, name, None)
        assert not seen.complete(quick)
        assert seen.complete(slow) == (name == "fires"), "an alert that waits is seen to begin"
