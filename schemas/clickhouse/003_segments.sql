-- Who is in which segment now, since when, and who moved.

CREATE TABLE IF NOT EXISTS segment_changes
(
    change_id    String COMMENT 'Deterministic id: the same after any replay' CODEC(ZSTD(1)),
    user_id      String COMMENT 'User id, or its pseudonym' CODEC(ZSTD(1)),
    shard        UInt16 COMMENT 'Kafka partition the user belongs to' CODEC(ZSTD(1)),
    dimension    LowCardinality(String) COMMENT 'value_tier | lifecycle',
    from_segment LowCardinality(String) COMMENT 'Segment left; empty for a new user',
    to_segment   LowCardinality(String) COMMENT 'Segment entered',
    changed_at   DateTime64(3, 'UTC') COMMENT 'Clock of the batch that moved the user, UTC' CODEC(Delta, ZSTD(1)),
    why          LowCardinality(String) COMMENT 'What caused the move',
    inserted_at  DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'When the row arrived here, UTC' CODEC(Delta, ZSTD(1))
)
ENGINE = ReplacingMergeTree
ORDER BY (user_id, dimension, changed_at, change_id)
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'Every move of a user between segments';

CREATE VIEW IF NOT EXISTS segment_members
(
    dimension      LowCardinality(String) COMMENT 'value_tier | lifecycle',
    segment        LowCardinality(String) COMMENT 'Segment the user is in now',
    user_id        String COMMENT 'User id, or its pseudonym; one row per dimension',
    p_churn        Float32 COMMENT 'Probability, 0 to 1, of no order within the horizon',
    expected_spend Float32 COMMENT 'Expected spend within the horizon, in the shop''s currency',
    since          DateTime64(3, 'UTC') COMMENT 'When the user last entered the segment, UTC; 1970-01-01 when not recorded'
)
COMMENT 'Members of every segment now, by the users'' newest scores, one row each'
AS
SELECT members.dimension AS dimension, members.segment AS segment, members.user_id AS user_id,
       members.p_churn AS p_churn, members.expected_spend AS expected_spend,
       entries.since AS since
FROM
(
    SELECT user_id, p_churn, expected_spend, pair.1 AS dimension, pair.2 AS segment
    FROM latest_scores FINAL
    ARRAY JOIN [('value_tier', toString(value_tier)), ('lifecycle', toString(lifecycle))] AS pair
) AS members
LEFT JOIN
(
    -- max() over repeats is the same max(): this needs no FINAL.
    SELECT user_id, toString(dimension) AS dimension, toString(to_segment) AS segment,
           max(changed_at) AS since
    FROM segment_changes
    GROUP BY user_id, dimension, segment
) AS entries
ON members.user_id = entries.user_id
    AND members.dimension = entries.dimension
    AND members.segment = entries.segment
-- A user without a recorded entry shows 1970-01-01, whatever the reader's profile says of nulls.
SETTINGS join_use_nulls = 0;

CREATE VIEW IF NOT EXISTS segment_sizes
(
    dimension      LowCardinality(String) COMMENT 'value_tier | lifecycle',
    segment        LowCardinality(String) COMMENT 'Every segment appears, an empty one too',
    users          UInt64 COMMENT 'Users in the segment now',
    expected_spend Float64 COMMENT 'Sum of their expected spend within the horizon, in the shop''s currency'
)
COMMENT 'Size and expected spend of every segment now'
AS
SELECT pair.1 AS dimension, pair.2 AS segment, sum(one) AS users, sum(spend) AS expected_spend
FROM
(
    SELECT pair, 1 AS one, toFloat64(expected_spend) AS spend
    FROM latest_scores FINAL
    ARRAY JOIN [('value_tier', toString(value_tier)), ('lifecycle', toString(lifecycle))] AS pair
    UNION ALL
    -- A row of zeros for each segment there is.
    SELECT arrayJoin([
        ('value_tier', 'none'), ('value_tier', 'low'), ('value_tier', 'medium'), ('value_tier', 'high'),
        ('lifecycle', 'visitor'), ('lifecycle', 'new'), ('lifecycle', 'active'),
        ('lifecycle', 'at_risk'), ('lifecycle', 'lapsed')
    ]) AS pair, 0 AS one, toFloat64(0) AS spend
)
GROUP BY pair
ORDER BY dimension, segment;

CREATE VIEW IF NOT EXISTS segment_flow
(
    day          Date COMMENT 'Day of the move, UTC',
    dimension    LowCardinality(String) COMMENT 'value_tier | lifecycle',
    from_segment LowCardinality(String) COMMENT 'Segment left; empty for new users',
    to_segment   LowCardinality(String) COMMENT 'Segment entered',
    moves        UInt64 COMMENT 'Moves that day',
    users        UInt64 COMMENT 'Different users among them'
)
COMMENT 'Moves between segments by day'
AS
SELECT toDate(changed_at) AS day, dimension, from_segment, to_segment,
       count() AS moves, uniqExact(user_id) AS users
FROM segment_changes FINAL
GROUP BY day, dimension, from_segment, to_segment;
