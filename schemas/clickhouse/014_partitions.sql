-- When the number of partitions grows, a shard's successors continue on other input topics. Their batch
-- numbers continue from the shard's last batch, but offsets begin again in the new topics.

ALTER TABLE batches
    ADD COLUMN IF NOT EXISTS inputs_since UInt64 DEFAULT 0 COMMENT 'The last batch on earlier input topics, of this shard or of the one that it was split from; 0: there were no earlier topics' CODEC(ZSTD(1)) AFTER skipped_offsets;

-- The newest life of each shard, unless it was ended. Each batch must add up: in their sum, a record that
-- one lost and another doubled would cancel out. No batch may be missing after the first one in this
-- database.
CREATE OR REPLACE VIEW ledger
(
    shard               UInt16 COMMENT 'Kafka partition',
    life_began          DateTime64(3, 'UTC') COMMENT 'When the shard was started, or started over, UTC; 1970-01-01 before lives were counted',
    batches             UInt64 COMMENT 'Micro-batches written',
    accepted            UInt64 COMMENT 'Records taken in',
    scored              UInt64 COMMENT 'Events that entered the windows, and so a score',
    duplicates          UInt64 COMMENT 'Events seen before',
    late                UInt64 COMMENT 'Events too old for the windows',
    dead_letters        UInt64 COMMENT 'Records that could not be used',
    erased              UInt64 COMMENT 'Events and records that people sent before they were erased',
    in_ranges           Int64 COMMENT 'Records in the offset ranges of the batches',
    skipped_offsets     UInt64 COMMENT 'Offsets in those ranges without a record: transaction markers and aborted transactions',
    unbalanced_batches  UInt64 COMMENT 'Batches with accepted other than scored + duplicates + late + dead_letters + erased, or than the records in their ranges',
    first_batch         UInt64 COMMENT 'The life''s first batch in this database, counted from the first batch on the same input topics: 1, unless the database was created, or lost rows, after that one',
    missing_batches     Int64 COMMENT 'Batches that are missing between the first and the newest in this database',
    offset_gaps         UInt64 COMMENT 'Ranges that start after the one before them ended: records were skipped',
    offset_overlaps     UInt64 COMMENT 'Ranges that start before the one before them ended: records were taken twice',
    balanced            Bool COMMENT 'Every batch from the first one in this database on is there and adds up, and the ranges in the same input topics follow one another without gaps or overlaps',
    clickstream_next    UInt64 COMMENT 'The clickstream offset after the newest batch, in the input topics of that batch; all offsets before it, from the first batch on, are accounted for',
    orders_next         UInt64 COMMENT 'The orders offset after the newest batch',
    accepted_recently   UInt64 COMMENT 'Records taken in, in batches that arrived here within the last hour',
    late_recently       UInt64 COMMENT 'Late events among them',
    dead_recently       UInt64 COMMENT 'Dead letters among them',
    newest_clock        DateTime64(3, 'UTC') COMMENT 'Clock of the newest batch, UTC'
)
COMMENT 'Is every record accounted for, once? One row per shard, of its newest life'
AS
SELECT
    totals.shard AS shard, CAST(totals.life AS DateTime64(3, 'UTC')) AS life_began,
    totals.batches AS batches, totals.accepted AS accepted,
    totals.scored AS scored, totals.duplicates AS duplicates, totals.late AS late,
    totals.dead_letters AS dead_letters, totals.erased AS erased, totals.in_ranges AS in_ranges,
    totals.skipped AS skipped_offsets, totals.unbalanced AS unbalanced_batches,
    totals.first_batch AS first_batch, totals.missing AS missing_batches,
    seams.gaps AS offset_gaps, seams.overlaps AS offset_overlaps,
    unbalanced_batches = 0 AND missing_batches = 0
        AND offset_gaps = 0 AND offset_overlaps = 0 AS balanced,
    totals.clickstream_next AS clickstream_next, totals.orders_next AS orders_next,
    totals.accepted_recently AS accepted_recently, totals.late_recently AS late_recently,
    totals.dead_recently AS dead_recently,
    totals.newest_clock AS newest_clock
FROM
(
    SELECT
        shard, toUInt32(bitShiftRight(seq, 32)) AS life,
        count() AS batches, sum(b.accepted) AS accepted, sum(b.scored) AS scored,
        sum(b.duplicates) AS duplicates, sum(b.late) AS late, sum(b.dead_letters) AS dead_letters,
        sum(b.erased) AS erased, sum(b.skipped_offsets) AS skipped,
        sum(toInt64(clickstream_to) - toInt64(clickstream_from)
            + toInt64(orders_to) - toInt64(orders_from) - toInt64(b.skipped_offsets)) AS in_ranges,
        countIf(toInt64(b.accepted) != toInt64(clickstream_to) - toInt64(clickstream_from)
                + toInt64(orders_to) - toInt64(orders_from) - toInt64(b.skipped_offsets)
            OR b.accepted != b.scored + b.duplicates + b.late + b.dead_letters + b.erased
        ) AS unbalanced,
        min(bitAnd(seq, 0xFFFFFFFF)) - bitAnd(argMin(inputs_since, seq), 0xFFFFFFFF) AS first_batch,
        toInt64(max(bitAnd(seq, 0xFFFFFFFF)) + 1 - min(bitAnd(seq, 0xFFFFFFFF)))
            - toInt64(count()) AS missing,
        -- Of the newest topics: their batches have the highest inputs_since.
        max((inputs_since, clickstream_to)).2 AS clickstream_next,
        max((inputs_since, orders_to)).2 AS orders_next,
        sumIf(b.accepted, inserted_at > now() - 3600) AS accepted_recently,
        sumIf(b.late, inserted_at > now() - 3600) AS late_recently,
        sumIf(b.dead_letters, inserted_at > now() - 3600) AS dead_recently,
        max(clock) AS newest_clock
    FROM batches AS b FINAL
    WHERE (shard, toUInt32(bitShiftRight(seq, 32))) NOT IN (SELECT shard, life FROM past_lives)
    GROUP BY shard, life
    ORDER BY life DESC
    LIMIT 1 BY shard
) AS totals
LEFT JOIN
(
    SELECT
        shard, life,
        countIf(range_from > before) AS gaps, countIf(range_from < before) AS overlaps
    FROM
    (
        SELECT
            shard, life, range_from,
            -- The first range of a stream follows no other.
            lagInFrame(range_to, 1, range_from) OVER (
                PARTITION BY shard, life, inputs_since, stream ORDER BY seq
                ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
            ) AS before
        FROM
        (
            SELECT
                shard, seq, toUInt32(bitShiftRight(seq, 32)) AS life, inputs_since, stream,
                range_from, range_to
            FROM batches FINAL
            ARRAY JOIN
                ['clickstream', 'orders'] AS stream,
                [clickstream_from, orders_from] AS range_from,
                [clickstream_to, orders_to] AS range_to
        )
        -- An empty range says nothing: a stream that is silent may not know its place yet.
        WHERE range_from != range_to
    )
    GROUP BY shard, life
) AS seams
ON totals.shard = seams.shard AND totals.life = seams.life
SETTINGS join_use_nulls = 0;
