-- Canaries: records of a synthetic user, which the lag monitor sends to every partition of the clickstream
-- and looks for here, so that a stall is noticed even without traffic. They are no events: nothing but
-- these rows and their own column of the ledger counts them.

CREATE TABLE IF NOT EXISTS canaries
(
    shard            UInt16 COMMENT 'Kafka partition of the clickstream' CODEC(ZSTD(1)),
    offset           UInt64 COMMENT 'Offset of the canary in that partition' CODEC(Delta, ZSTD(1)),
    recorded_at      DateTime64(3, 'UTC') COMMENT 'Time of its record in Kafka, UTC' CODEC(Delta, ZSTD(1)),
    seq              UInt64 COMMENT 'Life of the shard (seq >> 32) and number of the batch in it that scored it' CODEC(Delta, ZSTD(1)),
    champion_version LowCardinality(String) COMMENT 'Version of the ONNX model',
    p_churn          Float32 COMMENT 'What it makes of its typical customer, blended with the learner; NaN when it gives no number' CODEC(ZSTD(1)),
    inserted_at      DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'When it arrived here, UTC; counts for the time to live' CODEC(Delta, ZSTD(1))
)
ENGINE = ReplacingMergeTree
ORDER BY (shard, offset)
TTL toDateTime(inserted_at) + INTERVAL 7 DAY
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'Canaries that went through the whole pipeline; kept for 7 days';

ALTER TABLE batches
    ADD COLUMN IF NOT EXISTS canaries UInt32 DEFAULT 0 COMMENT 'Records of the lag monitor''s synthetic user, which are no events' CODEC(ZSTD(1)) AFTER inputs_since;

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
    canaries            UInt64 COMMENT 'Records of the lag monitor''s synthetic user, which are no events',
    in_ranges           Int64 COMMENT 'Records in the offset ranges of the batches',
    skipped_offsets     UInt64 COMMENT 'Offsets in those ranges without a record: transaction markers and aborted transactions',
    unbalanced_batches  UInt64 COMMENT 'Batches with accepted other than scored + duplicates + late + dead_letters + erased + canaries, or than the records in their ranges',
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
    canaries_recently   UInt64 COMMENT 'Canaries among them',
    newest_clock        DateTime64(3, 'UTC') COMMENT 'Clock of the newest batch, UTC'
)
COMMENT 'Is every record accounted for, once? One row per shard, of its newest life'
AS
SELECT
    totals.shard AS shard, CAST(totals.life AS DateTime64(3, 'UTC')) AS life_began,
    totals.batches AS batches, totals.accepted AS accepted,
    totals.scored AS scored, totals.duplicates AS duplicates, totals.late AS late,
    totals.dead_letters AS dead_letters, totals.erased AS erased,
    totals.canaries AS canaries, totals.in_ranges AS in_ranges,
    totals.skipped AS skipped_offsets, totals.unbalanced AS unbalanced_batches,
    totals.first_batch AS first_batch, totals.missing AS missing_batches,
    seams.gaps AS offset_gaps, seams.overlaps AS offset_overlaps,
    unbalanced_batches = 0 AND missing_batches = 0
        AND offset_gaps = 0 AND offset_overlaps = 0 AS balanced,
    totals.clickstream_next AS clickstream_next, totals.orders_next AS orders_next,
    totals.accepted_recently AS accepted_recently, totals.late_recently AS late_recently,
    totals.dead_recently AS dead_recently, totals.canaries_recently AS canaries_recently,
    totals.newest_clock AS newest_clock
FROM
(
    SELECT
        shard, toUInt32(bitShiftRight(seq, 32)) AS life,
        count() AS batches, sum(b.accepted) AS accepted, sum(b.scored) AS scored,
        sum(b.duplicates) AS duplicates, sum(b.late) AS late, sum(b.dead_letters) AS dead_letters,
        sum(b.erased) AS erased, sum(b.canaries) AS canaries, sum(b.skipped_offsets) AS skipped,
        sum(toInt64(clickstream_to) - toInt64(clickstream_from)
            + toInt64(orders_to) - toInt64(orders_from) - toInt64(b.skipped_offsets)) AS in_ranges,
        countIf(toInt64(b.accepted) != toInt64(clickstream_to) - toInt64(clickstream_from)
                + toInt64(orders_to) - toInt64(orders_from) - toInt64(b.skipped_offsets)
            OR b.accepted != b.scored + b.duplicates + b.late + b.dead_letters + b.erased + b.canaries
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
        sumIf(b.canaries, inserted_at > now() - 3600) AS canaries_recently,
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

-- The ledger of the last hour, for whoever looks every minute: `ledger` goes through every batch since the
-- state was started, which is millions a month. A batch that a recovery wrote again is here once, and only
-- one column of the older batches is read.
CREATE VIEW IF NOT EXISTS recent_ledger
(
    shard               UInt16 COMMENT 'Kafka partition',
    batches             UInt64 COMMENT 'Batches that arrived here within the last hour',
    accepted            UInt64 COMMENT 'Records that they took in',
    unaccounted_records UInt64 COMMENT 'Records in their ranges without an outcome, or with more than one, and offsets between their ranges that are in none',
    doubled_records     UInt64 COMMENT 'Offsets that are in two of their ranges',
    missing_batches     Int64 COMMENT 'Batches that are missing between the first and the newest of them',
    newest_clock        DateTime64(3, 'UTC') COMMENT 'Clock of the newest batch, UTC'
)
COMMENT 'Is every record of the last hour accounted for, once? One row per shard, of its newest life'
AS
SELECT
    shard, count() AS batches, sum(taken) AS accepted,
    sum(toUInt64(greatest(abs(in_ranges - outcomes), abs(in_ranges - toInt64(taken)))))
        + sumIf(clickstream_from - clickstream_before, seam_of_clicks AND clickstream_from > clickstream_before)
        + sumIf(orders_from - orders_before, seam_of_orders AND orders_from > orders_before)
        AS unaccounted_records,
    sumIf(clickstream_before - clickstream_from, seam_of_clicks AND clickstream_from < clickstream_before)
        + sumIf(orders_before - orders_from, seam_of_orders AND orders_from < orders_before)
        AS doubled_records,
    toInt64(max(seq) - min(seq) + 1) - toInt64(count()) AS missing_batches,
    max(clock) AS newest_clock
FROM
(
    SELECT
        shard, seq, life, clock, taken, outcomes, clickstream_from, orders_from,
        toInt64(clickstream_to) - toInt64(clickstream_from)
            + toInt64(orders_to) - toInt64(orders_from) - toInt64(skipped) AS in_ranges,
        -- An empty range says nothing: a stream that is silent may not know its place yet. So what
        -- a range must follow is the end of the last one with records; 0: there was none.
        max(if(clickstream_to > clickstream_from, clickstream_to, 0)) OVER earlier AS clickstream_before,
        max(if(orders_to > orders_from, orders_to, 0)) OVER earlier AS orders_before,
        clickstream_to > clickstream_from AND clickstream_before > 0 AS seam_of_clicks,
        orders_to > orders_from AND orders_before > 0 AS seam_of_orders
    FROM
    (
        SELECT DISTINCT
            b.shard AS shard, b.seq AS seq, toUInt32(bitShiftRight(b.seq, 32)) AS life,
            b.inputs_since AS inputs_since, b.clock AS clock, b.accepted AS taken,
            toInt64(b.scored) + b.duplicates + b.late + b.dead_letters + b.erased
                + b.canaries AS outcomes,
            b.clickstream_from AS clickstream_from, b.clickstream_to AS clickstream_to,
            b.orders_from AS orders_from, b.orders_to AS orders_to, b.skipped_offsets AS skipped
        FROM batches AS b
        WHERE b.inserted_at > now() - 3600
    )
    WHERE (shard, life) NOT IN (SELECT shard, life FROM past_lives)
    WINDOW earlier AS (
        PARTITION BY shard, life, inputs_since ORDER BY seq
        ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    )
)
GROUP BY shard, life
ORDER BY life DESC
LIMIT 1 BY shard;
