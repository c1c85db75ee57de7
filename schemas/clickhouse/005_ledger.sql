-- The books: which records each batch took in, and what became of every one of them.

CREATE TABLE IF NOT EXISTS dead_letters
(
    topic         LowCardinality(String) COMMENT 'Topic the record came from',
    partition     UInt16 COMMENT 'Partition it came from',
    offset        UInt64 COMMENT 'Its offset there' CODEC(Delta, ZSTD(1)),
    reason        LowCardinality(String) COMMENT 'Short code, such as invalid_json',
    detail        String COMMENT 'What exactly was wrong' CODEC(ZSTD(1)),
    recorded_at   DateTime64(3, 'UTC') COMMENT 'Clock of the batch that rejected it, UTC' CODEC(Delta, ZSTD(1)),
    record_key    String COMMENT 'The record''s key' CODEC(ZSTD(1)),
    payload       String COMMENT 'The first bytes of the record''s value' CODEC(ZSTD(3)),
    payload_bytes UInt32 COMMENT 'Full length of the value, in bytes' CODEC(ZSTD(1)),
    inserted_at   DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'When the row arrived here, UTC; counts for the time to live' CODEC(Delta, ZSTD(1))
)
ENGINE = ReplacingMergeTree
ORDER BY (topic, partition, offset)
-- Payloads may hold personal data: kept long enough to repair, no longer.
TTL toDateTime(inserted_at) + INTERVAL 30 DAY
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'Records that could not be used, and why; kept for 30 days after insertion';

CREATE TABLE IF NOT EXISTS batches
(
    shard            UInt16 COMMENT 'Kafka partition',
    seq              UInt64 COMMENT 'Number of the batch in its shard' CODEC(DoubleDelta, ZSTD(1)),
    clock            DateTime64(3, 'UTC') COMMENT 'Clock of the batch, UTC' CODEC(DoubleDelta, ZSTD(1)),
    clickstream_from UInt64 COMMENT 'First clickstream offset in the batch' CODEC(DoubleDelta, ZSTD(1)),
    clickstream_to   UInt64 COMMENT 'First clickstream offset after the batch: the range is half open' CODEC(DoubleDelta, ZSTD(1)),
    orders_from      UInt64 COMMENT 'First orders offset in the batch' CODEC(DoubleDelta, ZSTD(1)),
    orders_to        UInt64 COMMENT 'First orders offset after the batch: the range is half open' CODEC(DoubleDelta, ZSTD(1)),
    accepted         UInt32 COMMENT 'Records taken in' CODEC(Delta, ZSTD(1)),
    scored           UInt32 COMMENT 'Events that entered the windows, and so a score' CODEC(Delta, ZSTD(1)),
    duplicates       UInt32 COMMENT 'Events seen before' CODEC(ZSTD(1)),
    late             UInt32 COMMENT 'Events too old for the windows' CODEC(ZSTD(1)),
    dead_letters     UInt32 COMMENT 'Records that could not be used' CODEC(ZSTD(1)),
    users_scored     UInt32 COMMENT 'Users the batch scored' CODEC(Delta, ZSTD(1)),
    inserted_at      DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'When the row arrived here, UTC' CODEC(Delta, ZSTD(1))
)
ENGINE = ReplacingMergeTree
ORDER BY (shard, seq)
SETTINGS non_replicated_deduplication_window = 1000
-- No time to live: parts expire one by one, and half-expired books would show gaps.
COMMENT 'One row per micro-batch, written after all its effects; people read ledger';

CREATE VIEW IF NOT EXISTS ledger
(
    shard           UInt16 COMMENT 'Kafka partition',
    batches         UInt64 COMMENT 'Micro-batches written',
    accepted        UInt64 COMMENT 'Records taken in',
    scored          UInt64 COMMENT 'Events that entered the windows, and so a score',
    duplicates      UInt64 COMMENT 'Events seen before',
    late            UInt64 COMMENT 'Events too old for the windows',
    dead_letters    UInt64 COMMENT 'Records that could not be used',
    in_ranges       Int64 COMMENT 'Records in the offset ranges of the batches',
    offset_gaps     UInt64 COMMENT 'Ranges that start after the one before them ended: records were skipped',
    offset_overlaps UInt64 COMMENT 'Ranges that start before the one before them ended: records were taken twice',
    balanced        Bool COMMENT 'accepted = scored + duplicates + late + dead_letters = in_ranges, and no gaps or overlaps',
    newest_clock    DateTime64(3, 'UTC') COMMENT 'Clock of the newest batch, UTC'
)
COMMENT 'Is every record accounted for, once? One row per shard'
AS
SELECT
    totals.shard AS shard, totals.batches AS batches, totals.accepted AS accepted,
    totals.scored AS scored, totals.duplicates AS duplicates, totals.late AS late,
    totals.dead_letters AS dead_letters, totals.in_ranges AS in_ranges,
    seams.gaps AS offset_gaps, seams.overlaps AS offset_overlaps,
    accepted = scored + duplicates + late + dead_letters
        AND toInt64(accepted) = in_ranges
        AND offset_gaps = 0 AND offset_overlaps = 0 AS balanced,
    totals.newest_clock AS newest_clock
FROM
(
    SELECT
        shard, count() AS batches, sum(b.accepted) AS accepted, sum(b.scored) AS scored,
        sum(b.duplicates) AS duplicates, sum(b.late) AS late, sum(b.dead_letters) AS dead_letters,
        sum(toInt64(clickstream_to) - toInt64(clickstream_from)
            + toInt64(orders_to) - toInt64(orders_from)) AS in_ranges,
        max(clock) AS newest_clock
    FROM batches AS b FINAL
    GROUP BY shard
) AS totals
LEFT JOIN
(
    SELECT shard, countIf(range_from > before) AS gaps, countIf(range_from < before) AS overlaps
    FROM
    (
        SELECT
            shard, range_from,
            -- The first range of a stream has nothing before it to fit to.
            lagInFrame(range_to, 1, range_from) OVER (
                PARTITION BY shard, stream ORDER BY seq
                ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
            ) AS before
        FROM
        (
            SELECT shard, seq, stream, range_from, range_to
            FROM batches FINAL
            ARRAY JOIN
                ['clickstream', 'orders'] AS stream,
                [clickstream_from, orders_from] AS range_from,
                [clickstream_to, orders_to] AS range_to
        )
        -- An empty range says nothing: a stream that is silent may not know its place yet.
        WHERE range_from != range_to
    )
    GROUP BY shard
) AS seams
ON totals.shard = seams.shard
SETTINGS join_use_nulls = 0;
