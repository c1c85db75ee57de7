-- Lives of a shard: a shard whose checkpoints and journal were deleted starts over from the input
-- topics. Its life, the second of its first step, is the upper half of `seq` and `ordinal`, so that
-- what it writes is higher than all that it wrote before; rows of before lives were counted are of
-- life 0. What people read as of now shows the newest life of each shard alone, since nobody goes on
-- with what an earlier one said; what was said stays in the tables and in alert_history.

CREATE TABLE IF NOT EXISTS lives
(
    shard       UInt16 COMMENT 'Kafka partition',
    life        UInt32 COMMENT 'When the life began, in seconds since 1970 UTC; 0 before lives were counted',
    inserted_at DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'When its newest batch arrived here, UTC'
)
ENGINE = ReplacingMergeTree
ORDER BY (shard, life)
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'Lives of each shard, for the views: an index of batches';

CREATE MATERIALIZED VIEW IF NOT EXISTS lives_feed TO lives AS
SELECT
    shard, toUInt32(bitShiftRight(seq, 32)) AS life
FROM batches
GROUP BY shard, life;

-- A life is past once its shard has a later one. The views leave out past lives, rather than all but
-- the newest: rows of a life that has just begun arrive before its first batch does. Life 0 may be
-- older than this table, so every shard is taken to have had it.
CREATE VIEW IF NOT EXISTS past_lives
(
    shard    UInt16 COMMENT 'Kafka partition',
    life     UInt32 COMMENT 'When the life began, in seconds since 1970 UTC; 0: anything before the first life that was counted',
    ended_at DateTime64(3, 'UTC') COMMENT 'When the next life of the shard began, UTC'
)
COMMENT 'When shards were started over: lives that are followed by another'
AS
SELECT shard, sorted[i + 1] AS life, CAST(sorted[i + 2] AS DateTime64(3, 'UTC')) AS ended_at
FROM
(
    SELECT shard, arraySort(groupUniqArray(each)) AS sorted
    FROM (SELECT shard, arrayJoin([life, toUInt32(0)]) AS each FROM lives)
    GROUP BY shard
)
ARRAY JOIN range(toUInt64(length(sorted) - 1)) AS i;

ALTER TABLE alerts
    ADD COLUMN IF NOT EXISTS life UInt32 COMMENT 'Life of the shard that raised it' CODEC(ZSTD(1)) AFTER event_produced_at;

ALTER TABLE segment_changes
    ADD COLUMN IF NOT EXISTS life UInt32 COMMENT 'Life of the shard' CODEC(ZSTD(1)) AFTER why;

CREATE OR REPLACE VIEW scores_live
(
    user_id          String COMMENT 'User id, or its pseudonym; one row each',
    p_churn          Nullable(Float32) COMMENT 'Probability, 0 to 1, of no order within horizon_days; NULL without enough data',
    expected_spend   Nullable(Float32) COMMENT 'Expected spend within horizon_days, in the shop''s currency; NULL without enough data',
    p_buy_7d         Nullable(Float32) COMMENT 'Probability, 0 to 1, of an order within 7 days, as of the last order or daily sweep; NULL when unknown',
    p_buy_30d        Nullable(Float32) COMMENT 'Probability, 0 to 1, of an order within 30 days; NULL when unknown',
    next_order_at    Nullable(DateTime64(3, 'UTC')) COMMENT 'When the next order is due, as likely before as after, UTC; NULL when unknown or over a year away',
    horizon_days     UInt16 COMMENT 'How far the prediction looks ahead, in days',
    status           String COMMENT 'scored | not enough data: too few orders of the user, or too few days of the shop',
    value_tier       LowCardinality(String) COMMENT 'none | low | medium | high',
    lifecycle        LowCardinality(String) COMMENT 'visitor | new | active | at_risk | lapsed',
    at_risk          UInt8 COMMENT '1 while a churn alert of the user is open',
    lifetime_orders  UInt32 COMMENT 'Orders of the user so far',
    last_order_at    DateTime64(3, 'UTC') COMMENT 'Time of the newest order, UTC; 1970-01-01 when there was none',
    scored_at        DateTime64(3, 'UTC') COMMENT 'When the user was last looked at, UTC',
    p_champion       Nullable(Float32) COMMENT 'Probability by the ONNX model alone',
    p_learner        Nullable(Float32) COMMENT 'Probability by the online learner alone',
    champion_version LowCardinality(String) COMMENT 'Version of the ONNX model',
    learner_version  UInt32 COMMENT 'Version of the online learner''s snapshot',
    shard            UInt16 COMMENT 'Kafka partition the user belongs to',
    seq              UInt64 COMMENT 'Life of the shard (seq >> 32) and number of the batch in it that wrote the row'
)
COMMENT 'The newest score of each user, one row each; of the newest life of each shard'
AS
SELECT
    user_id,
    if(isNaN(scores.p_churn), NULL, scores.p_churn) AS p_churn,
    if(isNaN(scores.expected_spend), NULL, scores.expected_spend) AS expected_spend,
    if(isNaN(scores.p_buy_7d), NULL, scores.p_buy_7d) AS p_buy_7d,
    if(isNaN(scores.p_buy_30d), NULL, scores.p_buy_30d) AS p_buy_30d,
    if(toUnixTimestamp64Milli(scores.next_order_at) = 0, NULL, scores.next_order_at) AS next_order_at,
    horizon_days,
    if(isNaN(scores.p_churn), 'not enough data', 'scored') AS status,
    value_tier, lifecycle, at_risk, lifetime_orders, last_order_at, scored_at,
    if(isNaN(scores.p_champion), NULL, scores.p_champion) AS p_champion,
    if(isNaN(scores.p_learner), NULL, scores.p_learner) AS p_learner,
    champion_version, learner_version, shard, seq
FROM latest_scores AS scores FINAL
WHERE (shard, toUInt32(bitShiftRight(seq, 32))) NOT IN (SELECT shard, life FROM past_lives);

CREATE OR REPLACE VIEW churn_alerts_live
(
    alert_id       String COMMENT 'The same id in every system',
    user_id        String COMMENT 'User id, or its pseudonym',
    priority       Float32 COMMENT 'p_churn x expected_spend: the spend at stake, in the shop''s currency',
    p_churn        Float32 COMMENT 'Probability, 0 to 1, of no order within horizon_days',
    expected_spend Float32 COMMENT 'Expected spend within horizon_days, in the shop''s currency',
    horizon_days   UInt16 COMMENT 'How far the prediction looks ahead, in days',
    reasons        Array(String) COMMENT 'What moved the score most, strongest first',
    action         LowCardinality(String) COMMENT 'Recommended action',
    arm            LowCardinality(String) COMMENT 'treat, or holdout: contact nobody in the holdout, so that uplift can be measured',
    value_tier     LowCardinality(String) COMMENT 'none | low | medium | high, when raised',
    rule           LowCardinality(String) COMMENT 'Name of the alert rule',
    raised_at      DateTime64(3, 'UTC') COMMENT 'When it was raised, UTC'
)
COMMENT 'Open churn alerts of both arms, the most at stake first, one row each'
AS
SELECT
    alert_id, user_id, priority, p_churn, expected_spend, horizon_days, reasons, action, arm,
    value_tier, rule, raised_at
FROM alerts FINAL
WHERE version = 1 AND alert_id NOT IN (SELECT alert_id FROM alerts WHERE version = 2)
    AND (shard, life) NOT IN (SELECT shard, life FROM past_lives)
ORDER BY priority DESC, alert_id;

CREATE OR REPLACE VIEW alert_history
(
    alert_id       String COMMENT 'The same id in every system',
    user_id        String COMMENT 'User id, or its pseudonym',
    arm            LowCardinality(String) COMMENT 'treat | holdout: compare the two to measure uplift',
    raised_at      DateTime64(3, 'UTC') COMMENT 'When it was raised, UTC',
    closed_at      DateTime64(3, 'UTC') COMMENT 'When it ended, UTC; 1970-01-01 while open',
    closed_why     LowCardinality(String) COMMENT 'ordered | score_fell | lapsed; started_over: the shard began a new life; empty while open',
    p_churn        Float32 COMMENT 'Probability, 0 to 1, when raised',
    expected_spend Float32 COMMENT 'Expected spend, in the shop''s currency, when raised',
    reasons        Array(String) COMMENT 'What raised the score most, strongest first',
    action         LowCardinality(String) COMMENT 'Recommended action'
)
COMMENT 'Every alert ever, with how it ended, one row each'
AS
SELECT
    opened.alert_id AS alert_id, user_id, arm, raised_at,
    if(closed.why = '', past.ended_at, closed.at) AS closed_at,
    multiIf(closed.why != '', toString(closed.why), past.is_past, 'started_over', '') AS closed_why,
    p_churn, expected_spend, reasons, action
FROM (SELECT * FROM alerts FINAL WHERE version = 1) AS opened
LEFT JOIN
(
    SELECT alert_id, closed_at AS at, closed_why AS why FROM alerts FINAL WHERE version = 2
) AS closed ON opened.alert_id = closed.alert_id
LEFT JOIN
(
    SELECT shard, life, ended_at, 1 AS is_past FROM past_lives
) AS past ON opened.shard = past.shard AND opened.life = past.life
-- An alert that goes on shows 1970-01-01, whatever the reader's profile says of nulls.
SETTINGS join_use_nulls = 0;

CREATE OR REPLACE VIEW segment_members
(
    dimension      LowCardinality(String) COMMENT 'value_tier | lifecycle',
    segment        LowCardinality(String) COMMENT 'Segment the user is in now',
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
    dimension      LowCardinality(String) COMMENT 'value_tier | lifecycle',
    segment        LowCardinality(String) COMMENT 'Every segment appears, an empty one too',
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
    -- A row of zeros for each segment there is.
    SELECT arrayJoin([
        ('value_tier', 'none'), ('value_tier', 'low'), ('value_tier', 'medium'), ('value_tier', 'high'),
        ('lifecycle', 'visitor'), ('lifecycle', 'new'), ('lifecycle', 'active'),
        ('lifecycle', 'at_risk'), ('lifecycle', 'lapsed')
    ]) AS pair, 0 AS one, toFloat64(0) AS spend
)
GROUP BY pair
ORDER BY dimension, segment;

CREATE OR REPLACE VIEW segment_flow
(
    day          Date COMMENT 'Day of the move, UTC',
    dimension    LowCardinality(String) COMMENT 'value_tier | lifecycle',
    from_segment LowCardinality(String) COMMENT 'Segment left; empty for new users',
    to_segment   LowCardinality(String) COMMENT 'Segment entered',
    moves        UInt64 COMMENT 'Moves that day',
    users        UInt64 COMMENT 'Different users among them'
)
COMMENT 'Moves between segments by day'
AS
SELECT toDate(changed_at) AS day, dimension, from_segment, to_segment,
       count() AS moves, uniqExact(user_id) AS users
FROM segment_changes FINAL
WHERE (shard, life) NOT IN (SELECT shard, life FROM past_lives)
GROUP BY day, dimension, from_segment, to_segment;

CREATE OR REPLACE VIEW model_quality
(
    day               Date COMMENT 'Day the truth was known, UTC',
    n                 UInt64 COMMENT 'Predictions that matured that day',
    churn_rate        Float64 COMMENT 'Share, 0 to 1, that churned',
    p_churn_mean      Float64 COMMENT 'Mean probability of the blend; near churn_rate when calibrated',
    p_champion_mean   Float64 COMMENT 'Mean probability of the champion',
    p_learner_mean    Float64 COMMENT 'Mean probability of the learner',
    log_loss_blend    Float64 COMMENT 'Mean log loss of the blend, in nats; lower is better',
    log_loss_champion Float64 COMMENT 'Mean log loss of the champion, in nats',
    log_loss_learner  Float64 COMMENT 'Mean log loss of the learner, in nats',
    spend_predicted   Float64 COMMENT 'Sum of expected spend, in the shop''s currency',
    spend             Float64 COMMENT 'Sum of what was spent, in the shop''s currency'
)
COMMENT 'Quality by day, judged by the predictions as they were made before the truth was known'
AS
WITH
    -- A probability of exactly 0 or 1 would cost infinitely much; every judge clips.
    (p) -> least(greatest(toFloat64(p), 1e-7), 1 - 1e-7) AS clip,
    (p, y) -> if(y = 1, -log(clip(p)), -log(1 - clip(p))) AS loss
SELECT
    toDate(matured_at) AS day,
    count() AS n,
    avg(churned) AS churn_rate,
    avg(p_churn) AS p_churn_mean,
    avg(p_champion) AS p_champion_mean,
    avg(p_learner) AS p_learner_mean,
    avg(loss(p_churn, churned)) AS log_loss_blend,
    avg(loss(p_champion, churned)) AS log_loss_champion,
    avg(loss(p_learner, churned)) AS log_loss_learner,
    sum(toFloat64(predictions.spend_predicted)) AS spend_predicted,
    sum(toFloat64(predictions.spend)) AS spend
FROM matured_predictions AS predictions FINAL
-- A later life may have asked about the same days again.
WHERE (shard, toUInt32(bitShiftRight(ordinal, 32))) NOT IN (SELECT shard, life FROM past_lives)
GROUP BY day;

-- The newest life of each shard. Each batch must add up, not only their sum, in which what one lost
-- and another doubled would cancel out; and all batches from the life's first on must be there.
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
    first_batch         UInt64 COMMENT 'The life''s first batch that is here: 1, unless this database was made, or lost rows, while the life went on',
    missing_batches     Int64 COMMENT 'Batches between the first and the newest here that are not here',
    offset_gaps         UInt64 COMMENT 'Ranges that start after the one before them ended: records were skipped',
    offset_overlaps     UInt64 COMMENT 'Ranges that start before the one before them ended: records were taken twice',
    balanced            Bool COMMENT 'Every batch from the first one here on is here and adds up, and the ranges follow one another without gaps or overlaps',
    clickstream_next    UInt64 COMMENT 'The clickstream offset after the newest batch; all before it, from the first batch on, are accounted for',
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
        min(bitAnd(seq, 0xFFFFFFFF)) AS first_batch,
        toInt64(max(bitAnd(seq, 0xFFFFFFFF)) + 1 - first_batch) - toInt64(count()) AS missing,
        max(clickstream_to) AS clickstream_next, max(orders_to) AS orders_next,
        sumIf(b.accepted, inserted_at > now() - 3600) AS accepted_recently,
        sumIf(b.late, inserted_at > now() - 3600) AS late_recently,
        sumIf(b.dead_letters, inserted_at > now() - 3600) AS dead_recently,
        max(clock) AS newest_clock
    FROM batches AS b FINAL
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
            -- The first range of a stream has nothing before it to fit to.
            lagInFrame(range_to, 1, range_from) OVER (
                PARTITION BY shard, life, stream ORDER BY seq
                ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
            ) AS before
        FROM
        (
            SELECT
                shard, seq, toUInt32(bitShiftRight(seq, 32)) AS life, stream, range_from, range_to
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
