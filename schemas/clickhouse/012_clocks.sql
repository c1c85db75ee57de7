-- Whose clock is wrong, as far as what arrived here shows it. Without user ids or payloads, so that
-- `tideline doctor` can read it with the writer's rights.

CREATE VIEW IF NOT EXISTS fast_producers
(
    topic         LowCardinality(String) COMMENT 'Topic of the records',
    partition     UInt16 COMMENT 'Partition of the records',
    events        UInt64 COMMENT 'Events that were refused as future_timestamp within a day',
    offset        UInt64 COMMENT 'Offset of the one whose record was stamped furthest ahead',
    customer      String COMMENT 'Its customer as the worker''s log names them: a hash of the record''s key',
    ahead_seconds Int64 COMMENT 'How far that record''s own time was ahead of its arrival here; 0 or less: the record''s time was right, and the event''s alone is not'
)
COMMENT 'Producers whose clock is fast: events refused within a day for being from the future'
AS
SELECT
    topic, partition, count() AS events, argMax(offset, recorded_at) AS offset,
    lower(substring(hex(SHA256(concat('tideline log', unhex('00'), argMax(record_key, recorded_at)))), 1, 12)) AS customer,
    max(dateDiff('second', inserted_at, recorded_at)) AS ahead_seconds
FROM dead_letters FINAL
WHERE reason = 'future_timestamp' AND inserted_at > now() - 86400
GROUP BY topic, partition;

CREATE VIEW IF NOT EXISTS worker_clocks
(
    shard        UInt16 COMMENT 'Kafka partition',
    lead_seconds Int64 COMMENT 'How far the clock of its batches was ahead of their arrival here at most, within an hour; a batch takes a second or so to arrive, so it is a little below 0'
)
COMMENT 'How the clocks of the workers'' batches compare with the clock of this server'
AS
SELECT shard, max(dateDiff('second', inserted_at, clock)) AS lead_seconds
FROM batches
WHERE inserted_at > now() - 3600
GROUP BY shard;
