-- A sample of live scores with the features they were made of, for `tideline skew`; and a view of
-- the newest scores that shows "not enough data" where there is no number.

CREATE TABLE IF NOT EXISTS score_samples
(
    shard            UInt16 COMMENT 'Kafka partition the user belongs to',
    seq              UInt64 COMMENT 'Number of the batch in its shard that made the score' CODEC(DoubleDelta, ZSTD(1)),
    user_id          String COMMENT 'User id, or its pseudonym' CODEC(ZSTD(1)),
    scored_at        DateTime64(3, 'UTC') COMMENT 'Clock of that batch, UTC, to the millisecond' CODEC(Delta, ZSTD(1)),
    p_churn          Float32 COMMENT 'Probability, 0 to 1, of no order within the champion''s horizon: the blend that acts' CODEC(ZSTD(1)),
    p_champion       Float32 COMMENT 'Probability by the ONNX model alone' CODEC(ZSTD(1)),
    p_learner        Float32 COMMENT 'Probability by the online learner alone' CODEC(ZSTD(1)),
    expected_spend   Float32 COMMENT 'Expected spend, in the shop''s currency' CODEC(ZSTD(1)),
    champion_version LowCardinality(String) COMMENT 'Version of the ONNX model',
    learner_version  UInt32 COMMENT 'Version of the online learner''s snapshot' CODEC(Delta, ZSTD(1)),
    features         Array(Float32) COMMENT 'What the score was made of, in the order of the feature list; NaN is unknown' CODEC(ZSTD(1)),
    features_hash    LowCardinality(String) COMMENT 'Hash of that feature list',
    inserted_at      DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'When the row arrived here, UTC; counts for the time to live' CODEC(Delta, ZSTD(1))
)
ENGINE = ReplacingMergeTree
ORDER BY (shard, seq, user_id)
-- No longer than what they are recomputed from: Kafka keeps the journal for a week.
TTL toDateTime(inserted_at) + INTERVAL 14 DAY
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'A sample of live scores with their features; `tideline skew` recomputes them';

DROP VIEW IF EXISTS scores_live;

CREATE VIEW IF NOT EXISTS scores_live
(
    user_id          String COMMENT 'User id, or its pseudonym; one row each',
    p_churn          Nullable(Float32) COMMENT 'Probability, 0 to 1, of no order within horizon_days; NULL without enough data',
    expected_spend   Nullable(Float32) COMMENT 'Expected spend within horizon_days, in the shop''s currency; NULL without enough data',
    horizon_days     UInt16 COMMENT 'How far the prediction looks ahead, in days',
    status           String COMMENT 'scored | not enough data: too few orders of the user, or too few days of the shop',
    value_tier       LowCardinality(String) COMMENT 'none | low | medium | high',
    lifecycle        LowCardinality(String) COMMENT 'visitor | new | active | at_risk | lapsed',
    at_risk          UInt8 COMMENT '1 while a churn alert of the user is open',
    lifetime_orders  UInt32 COMMENT 'Orders of the user so far',
    last_order_at    DateTime64(3, 'UTC') COMMENT 'Time of the newest order, UTC; 1970-01-01 when there was none',
    scored_at        DateTime64(3, 'UTC') COMMENT 'When the user was last looked at, UTC',
    p_champion       Nullable(Float32) COMMENT 'Probability by the ONNX model alone',
    p_learner        Nullable(Float32) COMMENT 'Probability by the online learner alone',
    champion_version LowCardinality(String) COMMENT 'Version of the ONNX model',
    learner_version  UInt32 COMMENT 'Version of the online learner''s snapshot',
    shard            UInt16 COMMENT 'Kafka partition the user belongs to',
    seq              UInt64 COMMENT 'Number of the batch in its shard that wrote the row'
)
COMMENT 'The newest score of each user, one row each'
AS
SELECT
    user_id,
    if(isNaN(scores.p_churn), NULL, scores.p_churn) AS p_churn,
    if(isNaN(scores.expected_spend), NULL, scores.expected_spend) AS expected_spend,
    horizon_days,
    if(isNaN(scores.p_churn), 'not enough data', 'scored') AS status,
    value_tier, lifecycle, at_risk, lifetime_orders, last_order_at, scored_at,
    if(isNaN(scores.p_champion), NULL, scores.p_champion) AS p_champion,
    if(isNaN(scores.p_learner), NULL, scores.p_learner) AS p_learner,
    champion_version, learner_version, shard, seq
FROM latest_scores AS scores FINAL;

-- As before, but a customer without enough data adds a head and no money: a NaN would swallow the sum.
DROP VIEW IF EXISTS segment_sizes;

CREATE VIEW IF NOT EXISTS segment_sizes
(
    dimension      LowCardinality(String) COMMENT 'value_tier | lifecycle',
    segment        LowCardinality(String) COMMENT 'Every segment appears, an empty one too',
    users          UInt64 COMMENT 'Users in the segment now',
    expected_spend Float64 COMMENT 'Sum of their expected spend within the horizon, in the shop''s currency; who has too little data counts 0'
)
COMMENT 'Size and expected spend of every segment now'
AS
SELECT pair.1 AS dimension, pair.2 AS segment, sum(one) AS users, sum(spend) AS expected_spend
FROM
(
    SELECT pair, 1 AS one, ifNotFinite(toFloat64(expected_spend), 0) AS spend
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
