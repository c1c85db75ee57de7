-- Every score of every user, and the newest score of each.
--
-- How all of Tideline's tables are built:
--   * ReplacingMergeTree over a deterministic key: a row written again after a crash replaces its
--     twin. Merges do that later, so people read through views, which show one row each at once.
--   * Views read with FINAL rather than argMax: FINAL is exactly the engine's own rule, takes a row
--     as a whole, and needs no list of columns to be kept in step. argMax over twenty columns
--     would say the same less safely.
--   * `non_replicated_deduplication_window` keeps the tokens of the last inserts, so that an insert
--     whose answer got lost can be sent again. It is off by default for plain tables.
--   * Time to live counts from `inserted_at`, never from event time: a replay or backfill carries
--     old event times, and would be deleted as it arrives.
--   * Every statement can run twice (IF NOT EXISTS): ClickHouse has no transactions for these, so
--     an interrupted migration is finished by running it again.

CREATE TABLE IF NOT EXISTS score_history
(
    user_id          String COMMENT 'User id, or its pseudonym' CODEC(ZSTD(1)),
    shard            UInt16 COMMENT 'Kafka partition the user belongs to',
    seq              UInt64 COMMENT 'Number of the batch in its shard; a user''s newest row has the highest' CODEC(Delta, ZSTD(1)),
    scored_at        DateTime64(3, 'UTC') COMMENT 'Clock of the batch that scored the user, UTC, to the millisecond' CODEC(Delta, ZSTD(1)),
    p_churn          Float32 COMMENT 'Probability, 0 to 1, of no order within horizon_days: the blend that acts' CODEC(ZSTD(1)),
    p_champion       Float32 COMMENT 'Probability by the ONNX model alone' CODEC(ZSTD(1)),
    p_learner        Float32 COMMENT 'Probability by the online learner alone' CODEC(ZSTD(1)),
    expected_spend   Float32 COMMENT 'Expected spend within horizon_days, in the shop''s currency' CODEC(ZSTD(1)),
    horizon_days     UInt16 COMMENT 'How far the prediction looks ahead, in days' CODEC(ZSTD(1)),
    champion_version LowCardinality(String) COMMENT 'Version of the ONNX model',
    learner_version  UInt32 COMMENT 'Version of the online learner''s snapshot' CODEC(Delta, ZSTD(1)),
    value_tier       LowCardinality(String) COMMENT 'none | low | medium | high',
    lifecycle        LowCardinality(String) COMMENT 'visitor | new | active | at_risk | lapsed',
    at_risk          UInt8 COMMENT '1 while a churn alert of the user is open' CODEC(ZSTD(1)),
    lifetime_orders  UInt32 COMMENT 'Orders of the user so far' CODEC(Delta, ZSTD(1)),
    last_order_at    DateTime64(3, 'UTC') COMMENT 'Time of the newest order, UTC; 1970-01-01 when there was none' CODEC(Delta, ZSTD(1)),
    inserted_at      DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'When the row arrived here, UTC; counts for the time to live' CODEC(Delta, ZSTD(1))
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(scored_at)
ORDER BY (user_id, scored_at, seq)
TTL toDateTime(inserted_at) + INTERVAL 180 DAY
-- Whole parts are dropped once all their rows are old: up to a month late, and for free.
SETTINGS non_replicated_deduplication_window = 1000, ttl_only_drop_parts = 1
COMMENT 'Every score of every user, kept for 180 days after insertion';

CREATE TABLE IF NOT EXISTS latest_scores
(
    user_id          String COMMENT 'User id, or its pseudonym' CODEC(ZSTD(1)),
    shard            UInt16 COMMENT 'Kafka partition the user belongs to',
    seq              UInt64 COMMENT 'Number of the batch in its shard; the row with the highest one stays' CODEC(ZSTD(1)),
    scored_at        DateTime64(3, 'UTC') COMMENT 'Clock of the batch that scored the user, UTC, to the millisecond' CODEC(ZSTD(1)),
    p_churn          Float32 COMMENT 'Probability, 0 to 1, of no order within horizon_days: the blend that acts',
    p_champion       Float32 COMMENT 'Probability by the ONNX model alone',
    p_learner        Float32 COMMENT 'Probability by the online learner alone',
    expected_spend   Float32 COMMENT 'Expected spend within horizon_days, in the shop''s currency',
    horizon_days     UInt16 COMMENT 'How far the prediction looks ahead, in days' CODEC(ZSTD(1)),
    champion_version LowCardinality(String) COMMENT 'Version of the ONNX model',
    learner_version  UInt32 COMMENT 'Version of the online learner''s snapshot' CODEC(ZSTD(1)),
    value_tier       LowCardinality(String) COMMENT 'none | low | medium | high',
    lifecycle        LowCardinality(String) COMMENT 'visitor | new | active | at_risk | lapsed',
    at_risk          UInt8 COMMENT '1 while a churn alert of the user is open' CODEC(ZSTD(1)),
    lifetime_orders  UInt32 COMMENT 'Orders of the user so far' CODEC(ZSTD(1)),
    last_order_at    DateTime64(3, 'UTC') COMMENT 'Time of the newest order, UTC; 1970-01-01 when there was none' CODEC(ZSTD(1)),
    inserted_at      DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'When the row arrived here, UTC' CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree(seq)
ORDER BY user_id
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'The newest score of each user; read it through scores_live';

-- Repeats are harmless here: the target keeps the row with the highest seq per user and sums
-- nothing up, so a block that passes twice, or late, leaves it as it was.
CREATE MATERIALIZED VIEW IF NOT EXISTS latest_scores_feed TO latest_scores AS
SELECT
    user_id, shard, seq, scored_at, p_churn, p_champion, p_learner, expected_spend, horizon_days,
    champion_version, learner_version, value_tier, lifecycle, at_risk, lifetime_orders, last_order_at
FROM score_history;

CREATE VIEW IF NOT EXISTS scores_live
(
    user_id          String COMMENT 'User id, or its pseudonym; one row each',
    p_churn          Float32 COMMENT 'Probability, 0 to 1, of no order within horizon_days',
    expected_spend   Float32 COMMENT 'Expected spend within horizon_days, in the shop''s currency',
    horizon_days     UInt16 COMMENT 'How far the prediction looks ahead, in days',
    value_tier       LowCardinality(String) COMMENT 'none | low | medium | high',
    lifecycle        LowCardinality(String) COMMENT 'visitor | new | active | at_risk | lapsed',
    at_risk          UInt8 COMMENT '1 while a churn alert of the user is open',
    lifetime_orders  UInt32 COMMENT 'Orders of the user so far',
    last_order_at    DateTime64(3, 'UTC') COMMENT 'Time of the newest order, UTC; 1970-01-01 when there was none',
    scored_at        DateTime64(3, 'UTC') COMMENT 'When the user was last scored, UTC',
    p_champion       Float32 COMMENT 'Probability by the ONNX model alone',
    p_learner        Float32 COMMENT 'Probability by the online learner alone',
    champion_version LowCardinality(String) COMMENT 'Version of the ONNX model',
    learner_version  UInt32 COMMENT 'Version of the online learner''s snapshot',
    shard            UInt16 COMMENT 'Kafka partition the user belongs to',
    seq              UInt64 COMMENT 'Number of the batch in its shard that wrote the row'
)
COMMENT 'The newest score of each user, one row each'
AS
SELECT
    user_id, p_churn, expected_spend, horizon_days, value_tier, lifecycle, at_risk, lifetime_orders,
    last_order_at, scored_at, p_champion, p_learner, champion_version, learner_version, shard, seq
FROM latest_scores FINAL;
