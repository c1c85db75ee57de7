"""What the trainer does next, for everything that it may see."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from streams.core.features import DAY_MS
from streams.trainer.plan import (
    RETRY_DAYS,
    Action,
    Challenger,
    Complete,
    Current,
    Decision,
    Judge,
    Reject,
    Rules,
    Seen,
    Train,
    Wait,
    known_until,
    labels_between,
    next_action,
    removable,
)

RULES = Rules(
    retrain_days=28, judge_days=14, min_labels=1_000, judge_labels=200, on_drift=True, keep=2
)
HEADS = frozenset({"p_churn", "spend"})
D0 = 20_000  # the first day, since 1970
LABELS_A_DAY = 100


def day(number: float) -> int:
    return int((D0 + number) * DAY_MS)


def champion(**changes: Any) -> Current:
    return replace(Current("old", 28, day(0), HEADS), **changes)


def made(version: str, cut: float, **changes: Any) -> Challenger:
    return replace(Challenger(version, 28, day(cut), HEADS), **changes)


def decision(number: int, version: str, cut: float, **changes: Any) -> Decision:
    fields = {"champion": "old", "promote": False, "why": "", "decided_at_ms": day(cut + 14)}
    return Decision(number=number, version=version, cut_ms=day(cut), **{**fields, **changes})


def seen(known: float, **changes: Any) -> Seen:
    """`LABELS_A_DAY` since day 0, up to the day `known`."""
    matured = {D0 + n: LABELS_A_DAY for n in range(int(known))}
    return replace(Seen(champion(), [], [], frozenset(), matured, day(known)), **changes)


def act(known: float, rules: Rules = RULES, **changes: Any) -> Action:
    return next_action(seen(known, **changes), rules)


# -- labels


def test_labels_are_known_up_to_where_the_slowest_shard_is() -> None:
    assert known_until({}) == 0
    assert known_until({0: day(9), 1: day(7)}) == day(7)
    assert known_until({0: day(9), 1: day(2)}) == day(9), "one that is silent for a week"
    assert known_until({0: day(9), 1: day(2) + 1}) == day(2) + 1


def test_labels_of_days_are_counted_by_when_they_became_known() -> None:
    matured = {D0: 1, D0 + 1: 20, D0 + 2: 300}
    assert labels_between(matured, day(0), day(3)) == 321
    assert labels_between(matured, day(1), day(3)) == 320
    assert labels_between(matured, day(0), day(2)) == 21, "midnight completes the day before"
    assert labels_between(matured, day(2), day(2)) == 0
    assert labels_between(matured, day(2), day(1)) == 0


# -- training


def test_nothing_is_trained_without_labels_or_before_its_time() -> None:
    assert isinstance(next_action(replace(seen(0), matured={}, known_ms=0), RULES), Wait)
    assert isinstance(act(27.9), Wait)
    assert act(28) == Train(day(28), "schedule")


def test_the_cut_does_not_depend_on_when_the_trainer_looks() -> None:
    assert {act(known) for known in (28, 33.3, 55.9)} == {Train(day(28), "schedule")}
    assert act(56, decisions=[decision(1, "a", 28)]) == Train(day(56), "schedule")


def test_one_that_comes_late_trains_on_what_it_can_judge_at_once() -> None:
    assert {act(known) for known in (56, 69.9)} == {Train(day(42), "schedule")}
    assert {act(known) for known in (70, 83.9)} == {Train(day(56), "schedule")}
    rare = replace(RULES, retrain_days=300)
    assert act(330, rare) == Train(day(308), "schedule")
    assert act(313, rare) == Train(day(300), "schedule")


def test_the_grid_begins_at_the_first_midnight_after_the_newest_training() -> None:
    current = champion(labels_until_ms=day(3) + 1)
    assert isinstance(act(31.9, current=current), Wait)
    assert act(32, current=current) == Train(day(32), "schedule")


def test_too_few_new_labels_train_nothing() -> None:
    few = replace(seen(28), matured={D0 + n: 35 for n in range(28)})
    assert isinstance(next_action(few, RULES), Wait)
    assert next_action(few, replace(RULES, min_labels=980)) == Train(day(28), "schedule")


def test_a_champion_that_knows_later_labels_is_waited_for() -> None:
    """As one that was trained on a history which the stream repeats."""
    assert isinstance(act(200, current=champion(labels_until_ms=day(250))), Wait)
    after = act(278, current=champion(labels_until_ms=day(250)))
    assert after == Train(day(278), "schedule")


def test_judged_and_removed_challengers_count_as_trainings() -> None:
    decisions = [decision(1, "a", 28)]
    assert isinstance(act(55.9, decisions=decisions), Wait)
    assert act(56, decisions=decisions, made=[made("a", 28)]) == Train(day(56), "schedule")


def test_a_training_that_failed_is_tried_again_a_week_later() -> None:
    assert isinstance(act(28 + RETRY_DAYS - 0.1, failed_cut_ms=day(28)), Wait)
    assert act(28 + RETRY_DAYS, failed_cut_ms=day(28)) == Train(day(28 + RETRY_DAYS), "schedule")
    assert act(90, failed_cut_ms=day(28)) == Train(day(70), "schedule"), "76 can be judged at once"
    # A training since then makes the failure a thing of the past.
    later: dict[str, Any] = {"failed_cut_ms": day(28), "decisions": [decision(1, "a", 35)]}
    assert isinstance(act(62.9, **later), Wait)
    assert act(63, **later) == Train(day(63), "schedule")


def test_drift_starts_a_training_before_its_time() -> None:
    decisions = [decision(1, "a", 28)]
    after: dict[str, Any] = {"decisions": decisions, "drift_ms": day(33)}
    assert isinstance(act(41.9, **after), Wait), "not before an answer could have been judged"
    assert act(42, **after) == Train(day(42), "drift")
    assert act(55, **after) == Train(day(42), "drift"), "the cut does not depend on the moment"
    assert act(56, **after) == Train(day(56), "schedule")
    assert isinstance(act(42, replace(RULES, on_drift=False), **after), Wait)


def test_drift_that_a_training_has_seen_starts_none() -> None:
    decisions = [decision(1, "a", 28)]
    assert isinstance(act(50, decisions=decisions, drift_ms=day(27)), Wait)
    assert isinstance(act(50, decisions=decisions, drift_ms=0), Wait)


# -- judging


def test_a_challenger_waits_two_weeks_and_nothing_is_trained_meanwhile() -> None:
    waiting: dict[str, Any] = {"made": [made("a", 28)]}
    for known in (28, 41.9):
        action = act(known, **waiting)
        assert isinstance(action, Wait)
        assert action.state == "waiting"
    assert act(42, **waiting) == Judge(waiting["made"][0], day(28), day(42))
    assert act(90, **waiting) == Judge(waiting["made"][0], day(28), day(90))


def test_it_waits_for_labels_that_neither_has_learned() -> None:
    waiting: dict[str, Any] = {
        "made": [made("a", 28)],
        "current": champion(labels_until_ms=day(40)),
    }
    assert isinstance(act(53.9, **waiting), Wait)
    assert act(54, **waiting) == Judge(waiting["made"][0], day(40), day(54))


def test_it_waits_for_enough_labels_to_compare_by() -> None:
    few = seen(42, made=[made("a", 28)])
    few = replace(few, matured={D0 + n: 10 for n in range(60)})
    assert isinstance(next_action(few, RULES), Wait)
    assert next_action(replace(few, known_ms=day(48)), RULES) == Judge(
        few.made[0], day(28), day(48)
    )


@pytest.mark.parametrize(
    ("challenger", "current", "why"),
    [
        (made("a", 28, horizon_days=14), champion(), "14 days ahead, the champion 28"),
        (made("a", 28), champion(outputs=HEADS | {"p_buy_7d"}), "lacks p_buy_7d"),
        (made("a", 28), champion(version="a"), "without a comparison"),
    ],
)
def test_one_that_can_t_be_compared_is_rejected(
    challenger: Challenger, current: Current, why: str
) -> None:
    action = act(28, made=[challenger], current=current)
    assert isinstance(action, Reject)
    assert why in action.why


def test_of_several_the_oldest_comes_first() -> None:
    both = [made("b", 56), made("a", 28)]
    assert act(90, made=both) == Judge(both[1], day(28), day(90))
    decided = [decision(1, "a", 28)]
    assert act(90, made=both, decisions=decided) == Judge(both[0], day(56), day(90))


# -- completing


def test_a_promotion_that_was_decided_is_completed_before_all_else() -> None:
    won = decision(2, "b", 56, promote=True)
    decisions = [decision(1, "a", 28), won]
    both = [made("b", 56), made("c", 84)]
    assert act(120, decisions=decisions, made=both) == Complete(won)
    done = act(120, decisions=decisions, made=both, completed=frozenset({2}))
    assert done == Judge(both[1], day(84), day(120))


# -- what goes


def gone(now: float, current: str = "old", **changes: Any) -> list[str]:
    found = replace(seen(200, **changes), current=champion(version=current))
    return [challenger.version for challenger in removable(found, RULES, day(now))]


def test_judged_challengers_beyond_those_kept_go_the_oldest_ones() -> None:
    four = [made(v, 28 * n) for n, v in enumerate("abcd", 1)]
    decisions = [decision(n, c.version, 28 * n) for n, c in enumerate(four, 1)]
    assert gone(200, made=four, decisions=decisions) == ["b", "a"]
    assert gone(200, made=four, decisions=decisions[:3]) == ["a"], "one that waits does not count"
    assert gone(200, current="a", made=four, decisions=decisions) == ["b"]


def test_a_champion_that_a_journal_may_name_stays() -> None:
    four = [made(v, 28 * n) for n, v in enumerate("abcd", 1)]
    decisions = [
        decision(1, "a", 28, promote=True),
        decision(2, "b", 56, champion="a", promote=True),  # decided on day 70
        decision(3, "c", 84, champion="b"),
        decision(4, "d", 112, champion="b"),
    ]
    rest = {"made": four, "decisions": decisions, "completed": frozenset({1, 2})}
    assert gone(77, current="b", **rest) == []
    assert gone(78, current="b", **rest) == ["a"]
    halfway = {**rest, "completed": frozenset({1})}
    assert gone(200, current="a", **halfway) == [], "b is still to be put into use"


# -- any history


@hypothesis.given(
    st.lists(st.sampled_from(["win", "lose", "fail", "drift", "kill"]), max_size=12),
    st.integers(1, 9),
)
@hypothesis.settings(max_examples=60)
def test_any_history_goes_on_with_cuts_that_rise_and_judgements_of_unseen_labels(
    events: list[str], step_days: int
) -> None:
    """The trainer's world, in memory: every action is done at once, or not at all (kill)."""
    current, models, decisions = champion(), list[Challenger](), list[Decision]()
    completed, failed, drift, trained = set[int](), 0, 0, list[int]()
    script = iter(events)
    until = {"old": day(0)}
    for tick in range(0, 400, step_days):
        now = seen(
            tick, current=current, made=models, decisions=decisions,
            completed=frozenset(completed), failed_cut_ms=failed, drift_ms=drift,
        )  # fmt: skip
        action = next_action(now, RULES)
        assert next_action(now, RULES) == action
        if isinstance(action, Wait):
            continue
        event = next(script, "win")
        if event == "kill":
            failed = 0  # forgotten by the next process; the rest is in the store
            continue
        if event == "drift":
            drift = now.known_ms
        match action:
            case Train(cut_ms, _):
                assert cut_ms <= now.known_ms
                assert cut_ms % DAY_MS == 0
                assert not now.undecided
                if event == "fail":
                    failed = cut_ms
                    continue
                assert cut_ms > max(trained, default=0)
                trained.append(cut_ms)
                models.append(Challenger(f"m{len(trained)}", 28, cut_ms, HEADS))
                until[models[-1].version] = cut_ms
            case Judge(challenger, after_ms, until_ms):
                assert after_ms >= max(until[challenger.version], until[current.version])
                assert until_ms - after_ms >= RULES.judge_days * DAY_MS
                decisions.append(
                    Decision(
                        number=len(decisions) + 1,
                        version=challenger.version,
                        champion=current.version,
                        promote=event != "lose",
                        why="",
                        cut_ms=challenger.cut_ms,
                        decided_at_ms=day(tick),
                    )
                )
            case Complete(done):
                assert done.champion == current.version
                current = champion(version=done.version, labels_until_ms=done.cut_ms)
                completed.add(done.number)
            case Reject():
                pytest.fail("nothing here differs from the champion")
        here = replace(now, current=current, made=models, decisions=decisions,
                       completed=frozenset(completed))  # fmt: skip
        for each in removable(here, RULES, day(tick)):
            assert each.version != current.version
            models.remove(each)
    if not {"fail", "kill"} & {*events}:
        assert trained, "400 days are enough for a training"
