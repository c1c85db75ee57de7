"""The demo is done when everything is, and says what it waits for until then."""

from __future__ import annotations

from dataclasses import replace

from streams.demo.completion import waiting_for
from streams.demo.figures import Figures, GroupOffsets
from streams.settings import Settings

LEARNER = Settings().topic_names.learner_group


def _waiting(figures: Figures, sent: int = 1_000, learned: int = 40) -> str:
    return waiting_for(figures, sent, learned, Settings().topic_names)


def test_done_when_all_is_accepted_committed_and_learned(figures: Figures) -> None:
    assert _waiting(figures) == ""


def test_waits_for_records_that_are_not_accepted(figures: Figures) -> None:
    assert _waiting(figures, sent=1_500) == "500 records to process"


def test_waits_for_the_checkpoint_that_holds_the_last_records(figures: Figures) -> None:
    behind = replace(figures, lag={**figures.lag, "tideline": GroupOffsets(900, 100, 0)})
    assert _waiting(behind) == "100 records to checkpoint"


def test_an_old_look_of_the_lag_monitor_is_not_the_end(figures: Figures) -> None:
    """It saw no lag when only half was sent."""
    stale = replace(figures, lag={**figures.lag, "tideline": GroupOffsets(500, 0, 0)})
    assert _waiting(stale) == "500 records to checkpoint"


def test_no_look_of_the_lag_monitor_is_not_the_end(figures: Figures) -> None:
    assert _waiting(replace(figures, lag={})) == "1,000 records to checkpoint"


def test_waits_for_the_learner(figures: Figures) -> None:
    assert _waiting(figures, learned=39) == "1 examples to learn"
    behind = replace(figures, lag={**figures.lag, LEARNER: GroupOffsets(30, 10, 0)})
    assert _waiting(behind) == "10 examples to commit"


def test_a_learner_that_never_had_an_example_need_not_commit(figures: Figures) -> None:
    never = {**figures.lag, LEARNER: GroupOffsets(0, 0, 1)}
    assert _waiting(replace(figures, matured=0, lag=never), learned=0) == ""


def test_records_taken_twice_end_the_wait_and_fail_later(figures: Figures) -> None:
    assert _waiting(figures, sent=999) == ""
