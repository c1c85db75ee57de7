"""What people read shows each thing once, though every row here was inserted twice."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, date, datetime
from math import log
from typing import Any

import numpy as np
import pytest
from clickhouse_driver import Client

from schemas.lives import first_of, life_beginning
from streams.clickhouse.client import ClickHouseTarget
from streams.core.hashing import key_pseudonym
from streams.ops.clocks import FAST_QUERY, WORKERS_QUERY
from streams.ops.reset import end_lives

pytestmark = pytest.mark.clickhouse

Put = Callable[..., None]
NOON = 1_700_000_000_000  # milliseconds; 2023-11-14


def at(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def scored(user: str, seq: int, **values: Any) -> dict[str, Any]:
    return {
        "user_id": user, "seq": seq, "scored_at": NOON + seq,
        "value_tier": "high", "lifecycle": "active", **values,
    }  # fmt: skip


def test_scores_live_shows_the_row_with_the_highest_seq(client: Client, put: Put) -> None:
    put("score_history", scored("ann", 2, p_churn=0.5), scored("bob", 1))
    put("score_history", scored("ann", 1, p_churn=0.25))  # an old row again, after a replay
    rows = client.execute("SELECT user_id, seq, p_churn FROM scores_live ORDER BY user_id")
    assert rows == [("ann", 2, 0.5), ("bob", 1, 0.0)]


def test_score_history_holds_each_score_once_when_read_final(client: Client, put: Put) -> None:
    put("score_history", scored("ann", 1), scored("ann", 2))
    assert client.execute("SELECT count() FROM score_history") == [(4,)]
    assert client.execute("SELECT count() FROM score_history FINAL") == [(2,)]


def raised(alert_id: str, **values: Any) -> dict[str, Any]:
    return {"alert_id": alert_id, "state": "open", "version": 1, "raised_at": NOON, **values}


def test_live_alerts_are_the_open_ones_of_both_arms_by_priority(client: Client, put: Put) -> None:
    put(
        "alerts",
        raised("a", priority=5.0, arm="treat", reasons=["no order for 40 days"]),
        raised("b", priority=9.0, arm="holdout"),
        raised("c", priority=7.0, arm="treat"),
    )
    put("alerts", raised("c", state="closed", version=2, closed_why="ordered"))
    put("alerts", raised("c", priority=7.0, arm="treat"))  # replayed after it was closed
    rows = client.execute("SELECT alert_id, arm, reasons, raised_at FROM churn_alerts_live")
    assert rows == [
        ("b", "holdout", [], at(NOON)),
        ("a", "treat", ["no order for 40 days"], at(NOON)),
    ]


def test_alert_history_keeps_the_reasons_and_how_an_alert_ended(client: Client, put: Put) -> None:
    put("alerts", raised("a", reasons=["no order for 40 days"]), raised("b"))
    closing = raised("a", state="closed", version=2, closed_at=NOON + 5_000, closed_why="ordered")
    put("alerts", closing)
    put("alerts", closing)  # replayed
    rows = client.execute(
        "SELECT alert_id, reasons, closed_at, closed_why FROM alert_history ORDER BY alert_id"
    )
    assert rows == [
        ("a", ["no order for 40 days"], at(NOON + 5_000), "ordered"),
        ("b", [], at(0), ""),
    ]


def moved(user: str, to: str, when: int, **values: Any) -> dict[str, Any]:
    return {
        "change_id": f"{user}-{when}", "user_id": user, "dimension": "value_tier",
        "to_segment": to, "changed_at": NOON + when, **values,
    }  # fmt: skip


def test_segment_members_say_since_when(client: Client, put: Put) -> None:
    put("score_history", scored("ann", 1, expected_spend=2.0), scored("bob", 1, value_tier="low"))
    put(
        "segment_changes",
        moved("ann", "high", 1), moved("ann", "low", 2), moved("ann", "high", 3),
    )  # fmt: skip
    rows = client.execute(
        "SELECT segment, user_id, expected_spend, since FROM segment_members "
        "WHERE dimension = 'value_tier' ORDER BY user_id"
    )
    assert rows == [("high", "ann", 2.0, at(NOON + 3)), ("low", "bob", 0.0, at(0))]
    assert client.execute("SELECT count() FROM segment_members") == [(4,)]


def test_segment_sizes_count_members_and_show_empty_segments(client: Client, put: Put) -> None:
    put("score_history", scored("ann", 1, expected_spend=2.0), scored("bob", 1, expected_spend=3.0))
    put("score_history", scored("bob", 2, expected_spend=4.0, lifecycle="at_risk"))
    rows = client.execute("SELECT segment, users, expected_spend FROM segment_sizes")
    sizes = {segment: rest for segment, *rest in rows}
    assert len(rows) == len(sizes) == 9
    assert sizes["high"] == [2, 6.0]
    assert sizes["at_risk"] == [1, 4.0]
    assert sizes["active"] == [1, 2.0]
    assert sizes["lapsed"] == [0, 0.0]


def test_segment_flow_counts_moves_by_day(client: Client, put: Put) -> None:
    put(
        "segment_changes",
        moved("ann", "high", 1, from_segment="low"), moved("bob", "high", 2, from_segment="low"),
        moved("ann", "high", 3, from_segment="low"), moved("eve", "none", 1),
    )  # fmt: skip
    rows = client.execute(
        "SELECT day, from_segment, to_segment, moves, users FROM segment_flow ORDER BY moves"
    )
    day = date(2023, 11, 14)
    assert rows == [(day, "", "none", 1, 1), (day, "low", "high", 3, 2)]


def sized(shard: int, seq: int, users: int, **values: Any) -> dict[str, Any]:
    return {
        "dimension": "vip", "segment": "in", "shard": shard, "seq": seq, "users": users,
        "spend_cents": 100 * users, "as_of": NOON + seq * 60_000, **values,
    }  # fmt: skip


def flowed(shard: int, seq: int, moves: int, **values: Any) -> dict[str, Any]:
    return {
        "hour": NOON // 3_600_000 * 3_600_000, "dimension": "vip", "from_segment": "out",
        "to_segment": "in", "shard": shard, "seq": seq, "moves": moves, **values,
    }  # fmt: skip


def test_sizes_and_moves_are_the_newest_that_each_shard_told(client: Client, put: Put) -> None:
    put("segment_totals", sized(0, 2, 7), sized(1, 1, 4))
    put("segment_totals", sized(0, 1, 5))  # an old row again, after a replay
    put("segment_totals", sized(0, 120, 9))  # two hours later
    now = client.execute("SELECT dimension, segment, users, expected_spend FROM segment_sizes_now")
    assert now == [("vip", "in", 13, 13.0)]
    hours = client.execute("SELECT hour, users, shards FROM segment_size_hours")
    began_ms = NOON // 3_600_000 * 3_600_000
    assert hours == [(at(began_ms), 11, 2), (at(began_ms + 7_200_000), 9, 1)]
    put("segment_moves", flowed(0, 2, 3), flowed(1, 1, 4))
    put("segment_moves", flowed(0, 1, 2))
    flow = client.execute("SELECT from_segment, to_segment, moves FROM segment_flow_hours")
    assert flow == [("out", "in", 7)]


def test_customers_have_their_segments_and_the_newest_move_of_each(
    client: Client, put: Put
) -> None:
    put("score_history", scored("ann", 2, segments="quiet,vip"), scored("bob", 1))
    put("score_history", scored("ann", 1))
    rows = client.execute("SELECT user_id, segments FROM customers ORDER BY user_id")
    assert rows == [("ann", ["quiet", "vip"]), ("bob", [])]
    found = client.execute("SELECT user_id FROM customers WHERE has(segments, 'vip')")
    assert found == [("ann",)]
    put("segment_changes", moved("ann", "high", 1, number=1), moved("ann", "low", 2, number=2))
    put("segment_changes", moved("ann", "high", 1, number=1))
    rows = client.execute("SELECT dimension, user_id, segment, since FROM customer_segments")
    assert rows == [("value_tier", "ann", "low", at(NOON + 2))]
    scores = client.execute("SELECT segments FROM customer_scores WHERE user_id = 'ann'")
    assert sorted(scores) == [([],), (["quiet", "vip"],)]


def test_open_alerts_and_outcomes_follow_the_newest_row_of_each_alert(
    client: Client, put: Put
) -> None:
    # The newest batch's clock says what is over by now.
    put("batches", {**FIRST, "clock": NOON + 5 * 86_400_000})
    for name, user in (("a", "ann"), ("b", "bob"), ("c", "cid"), ("d", "dan")):
        put("alerts", raised(name, user_id=user, priority=2.0, horizon_days=28, action="call"))
    closing = {"state": "closed", "version": 2, "closed_at": NOON + 9_000, "horizon_days": 28}
    put("alerts", raised("c", user_id="cid", closed_why="ordered", action="call", **closing))
    put("alerts", raised("d", user_id="dan", closed_why="ordered", action="call", **closing))
    put("alerts", raised("c", user_id="cid", priority=2.0, action="call"))  # replayed
    told = {"contacted_at": NOON + 1_000, "arm": "treat"}
    put("contacts", {"event_id": "1", "user_id": "bob", "alert_id": "b", **told},
        {"event_id": "2", "user_id": "dan", "named_alert_id": "d", **told})  # fmt: skip
    opened = client.execute("SELECT alert_id, user_id FROM open_alerts ORDER BY alert_id")
    assert opened == [("a", "ann"), ("b", "bob")]
    outcomes = dict(client.execute("SELECT outcome, alerts FROM alert_outcomes"))
    assert outcomes == {"opened": 1, "contacted": 1, "ordered": 1, "won back": 1}
    slow = "SELECT outcome, count() FROM alert_episodes GROUP BY outcome"
    assert dict(client.execute(slow)) == outcomes


def test_audience_people_are_of_all_arms(client: Client, put: Put) -> None:
    put("audience_changes", changed("ann", 1), changed("ann", 2, "left"), changed("bob", 1),
        changed("cid", 1, arm="holdout"))  # fmt: skip
    put("audience_changes", changed("ann", 1))  # replayed after it left
    rows = client.execute("SELECT user_id, arm, fed FROM audience_people ORDER BY user_id")
    assert rows == [("bob", "treat", 1), ("cid", "holdout", 0)]


def test_quality_days_add_up_to_model_quality(client: Client, put: Put) -> None:
    put("matured_predictions", *(
        {"ordinal": i, "matured_at": NOON + i, "churned": i % 2, "p_churn": (i % 20 + 0.5) / 20,
         "p_champion": 0.5, "p_learner": 1.0, "spend": 2.0, "spend_predicted": 1.0}
        for i in range(21)
    ))  # fmt: skip
    ((bins, *sums),) = client.execute(
        "SELECT count(), sum(n), sum(churned) / sum(n), sum(p_churn_sum) / sum(n), "
        "sum(loss_blend_sum) / sum(n), sum(loss_learner_sum) / sum(n), sum(spend) FROM quality_days"
    )
    assert bins == 20
    slow = client.execute(
        "SELECT n, churn_rate, p_churn_mean, log_loss_blend, log_loss_learner, spend "
        "FROM model_quality"
    )
    assert sums == pytest.approx(slow[0])


def test_minutes_count_each_batch_and_canary_once(client: Client, put: Put) -> None:
    put("batches", FIRST, SECOND)
    ((batches, accepted),) = client.execute("SELECT sum(batches), sum(accepted) FROM batch_minutes")
    assert (batches, accepted) == (2, 17)
    now_ms = time.time_ns() // 1_000_000
    put("canaries", {"shard": 1, "offset": 9, "recorded_at": now_ms - 1_500, "p_churn": 0.5})
    ((seconds, p_churn),) = client.execute("SELECT seconds, p_churn FROM canary_trips")
    assert 1.5 <= seconds < 300
    assert p_churn == 0.5
    put("consumer_lag", {"consumer_group": "g", "topic": "t", "observed_at": now_ms,
        "lag_records": 4, "lag_seconds": float("nan"), "status": "ok"})  # fmt: skip
    lag = client.execute("SELECT lag_records, lag_seconds, status FROM lag_minutes")
    assert lag == [(4, None, "ok")]
    letter = {"topic": "t", "reason": "invalid_json", "recorded_at": now_ms}
    put("dead_letters", {**letter, "offset": 1}, {**letter, "offset": 2})
    assert client.execute("SELECT reason, records FROM dead_letter_reasons") == [
        ("invalid_json", 2)
    ]


def test_definitions_history_says_what_is_in_force_where(client: Client, put: Put) -> None:
    def taken(number: int, shard: int, seq: int) -> dict[str, Any]:
        return {"number": number, "version": f"v{number}", "shard": shard, "seq": seq,
                "taken_at": NOON + seq, "document": "{}"}  # fmt: skip

    put("definitions_taken", taken(1, 0, 5), taken(1, 1, 6), taken(2, 0, 9))
    rows = client.execute(
        "SELECT number, version, taken_by, in_force, taken_at FROM definitions_history"
    )
    assert rows == [(2, "v2", 1, 1, at(NOON + 9)), (1, "v1", 2, 1, at(NOON + 5))]


def test_console_log_shows_how_each_action_ended(client: Client, put: Put) -> None:
    asked = {"action_id": "x", "happened_at": NOON, "who": "ann", "action": "export",
             "result": "asked"}  # fmt: skip
    put("console_actions", asked)
    put("console_actions", {**asked, "result": "done"})
    assert client.execute("SELECT who, action, result FROM console_log") == [
        ("ann", "export", "done")
    ]


def changed(user: str, number: int, change: str = "entered", **values: Any) -> dict[str, Any]:
    return {
        "change_id": f"{user}-{number}-{values.get('audience', 'save_now')}", "user_id": user,
        "audience": "save_now", "segment": "leaving", "number": number, "change": change,
        "arm": "treat", "changed_at": NOON + number, "p_churn": 0.5, "expected_spend": 2.0,
        "fed": int(change == "entered" and values.get("arm", "treat") == "treat"), **values,
    }  # fmt: skip


def test_audience_members_are_those_who_entered_last_and_are_not_held_out(
    client: Client, put: Put
) -> None:
    put(
        "audience_changes",
        changed("ann", 1), changed("ann", 2, "left"), changed("ann", 3, p_churn=float("nan")),
        changed("bob", 1), changed("bob", 2, "left"),
        changed("cid", 1, arm="holdout"), changed("dan", 1, arm="global_holdout"),
        changed("eve", 1), changed("eve", 1, audience="win_back"),
    )  # fmt: skip
    put("audience_changes", changed("bob", 1))  # replayed after it left
    rows = client.execute(
        "SELECT audience, user_id, entered_at, number, p_churn, segment FROM audience_members "
        "ORDER BY audience, user_id"
    )
    assert rows == [
        ("save_now", "ann", at(NOON + 3), 3, None, "leaving"),
        ("save_now", "eve", at(NOON + 1), 1, 0.5, "leaving"),
        ("win_back", "eve", at(NOON + 1), 1, 0.5, "leaving"),
    ]


def test_audience_arms_count_who_is_in_now_also_nobody(client: Client, put: Put) -> None:
    put(
        "audience_changes",
        changed("ann", 1), changed("bob", 1, expected_spend=float("nan")),
        changed("cid", 1, arm="holdout"), changed("cid", 2, "left", arm="holdout"),
        changed("dan", 1, arm="global_holdout"),
    )  # fmt: skip
    rows = client.execute("SELECT audience, arm, users, expected_spend FROM audience_arms")
    assert rows == [
        ("save_now", "global_holdout", 1, 2.0),
        ("save_now", "holdout", 0, 0.0),
        ("save_now", "treat", 2, 2.0),
    ]


def test_model_quality_judges_champion_learner_and_blend(client: Client, put: Put) -> None:
    put(
        "matured_predictions",
        {"ordinal": 1, "matured_at": NOON, "churned": 1, "p_churn": 0.5, "p_champion": 0.75,
         "p_learner": 0.25, "spend": 3.0},
        {"ordinal": 2, "matured_at": NOON, "churned": 0, "p_churn": 0.5, "p_champion": 0.25,
         "p_learner": 1.0, "spend": 4.0},
    )  # fmt: skip
    ((day, *numbers),) = client.execute("SELECT * FROM model_quality")
    assert day == date(2023, 11, 14)
    certain_and_wrong = -(log(0.25) + log(1e-7)) / 2  # clipped, not infinite
    assert numbers == pytest.approx(
        [2, 0.5, 0.5, 0.5, 0.625, -log(0.5), -log(0.75), certain_and_wrong, 0.0, 7.0]
    )


def batch(
    seq: int, clicks: tuple[int, int], orders: tuple[int, int], **counts: int
) -> dict[str, int]:
    return {
        "shard": 3, "seq": seq, "clickstream_from": clicks[0], "clickstream_to": clicks[1],
        "orders_from": orders[0], "orders_to": orders[1], **counts,
    }  # fmt: skip


FIRST = batch(1, (0, 10), (0, 0), accepted=10, scored=7, duplicates=1, late=1, dead_letters=1)
SECOND = batch(2, (10, 15), (40, 42), accepted=7, scored=7)
THIRD = batch(3, (15, 15), (42, 43), accepted=1, late=1)


def test_the_ledger_balances_when_every_record_is_accounted_for_once(
    client: Client, put: Put
) -> None:
    put("batches", THIRD, FIRST)
    put("batches", SECOND)
    ((balanced, *numbers),) = client.execute(
        "SELECT balanced, shard, batches, accepted, scored, duplicates, late, dead_letters, "
        "in_ranges, offset_gaps, offset_overlaps FROM ledger"
    )
    assert numbers == [3, 3, 18, 14, 1, 2, 1, 18, 0, 0]
    assert balanced


def test_ledger_continues_across_a_change_of_input_topics(client: Client, put: Put) -> None:
    put("batches", FIRST, SECOND)
    # batch 2 was the last on the old topics: shard 3 and another that was split from it go on
    moved = {"inputs_since": 2}
    put("batches", {**batch(3, (0, 4), (0, 0), accepted=4, scored=4), **moved})
    put("batches", {**batch(4, (4, 5), (0, 1), accepted=2, scored=2), **moved})
    put("batches", {**batch(3, (6, 7), (2, 2), accepted=1, scored=1), **moved, "shard": 7})
    query = (
        "SELECT shard, balanced, first_batch, missing_batches, accepted, clickstream_next, "
        "orders_next FROM ledger ORDER BY shard"
    )
    assert client.execute(query) == [(3, True, 1, 0, 23, 5, 1), (7, True, 1, 0, 1, 7, 2)]
    put("batches", {**batch(5, (6, 7), (1, 1), accepted=1, scored=1), **moved})
    put("batches", {**batch(5, (7, 8), (2, 2), accepted=1, scored=1), **moved, "shard": 7})
    query = "SELECT shard, balanced, offset_gaps, missing_batches FROM ledger ORDER BY shard"
    assert client.execute(query) == [(3, False, 1, 0), (7, False, 0, 1)]


@pytest.mark.parametrize(
    ("second", "gaps", "overlaps"),
    [
        ({"clickstream_from": 11, "accepted": 6, "scored": 6}, 1, 0),
        ({"clickstream_from": 9, "accepted": 8, "scored": 8}, 0, 1),
        ({"clickstream_to": 14, "accepted": 6, "scored": 6}, 0, 0),
        ({"orders_to": 41, "accepted": 6, "scored": 6}, 1, 0),
        ({"accepted": 6, "scored": 6}, 0, 0),
        ({"scored": 6}, 0, 0),
        ({"clickstream_from": 20, "clickstream_to": 15}, 1, 0),
    ],
    ids=["gap", "overlap", "end_short", "orders_gap", "not_all_accepted", "one_lost", "backwards"],
)
def test_the_ledger_does_not_balance_when_a_record_is_skipped_lost_or_doubled(
    client: Client, put: Put, second: dict[str, int], gaps: int, overlaps: int
) -> None:
    after = batch(3, (15, 16), (42, 43), accepted=2, scored=2)
    expected_gaps = gaps + (second.get("clickstream_to") == 14)
    put("batches", FIRST, {**SECOND, **second}, after)
    rows = client.execute("SELECT balanced, offset_gaps, offset_overlaps FROM ledger")
    assert rows == [(False, expected_gaps, overlaps)]


def test_a_missing_batch_is_a_gap(client: Client, put: Put) -> None:
    put("batches", FIRST, batch(3, (15, 16), (42, 43), accepted=2, scored=2))
    assert client.execute("SELECT balanced, offset_gaps FROM ledger") == [(False, 1)]


RECENT = (
    "SELECT batches, accepted, unaccounted_records, doubled_records, missing_batches "
    "FROM recent_ledger ORDER BY shard"
)


def test_the_recent_ledger_counts_each_record_of_the_last_hour_once(
    client: Client, target: ClickHouseTarget, put: Put
) -> None:
    client.execute(
        "INSERT INTO batches (shard, seq, accepted, inserted_at) SELECT 3, 0, 9, now64(3) - 3700"
    )  # does not add up, but is long ago
    put("batches", THIRD, FIRST)
    put("batches", SECOND, FIRST, THIRD)  # a recovery wrote some again
    assert client.execute(RECENT) == [(3, 18, 0, 0, 0)]
    put("batches", batch(4, (15, 15), (45, 46), accepted=1, scored=1))
    assert client.execute(RECENT) == [(4, 19, 2, 0, 0)]
    end_lives(target)
    assert client.execute(RECENT) == []


@pytest.mark.parametrize(
    ("second", "unaccounted", "doubled"),
    [
        ({"clickstream_from": 11, "accepted": 6, "scored": 6}, 1, 0),
        ({"clickstream_from": 9, "accepted": 8, "scored": 8}, 0, 1),
        ({"clickstream_to": 13, "accepted": 5, "scored": 5}, 2, 0),
        ({"accepted": 6, "scored": 6}, 1, 0),
        ({"scored": 5}, 2, 0),
        ({"scored": 8}, 1, 0),
        ({"accepted": 9}, 2, 0),
        ({"skipped_offsets": 1, "accepted": 6, "scored": 6}, 0, 0),
    ],
)
def test_the_recent_ledger_says_how_many_records_are_unaccounted_or_doubled(
    client: Client, put: Put, second: dict[str, int], unaccounted: int, doubled: int
) -> None:
    after = batch(3, (15, 16), (42, 43), accepted=2, scored=2)
    put("batches", FIRST, {**SECOND, **second}, after)
    ((*_, found_unaccounted, found_doubled, missing),) = client.execute(RECENT)
    assert (found_unaccounted, found_doubled, missing) == (unaccounted, doubled, 0)


def test_the_recent_ledger_begins_anew_in_other_topics_and_misses_batches(
    client: Client, put: Put
) -> None:
    put("batches", FIRST, SECOND)
    put("batches", {**batch(3, (0, 4), (0, 0), accepted=4, scored=4), "inputs_since": 2})
    assert client.execute(RECENT) == [(3, 21, 0, 0, 0)]
    put("batches", {**batch(6, (5, 6), (0, 0), accepted=1, scored=1), "inputs_since": 2})
    assert client.execute(RECENT) == [(4, 22, 1, 0, 2)]


def test_consumer_lag_live_shows_the_newest_look(client: Client, put: Put) -> None:
    look = {"consumer_group": "g", "topic": "t", "partition": 1}
    now = time.time_ns() // 1_000_000
    put("consumer_lag", {**look, "observed_at": now, "lag_records": 5, "status": "ok"})
    put("consumer_lag", {**look, "observed_at": now + 9, "lag_records": -1, "status": "unknown"})
    put("consumer_lag", {**look, "observed_at": now - 9, "lag_records": 7, "status": "ok"})
    rows = client.execute("SELECT partition, lag_records, status FROM consumer_lag_live")
    assert rows == [(1, -1, "unknown")]


def test_without_enough_data_there_is_a_word_instead_of_a_number(client: Client, put: Put) -> None:
    nan = float("nan")
    unknown = dict.fromkeys(("p_churn", "p_champion", "p_learner", "expected_spend"), nan)
    put(
        "score_history",
        scored("ann", 1, p_churn=0.5, p_champion=0.25, p_learner=0.75, expected_spend=8.0),
        scored("bob", 1, lifecycle="new", value_tier="none", lifetime_orders=1, **unknown),
        scored("eve", 1, p_churn=0.0, lifecycle="new"),
    )
    rows = client.execute(
        "SELECT user_id, status, p_churn, p_champion, p_learner, expected_spend FROM scores_live "
        "ORDER BY user_id"
    )
    assert rows == [
        ("ann", "scored", 0.5, 0.25, 0.75, 8.0),
        ("bob", "not enough data", None, None, None, None),
        ("eve", "scored", 0.0, 0.0, 0.0, 0.0),
    ]
    # They count as members, and don't swallow the others' sums.
    sizes = client.execute("SELECT segment, users, expected_spend FROM segment_sizes WHERE users")
    assert set(sizes) == {
        ("active", 1, 8.0), ("new", 2, 0.0), ("none", 1, 0.0), ("high", 2, 8.0),
    }  # fmt: skip


def test_samples_come_back_bit_by_bit(client: Client, put: Put) -> None:
    features = [0.1, float("nan"), 1e-40, 3.4e38]
    put("score_samples", {"user_id": "ann", "seq": 7, "features": features})
    bits = "arrayMap(v -> reinterpretAsUInt32(v), features)"
    ((found,),) = client.execute(f"SELECT {bits} FROM score_samples FINAL")
    assert found == np.array(features, np.float32).view(np.uint32).tolist()


# -- lives of a shard

BEGAN, AGAIN = 1_790_000_000, 1_790_600_000  # seconds


def numbered(life: int, position: int) -> int:
    return first_of(life) + position - 1


@pytest.mark.parametrize("before", [0, BEGAN], ids=["not counted yet", "counted"])
def test_a_new_life_shows_at_once_though_the_old_one_made_more_batches(
    client: Client, put: Put, before: int
) -> None:
    """The right value of a shard that was started over: not the row with the higher batch."""
    old, new = numbered(before, 500_000), numbered(AGAIN, 3)
    put("score_history", scored("ann", old, lifetime_orders=1, shard=3))
    put("batches", {**FIRST, "seq": old})
    put("score_history", scored("ann", new, lifetime_orders=2, shard=3))
    query = "SELECT user_id, seq, lifetime_orders FROM scores_live"
    assert client.execute(query) == [("ann", new, 2)]  # also before its batch has come
    put("batches", {**FIRST, "seq": new})
    put("score_history", scored("ann", old, lifetime_orders=1, shard=3))  # sent again, late
    assert client.execute(query) == [("ann", new, 2)]
    history = client.execute("SELECT lifetime_orders FROM score_history FINAL ORDER BY seq")
    assert history == [(1,), (2,)]


def test_what_only_a_past_life_knows_is_not_shown_as_of_now(client: Client, put: Put) -> None:
    old, new = numbered(BEGAN, 9), numbered(AGAIN, 1)
    there = {"shard": 4}
    put("score_history", scored("ann", old, shard=3), scored("eve", old, **there))
    put("alerts", raised("a", shard=3, life=BEGAN), raised("e", life=BEGAN, **there),
        raised("c", shard=3, life=BEGAN))  # fmt: skip
    put("alerts", raised("c", shard=3, life=BEGAN, state="closed", version=2,
        closed_at=NOON + 5_000, closed_why="ordered"))  # fmt: skip
    put("segment_changes", moved("ann", "high", 9, shard=3, life=BEGAN),
        moved("eve", "high", 9, life=BEGAN, **there))  # fmt: skip
    put("matured_predictions",
        {"ordinal": numbered(BEGAN, 1), "shard": 3, "matured_at": NOON},
        {"ordinal": numbered(BEGAN, 1), "matured_at": NOON, **there})  # fmt: skip
    put("batches", {**FIRST, "seq": old}, {**FIRST, "seq": old, **there})
    members = "SELECT user_id, since FROM segment_members WHERE dimension = 'value_tier'"
    counted = (
        "SELECT (SELECT count() FROM scores_live), (SELECT count() FROM churn_alerts_live), "
        f"(SELECT count() FROM ({members})), (SELECT sum(moves) FROM segment_flow), "
        "(SELECT sum(n) FROM model_quality), "
        "(SELECT sum(users) FROM segment_sizes WHERE dimension = 'value_tier')"
    )
    assert client.execute(counted) == [(2, 2, 2, 2, 2, 2)]
    put("batches", {**FIRST, "seq": new})  # shard 3 alone was started over
    assert client.execute(counted) == [(1, 1, 1, 1, 1, 1)]
    put("score_history", scored("ann", new, shard=3))
    put("segment_changes", moved("ann", "high", 1, shard=3, life=AGAIN))
    assert client.execute(members + " AND user_id = 'ann'") == [("ann", at(NOON + 1))]
    ended = client.execute(
        "SELECT alert_id, closed_at, closed_why FROM alert_history ORDER BY alert_id"
    )
    assert ended == [
        ("a", at(AGAIN * 1000), "started_over"),
        ("c", at(NOON + 5_000), "ordered"),
        ("e", at(0), ""),
    ]
    past = client.execute("SELECT shard, life, ended_at FROM past_lives WHERE life > 0")
    assert past == [(3, BEGAN, at(AGAIN * 1000))]


STAYS = {
    "past_lives": "it is the list of them",
    "alert_history": "what was said stays, and ended",
    "alert_episodes": "the same, with what the shop told",
    "segment_sizes": "a row for every segment, of no users",
    "consumer_lag_live": "Kafka's, whatever the state is",
    "challengers": "the store of models, which goes on",
    "drift_alerts": "the learner's, which goes on",
    "fast_producers": "of the topics' records",
    "worker_clocks": "of the machines",
    "customer_alerts": "what was said stays, and ended",
    "alert_outcomes": "the same",
    "customer_contacts": "what the shop told",
    "customer_events": "what customers did, whichever life read it",
    "event_groups": "the same",
    "customer_points": "its readers leave past lives out by themselves",
    "customer_versions": "candidates, of which customers confirms some",
    "lag_minutes": "Kafka's, whatever the state is",
    "dead_letter_reasons": "of the topics' records",
    "dead_letters_newest": "of the topics' records",
    "canary_trips": "of the topics' records",
    "console_log": "what people did",
}
"""Views that keep rows when the state is started over, and why."""


@pytest.mark.parametrize("life", [0, BEGAN], ids=["not counted yet", "counted"])
def test_ended_life_leaves_every_view_before_the_next_one_begins(
    client: Client, target: ClickHouseTarget, put: Put, life: int
) -> None:
    """Also rows whose batch never came: each user is in a shard that one table alone knows."""
    at_9 = numbered(life, 9)
    put("score_history", scored("ann", at_9, shard=3), scored("bob", at_9, shard=4))
    put("alerts", raised("a", shard=3, life=life), raised("b", shard=5, life=life))
    put("segment_changes", moved("ann", "high", 9, shard=3, life=life),
        moved("cid", "high", 9, shard=6, life=life),
        {**moved("ann", "R5F1M2", 9, shard=3, life=life), "dimension": "rfm"})  # fmt: skip
    put("audience_changes", changed("ann", 1, shard=3, life=life),
        changed("dan", 1, shard=9, life=life))  # fmt: skip
    put("alert_budget", {"shard": 3, "life": life}, {"shard": 11, "life": life})
    put("campaign_sums", {"salt": "s/1", "arm": "treat", "shard": 3, "life": life},
        {"salt": "s/1", "arm": "treat", "shard": 10, "life": life})  # fmt: skip
    for shard in (3, 12):
        put("segment_totals", sized(shard, 1, 5, life=life))
    for shard in (3, 13):
        put("segment_moves", flowed(shard, 1, 5, life=life))
    put("definitions_taken", {"shard": 3, "life": life}, {"shard": 14, "life": life})
    put("matured_predictions",
        {"ordinal": numbered(life, 1), "shard": 3, "matured_at": NOON},
        {"ordinal": numbered(life, 1), "shard": 7, "matured_at": NOON})  # fmt: skip
    put("examples", {"ordinal": numbered(life, 1), "shard": 3, "matured_at": NOON})
    put("user_features", {"user_id": "ann", "seq": at_9, "shard": 3, "keep_days": 9})
    put("batches", {**FIRST, "seq": at_9, "shard": 3}, {**FIRST, "seq": at_9, "shard": 8})
    views = {
        name
        for (name,) in client.execute(
            "SELECT name FROM system.tables WHERE database = currentDatabase() AND engine = 'View'"
        )
    }
    assert set(STAYS) < views

    def rows() -> dict[str, int]:
        return {
            view: client.execute(f"SELECT count() FROM {view}")[0][0] for view in views - set(STAYS)
        }

    assert all(rows().values()), "a view that shows nothing before proves nothing"
    for _ in range(2):  # a second run changes nothing
        end_lives(target)
        assert rows() == dict.fromkeys(views - set(STAYS), 0)
        assert client.execute("SELECT sum(users) FROM segment_sizes") == [(0,)]
        ended = client.execute("SELECT DISTINCT closed_why FROM alert_history")
        assert ended == [("started_over",)]
        past = client.execute("SELECT shard, life FROM past_lives WHERE life = %(life)s ORDER BY 1",
                              {"life": life})  # fmt: skip
        assert past == [(shard, life) for shard in range(3, 15)]
    ((ended_at,),) = client.execute(
        "SELECT DISTINCT ended_at FROM past_lives WHERE life = %(life)s", {"life": life}
    )
    assert abs(ended_at.timestamp() - time.time()) < 300

    # The next life shows as it comes, and its rows before its first batch.
    later_ms = time.time_ns() // 1_000_000 + 2_000  # lives are whole seconds
    again = numbered(life_beginning(later_ms), 1)
    put("score_history", scored("ann", again, lifetime_orders=5, shard=3))
    assert client.execute("SELECT user_id, lifetime_orders FROM scores_live") == [("ann", 5)]
    put("batches", {**FIRST, "seq": again, "shard": 3})
    assert client.execute("SELECT shard, batches FROM ledger") == [(3, 1)]
    after = "SELECT ended_at FROM past_lives WHERE shard = 3 AND life = %(life)s"
    assert client.execute(after, {"life": life}) == [(ended_at,)]


def test_the_ledger_is_that_of_the_newest_life(client: Client, put: Put) -> None:
    query = "SELECT life_began, batches, balanced, clickstream_next, orders_next FROM ledger"
    put("batches", batch(1, (0, 90), (0, 9), accepted=98, scored=98))  # one record is missing
    assert client.execute(query) == [(at(0), 1, False, 90, 9)]
    lives = [{**row, "seq": numbered(AGAIN, row["seq"])} for row in (FIRST, SECOND)]
    put("batches", *lives)
    assert client.execute(query) == [(at(AGAIN * 1000), 2, True, 15, 42)]


def test_batches_that_cancel_each_other_out_do_not_balance(client: Client, put: Put) -> None:
    put("batches", {**FIRST, "accepted": 9, "scored": 6}, {**SECOND, "accepted": 8, "scored": 8})
    query = "SELECT balanced, accepted = in_ranges, unbalanced_batches FROM ledger"
    assert client.execute(query) == [(False, True, 2)]


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_every_batch_of_the_life_must_be_there(client: Client, put: Put, missing: int) -> None:
    """Also one without records. A database that was made later begins later, and says so."""
    batches = [FIRST, batch(2, (10, 10), (0, 0)), {**SECOND, "seq": 3}]
    put("batches", *({**row, "seq": numbered(AGAIN, row["seq"])} for row in batches))
    query = "SELECT balanced, first_batch, missing_batches FROM ledger"
    assert client.execute(query) == [(True, 1, 0)]
    client.execute("TRUNCATE TABLE batches")
    kept = [row for i, row in enumerate(batches) if i != missing]
    put("batches", *({**row, "seq": numbered(AGAIN, row["seq"])} for row in kept))
    # The newest one can't be missed here: that is what the committed offsets are compared for.
    assert client.execute(query) == [
        (missing != 1, 2 if missing == 0 else 1, 1 if missing == 1 else 0)
    ]


def test_recent_shares_are_of_batches_that_arrived_within_the_hour(
    client: Client, put: Put
) -> None:
    put("batches", SECOND)
    an_hour_ago = {**FIRST, "inserted_at": int(time.time()) - 3_700}
    names = ", ".join(an_hour_ago)
    client.execute(f"INSERT INTO batches ({names}) VALUES", [an_hour_ago])
    query = "SELECT accepted, late, accepted_recently, late_recently, dead_recently FROM ledger"
    assert client.execute(query) == [(17, 1, 7, 0, 0)]


def test_producers_whose_clock_is_fast_are_shown_without_a_user(client: Client, put: Put) -> None:
    now_ms = time.time_ns() // 1_000_000

    def refused(offset: int, ahead_days: int, reason: str = "future_timestamp") -> dict[str, Any]:
        return {
            "topic": "orders", "partition": 3, "offset": offset, "reason": reason, "detail": "",
            "recorded_at": now_ms + ahead_days * 86_400_000, "record_key": "u-42", "payload": "{}",
            "payload_bytes": 2,
        }  # fmt: skip

    put("dead_letters", refused(7, 400), refused(8, 2), refused(9, 900, "late"))
    ((topic, partition, events, offset, customer, ahead),) = client.execute(
        "SELECT * FROM fast_producers"
    )
    assert (topic, partition, events, offset) == ("orders", 3, 2, 7)
    assert customer == key_pseudonym(b"u-42")
    assert ahead == pytest.approx(400 * 86_400_000 / 1000, abs=120)
    assert client.execute(FAST_QUERY) == [(topic, partition, events, offset, customer, ahead)]


def test_workers_clocks_are_compared_with_the_servers(client: Client, put: Put) -> None:
    now_ms = time.time_ns() // 1_000_000
    late = {**SECOND, "clock": now_ms - 60_000}
    put("batches", {**FIRST, "clock": now_ms + 3_600_000}, late)
    ((shard, lead_seconds),) = client.execute(WORKERS_QUERY)
    assert (shard, lead_seconds) == (FIRST["shard"], pytest.approx(3_600, abs=120))


def logged(version: str, event: str, **values: Any) -> dict[str, Any]:
    nan = float("nan")
    losses = dict.fromkeys(
        ("log_loss_champion", "log_loss_challenger", "deviance_champion", "deviance_challenger"),
        nan,
    )
    return {"version": version, "event": event, "labels_until": NOON, **losses, **values}


def test_challengers_shows_what_became_of_each_model(client: Client, put: Put) -> None:
    put(
        "trainer_log",
        logged("", "too_few", why="all alike"),
        logged("a", "trained", happened_at=NOON, row_count=900, why="drift", champion_version="x"),
        logged(
            "a", "promoted", happened_at=NOON + 1000, row_count=300, why="better",
            champion_version="y", log_loss_champion=0.5, log_loss_challenger=0.25,
            deviance_champion=4.0, deviance_challenger=2.0,
        ),
        logged("b", "trained", labels_until=NOON + 5, why="schedule", champion_version="a"),
        logged("c", "rejected", labels_until=NOON + 9, why="it lacks p_buy_7d"),
    )  # fmt: skip
    rows = client.execute("SELECT * FROM challengers")
    assert [row[:2] for row in rows] == [("c", "rejected"), ("b", "waiting"), ("a", "promoted")]
    lost, waiting, won = rows
    assert won[2:] == (
        at(NOON), at(NOON), 900, "drift", at(NOON + 1000), "y", 300, 0.5, 0.25, 4.0, 2.0, "better"
    )  # fmt: skip
    assert waiting[2:] == (
        at(NOON + 5), at(0), 0, "schedule", None, "a", None, None, None, None, None, None
    )  # fmt: skip
    assert lost[3:6] == (None, None, None)
    assert lost[8:] == (0, None, None, None, None, "it lacks p_buy_7d")


# -- segments of the shop's own, and campaigns


def test_members_of_a_segment_are_those_whose_last_move_was_into_it(
    client: Client, put: Put
) -> None:
    def move(user: str, number: int, into: str, life: int = 0, minute: int = 0) -> dict[str, Any]:
        return {
            "change_id": f"{user}/{number}@{life}", "user_id": user, "dimension": "vip",
            "from_segment": "", "to_segment": into, "number": number, "life": life,
            "changed_at": at(minute),
        }  # fmt: skip

    put("score_history", scored("ann", 1, expected_spend=7.0), scored("bob", 1))
    # all at one time: the clock of a batch may stand still
    put("segment_changes", move("ann", 9, "in"), move("ann", 10, "out"), move("ann", 11, "in"),
        move("bob", 2, "in"), move("bob", 3, "out"), move("cid", 1, "in"))  # fmt: skip
    put("segment_changes", move("bob", 2, "in"))  # replayed
    query = "SELECT user_id, expected_spend FROM segment_members WHERE dimension = 'vip' ORDER BY 1"
    assert client.execute(query) == [("ann", 7.0), ("cid", 0.0)]
    sizes = "SELECT segment, users, expected_spend FROM segment_sizes WHERE dimension = 'vip'"
    assert client.execute(sizes) == [("in", 2, 7.0)]
    put("segment_changes", move("ann", 12, "out"), move("cid", 2, "out"))
    assert client.execute(query) == []
    assert client.execute(sizes) == [("in", 0, 0.0)]  # an empty segment is told, not left out


def test_campaign_results_add_up_the_newest_sums_of_every_shard(client: Client, put: Put) -> None:
    def sums(shard: int, seq: int, arm: str, answered: int, buyers: int) -> dict[str, Any]:
        return {
            "audience": "spring", "salt": "spring/1", "arm": arm, "shard": shard, "seq": seq,
            "horizon_days": 28.0, "exposed": 10, "answered": answered, "buyers": buyers,
            "orders": buyers, "y_cents": 100 * buyers, "x_cents": 50 * answered,
        }  # fmt: skip

    put("campaign_sums", sums(0, 1, "treat", 2, 1), sums(0, 2, "treat", 4, 2),
        sums(1, 9, "treat", 4, 4), sums(0, 2, "holdout", 0, 0))  # fmt: skip
    put("campaign_sums", sums(0, 1, "treat", 2, 1))  # replayed after the newer ones
    query = (
        "SELECT arm, exposed, answered, buyers, buyer_share, spend_mean, spend_before "
        "FROM campaign_results"
    )
    holdout, treat = client.execute(query)
    assert treat == ("treat", 20, 8, 6, 0.75, 0.75, 0.5)
    assert holdout[:4] == ("holdout", 10, 0, 0)
    assert np.isnan(holdout[4:]).all()


# -- alerts that people act on


DAY = 86_400_000
HORIZON_DAYS = 28


def test_episodes_say_what_became_of_an_alert(client: Client, put: Put) -> None:
    def told(user: str, after: int, **values: Any) -> dict[str, Any]:
        return {"event_id": f"{user}-{after}", "user_id": user, "contacted_at": NOON + after * DAY,
                **values}  # fmt: skip

    names = ("new", "called", "won", "late", "back", "lost", "calm", "other", "quiet")
    put("alerts", *(raised(f"{name}-1", user_id=name, raised_at=NOON, horizon_days=HORIZON_DAYS)
                    for name in names if name not in ("new", "called")),
        *(raised(f"{name}-1", user_id=name, raised_at=NOON + 30 * DAY, horizon_days=HORIZON_DAYS)
          for name in ("new", "called")))  # fmt: skip

    def ended(name: str, why: str, after: int) -> dict[str, Any]:
        return raised(f"{name}-1", user_id=name, state="closed", version=2, closed_why=why,
                      raised_at=NOON, closed_at=NOON + after * DAY)  # fmt: skip

    put("alerts", ended("won", "ordered", 9), ended("late", "ordered", 40),
        ended("back", "ordered", 9), ended("calm", "score_fell", 9),
        ended("other", "ordered", 9))  # fmt: skip
    put(
        "contacts",
        told("called", 31, alert_id="called-1"), told("called", 32, alert_id="called-1"),
        told("won", 2, named_alert_id="won-1"), told("late", 2, alert_id="late-1"),
        told("other", 2, alert_id="other-1", named_alert_id="won-1"),  # not another's alert
        told("quiet", 20, alert_id="quiet-1"),
    )  # fmt: skip
    put("contacts", told("called", 31, alert_id="called-1"))  # replayed
    put("batches", {**FIRST, "clock": NOON + 45 * DAY})
    rows = client.execute("SELECT user_id, outcome, contacts FROM alert_episodes ORDER BY 1")
    assert rows == [
        ("back", "ordered", 0), ("called", "contacted", 2), ("calm", "ended", 0),
        ("late", "ordered", 1), ("lost", "lost", 0), ("new", "opened", 0), ("other", "ordered", 0),
        ("quiet", "contacted", 1), ("won", "won back", 1),
    ]  # fmt: skip
    put("batches", {**FIRST, "seq": 2, "clock": NOON + 60 * DAY})
    query = "SELECT user_id FROM alert_episodes WHERE outcome = 'lost' ORDER BY 1"
    assert client.execute(query) == [("called",), ("lost",), ("new",), ("quiet",)]


def test_budget_of_a_day_is_that_of_all_shards(client: Client, put: Put) -> None:
    def of(shard: int, day: int, opened: int, floor: float) -> dict[str, Any]:
        return {"shard": shard, "day": NOON + day * DAY, "per_day": 5, "share": 2, "candidates": 9,
                "opened": opened, "over_budget": 1, "floor": floor}  # fmt: skip

    put("alert_budget", of(0, 0, 2, 8.0), of(1, 0, 3, 7.0), of(0, 1, 1, 6.0))
    put("alert_budget", of(0, 0, 2, 8.0))  # replayed
    columns = "per_day, candidates, opened, over_budget, floor, shards"
    rows = client.execute(f"SELECT {columns} FROM alert_budget_days ORDER BY day")
    assert rows == [(5, 18, 5, 2, 7.0, 2), (5, 9, 1, 1, 6.0, 1)]


def test_who_is_to_be_left_alone_is_no_member(client: Client, put: Put) -> None:
    put("audience_changes", changed("ann", 1, fed=1), changed("bob", 1, fed=0),
        changed("cid", 1, fed=0), changed("cid", 2, fed=1))  # fmt: skip
    rows = client.execute("SELECT user_id FROM audience_members ORDER BY 1")
    assert rows == [("ann",), ("cid",)]
