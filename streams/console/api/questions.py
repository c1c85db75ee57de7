"""What the API asks of ClickHouse. Every value is a parameter."""

from __future__ import annotations

from typing import Final

__all__ = [
    "ALERTS_OF_USER",
    "AUDIENCE_MEMBERS",
    "AUDIENCE_THERE",
    "MEMBERS",
    "OPEN_ALERTS",
    "PAST_LIVES",
    "SEGMENT_DAYS",
    "SEGMENT_MOVES",
    "SEGMENT_SIZES",
    "USERS",
]

USERS: Final = """
SELECT user_id, answer
FROM customer_points
WHERE user_id IN %(user_id)s
SETTINGS max_threads = 1
"""
"""One thread: so few rows are read that to share them out costs more.

A user's older rows are among them, and those of past lives: `PAST_LIVES` says which (D-093)."""

PAST_LIVES: Final = "SELECT shard, life FROM past_lives"

ALERTS_OF_USER: Final = """
SELECT
    alert_id, user_id, raised_at, closed_at, closed_why, priority, p_churn, expected_spend,
    reasons, action, arm
FROM customer_alerts
WHERE user_id = %(user_id)s
ORDER BY raised_at DESC, alert_id
LIMIT 1000
"""

OPEN_ALERTS: Final = """
SELECT
    alert_id, user_id, raised_at, priority, p_churn, expected_spend, reasons, action, value_tier,
    lifecycle
FROM open_alerts
WHERE arm = 'treat'
    AND (%(action)s = '' OR action = %(action)s) AND (%(tier)s = '' OR value_tier = %(tier)s)
    AND priority >= %(least)s
    AND (%(is_first)s = 1 OR (priority, alert_id) < (toFloat32(%(priority)s), %(alert_id)s))
ORDER BY priority DESC, alert_id DESC
LIMIT %(limit)s
"""

SEGMENT_SIZES: Final = """
SELECT dimension, segment, users, expected_spend, as_of
FROM segment_sizes_now
ORDER BY dimension, segment
"""

SEGMENT_DAYS: Final = """
SELECT toDate(hour) AS day, argMax(users, hour) AS users
FROM segment_size_hours
WHERE dimension = %(dimension)s AND segment = %(segment)s AND hour >= now() - INTERVAL 28 DAY
GROUP BY day
ORDER BY day
"""

SEGMENT_MOVES: Final = """
SELECT
    toDate(hour) AS day, sumIf(moves, to_segment = %(segment)s) AS entered,
    sumIf(moves, from_segment = %(segment)s) AS left
FROM segment_flow_hours
WHERE dimension = %(dimension)s AND hour >= now() - INTERVAL 28 DAY
GROUP BY day
ORDER BY day
"""

MEMBERS: Final = """
SELECT user_id, p_churn, expected_spend, value_tier, lifecycle
FROM customers
WHERE user_id > %(first_user_id)s AND multiIf(
    %(dimension)s = 'value_tier', toString(value_tier) = %(segment)s,
    %(dimension)s = 'lifecycle', toString(lifecycle) = %(segment)s,
    has(segments, %(dimension)s)
)
ORDER BY user_id
LIMIT %(limit)s
"""

AUDIENCE_THERE: Final = "SELECT count() AS arms FROM audience_arms WHERE audience = %(audience)s"

AUDIENCE_MEMBERS: Final = """
SELECT user_id, entered_at, p_churn, expected_spend, value_tier, lifecycle
FROM audience_people
WHERE audience = %(audience)s AND arm = 'treat' AND fed = 1 AND user_id > %(first_user_id)s
ORDER BY user_id
LIMIT %(limit)s
"""
