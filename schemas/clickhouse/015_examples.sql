-- Matured label questions with the features that were served when they were asked: what
-- `tideline train --live` learns from. The features are named, so that a later release with other
-- features reads them too.

CREATE TABLE IF NOT EXISTS examples
(
    user_id        String COMMENT 'User id, or its pseudonym' CODEC(ZSTD(1)),
    asked_at       DateTime64(3, 'UTC') COMMENT 'When the features were served and the question was asked, UTC' CODEC(DoubleDelta, ZSTD(1)),
    matured_at     DateTime64(3, 'UTC') COMMENT 'asked_at + horizon_days, UTC: when the truth was known' CODEC(DoubleDelta, ZSTD(1)),
    horizon_days   UInt16 COMMENT 'How far the question looked ahead, in days' CODEC(ZSTD(1)),
    shard          UInt16 COMMENT 'Kafka partition the user belonged to' CODEC(ZSTD(1)),
    ordinal        UInt64 COMMENT 'Number of the example in its shard, as in matured_predictions' CODEC(DoubleDelta, ZSTD(1)),
    churned        UInt8 COMMENT '1 when no order came within the horizon' CODEC(ZSTD(1)),
    spend          Float32 COMMENT 'Spend within the horizon, in the shop''s currency, net of cancellations and returns' CODEC(ZSTD(1)),
    first_order_at DateTime64(3, 'UTC') COMMENT 'The first order within the horizon, UTC; 1970-01-01 when none came, or so many that the first is not known' CODEC(ZSTD(1)),
    feature_names  LowCardinality(String) COMMENT 'Names of the features, in their order, with commas between',
    features       Array(Float32) COMMENT 'The features; NaN is unknown' CODEC(ZSTD(3)),
    inserted_at    DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'When the row arrived here, UTC; counts for the time to live' CODEC(Delta, ZSTD(1))
)
ENGINE = ReplacingMergeTree
-- In the order in which it is read. A life of a shard that asks again (`ordinal` has the life) writes
-- over nothing: what was served first is what was served.
ORDER BY (asked_at, user_id, ordinal)
-- Two years: a model knows a shop's season if it saw more than one.
TTL toDateTime(inserted_at) + INTERVAL 730 DAY
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'Matured label questions with the features that were served; `tideline train --live` learns from them';
