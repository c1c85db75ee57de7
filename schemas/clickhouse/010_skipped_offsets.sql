-- Transaction markers and records of aborted transactions take offsets too, and are no records.

ALTER TABLE batches
    ADD COLUMN IF NOT EXISTS skipped_offsets UInt32 DEFAULT 0 COMMENT 'Offsets in the ranges that transaction markers and aborted transactions take' CODEC(ZSTD(1)) AFTER users_scored;

CREATE OR REPLACE VIEW ledger
(
    shard           UInt16 COMMENT 'Kafka partition',
    batches         UInt64 COMMENT 'Micro-batches written',
    accepted        UInt64 COMMENT 'Records taken in',
    scored          UInt64 COMMENT 'Events that entered the windows, and so a score',
    duplicates      UInt64 COMMENT 'Events seen before',
    late            UInt64 COMMENT 'Events too old for the windows',
    dead_letters    UInt64 COMMENT 'Records that could not be used',
    erased          UInt64 COMMENT 'Events and records that people sent before they were erased',
    in_ranges       Int64 COMMENT 'Records in the offset ranges of the batches',
    skipped_offsets UInt64 COMMENT 'Offsets in those ranges without a record: transaction markers and aborted transactions',
    offset_gaps     UInt64 COMMENT 'Ranges that start after the one before them ended: records were skipped',
    offset_overlaps UInt64 COMMENT 'Ranges that start before the one before them ended: records were taken twice',
    balanced        Bool COMMENT 'accepted = scored + duplicates + late + dead_letters + erased = in_ranges, and no gaps or overlaps',
    newest_clock    DateTime64(3, 'UTC') COMMENT 'Clock of the newest batch, UTC'
)
COMMENT 'Is every record accounted for, once? One row per shard'
AS
SELECT
    totals.shard AS shard, totals.batches AS batches, totals.accepted AS accepted,
    totals.scored AS scored, totals.duplicates AS duplicates, totals.late AS late,
    totals.dead_letters AS dead_letters, totals.erased AS erased, totals.in_ranges AS in_ranges,
    totals.skipped AS skipped_offsets,
    seams.gaps AS offset_gaps, seams.overlaps AS offset_overlaps,
    accepted = scored + duplicates + late + dead_letters + erased
        AND toInt64(accepted) = in_ranges
        AND offset_gaps = 0 AND offset_overlaps = 0 AS balanced,
    totals.newest_clock AS newest_clock
FROM
(
    SELECT
        shard, count() AS batches, sum(b.accepted) AS accepted, sum(b.scored) AS scored,
        sum(b.duplicates) AS duplicates, sum(b.late) AS late, sum(b.dead_letters) AS dead_letters,
        sum(b.erased) AS erased, sum(b.skipped_offsets) AS skipped,
        sum(toInt64(clickstream_to) - toInt64(clickstream_from)
            + toInt64(orders_to) - toInt64(orders_from) - toInt64(b.skipped_offsets)) AS in_ranges,
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
