-- Audiences: who entered and left each one, by arm, and who is in now. The row of a person who is held
-- out says so; the feed to other systems has no record of them.

CREATE TABLE IF NOT EXISTS audience_changes
(
    change_id      String COMMENT 'Deterministic id: the same after any replay, and the idempotency key of the delivery' CODEC(ZSTD(1)),
    user_id        String COMMENT 'User id, or its pseudonym' CODEC(ZSTD(1)),
    shard          UInt16 COMMENT 'Kafka partition the user belongs to' CODEC(ZSTD(1)),
    audience       LowCardinality(String) COMMENT 'Name of the audience',
    segment        LowCardinality(String) COMMENT 'Segment that it is made of, or alerts',
    change         LowCardinality(String) COMMENT 'entered | left',
    number         UInt32 COMMENT 'Counts the user''s changes of this audience, from 1' CODEC(ZSTD(1)),
    arm            LowCardinality(String) COMMENT 'treat | holdout (of this audience) | global_holdout: contact nobody in a holdout',
    salt           String COMMENT 'The campaign''s salt, from which the arm follows' CODEC(ZSTD(1)),
    changed_at     DateTime64(3, 'UTC') COMMENT 'Clock of the batch that moved the user, UTC' CODEC(Delta, ZSTD(1)),
    definitions    String COMMENT 'Version of the definitions in force' CODEC(ZSTD(1)),
    p_churn        Float32 COMMENT 'Probability, 0 to 1, of no order within the horizon, then; NaN is unknown' CODEC(ZSTD(1)),
    expected_spend Float32 COMMENT 'Expected spend within the horizon, in the shop''s currency, then; NaN is unknown' CODEC(ZSTD(1)),
    value_tier     LowCardinality(String) COMMENT 'none | low | medium | high, then',
    lifecycle      LowCardinality(String) COMMENT 'visitor | new | active | at_risk | lapsed, then',
    life           UInt32 COMMENT 'Life of the shard' CODEC(ZSTD(1)),
    inserted_at    DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'When the row arrived here, UTC' CODEC(Delta, ZSTD(1))
)
ENGINE = ReplacingMergeTree
-- No time to live: who entered years ago and never left is still in.
ORDER BY (audience, user_id, number, changed_at, change_id)
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'Every entry into an audience and exit from it, of all arms';

-- The change with the highest number decides; a repeat has the same number and says the same. So this
-- needs no FINAL.
CREATE VIEW IF NOT EXISTS audience_members
(
    audience       LowCardinality(String) COMMENT 'Name of the audience',
    user_id        String COMMENT 'User id, or its pseudonym; one row per audience',
    segment        LowCardinality(String) COMMENT 'Segment that the audience is made of, or alerts',
    entered_at     DateTime64(3, 'UTC') COMMENT 'When the user last entered, UTC',
    number         UInt32 COMMENT 'The number of that change; the feed has the same',
    p_churn        Nullable(Float32) COMMENT 'Probability, 0 to 1, of no order within the horizon, when the user entered; NULL when unknown',
    expected_spend Nullable(Float32) COMMENT 'Expected spend within the horizon, in the shop''s currency, when the user entered; NULL when unknown',
    value_tier     LowCardinality(String) COMMENT 'none | low | medium | high, when the user entered',
    lifecycle      LowCardinality(String) COMMENT 'visitor | new | active | at_risk | lapsed, when the user entered',
    definitions    String COMMENT 'Version of the definitions that the user entered by'
)
COMMENT 'Who is in each audience now and may be contacted: nobody who is held out; one row per audience and user'
AS
SELECT
    audience, user_id, last_segment AS segment, last_at AS entered_at, last_number AS number,
    if(isNaN(last_churn), NULL, last_churn) AS p_churn,
    if(isNaN(last_spend), NULL, last_spend) AS expected_spend,
    last_tier AS value_tier, last_lifecycle AS lifecycle, last_definitions AS definitions
FROM
(
    SELECT
        audience, user_id, max(number) AS last_number,
        argMax(change, number) AS last_change, argMax(arm, number) AS last_arm,
        argMax(segment, number) AS last_segment, argMax(changed_at, number) AS last_at,
        argMax(p_churn, number) AS last_churn, argMax(expected_spend, number) AS last_spend,
        argMax(value_tier, number) AS last_tier, argMax(lifecycle, number) AS last_lifecycle,
        argMax(definitions, number) AS last_definitions
    FROM audience_changes
    WHERE (shard, life) NOT IN (SELECT shard, life FROM past_lives)
    GROUP BY audience, user_id
)
WHERE last_change = 'entered' AND last_arm = 'treat';

CREATE VIEW IF NOT EXISTS audience_arms
(
    audience       LowCardinality(String) COMMENT 'Name of the audience',
    arm            LowCardinality(String) COMMENT 'treat | holdout (of this audience) | global_holdout',
    users          UInt64 COMMENT 'Users of this arm in the audience now',
    expected_spend Float64 COMMENT 'Sum of their expected spend when they entered, in the shop''s currency; unknown counts 0',
    newest_at      DateTime64(3, 'UTC') COMMENT 'When one of this arm last entered or left, UTC'
)
COMMENT 'Size of every audience now, by arm; an arm that all have left has a row with 0 users'
AS
SELECT
    audience, last_arm AS arm, countIf(last_change = 'entered') AS users,
    sumIf(toFloat64(last_spend), last_change = 'entered' AND NOT isNaN(last_spend)) AS expected_spend,
    max(last_at) AS newest_at
FROM
(
    SELECT
        audience, user_id, argMax(change, number) AS last_change, argMax(arm, number) AS last_arm,
        argMax(changed_at, number) AS last_at, argMax(expected_spend, number) AS last_spend
    FROM audience_changes
    WHERE (shard, life) NOT IN (SELECT shard, life FROM past_lives)
    GROUP BY audience, user_id
)
GROUP BY audience, last_arm
ORDER BY audience, arm;
