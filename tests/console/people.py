"""A made-up customer for tests without a server: every field that a page shows can be any text."""

from __future__ import annotations

from tests.console.doubles import NOW_MS, Answers, rows

__all__ = ["A1", "A2", "HELD", "everything"]

A1, A2, HELD = ("a1" * 16, "a2" * 16, "b1" * 16)
"""Alerts of the customer, and one of somebody who is held out."""


def everything(text: str, user: str = "ann") -> Answers:
    """Answers for Today, Customers, a profile and Settings, with `text` wherever a text can be."""
    return Answers(
        {
            "DISTINCT toString(action)": rows(["action"], [("call",)]),
            "AS held_out": rows(
                ["to_contact", "at_stake", "contacted", "held_out", "newest_ms"],
                [(1, 70.0, 1, 1, NOW_MS)],
            ),
            "argMax(channel": rows(
                ["alert_id", "contacted_ms", "channel"], [(A2, NOW_MS, text)]
            ),
            "FROM open_alerts\nWHERE": rows(
                ["alert_id", "user_id", "priority", "p_churn", "expected_spend", "reasons",
                 "action", "arm", "value_tier", "raised_ms"],
                [(text, user, 9.0, 0.7, 13.0, [text, text], text, "treat", text, NOW_MS),
                 (A2, user, 8.0, 0.7, 13.0, [text], text, "treat", "high", NOW_MS)],
            ),
            "AS visitors": rows(["customers", "visitors", "spend"], [(1, 0, 9.0)]),
            "AS at_risk": rows(["at_risk"], [(1,)]),
            "p_churn * expected_spend AS at_stake": rows(
                ["user_id", "p_churn", "expected_spend", "at_stake", "value_tier", "lifecycle",
                 "segments", "lifetime_orders", "status", "last_order_ms", "scored_ms",
                 "candidates"],
                [(user, 0.7, 13.0, 9.0, text, text, [text], 3, "scored", NOW_MS, NOW_MS, 1)],
            ),
            "spend_low": rows(
                ["user_id", "p_churn", "expected_spend", "spend_low", "spend_high", "p_buy_7d",
                 "p_buy_30d", "next_order_ms", "horizon_days", "status", "evidence", "value_tier",
                 "lifecycle", "segments", "at_risk", "lifetime_orders", "last_order_ms",
                 "scored_ms", "p_champion", "p_learner", "champion_version", "learner_version",
                 "shard"],
                [(user, 0.7, 13.0, 1.0, 30.0, 0.1, 0.2, NOW_MS, 28, "scored", text, text, text,
                  [text], 1, 3, NOW_MS, NOW_MS, 0.7, 0.6, text, 4, 1)],
            ),
            "FROM customer_segments": rows(
                ["dimension", "segment", "before", "since_ms", "why"],
                [(text, text, text, NOW_MS, text)],
            ),
            "FROM customer_alerts": rows(
                ["alert_id", "raised_ms", "closed_ms", "closed_why", "p_churn", "priority",
                 "reasons", "action", "arm", "champion_version"],
                [(text, NOW_MS, NOW_MS, text, 0.7, 9.0, [text], text, text, text)],
            ),
            "FROM customer_contacts WHERE user_id = ": rows(
                ["contacted_ms", "campaign", "channel", "alert_id", "arm"],
                [(NOW_MS, text, text, text, "holdout")],
            ),
            "FROM customer_scores": rows(
                ["t", "p_churn", "expected_spend"], [(NOW_MS // 1000, 0.7, 13.0)]
            ),
            "FROM customer_features": rows(
                ["scored_ms", "feature_names", "features"],
                [(NOW_MS, "view_7d,days_since_order,revenue_30d,of_another_release",
                  [3.0, float("nan"), 0.0, 1.5])],
            ),
            "FROM customer_events": rows(
                ["ts_ms", "event_hash", "type", "session_hash", "order_hash", "item_id",
                 "category", "amount", "lines", "rating", "simulated", "events", "first_ms",
                 "kept_until_ms"],
                [(NOW_MS, 7, text, 5, 0, text, text, 0.0, 0, 4.5, 1, 2, NOW_MS, NOW_MS),
                 (NOW_MS - 1, 6, "placed", 0, 2**64 - 1, "", "", 12.34, 2, 0.0, 0, 2, NOW_MS, 0)],
            ),
            "FROM audience_people": rows(
                ["audience", "segment", "arm", "fed", "entered_ms"], [(text, text, text, 1, NOW_MS)]
            ),
            "FROM quality_days": rows(["n", "churned", "p_sum"], [(100, 60, 65.0)]),
            "FROM console_log": rows(
                ["happened_ms", "who", "role", "action", "user_id", "what", "result", "detail"],
                [(NOW_MS, text, text, text, user, text, text, text)],
            ),
            "alert_id IN (%(alerts)s)": lambda given: rows(
                ["alert_id", "user_id", "arm"],
                [
                    each
                    for each in ((A1, user, "treat"), (A2, user, "treat"), (HELD, "bo", "hold"))
                    if each[0] in str(given["alerts"])
                ],
            ),
            "SELECT user_id, shard": rows(["user_id", "shard"], [(user, 3)]),
        }
    )  # fmt: skip
