"""The made-up shop has in it what the play is about, and says the same for the same seed."""

from __future__ import annotations

from collections import Counter
from itertools import chain

import pytest

from tests.shop.facts import Cancelled, Click, Fact, Placed, Returned
from tests.shop.truth import DAY_MS, UNDONE_DAYS, Saying, Truth, make

OPENING_MS = 1_795_305_600_123
SECONDS = 120


@pytest.fixture(scope="module")
def truth() -> Truth:
    return make(200, 2_000, seed=7, opening_ms=OPENING_MS, monday_seconds=SECONDS)


def orders(facts: list[Fact]) -> set[str]:
    return {fact.order for fact in facts if isinstance(fact, Placed)}


def undone(sayings: tuple[Saying, ...]) -> set[str]:
    return {s.fact.order for s in sayings if isinstance(s.fact, Cancelled | Returned)}


def test_one_seed_makes_one_shop(truth: Truth) -> None:
    assert make(200, 2_000, 7, OPENING_MS, SECONDS) == truth
    assert make(200, 2_000, 8, OPENING_MS, SECONDS) != truth


def test_history_is_three_years_and_nothing_in_files_is_after_the_opening(truth: Truth) -> None:
    times = [fact.ts_ms for fact in truth.files.facts()]
    assert max(times) < truth.opening_ms
    assert truth.opening_ms - min(times) > 2.9 * 365 * DAY_MS


def test_there_are_about_as_many_orders_as_asked_for(truth: Truth) -> None:
    assert 0.9 * 2_000 < len(orders(list(truth.files.facts()))) < 1.1 * 2_000


def test_files_have_refunds_cancelled_unpaid_and_nameless_orders_and_guests(truth: Truth) -> None:
    web = [*truth.files.web_before, *truth.files.web_now]
    statuses = Counter(each.status for each in web)
    assert statuses.keys() == {"paid", "voided", "pending", "refunded", "partially_refunded"}
    assert any(not each.placed.user for each in web)
    assert any("@" in each.placed.user for each in web)
    by_address = [each for each in web if not each.named and "@" not in each.placed.user]
    assert any(each.placed.user for each in by_address)
    assert any(isinstance(fact, Returned) for fact in truth.files.old)
    kinds = Counter(type(fact) for fact in truth.files.app)
    assert kinds.keys() == {Placed, Cancelled, Returned, Click}
    placed = Counter(fact.order for fact in truth.files.app if isinstance(fact, Placed))
    assert max(placed.values()) == 2  # a later version


def test_files_are_in_no_order_and_repeat_each_other(truth: Truth) -> None:
    files = truth.files
    times = [fact.ts_ms for fact in files.app]
    assert times != sorted(times)
    before, now = ({e.placed for e in web} for web in (files.web_before, files.web_now))
    assert before & now
    assert before & set(files.old)


def test_some_refunds_have_grown_between_the_two_exports(truth: Truth) -> None:
    before, now = (
        {each.placed.order: each.refunded_cents for each in web}
        for web in (truth.files.web_before, truth.files.web_now)
    )
    assert any(before[order] < now[order] for order in before.keys() & now.keys())
    counted = [f for f in truth.files.facts() if isinstance(f, Returned) and f.order in now]
    assert all(fact.cents == now[fact.order] for fact in counted if fact.order.startswith("#"))


def test_topics_and_files_share_the_days_since_friday(truth: Truth) -> None:
    said = {saying.fact for saying in truth.weekend}
    in_files = set(truth.files.facts())
    assert said <= in_files
    assert {fact for fact in in_files if fact.ts_ms >= truth.opening_ms - 3 * DAY_MS} == said
    web = {each.placed for each in truth.files.web_now}
    assert said & web
    assert any(isinstance(fact, Click) for fact in said)


def test_live_events_are_in_the_order_of_their_times(truth: Truth) -> None:
    for sayings in (truth.weekend, truth.monday):
        times = [saying.at_ms for saying in sayings]
        assert times == sorted(times)
    end_ms = truth.opening_ms + SECONDS * 1_000
    assert all(truth.opening_ms <= s.fact.ts_ms <= s.at_ms <= end_ms for s in truth.monday)


def test_live_events_are_repeated_under_the_same_and_under_other_ids(truth: Truth) -> None:
    for sayings in (truth.weekend, truth.monday):
        names = Counter(saying.event_id for saying in sayings)
        assert max(names.values()) > 1
        facts: dict[Fact, set[str]] = {}
        for saying in sayings:
            facts.setdefault(saying.fact, set()).add(saying.event_id)
        assert any(len(ids) > 1 for ids in facts.values())


def test_monday_undoes_orders_that_only_files_have_and_none_that_is_too_old(truth: Truth) -> None:
    of_files = {f.order: f.ts_ms for f in truth.files.facts() if isinstance(f, Placed)}
    live = {s.fact.order for s in truth.weekend if isinstance(s.fact, Placed)}
    gone = undone(truth.monday) & of_files.keys()
    assert gone - live
    assert all(of_files[order] >= truth.opening_ms - UNDONE_DAYS * DAY_MS for order in gone)


def test_of_some_orders_a_part_came_back_at_the_weekend_and_another_does_on_monday(
    truth: Truth,
) -> None:
    both = undone(truth.weekend) & undone(truth.monday)
    of_file = {fact.order for fact in truth.files.app if isinstance(fact, Returned)}
    assert both
    assert both <= of_file


def test_erased_people_are_in_files_and_topics_but_send_nothing_on_monday(truth: Truth) -> None:
    for user in truth.erased:
        assert any(saying.fact.user == user for saying in truth.weekend)
        assert any(fact.user == user for fact in truth.files.old)
        assert not any(saying.fact.user == user for saying in truth.monday)
    back = truth.back_again(OPENING_MS + 99)
    assert {saying.fact.user for saying in back} == {truth.erased[0]}
    assert all(saying.fact.ts_ms >= OPENING_MS + 99 for saying in back)


def test_an_event_id_names_one_fact(truth: Truth) -> None:
    named: dict[str, Fact] = {}
    for fact in chain(truth.files.app, (s.fact for s in (*truth.weekend, *truth.monday))):
        assert named.setdefault(fact.event_id, fact) == fact
