-- What the lag monitor saw. The monitor's /metrics are for alerting; this is for looking back.

CREATE TABLE IF NOT EXISTS consumer_lag
(
    observed_at    DateTime64(3, 'UTC') COMMENT 'When the monitor looked, UTC' CODEC(DoubleDelta, ZSTD(1)),
    consumer_group LowCardinality(String) COMMENT 'Kafka consumer group',
    topic          LowCardinality(String) COMMENT 'Kafka topic',
    partition      UInt16 COMMENT 'Kafka partition',
    committed      Int64 COMMENT 'Committed offset; -1 when the group has not committed yet' CODEC(DoubleDelta, ZSTD(1)),
    log_end        Int64 COMMENT 'Offset the next record will get' CODEC(DoubleDelta, ZSTD(1)),
    lag_records    Int64 COMMENT 'Records not yet committed; -1 when unknown' CODEC(Delta, ZSTD(1)),
    status         LowCardinality(String) COMMENT 'The monitor''s verdict',
    inserted_at    DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'When the row arrived here, UTC; counts for the time to live' CODEC(Delta, ZSTD(1))
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(observed_at)
ORDER BY (consumer_group, topic, partition, observed_at)
TTL toDateTime(inserted_at) + INTERVAL 30 DAY
SETTINGS non_replicated_deduplication_window = 1000, ttl_only_drop_parts = 1
COMMENT 'Consumer lag as the monitor saw it, kept for 30 days';

CREATE VIEW IF NOT EXISTS consumer_lag_live
(
    consumer_group LowCardinality(String) COMMENT 'Kafka consumer group',
    topic          LowCardinality(String) COMMENT 'Kafka topic',
    partition      UInt16 COMMENT 'Kafka partition; one row each',
    lag_records    Int64 COMMENT 'Records not yet committed; -1 when unknown',
    status         LowCardinality(String) COMMENT 'The monitor''s verdict',
    committed      Int64 COMMENT 'Committed offset; -1 when the group has not committed yet',
    log_end        Int64 COMMENT 'Offset the next record will get',
    observed_at    DateTime64(3, 'UTC') COMMENT 'When the monitor looked, UTC; an old time means that it is blind'
)
COMMENT 'The newest look at every partition, within the last 30 days'
AS
SELECT consumer_group, topic, partition, lag_records, status, committed, log_end, observed_at
FROM consumer_lag FINAL
ORDER BY observed_at DESC
LIMIT 1 BY consumer_group, topic, partition;
