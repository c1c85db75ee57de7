-- When the next order is due, beside every score; and what the learner noticed to have changed.

ALTER TABLE score_history
    ADD COLUMN IF NOT EXISTS p_buy_7d Float32 DEFAULT nan COMMENT 'Probability, 0 to 1, of an order within 7 days, as of the last order or daily sweep; NaN is unknown' CODEC(ZSTD(1)) AFTER expected_spend,
    ADD COLUMN IF NOT EXISTS p_buy_30d Float32 DEFAULT nan COMMENT 'Probability, 0 to 1, of an order within 30 days; NaN is unknown' CODEC(ZSTD(1)) AFTER p_buy_7d,
    ADD COLUMN IF NOT EXISTS next_order_at DateTime64(3, 'UTC') COMMENT 'When the next order is due, as likely before as after, UTC; 1970-01-01 when unknown or over a year away' CODEC(ZSTD(1)) AFTER p_buy_30d;

ALTER TABLE latest_scores
    ADD COLUMN IF NOT EXISTS p_buy_7d Float32 DEFAULT nan COMMENT 'Probability, 0 to 1, of an order within 7 days, as of the last order or daily sweep; NaN is unknown' AFTER expected_spend,
    ADD COLUMN IF NOT EXISTS p_buy_30d Float32 DEFAULT nan COMMENT 'Probability, 0 to 1, of an order within 30 days; NaN is unknown' AFTER p_buy_7d,
    ADD COLUMN IF NOT EXISTS next_order_at DateTime64(3, 'UTC') COMMENT 'When the next order is due, as likely before as after, UTC; 1970-01-01 when unknown or over a year away' CODEC(ZSTD(1)) AFTER p_buy_30d;

-- Rows that a worker inserts between the two statements reach latest_scores with the user's next.
DROP VIEW IF EXISTS latest_scores_feed;

CREATE MATERIALIZED VIEW IF NOT EXISTS latest_scores_feed TO latest_scores AS
SELECT
    user_id, shard, seq, scored_at, p_churn, p_champion, p_learner, expected_spend, p_buy_7d,
    p_buy_30d, next_order_at, horizon_days, champion_version, learner_version, value_tier, lifecycle,
    at_risk, lifetime_orders, last_order_at
FROM score_history;

DROP VIEW IF EXISTS scores_live;

CREATE VIEW IF NOT EXISTS scores_live
(
    user_id          String COMMENT 'User id, or its pseudonym; one row each',
    p_churn          Nullable(Float32) COMMENT 'Probability, 0 to 1, of no order within horizon_days; NULL without enough data',
    expected_spend   Nullable(Float32) COMMENT 'Expected spend within horizon_days, in the shop''s currency; NULL without enough data',
    p_buy_7d         Nullable(Float32) COMMENT 'Probability, 0 to 1, of an order within 7 days, as of the last order or daily sweep; NULL when unknown',
    p_buy_30d        Nullable(Float32) COMMENT 'Probability, 0 to 1, of an order within 30 days; NULL when unknown',
    next_order_at    Nullable(DateTime64(3, 'UTC')) COMMENT 'When the next order is due, as likely before as after, UTC; NULL when unknown or over a year away',
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
    if(isNaN(scores.p_buy_7d), NULL, scores.p_buy_7d) AS p_buy_7d,
    if(isNaN(scores.p_buy_30d), NULL, scores.p_buy_30d) AS p_buy_30d,
    if(toUnixTimestamp64Milli(scores.next_order_at) = 0, NULL, scores.next_order_at) AS next_order_at,
    horizon_days,
    if(isNaN(scores.p_churn), 'not enough data', 'scored') AS status,
    value_tier, lifecycle, at_risk, lifetime_orders, last_order_at, scored_at,
    if(isNaN(scores.p_champion), NULL, scores.p_champion) AS p_champion,
    if(isNaN(scores.p_learner), NULL, scores.p_learner) AS p_learner,
    champion_version, learner_version, shard, seq
FROM latest_scores AS scores FINAL;

CREATE TABLE IF NOT EXISTS model_drift
(
    drift_id         String COMMENT 'Names one alarm',
    detected_at      DateTime64(3, 'UTC') COMMENT 'When the label that raised it was known, UTC',
    since            DateTime64(3, 'UTC') COMMENT 'When the change began, as far as labels tell, UTC',
    kind             LowCardinality(String) COMMENT 'loss: of the champion | rate: churn less predicted churn | feature: what customers look like',
    stream           LowCardinality(String) COMMENT 'What changed: champion log loss, churn less predicted, or a feature''s name',
    direction        LowCardinality(String) COMMENT 'up | down',
    mean_before      Float32 COMMENT 'Its mean before the change',
    mean_since       Float32 COMMENT 'Its mean since',
    labels_since     UInt32 COMMENT 'Labels since, on which the alarm rests',
    reason           String COMMENT 'What happened and what to do, in words',
    champion_version LowCardinality(String) COMMENT 'Version of the ONNX model',
    inserted_at      DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'When the row arrived here, UTC'
)
ENGINE = ReplacingMergeTree
ORDER BY (detected_at, drift_id)
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'Changes of customers that the learner noticed (Page-Hinkley tests on matured labels)';

CREATE VIEW IF NOT EXISTS drift_alerts
(
    detected_at      DateTime64(3, 'UTC') COMMENT 'When the label that raised it was known, UTC',
    since            DateTime64(3, 'UTC') COMMENT 'When the change began, as far as labels tell, UTC',
    kind             LowCardinality(String) COMMENT 'loss: of the champion | rate: churn less predicted churn | feature: what customers look like',
    stream           LowCardinality(String) COMMENT 'What changed: champion log loss, churn less predicted, or a feature''s name',
    mean_before      Float32 COMMENT 'Its mean before the change',
    mean_since       Float32 COMMENT 'Its mean since',
    labels_since     UInt32 COMMENT 'Labels since, on which the alarm rests',
    reason           String COMMENT 'What happened and what to do, in words',
    champion_version LowCardinality(String) COMMENT 'Version of the ONNX model',
    drift_id         String COMMENT 'Names one alarm'
)
COMMENT 'What changed about customers, and since when; one row per alarm'
AS
SELECT
    detected_at, since, kind, stream, mean_before, mean_since, labels_since, reason,
    champion_version, drift_id
FROM model_drift FINAL
ORDER BY detected_at DESC;
