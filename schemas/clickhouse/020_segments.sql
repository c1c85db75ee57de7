-- Segments of the shop's own beside tiers and stages, and what followed from campaigns.
--
-- A segment of the shop's own is a dimension of `segment_changes` with two states, `in` and `out`.

ALTER TABLE segment_changes
    ADD COLUMN IF NOT EXISTS number UInt32 DEFAULT 0 COMMENT 'Counts the user''s moves in this life of the shard; 0: before moves were counted' CODEC(ZSTD(1)) AFTER life;

CREATE TABLE IF NOT EXISTS campaign_sums
(
    audience     LowCardinality(String) COMMENT 'Audience',
    salt         LowCardinality(String) COMMENT 'Salt of the campaign: another campaign of the same audience has another one',
    arm          LowCardinality(String) COMMENT 'treat | holdout | global_holdout',
    shard        UInt16 COMMENT 'Kafka partition whose users these are' CODEC(ZSTD(1)),
    seq          UInt64 COMMENT 'Life of the shard (seq >> 32) and number of the batch in it; the newest row has the totals' CODEC(Delta, ZSTD(1)),
    as_of        DateTime64(3, 'UTC') COMMENT 'Clock of that batch, UTC' CODEC(Delta, ZSTD(1)),
    horizon_days Float64 COMMENT 'For how long responses count after a person entered' CODEC(ZSTD(1)),
    exposed      Int64 COMMENT 'People who entered, each once per horizon' CODEC(ZSTD(1)),
    answered     Int64 COMMENT 'Those whose horizon has passed; the rest is over these' CODEC(ZSTD(1)),
    buyers       Int64 COMMENT 'Those who ordered within the horizon' CODEC(ZSTD(1)),
    orders       Int64 COMMENT 'Their orders within the horizon' CODEC(ZSTD(1)),
    y_cents      Int64 COMMENT 'Sum of spend within the horizon, in hundredths of the shop''s currency, net of what was cancelled and returned' CODEC(ZSTD(1)),
    x_cents      Int64 COMMENT 'Sum of spend in the 90 days before they entered, in hundredths of the shop''s currency' CODEC(ZSTD(1)),
    y_squared    Float64 COMMENT 'Sum of squares of the spend within the horizon; exact in the shard' CODEC(ZSTD(1)),
    x_squared    Float64 COMMENT 'Sum of squares of the spend before' CODEC(ZSTD(1)),
    x_times_y    Float64 COMMENT 'Sum of products of both' CODEC(ZSTD(1)),
    life         UInt32 COMMENT 'Life of the shard' CODEC(ZSTD(1)),
    inserted_at  DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'When the row arrived here, UTC' CODEC(Delta, ZSTD(1))
)
ENGINE = ReplacingMergeTree(seq)
ORDER BY (salt, arm, shard, life)
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'What followed from each campaign, by arm: totals of each shard';

CREATE VIEW IF NOT EXISTS campaign_results
(
    audience       LowCardinality(String) COMMENT 'Audience',
    salt           LowCardinality(String) COMMENT 'Salt of the campaign',
    arm            LowCardinality(String) COMMENT 'treat | holdout | global_holdout: compare those with the same salt',
    horizon_days   Float64 COMMENT 'For how long responses count after a person entered',
    exposed        Int64 COMMENT 'People who entered, each once per horizon',
    answered       Int64 COMMENT 'Those whose horizon has passed; the rest is over these',
    buyers         Int64 COMMENT 'Those who ordered within the horizon',
    buyer_share    Float64 COMMENT 'Share of the answered who ordered; NaN when there are none',
    orders         Int64 COMMENT 'Their orders',
    spend_mean     Float64 COMMENT 'Mean spend of the answered, in the shop''s currency; NaN when there are none',
    spend_before   Float64 COMMENT 'Their mean spend in the 90 days before; arms should be alike'
)
COMMENT 'What followed from each campaign, by arm: plain rates with counts, not yet an effect'
AS
SELECT
    any(whose) AS audience, salt, arm, any(days) AS horizon_days,
    sum(entered) AS exposed, sum(over) AS answered, sum(bought) AS buyers,
    sum(bought) / sum(over) AS buyer_share, sum(placed) AS orders,
    sum(y_cents) / sum(over) / 100 AS spend_mean,
    sum(x_cents) / sum(over) / 100 AS spend_before
FROM
(
    -- Under other names: an alias above would stand for the sum in the sums below it.
    SELECT salt, arm, audience AS whose, horizon_days AS days, exposed AS entered,
           answered AS over, buyers AS bought, orders AS placed, y_cents, x_cents
    FROM campaign_sums FINAL
    WHERE (shard, life) NOT IN (SELECT shard, life FROM past_lives)
)
GROUP BY salt, arm
ORDER BY salt, arm;

CREATE OR REPLACE VIEW segment_members
(
    dimension      LowCardinality(String) COMMENT 'value_tier | lifecycle | name of a segment of the shop''s own',
    segment        LowCardinality(String) COMMENT 'Where the user is in it now; `in` for a segment of the shop''s own',
    user_id        String COMMENT 'User id, or its pseudonym; one row per dimension',
    p_churn        Float32 COMMENT 'Probability, 0 to 1, of no order within the horizon',
    expected_spend Float32 COMMENT 'Expected spend within the horizon, in the shop''s currency',
    since          DateTime64(3, 'UTC') COMMENT 'When the user last entered the segment, UTC; 1970-01-01 when not recorded'
)
COMMENT 'Members of every segment now, by the users'' newest scores, one row each'
AS
SELECT members.dimension AS dimension, members.segment AS segment, members.user_id AS user_id,
       members.p_churn AS p_churn, members.expected_spend AS expected_spend,
       entries.since AS since
FROM
(
    SELECT user_id, p_churn, expected_spend, pair.1 AS dimension, pair.2 AS segment
    FROM latest_scores FINAL
    ARRAY JOIN [('value_tier', toString(value_tier)), ('lifecycle', toString(lifecycle))] AS pair
    WHERE (shard, toUInt32(bitShiftRight(seq, 32))) NOT IN (SELECT shard, life FROM past_lives)
    UNION ALL
    SELECT own.user_id AS user_id, scores.p_churn AS p_churn,
           scores.expected_spend AS expected_spend, own.dimension AS dimension, 'in' AS segment
    FROM
    (
        SELECT user_id, toString(dimension) AS dimension
        FROM segment_changes
        WHERE dimension NOT IN ('value_tier', 'lifecycle', 'rfm')
            AND (shard, life) NOT IN (SELECT shard, life FROM past_lives)
        GROUP BY user_id, dimension
        HAVING argMax(to_segment, (segment_changes.life, segment_changes.number)) = 'in'
    ) AS own
    LEFT JOIN
    (
        SELECT user_id, p_churn, expected_spend FROM latest_scores FINAL
        WHERE (shard, toUInt32(bitShiftRight(seq, 32))) NOT IN (SELECT shard, life FROM past_lives)
    ) AS scores ON own.user_id = scores.user_id
) AS members
LEFT JOIN
(
    -- max() over repeats is the same max(): this needs no FINAL.
    SELECT user_id, toString(dimension) AS dimension, toString(to_segment) AS segment,
           max(changed_at) AS since
    FROM segment_changes
    WHERE (shard, life) NOT IN (SELECT shard, life FROM past_lives)
    GROUP BY user_id, dimension, segment
) AS entries
ON members.user_id = entries.user_id
    AND members.dimension = entries.dimension
    AND members.segment = entries.segment
-- A user without a recorded entry shows 1970-01-01, whatever the reader's profile says of nulls.
SETTINGS join_use_nulls = 0;

CREATE OR REPLACE VIEW segment_sizes
(
    dimension      LowCardinality(String) COMMENT 'value_tier | lifecycle | name of a segment of the shop''s own',
    segment        LowCardinality(String) COMMENT 'Every tier and stage appears, an empty one too; `in` for a segment of the shop''s own, once somebody has entered it',
    users          UInt64 COMMENT 'Users in the segment now',
    expected_spend Float64 COMMENT 'Sum of their expected spend within the horizon, in the shop''s currency; who has too little data counts 0'
)
COMMENT 'Size and expected spend of every segment now'
AS
SELECT pair.1 AS dimension, pair.2 AS segment, sum(one) AS users, sum(spend) AS expected_spend
FROM
(
    SELECT pair, 1 AS one, ifNotFinite(toFloat64(expected_spend), 0) AS spend
    FROM latest_scores FINAL
    ARRAY JOIN [('value_tier', toString(value_tier)), ('lifecycle', toString(lifecycle))] AS pair
    WHERE (shard, toUInt32(bitShiftRight(seq, 32))) NOT IN (SELECT shard, life FROM past_lives)
    UNION ALL
    -- Who has left counts 0, so that an empty segment appears.
    SELECT (own.dimension, 'in') AS pair, own.member AS one,
           own.member * ifNotFinite(toFloat64(scores.expected_spend), 0) AS spend
    FROM
    (
        SELECT user_id, toString(dimension) AS dimension,
               argMax(to_segment, (segment_changes.life, segment_changes.number)) = 'in' AS member
        FROM segment_changes
        WHERE dimension NOT IN ('value_tier', 'lifecycle', 'rfm')
            AND (shard, life) NOT IN (SELECT shard, life FROM past_lives)
        GROUP BY user_id, dimension
    ) AS own
    LEFT JOIN
    (
        SELECT user_id, expected_spend FROM latest_scores FINAL
        WHERE (shard, toUInt32(bitShiftRight(seq, 32))) NOT IN (SELECT shard, life FROM past_lives)
    ) AS scores ON own.user_id = scores.user_id
    UNION ALL
    -- A row of zeros for each tier and stage there is.
    SELECT arrayJoin([
        ('value_tier', 'none'), ('value_tier', 'low'), ('value_tier', 'medium'), ('value_tier', 'high'),
        ('lifecycle', 'visitor'), ('lifecycle', 'new'), ('lifecycle', 'active'),
        ('lifecycle', 'at_risk'), ('lifecycle', 'lapsed')
    ]) AS pair, 0 AS one, toFloat64(0) AS spend
)
GROUP BY pair
ORDER BY dimension, segment
SETTINGS join_use_nulls = 0;

CREATE VIEW IF NOT EXISTS rfm_cells
(
    user_id  String COMMENT 'User id, or its pseudonym; one row per user',
    cell     LowCardinality(String) COMMENT 'Recency, frequency and monetary value in fifths: R5F5M5 is the best; none is no live customer',
    previous LowCardinality(String) COMMENT 'The cell before that one',
    since    DateTime64(3, 'UTC') COMMENT 'When the user moved from the one to the other, UTC'
)
COMMENT 'The RFM cell of every customer, and the one before; only where the definitions ask for cells'
AS
SELECT
    user_id, argMax(to_segment, (life, number)) AS cell,
    argMax(from_segment, (life, number)) AS previous, argMax(changed_at, (life, number)) AS since
FROM segment_changes
WHERE dimension = 'rfm' AND (shard, life) NOT IN (SELECT shard, life FROM past_lives)
GROUP BY user_id;
