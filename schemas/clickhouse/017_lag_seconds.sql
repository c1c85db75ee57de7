-- Lag as time, its velocity, and how much of the retained log it takes; of any consumer group.

ALTER TABLE consumer_lag
    ADD COLUMN IF NOT EXISTS lag_seconds        Float32 DEFAULT nan COMMENT 'Age of the oldest record not yet committed, in seconds; 0 without lag, NaN when unknown' CODEC(ZSTD(1)) AFTER lag_records,
    ADD COLUMN IF NOT EXISTS records_per_second Float32 DEFAULT nan COMMENT 'By how many records the lag grew per second; NaN when unknown' CODEC(ZSTD(1)) AFTER lag_seconds,
    ADD COLUMN IF NOT EXISTS retention_ratio    Float32 DEFAULT nan COMMENT 'Share of the retained log that was not committed, 0 to 1; NaN when unknown' CODEC(ZSTD(1)) AFTER records_per_second,
    ADD COLUMN IF NOT EXISTS subscribed         UInt8 DEFAULT 1 COMMENT '0 when no member of the group subscribed to the topic any more' AFTER status;

CREATE OR REPLACE VIEW consumer_lag_live
(
    consumer_group     LowCardinality(String) COMMENT 'Kafka consumer group',
    topic              LowCardinality(String) COMMENT 'Kafka topic',
    partition          UInt16 COMMENT 'Kafka partition; one row each',
    lag_records        Int64 COMMENT 'Records not yet committed; -1 when unknown',
    lag_seconds        Float32 COMMENT 'Age of the oldest of them, in seconds; NaN when unknown',
    records_per_second Float32 COMMENT 'By how many records the lag grows per second; NaN when unknown',
    retention_ratio    Float32 COMMENT 'Share of the retained log that is not committed, 0 to 1; NaN when unknown',
    status             LowCardinality(String) COMMENT 'The monitor''s verdict',
    subscribed         UInt8 COMMENT '0 when no member of the group subscribes to the topic any more',
    committed          Int64 COMMENT 'Committed offset; -1 when the group has not committed yet',
    log_end            Int64 COMMENT 'Offset the next record will get',
    observed_at        DateTime64(3, 'UTC') COMMENT 'When the monitor looked, UTC; an old time means that it is blind'
)
COMMENT 'The newest look at every partition, within the last 30 days'
AS
SELECT
    consumer_group, topic, partition, lag_records, lag_seconds, records_per_second, retention_ratio,
    status, subscribed, committed, log_end, observed_at
FROM consumer_lag FINAL
ORDER BY observed_at DESC
LIMIT 1 BY consumer_group, topic, partition;
