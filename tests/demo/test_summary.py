"""The summary balances only if every produced record is accounted for."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from streams.demo.figures import Figures, Promotion
from streams.demo.summary import Summary, summarise

PROMISED = {
    "events_in", "scored", "duplicates", "late", "dead_letters", "users", "alerts",
    "segment_changes", "learner_updates", "seconds", "events_per_second", "ledger_balanced",
    "promotions", "scored_by_promoted",
}  # fmt: skip


def _summary(figures: Figures, **values: Any) -> Summary:
    given = {"sent": 1_000, "labels": 40, "seconds": 8.0, "broker": "Tansu", "broker_version": "1"}
    return summarise(figures, **{**given, **values})


def test_it_has_what_was_promised_and_is_json(figures: Figures) -> None:
    fields = json.loads(json.dumps(_summary(figures).as_dict()))
    assert fields.keys() >= PROMISED
    assert fields["events_in"] == 1_000
    assert fields["events_per_second"] == 125
    assert fields["users"] == 100
    assert fields["segments"]["lifecycle"]["lapsed"] == 3
    assert fields["ledger_balanced"] is True
    assert _summary(figures).problem == ""


def test_promotions_are_told_with_their_reason(figures: Figures) -> None:
    won = Promotion("new", "old", 300, "log loss 0.5 -> 0.4")
    fields = _summary(replace(figures, promotions=(won,), scored_by_promoted=7)).as_dict()
    assert fields["promotions"] == [
        {"version": "new", "champion_version": "old", "judged_rows": 300, "why": won.why}
    ]
    assert fields["scored_by_promoted"] == 7


def test_a_lost_record_is_a_problem_though_the_ledger_itself_balances(figures: Figures) -> None:
    lost = _summary(figures, sent=1_001)
    assert not lost.ledger_balanced
    assert "1,001 records were produced and 1,000 accepted" in lost.problem


def test_an_unbalanced_ledger_is_a_problem(figures: Figures) -> None:
    ledger = replace(figures.ledger, scored=980, balanced=False)
    summary = _summary(replace(figures, ledger=ledger))
    assert not summary.ledger_balanced
    assert "980 were scored" in summary.problem


def test_nothing_sent_divides_by_nothing(figures: Figures) -> None:
    assert _summary(figures, seconds=0.0).events_per_second == 0
