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
            toInt64(b.scored) + b.duplicates + b.late + b.dead_letters + b.erased AS outcomes,
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
