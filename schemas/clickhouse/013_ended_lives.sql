-- `tideline reset` ends the current lives, so that their results leave the views at once. Otherwise they
-- would stay until the next life has its first batch, which a shard without events may never have.

CREATE TABLE IF NOT EXISTS ended_lives
(
    shard    UInt16 COMMENT 'Kafka partition',
    life     UInt32 COMMENT 'When the life began, in seconds since 1970 UTC; 0 before lives were counted',
    ended_at DateTime64(3, 'UTC') COMMENT 'When `tideline reset` ended it, UTC'
)
ENGINE = ReplacingMergeTree
ORDER BY (shard, life)
COMMENT 'Lives that were ended by `tideline reset`, whether the next one has begun or not';

-- A life is past once its shard has a later one, or once it was ended. The views leave out the past
-- lives. They don't show only the newest life in `lives`, because rows of a new life arrive before its
-- first batch. Life 0 may be older than the table `lives`, so every shard is taken to have had it.
CREATE OR REPLACE VIEW past_lives
(
    shard    UInt16 COMMENT 'Kafka partition',
    life     UInt32 COMMENT 'When the life began, in seconds since 1970 UTC; 0: anything before the first life that was counted',
    ended_at DateTime64(3, 'UTC') COMMENT 'When it was ended, or the next life of the shard began, UTC'
)
COMMENT 'When shards were started over: lives that were ended, or are followed by another'
AS
SELECT shard, life, min(at) AS ended_at
FROM
(
    SELECT shard, sorted[i + 1] AS life, CAST(sorted[i + 2] AS DateTime64(3, 'UTC')) AS at
    FROM
    (
        SELECT shard, arraySort(groupUniqArray(each)) AS sorted
        FROM (SELECT shard, arrayJoin([life, toUInt32(0)]) AS each FROM lives)
        GROUP BY shard
    )
    ARRAY JOIN range(toUInt64(length(sorted) - 1)) AS i
    UNION ALL
    SELECT shard, life, ended_at AS at FROM ended_lives
)
GROUP BY shard, life;
