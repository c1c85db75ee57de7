-- What the console asks, in milliseconds at a million users (D-082, D-083, D-084). Three kinds of tables
-- serve it, and each stays right if rows arrive twice or late:
--   * The newest row of each user, alert, segment and audience, in the order of the question. Its version
--     says which row is newer, so a repeat changes nothing.
--   * Totals that a shard counts itself and tells as they are: the newest row of a shard counts.
--   * What was written once, in the order of time.

-- A user's newest score. A point read unpacks a compressed block of each column, so blocks are small, too.
ALTER TABLE score_history
    ADD COLUMN IF NOT EXISTS segments LowCardinality(String) COMMENT 'Segments of the shop''s own that the user is in, by name, with commas between' AFTER last_order_at;

CREATE TABLE IF NOT EXISTS users_now
(
    user_id          String COMMENT 'User id, or its pseudonym' CODEC(ZSTD(1)),
    shard            UInt16 COMMENT 'Kafka partition the user belongs to' CODEC(ZSTD(1)),
    seq              UInt64 COMMENT 'Life of the shard (seq >> 32) and number of the batch in it; the row with the highest one stays' CODEC(ZSTD(1)),
    scored_at        DateTime64(3, 'UTC') COMMENT 'Clock of the batch that scored the user, UTC, to the millisecond' CODEC(ZSTD(1)),
    p_churn          Float32 COMMENT 'Probability, 0 to 1, of no order within horizon_days: the blend that acts; NaN is unknown',
    p_champion       Float32 COMMENT 'Probability by the ONNX model alone',
    p_learner        Float32 COMMENT 'Probability by the online learner alone',
    expected_spend   Float32 COMMENT 'Expected spend within horizon_days, in the shop''s currency; NaN is unknown',
    spend_low        Float32 COMMENT 'With a chance of 80 % the spend within horizon_days is at least this, in the shop''s currency; NaN is unknown',
    spend_high       Float32 COMMENT 'And at most this; NaN is unknown',
    p_buy_7d         Float32 COMMENT 'Probability, 0 to 1, of an order within 7 days, as of the last order or daily sweep; NaN is unknown',
    p_buy_30d        Float32 COMMENT 'Probability, 0 to 1, of an order within 30 days; NaN is unknown',
    next_order_at    DateTime64(3, 'UTC') COMMENT 'When the next order is due, as likely before as after, UTC; 1970-01-01 when unknown or over a year away' CODEC(ZSTD(1)),
    horizon_days     UInt16 COMMENT 'How far the prediction looks ahead, in days' CODEC(ZSTD(1)),
    champion_version LowCardinality(String) COMMENT 'Version of the ONNX model',
    learner_version  UInt32 COMMENT 'Version of the online learner''s snapshot' CODEC(ZSTD(1)),
    value_tier       LowCardinality(String) COMMENT 'none | low | medium | high',
    lifecycle        LowCardinality(String) COMMENT 'visitor | new | active | at_risk | lapsed',
    at_risk          UInt8 COMMENT '1 while a churn alert of the user is open' CODEC(ZSTD(1)),
    lifetime_orders  UInt32 COMMENT 'Orders of the user so far' CODEC(ZSTD(1)),
    last_order_at    DateTime64(3, 'UTC') COMMENT 'Time of the newest order, UTC; 1970-01-01 when there was none' CODEC(ZSTD(1)),
    segments         LowCardinality(String) COMMENT 'Segments of the shop''s own that the user is in, by name, with commas between',
    inserted_at      DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'When the row arrived here, UTC' CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree(seq)
ORDER BY user_id
SETTINGS non_replicated_deduplication_window = 1000, index_granularity = 128, min_compress_block_size = 1024, max_compress_block_size = 4096
COMMENT 'The newest score of each user with the segments that the user is in; people read customers';

CREATE MATERIALIZED VIEW IF NOT EXISTS users_now_feed TO users_now AS
SELECT
    user_id, shard, seq, scored_at, p_churn, p_champion, p_learner, expected_spend, spend_low,
    spend_high, p_buy_7d, p_buy_30d, next_order_at, horizon_days, champion_version, learner_version,
    value_tier, lifecycle, at_risk, lifetime_orders, last_order_at, segments
FROM score_history;

-- The newest move of each user in each dimension.
CREATE TABLE IF NOT EXISTS segment_entries
(
    dimension    LowCardinality(String) COMMENT 'value_tier | lifecycle | rfm | name of a segment of the shop''s own',
    user_id      String COMMENT 'User id, or its pseudonym' CODEC(ZSTD(1)),
    segment      LowCardinality(String) COMMENT 'Where the user is in it since then',
    before       LowCardinality(String) COMMENT 'Where the user was before',
    since        DateTime64(3, 'UTC') COMMENT 'Clock of the batch that moved the user, UTC' CODEC(ZSTD(1)),
    why          LowCardinality(String) COMMENT 'What caused the move',
    version      UInt64 COMMENT 'Life of the shard (version >> 32) and number of the user''s move in it; the row with the highest one stays' CODEC(ZSTD(1)),
    shard        UInt16 COMMENT 'Kafka partition the user belongs to' CODEC(ZSTD(1)),
    inserted_at  DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'When the row arrived here, UTC' CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (dimension, user_id)
SETTINGS non_replicated_deduplication_window = 1000, index_granularity = 256
COMMENT 'The newest move of each user in each dimension; people read customer_segments';

CREATE MATERIALIZED VIEW IF NOT EXISTS segment_entries_feed TO segment_entries AS
SELECT
    dimension, user_id, to_segment AS segment, from_segment AS before, changed_at AS since, why,
    bitShiftLeft(toUInt64(life), 32) + number AS version, shard
FROM segment_changes;

-- How many users each segment has and what they are worth, as each shard counts it.
CREATE TABLE IF NOT EXISTS segment_totals
(
    dimension    LowCardinality(String) COMMENT 'value_tier | lifecycle | name of a segment of the shop''s own',
    segment      LowCardinality(String) COMMENT 'Tier or stage; `in` for a segment of the shop''s own',
    shard        UInt16 COMMENT 'Kafka partition whose users these are' CODEC(ZSTD(1)),
    seq          UInt64 COMMENT 'Life of the shard (seq >> 32) and number of the batch in it; the newest row counts' CODEC(ZSTD(1)),
    as_of        DateTime64(3, 'UTC') COMMENT 'Clock of that batch, UTC' CODEC(ZSTD(1)),
    users        Int64 COMMENT 'Users of the shard in the segment, by their newest score rows' CODEC(ZSTD(1)),
    spend_cents  Int64 COMMENT 'Sum of their expected spend, in hundredths of the shop''s currency; unknown counts 0' CODEC(ZSTD(1)),
    life         UInt32 COMMENT 'Life of the shard' CODEC(ZSTD(1)),
    inserted_at  DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'When the row arrived here, UTC' CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree(seq)
ORDER BY (dimension, segment, shard, life)
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'Size and expected spend of every segment now, by shard; people read segment_sizes';

CREATE TABLE IF NOT EXISTS segment_hours
(
    hour         DateTime64(3, 'UTC') COMMENT 'Beginning of the hour, UTC' CODEC(ZSTD(1)),
    dimension    LowCardinality(String) COMMENT 'value_tier | lifecycle | name of a segment of the shop''s own',
    segment      LowCardinality(String) COMMENT 'Tier or stage; `in` for a segment of the shop''s own',
    shard        UInt16 COMMENT 'Kafka partition whose users these are' CODEC(ZSTD(1)),
    seq          UInt64 COMMENT 'Life of the shard (seq >> 32) and number of the batch in it; the newest row of an hour counts' CODEC(ZSTD(1)),
    users        Int64 COMMENT 'Users of the shard in the segment at the end of the hour' CODEC(ZSTD(1)),
    spend_cents  Int64 COMMENT 'Sum of their expected spend, in hundredths of the shop''s currency' CODEC(ZSTD(1)),
    life         UInt32 COMMENT 'Life of the shard' CODEC(ZSTD(1)),
    inserted_at  DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'When the row arrived here, UTC' CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree(seq)
ORDER BY (hour, dimension, segment, shard, life)
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'Size and expected spend of every segment by hour and shard; people read segment_size_hours';

CREATE MATERIALIZED VIEW IF NOT EXISTS segment_hours_feed TO segment_hours AS
SELECT
    toStartOfHour(as_of) AS hour, dimension, segment, shard, seq, users,
    spend_cents, life
FROM segment_totals;

-- How many users moved within an hour, as each shard counts it.
CREATE TABLE IF NOT EXISTS segment_moves
(
    hour         DateTime64(3, 'UTC') COMMENT 'Beginning of the hour, UTC' CODEC(ZSTD(1)),
    dimension    LowCardinality(String) COMMENT 'value_tier | lifecycle | name of a segment of the shop''s own',
    from_segment LowCardinality(String) COMMENT 'Segment left',
    to_segment   LowCardinality(String) COMMENT 'Segment entered',
    shard        UInt16 COMMENT 'Kafka partition whose users these are' CODEC(ZSTD(1)),
    seq          UInt64 COMMENT 'Life of the shard (seq >> 32) and number of the batch in it; the newest row of an hour counts' CODEC(ZSTD(1)),
    moves        UInt32 COMMENT 'Moves in this hour up to that batch' CODEC(ZSTD(1)),
    life         UInt32 COMMENT 'Life of the shard' CODEC(ZSTD(1)),
    inserted_at  DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'When the row arrived here, UTC' CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree(seq)
ORDER BY (hour, dimension, from_segment, to_segment, shard, life)
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'Moves between segments by hour and shard; people read segment_flow_hours';

-- The newest row of each alert, by user.
CREATE TABLE IF NOT EXISTS user_alerts
(
    user_id          String COMMENT 'User id, or its pseudonym' CODEC(ZSTD(1)),
    alert_id         String COMMENT 'Hash of user, rule and episode: the same after any replay' CODEC(ZSTD(1)),
    shard            UInt16 COMMENT 'Kafka partition the user belongs to' CODEC(ZSTD(1)),
    rule             LowCardinality(String) COMMENT 'Name of the alert rule',
    episode          UInt32 COMMENT 'The user''s episodes under this rule, counted from 1' CODEC(ZSTD(1)),
    state            LowCardinality(String) COMMENT 'open | closed',
    version          UInt8 COMMENT '1: the row of the opening; 2: that of the closing, which stays' CODEC(ZSTD(1)),
    raised_at        DateTime64(3, 'UTC') COMMENT 'When it was raised, UTC' CODEC(ZSTD(1)),
    closed_at        DateTime64(3, 'UTC') COMMENT 'When it ended, UTC; 1970-01-01 while open' CODEC(ZSTD(1)),
    closed_why       LowCardinality(String) COMMENT 'ordered | score_fell | lapsed | suppressed; empty while open',
    p_churn          Float32 COMMENT 'Probability, 0 to 1, of no order within horizon_days, when raised',
    expected_spend   Float32 COMMENT 'Expected spend within horizon_days, in the shop''s currency, when raised',
    priority         Float32 COMMENT 'p_churn x expected_spend: the spend at stake, in the shop''s currency',
    horizon_days     UInt16 COMMENT 'How far the prediction looks ahead, in days' CODEC(ZSTD(1)),
    reasons          Array(String) COMMENT 'What raised the score most, strongest first, in words; empty once closed' CODEC(ZSTD(1)),
    action           LowCardinality(String) COMMENT 'Recommended action',
    arm              LowCardinality(String) COMMENT 'treat | holdout: contact nobody in the holdout',
    value_tier       LowCardinality(String) COMMENT 'none | low | medium | high, when raised',
    lifecycle        LowCardinality(String) COMMENT 'visitor | new | active | at_risk | lapsed, when raised',
    champion_version LowCardinality(String) COMMENT 'Version of the ONNX model',
    life             UInt32 COMMENT 'Life of the shard that raised it' CODEC(ZSTD(1)),
    inserted_at      DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'When the row arrived here, UTC' CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (user_id, alert_id)
SETTINGS non_replicated_deduplication_window = 1000, index_granularity = 256
COMMENT 'The newest row of each alert, by user; people read customer_alerts';

CREATE MATERIALIZED VIEW IF NOT EXISTS user_alerts_feed TO user_alerts AS
SELECT
    user_id, alert_id, shard, rule, episode, state, version, raised_at, closed_at, closed_why, p_churn,
    expected_spend, priority, horizon_days, reasons, action, arm, value_tier, lifecycle,
    champion_version, life
FROM alerts;

-- The newest change of each user in each audience.
CREATE TABLE IF NOT EXISTS audience_entries
(
    audience       LowCardinality(String) COMMENT 'Name of the audience',
    user_id        String COMMENT 'User id, or its pseudonym' CODEC(ZSTD(1)),
    segment        LowCardinality(String) COMMENT 'Segment that it is made of, or alerts',
    change         LowCardinality(String) COMMENT 'entered | left',
    arm            LowCardinality(String) COMMENT 'treat | holdout (of this audience) | global_holdout: contact nobody in a holdout',
    fed            UInt8 COMMENT '1: the feed has the user after this change' CODEC(ZSTD(1)),
    since          DateTime64(3, 'UTC') COMMENT 'Clock of the batch that moved the user, UTC' CODEC(ZSTD(1)),
    number         UInt32 COMMENT 'Counts the user''s changes of this audience, from 1' CODEC(ZSTD(1)),
    version        UInt64 COMMENT 'Life of the shard (version >> 32) and number; the row with the highest one stays' CODEC(ZSTD(1)),
    definitions    String COMMENT 'Version of the definitions in force' CODEC(ZSTD(1)),
    p_churn        Float32 COMMENT 'Probability, 0 to 1, of no order within the horizon, then; NaN is unknown' CODEC(ZSTD(1)),
    expected_spend Float32 COMMENT 'Expected spend within the horizon, in the shop''s currency, then; NaN is unknown' CODEC(ZSTD(1)),
    value_tier     LowCardinality(String) COMMENT 'none | low | medium | high, then',
    lifecycle      LowCardinality(String) COMMENT 'visitor | new | active | at_risk | lapsed, then',
    shard          UInt16 COMMENT 'Kafka partition the user belongs to' CODEC(ZSTD(1)),
    inserted_at    DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'When the row arrived here, UTC' CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (audience, user_id)
SETTINGS non_replicated_deduplication_window = 1000, index_granularity = 256
COMMENT 'The newest change of each user in each audience; people read audience_people';

CREATE MATERIALIZED VIEW IF NOT EXISTS audience_entries_feed TO audience_entries AS
SELECT
    audience, user_id, segment, change, arm, fed, changed_at AS since, number,
    bitShiftLeft(toUInt64(life), 32) + number AS version, definitions, p_churn, expected_spend,
    value_tier, lifecycle, shard
FROM audience_changes;

-- Predictions with their truth, in the order of time, without whose they were.
CREATE TABLE IF NOT EXISTS judged_predictions
(
    day             Date COMMENT 'Day the truth was known, UTC' CODEC(ZSTD(1)),
    shard           UInt16 COMMENT 'Kafka partition' CODEC(ZSTD(1)),
    ordinal         UInt64 COMMENT 'Numbers the examples of a shard; the life of the shard is ordinal >> 32' CODEC(DoubleDelta, ZSTD(1)),
    p_churn         Float32 COMMENT 'Probability, 0 to 1, as acted on when it was made' CODEC(ZSTD(1)),
    p_champion      Float32 COMMENT 'Probability by the ONNX model alone' CODEC(ZSTD(1)),
    p_learner       Float32 COMMENT 'Probability by the online learner alone' CODEC(ZSTD(1)),
    churned         UInt8 COMMENT '1 when no order came within the horizon' CODEC(ZSTD(1)),
    spend_predicted Float32 COMMENT 'Expected spend within the horizon, in the shop''s currency' CODEC(ZSTD(1)),
    spend           Float32 COMMENT 'Spend within the horizon, in the shop''s currency' CODEC(ZSTD(1)),
    champion_version LowCardinality(String) COMMENT 'Version of the ONNX model',
    inserted_at     DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'When the row arrived here, UTC' CODEC(Delta, ZSTD(1))
)
ENGINE = ReplacingMergeTree
ORDER BY (day, shard, ordinal)
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'Predictions beside what happened, by day; names nobody';

CREATE MATERIALIZED VIEW IF NOT EXISTS judged_predictions_feed TO judged_predictions AS
SELECT
    toDate(matured_at) AS day, shard, ordinal, p_churn, p_champion, p_learner, churned,
    spend_predicted, spend, champion_version
FROM matured_predictions;

-- Which definitions each shard took, and when.
CREATE TABLE IF NOT EXISTS definitions_taken
(
    number       UInt32 COMMENT 'Counts what was applied, from 1' CODEC(ZSTD(1)),
    version      String COMMENT 'The first 16 hex digits of SHA-256 over the content' CODEC(ZSTD(1)),
    shard        UInt16 COMMENT 'Kafka partition' CODEC(ZSTD(1)),
    seq          UInt64 COMMENT 'Life of the shard (seq >> 32) and number of the batch in it that took them' CODEC(ZSTD(1)),
    taken_at     DateTime64(3, 'UTC') COMMENT 'Clock of that batch, UTC' CODEC(ZSTD(1)),
    applied_at   DateTime64(3, 'UTC') COMMENT 'When `tideline segments apply` published them, UTC' CODEC(ZSTD(1)),
    applied_by   String COMMENT 'Who did' CODEC(ZSTD(1)),
    note         String COMMENT 'What they said about it' CODEC(ZSTD(1)),
    document     String COMMENT 'The definitions as JSON (`schemas.definitions.Definitions`)' CODEC(ZSTD(3)),
    life         UInt32 COMMENT 'Life of the shard' CODEC(ZSTD(1)),
    inserted_at  DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'When the row arrived here, UTC' CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree
ORDER BY (shard, seq)
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'Definitions of segments, audiences and alerts that each shard took; people read definitions_in_force';

-- What people did in the console.
CREATE TABLE IF NOT EXISTS console_actions
(
    action_id   String COMMENT 'Names one action' CODEC(ZSTD(1)),
    happened_at DateTime64(3, 'UTC') COMMENT 'When, by the console''s clock, UTC' CODEC(ZSTD(1)),
    who         String COMMENT 'Who did it, as the console knows them' CODEC(ZSTD(1)),
    role        LowCardinality(String) COMMENT 'marketing | campaigns | sre | admin',
    action      LowCardinality(String) COMMENT 'contacted | apply | export | erase_request | ...',
    user_id     String COMMENT 'The customer that it was about, or the pseudonym; empty when about nobody' CODEC(ZSTD(1)),
    what        String COMMENT 'What it was about otherwise: an alert, an audience, a version; names no customer' CODEC(ZSTD(1)),
    result      LowCardinality(String) COMMENT 'asked | done | refused | failed; the newest row of an action counts',
    detail      String COMMENT 'More about the result, in words; names no customer' CODEC(ZSTD(1)),
    inserted_at DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'When the row arrived here, UTC; counts for the time to live' CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree(inserted_at)
ORDER BY (happened_at, action_id)
TTL toDateTime(inserted_at) + INTERVAL 730 DAY
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'What people did in the console, kept for two years; people read console_log';

CREATE VIEW IF NOT EXISTS customers
(
    user_id          String COMMENT 'User id, or its pseudonym; one row each',
    p_churn          Nullable(Float32) COMMENT 'Probability, 0 to 1, of no order within horizon_days; NULL where status says so',
    expected_spend   Nullable(Float32) COMMENT 'Expected spend within horizon_days, in the shop''s currency; NULL where status says so',
    spend_low        Nullable(Float32) COMMENT 'With a chance of 80 % the spend within horizon_days is at least this; NULL when unknown',
    spend_high       Nullable(Float32) COMMENT 'And at most this; NULL when unknown',
    p_buy_7d         Nullable(Float32) COMMENT 'Probability, 0 to 1, of an order within 7 days, as of the last order or daily sweep; NULL when unknown',
    p_buy_30d        Nullable(Float32) COMMENT 'Probability, 0 to 1, of an order within 30 days; NULL when unknown',
    next_order_at    Nullable(DateTime64(3, 'UTC')) COMMENT 'When the next order is due, as likely before as after, UTC; NULL when unknown or over a year away',
    horizon_days     UInt16 COMMENT 'How far the prediction looks ahead, in days',
    status           String COMMENT 'scored | not enough data: no model for users with so few orders yet, or too few days of the shop',
    evidence         String COMMENT 'How much is behind it, by orders so far: no order | one order | few orders (2 to 5) | many orders',
    value_tier       LowCardinality(String) COMMENT 'none | low | medium | high',
    lifecycle        LowCardinality(String) COMMENT 'visitor | new | active | at_risk | lapsed',
    segments         Array(String) COMMENT 'Segments of the shop''s own that the user is in',
    at_risk          UInt8 COMMENT '1 while a churn alert of the user is open',
    lifetime_orders  UInt32 COMMENT 'Orders of the user so far',
    last_order_at    DateTime64(3, 'UTC') COMMENT 'Time of the newest order, UTC; 1970-01-01 when there was none',
    scored_at        DateTime64(3, 'UTC') COMMENT 'When the user was last looked at, UTC',
    p_champion       Nullable(Float32) COMMENT 'Probability by the ONNX model alone',
    p_learner        Nullable(Float32) COMMENT 'Probability by the online learner alone',
    champion_version LowCardinality(String) COMMENT 'Version of the ONNX model',
    learner_version  UInt32 COMMENT 'Version of the online learner''s snapshot',
    shard            UInt16 COMMENT 'Kafka partition the user belongs to',
    seq              UInt64 COMMENT 'Life of the shard (seq >> 32) and number of the batch in it that wrote the row',
    inserted_at      DateTime64(3, 'UTC') COMMENT 'When the row arrived here, UTC'
)
COMMENT 'The newest score of each user, with segments; ask for some user ids, or for those that begin alike'
AS
SELECT
    user_id,
    if(isNaN(now.p_churn), NULL, now.p_churn) AS p_churn,
    if(isNaN(now.expected_spend), NULL, now.expected_spend) AS expected_spend,
    if(isNaN(now.spend_low), NULL, now.spend_low) AS spend_low,
    if(isNaN(now.spend_high), NULL, now.spend_high) AS spend_high,
    if(isNaN(now.p_buy_7d), NULL, now.p_buy_7d) AS p_buy_7d,
    if(isNaN(now.p_buy_30d), NULL, now.p_buy_30d) AS p_buy_30d,
    if(toUnixTimestamp64Milli(now.next_order_at) = 0, NULL, now.next_order_at) AS next_order_at,
    horizon_days,
    if(isNaN(now.p_churn), 'not enough data', 'scored') AS status,
    multiIf(lifetime_orders = 0, 'no order', lifetime_orders = 1, 'one order', lifetime_orders <= 5, 'few orders', 'many orders') AS evidence,
    value_tier, lifecycle,
    if(now.segments = '', CAST([] AS Array(String)), splitByChar(',', toString(now.segments))) AS segments,
    at_risk, lifetime_orders, last_order_at, scored_at,
    if(isNaN(now.p_champion), NULL, now.p_champion) AS p_champion,
    if(isNaN(now.p_learner), NULL, now.p_learner) AS p_learner,
    champion_version, learner_version, shard, seq, inserted_at
FROM users_now AS now FINAL
WHERE (shard, toUInt32(bitShiftRight(seq, 32))) NOT IN (SELECT shard, life FROM past_lives);

CREATE VIEW IF NOT EXISTS customer_scores
(
    user_id          String COMMENT 'User id, or its pseudonym; ask for one',
    scored_at        DateTime64(3, 'UTC') COMMENT 'When the user was scored, UTC',
    p_churn          Nullable(Float32) COMMENT 'Probability, 0 to 1, of no order within horizon_days; NULL without enough data',
    expected_spend   Nullable(Float32) COMMENT 'Expected spend within horizon_days, in the shop''s currency; NULL without enough data',
    value_tier       LowCardinality(String) COMMENT 'none | low | medium | high',
    lifecycle        LowCardinality(String) COMMENT 'visitor | new | active | at_risk | lapsed',
    segments         Array(String) COMMENT 'Segments of the shop''s own that the user was in',
    lifetime_orders  UInt32 COMMENT 'Orders of the user by then',
    champion_version LowCardinality(String) COMMENT 'Version of the ONNX model',
    learner_version  UInt32 COMMENT 'Version of the online learner''s snapshot'
)
COMMENT 'Every score of a user that was written, one row each, for 180 days; of the newest life of each shard'
AS
SELECT
    user_id, scored_at, if(isNaN(h.p_churn), NULL, h.p_churn) AS p_churn,
    if(isNaN(h.expected_spend), NULL, h.expected_spend) AS expected_spend, value_tier, lifecycle,
    if(h.segments = '', CAST([] AS Array(String)), splitByChar(',', toString(h.segments))) AS segments,
    lifetime_orders, champion_version, learner_version
FROM score_history AS h FINAL
WHERE (shard, toUInt32(bitShiftRight(seq, 32))) NOT IN (SELECT shard, life FROM past_lives);

CREATE VIEW IF NOT EXISTS customer_segments
(
    dimension LowCardinality(String) COMMENT 'value_tier | lifecycle | rfm | name of a segment of the shop''s own',
    user_id   String COMMENT 'User id, or its pseudonym; one row per dimension; ask for some',
    segment   LowCardinality(String) COMMENT 'Where the user is in it now: tier, stage, cell; in | out for a segment of the shop''s own',
    before    LowCardinality(String) COMMENT 'Where the user was before',
    since     DateTime64(3, 'UTC') COMMENT 'When the user moved from the one to the other, UTC',
    why       LowCardinality(String) COMMENT 'What caused the move'
)
COMMENT 'The newest move of each user in each dimension; who never moved has no row, and is in the first tier or stage'
AS
SELECT dimension, user_id, segment, before, since, why
FROM segment_entries FINAL
WHERE (shard, toUInt32(bitShiftRight(version, 32))) NOT IN (SELECT shard, life FROM past_lives);

CREATE VIEW IF NOT EXISTS customer_alerts
(
    user_id          String COMMENT 'User id, or its pseudonym',
    alert_id         String COMMENT 'The same id in every system; one row each',
    rule             LowCardinality(String) COMMENT 'Name of the alert rule',
    episode          UInt32 COMMENT 'The user''s alerts, counted from 1',
    raised_at        DateTime64(3, 'UTC') COMMENT 'When it was raised, UTC',
    closed_at        DateTime64(3, 'UTC') COMMENT 'When it ended, UTC; 1970-01-01 while open',
    closed_why       String COMMENT 'ordered | score_fell | lapsed | suppressed; started_over: the shard began a new life; empty while open',
    p_churn          Float32 COMMENT 'Probability, 0 to 1, when raised',
    expected_spend   Float32 COMMENT 'Expected spend, in the shop''s currency, when raised',
    priority         Float32 COMMENT 'p_churn x expected_spend: the spend at stake, in the shop''s currency',
    horizon_days     UInt16 COMMENT 'How far the prediction looks ahead, in days',
    reasons          Array(String) COMMENT 'What raised the score most, strongest first; empty once closed',
    action           LowCardinality(String) COMMENT 'Recommended action',
    arm              LowCardinality(String) COMMENT 'treat | holdout: contact nobody in the holdout',
    value_tier       LowCardinality(String) COMMENT 'none | low | medium | high, when raised',
    lifecycle        LowCardinality(String) COMMENT 'visitor | new | active | at_risk | lapsed, when raised',
    champion_version LowCardinality(String) COMMENT 'Version of the ONNX model'
)
COMMENT 'Every alert by user, one row each; of earlier lives too, as started_over'
AS
SELECT
    user_id, alert_id, rule, episode, raised_at,
    if(a.closed_why = '' AND past.is_past = 1, past.ended_at, a.closed_at) AS closed_at,
    multiIf(a.closed_why != '', toString(a.closed_why), past.is_past = 1, 'started_over', '') AS closed_why,
    p_churn, expected_spend, priority, horizon_days, reasons, action, arm, value_tier, lifecycle,
    champion_version
FROM (SELECT * FROM user_alerts FINAL) AS a
LEFT JOIN
(
    SELECT shard, life, ended_at, 1 AS is_past FROM past_lives
) AS past ON a.shard = past.shard AND a.life = past.life
SETTINGS join_use_nulls = 0;

CREATE VIEW IF NOT EXISTS customer_contacts
(
    user_id        String COMMENT 'User id, or its pseudonym',
    event_id       String COMMENT 'Id of the contact, as the shop gave it; one row each',
    contacted_at   DateTime64(3, 'UTC') COMMENT 'When the user was contacted, UTC',
    campaign       LowCardinality(String) COMMENT 'Campaign, as the shop named it; empty when it did not',
    channel        LowCardinality(String) COMMENT 'How, as the shop named it; empty when it did not',
    alert_id       String COMMENT 'Alert that it was for: the one that the shop named, or that was open then; empty without one',
    arm            LowCardinality(String) COMMENT 'treat | holdout, of alerts'
)
COMMENT 'Every contact with a customer that the shop told; ask for some users'
AS
SELECT
    user_id, event_id, contacted_at, campaign, channel,
    if(c.named_alert_id != '', c.named_alert_id, c.alert_id) AS alert_id, arm
FROM contacts AS c FINAL;

CREATE VIEW IF NOT EXISTS open_alerts
(
    alert_id       String COMMENT 'The same id in every system; one row each',
    user_id        String COMMENT 'User id, or its pseudonym',
    priority       Float32 COMMENT 'p_churn x expected_spend: the spend at stake, in the shop''s currency',
    p_churn        Float32 COMMENT 'Probability, 0 to 1, of no order within horizon_days',
    expected_spend Float32 COMMENT 'Expected spend within horizon_days, in the shop''s currency',
    horizon_days   UInt16 COMMENT 'How far the prediction looks ahead, in days',
    reasons        Array(String) COMMENT 'What raised the score most, strongest first',
    action         LowCardinality(String) COMMENT 'Recommended action',
    arm            LowCardinality(String) COMMENT 'treat | holdout: contact nobody in the holdout',
    value_tier     LowCardinality(String) COMMENT 'none | low | medium | high, when raised',
    lifecycle      LowCardinality(String) COMMENT 'visitor | new | active | at_risk | lapsed, when raised',
    rule           LowCardinality(String) COMMENT 'Name of the alert rule',
    episode        UInt32 COMMENT 'The user''s alerts, counted from 1',
    raised_at      DateTime64(3, 'UTC') COMMENT 'When it was raised, UTC'
)
COMMENT 'Alerts that are open now, one row each, in no order'
AS
SELECT
    alert_id, user_id, priority, p_churn, expected_spend, horizon_days, reasons, action, arm, value_tier,
    lifecycle, rule, episode, raised_at
FROM user_alerts FINAL
WHERE version = 1 AND (shard, life) NOT IN (SELECT shard, life FROM past_lives);

CREATE VIEW IF NOT EXISTS alert_outcomes
(
    day        Date COMMENT 'Day on which the alerts were raised, UTC',
    arm        LowCardinality(String) COMMENT 'treat | holdout: compare the two to measure uplift',
    action     LowCardinality(String) COMMENT 'Recommended action',
    outcome    String COMMENT 'opened | contacted | won back | ordered | lost | ended, as in alert_episodes',
    alerts     UInt64 COMMENT 'Alerts',
    priority   Float64 COMMENT 'Sum of the spend at stake when raised, in the shop''s currency'
)
COMMENT 'What became of alerts, by the day on which they were raised; ask for some days'
AS
SELECT day, arm, action, outcome, count() AS alerts, sum(stake) AS priority
FROM
(
    SELECT
        toDate(raised_at) AS day, arm, action, toFloat64(a.priority) AS stake,
        multiIf(
            a.closed_why = 'ordered' AND told.contacts > 0 AND a.closed_at >= told.first_at
                AND a.closed_at <= addDays(told.first_at, a.horizon_days), 'won back',
            a.closed_why = 'ordered', 'ordered',
            a.closed_why = 'lapsed', 'lost',
            a.closed_why != '' OR (a.shard, a.life) IN (SELECT shard, life FROM past_lives), 'ended',
            (SELECT max(clock) FROM batches)
                > addDays(if(told.contacts > 0, told.first_at, a.raised_at), a.horizon_days), 'lost',
            told.contacts > 0, 'contacted',
            'opened'
        ) AS outcome
    FROM
    (
        SELECT alert_id, user_id, shard, life, arm, action, priority, horizon_days, raised_at,
               closed_at, closed_why
        FROM user_alerts FINAL
    ) AS a
    LEFT JOIN
    (
        SELECT alert_id, count() AS contacts, min(contacted_at) AS first_at
        FROM customer_contacts GROUP BY alert_id
    ) AS told ON a.alert_id = told.alert_id
)
GROUP BY day, arm, action, outcome
SETTINGS join_use_nulls = 0;

CREATE VIEW IF NOT EXISTS segment_sizes_now
(
    dimension      LowCardinality(String) COMMENT 'value_tier | lifecycle | name of a segment of the shop''s own',
    segment        LowCardinality(String) COMMENT 'Every tier and stage, an empty one too; `in` for a segment of the shop''s own',
    users          Int64 COMMENT 'Users in the segment now, as their shards count them',
    expected_spend Float64 COMMENT 'Sum of their expected spend within the horizon, in the shop''s currency; who has too little data counts 0',
    as_of          DateTime64(3, 'UTC') COMMENT 'When a shard last said something about it, UTC'
)
COMMENT 'Size and expected spend of every segment now, as the shards count it'
AS
SELECT dimension, segment, sum(members) AS users, sum(cents) / 100 AS expected_spend, max(at) AS as_of
FROM
(
    -- Under other names: an alias above would stand for the sum in the sums below it.
    SELECT dimension, segment, t.users AS members, t.spend_cents AS cents, t.as_of AS at
    FROM segment_totals AS t FINAL
    WHERE (shard, life) NOT IN (SELECT shard, life FROM past_lives)
)
GROUP BY dimension, segment
ORDER BY dimension, segment;

CREATE VIEW IF NOT EXISTS segment_size_hours
(
    hour           DateTime64(3, 'UTC') COMMENT 'Beginning of the hour, UTC',
    dimension      LowCardinality(String) COMMENT 'value_tier | lifecycle | name of a segment of the shop''s own',
    segment        LowCardinality(String) COMMENT 'Tier or stage; `in` for a segment of the shop''s own',
    users          Int64 COMMENT 'Users in the segment at the end of the hour, or now',
    expected_spend Float64 COMMENT 'Sum of their expected spend within the horizon, in the shop''s currency',
    shards         UInt64 COMMENT 'Shards that said so within the hour: with fewer than there are, the numbers are of a part of the users'
)
COMMENT 'Size and expected spend of every segment by hour; ask for some hours'
AS
SELECT hour, dimension, segment, sum(members) AS users, sum(cents) / 100 AS expected_spend,
       uniqExact(shard) AS shards
FROM
(
    SELECT hour, dimension, segment, shard, t.users AS members, t.spend_cents AS cents
    FROM segment_hours AS t FINAL
    WHERE (shard, life) NOT IN (SELECT shard, life FROM past_lives)
)
GROUP BY hour, dimension, segment
ORDER BY hour, dimension, segment;

CREATE VIEW IF NOT EXISTS segment_flow_hours
(
    hour         DateTime64(3, 'UTC') COMMENT 'Beginning of the hour, UTC',
    dimension    LowCardinality(String) COMMENT 'value_tier | lifecycle | name of a segment of the shop''s own',
    from_segment LowCardinality(String) COMMENT 'Segment left; in | out for a segment of the shop''s own',
    to_segment   LowCardinality(String) COMMENT 'Segment entered',
    moves        UInt64 COMMENT 'Moves within the hour'
)
COMMENT 'Moves between segments by hour, as the shards count them; ask for some hours'
AS
SELECT hour, dimension, from_segment, to_segment, sum(count) AS moves
FROM
(
    SELECT hour, dimension, from_segment, to_segment, m.moves AS count
    FROM segment_moves AS m FINAL
    WHERE (shard, life) NOT IN (SELECT shard, life FROM past_lives)
)
GROUP BY hour, dimension, from_segment, to_segment
ORDER BY hour, dimension, from_segment, to_segment;

CREATE VIEW IF NOT EXISTS audience_people
(
    audience       LowCardinality(String) COMMENT 'Name of the audience',
    user_id        String COMMENT 'User id, or its pseudonym; one row per audience',
    segment        LowCardinality(String) COMMENT 'Segment that the audience is made of, or alerts',
    arm            LowCardinality(String) COMMENT 'treat | holdout (of this audience) | global_holdout: contact nobody in a holdout',
    fed            UInt8 COMMENT '1: the feed has the user',
    entered_at     DateTime64(3, 'UTC') COMMENT 'When the user last entered, UTC',
    p_churn        Nullable(Float32) COMMENT 'Probability, 0 to 1, of no order within the horizon, when the user entered; NULL when unknown',
    expected_spend Nullable(Float32) COMMENT 'Expected spend within the horizon, in the shop''s currency, when the user entered; NULL when unknown',
    value_tier     LowCardinality(String) COMMENT 'none | low | medium | high, when the user entered',
    lifecycle      LowCardinality(String) COMMENT 'visitor | new | active | at_risk | lapsed, when the user entered',
    definitions    String COMMENT 'Version of the definitions that the user entered by'
)
COMMENT 'Who is in each audience now, of all arms, one row per audience and user; page by user_id'
AS
SELECT
    audience, user_id, segment, arm, fed, since AS entered_at,
    if(isNaN(e.p_churn), NULL, e.p_churn) AS p_churn,
    if(isNaN(e.expected_spend), NULL, e.expected_spend) AS expected_spend, value_tier, lifecycle,
    definitions
FROM audience_entries AS e FINAL
WHERE change = 'entered'
    AND (shard, toUInt32(bitShiftRight(version, 32))) NOT IN (SELECT shard, life FROM past_lives);

CREATE VIEW IF NOT EXISTS quality_days
(
    day               Date COMMENT 'Day the truth was known, UTC',
    bin               UInt8 COMMENT 'Twentieth of the probability scale that the blend''s prediction was in, 0 to 19',
    n                 UInt64 COMMENT 'Predictions',
    churned           UInt64 COMMENT 'Those that were followed by no order within the horizon',
    p_churn_sum       Float64 COMMENT 'Sum of the blend''s probabilities; / n near churned / n when calibrated',
    p_champion_sum    Float64 COMMENT 'Sum of the champion''s',
    p_learner_sum     Float64 COMMENT 'Sum of the learner''s',
    loss_blend_sum    Float64 COMMENT 'Sum of the log loss of the blend, in nats; / n is the mean',
    loss_champion_sum Float64 COMMENT 'Sum of the log loss of the champion, in nats',
    loss_learner_sum  Float64 COMMENT 'Sum of the log loss of the learner, in nats',
    spend_predicted   Float64 COMMENT 'Sum of expected spend, in the shop''s currency',
    spend             Float64 COMMENT 'Sum of what was spent, in the shop''s currency'
)
COMMENT 'Quality by day and twentieth of the probability: sums, so that weeks and curves follow; ask for some days'
AS
WITH
    (p) -> least(greatest(toFloat64(p), 1e-7), 1 - 1e-7) AS clip,
    (p, y) -> if(y = 1, -log(clip(p)), -log(1 - clip(p))) AS loss
SELECT
    day, toUInt8(least(floor(j.p_churn * 20), 19)) AS bin, count() AS n, sum(j.churned) AS churned,
    sum(toFloat64(j.p_churn)) AS p_churn_sum, sum(toFloat64(j.p_champion)) AS p_champion_sum,
    sum(toFloat64(j.p_learner)) AS p_learner_sum,
    sum(loss(j.p_churn, j.churned)) AS loss_blend_sum,
    sum(loss(j.p_champion, j.churned)) AS loss_champion_sum,
    sum(loss(j.p_learner, j.churned)) AS loss_learner_sum,
    sum(toFloat64(j.spend_predicted)) AS spend_predicted, sum(toFloat64(j.spend)) AS spend
FROM judged_predictions AS j FINAL
WHERE (shard, toUInt32(bitShiftRight(ordinal, 32))) NOT IN (SELECT shard, life FROM past_lives)
GROUP BY day, bin;

CREATE VIEW IF NOT EXISTS batch_minutes
(
    minute        DateTime('UTC') COMMENT 'Minute in which the batches arrived here, UTC',
    shard         UInt16 COMMENT 'Kafka partition',
    batches       UInt64 COMMENT 'Micro-batches',
    accepted      UInt64 COMMENT 'Records taken in',
    scored        UInt64 COMMENT 'Events that entered the windows',
    duplicates    UInt64 COMMENT 'Events seen before',
    late          UInt64 COMMENT 'Events too old for the windows',
    dead_letters  UInt64 COMMENT 'Records that could not be used',
    users_scored  UInt64 COMMENT 'Users scored',
    seconds_worst Float64 COMMENT 'Longest time from a batch''s clock to its row here, in seconds; of a replay it says nothing',
    seconds_mean  Float64 COMMENT 'Mean of it'
)
COMMENT 'What the workers did by minute, within the last 24 hours'
AS
SELECT
    toStartOfMinute(arrived) AS minute, shard, count() AS batches, sum(taken) AS accepted,
    sum(counted) AS scored, sum(repeated) AS duplicates, sum(too_old) AS late, sum(dead) AS dead_letters,
    sum(people) AS users_scored, max(seconds) AS seconds_worst, avg(seconds) AS seconds_mean
FROM
(
    SELECT
        b.shard AS shard, seq, toDateTime(min(inserted_at), 'UTC') AS arrived, any(b.accepted) AS taken,
        any(b.scored) AS counted, any(b.duplicates) AS repeated, any(b.late) AS too_old,
        any(b.dead_letters) AS dead, any(b.users_scored) AS people,
        (toUnixTimestamp64Milli(min(inserted_at)) - toUnixTimestamp64Milli(any(clock))) / 1000 AS seconds
    FROM batches AS b
    WHERE inserted_at > now() - 86400
    GROUP BY b.shard, seq
)
WHERE (shard, toUInt32(bitShiftRight(seq, 32))) NOT IN (SELECT shard, life FROM past_lives)
GROUP BY minute, shard
ORDER BY minute, shard;

CREATE VIEW IF NOT EXISTS lag_minutes
(
    minute             DateTime('UTC') COMMENT 'Minute, UTC',
    consumer_group     LowCardinality(String) COMMENT 'Kafka consumer group',
    topic              LowCardinality(String) COMMENT 'Kafka topic',
    partition          UInt16 COMMENT 'Kafka partition',
    lag_records        Int64 COMMENT 'The most records that were not committed; -1 when unknown all the time',
    lag_seconds        Nullable(Float32) COMMENT 'The highest age of the oldest of them, in seconds; NULL when unknown',
    records_per_second Nullable(Float32) COMMENT 'By how many records the lag grew per second, at the end; NULL when unknown',
    status             LowCardinality(String) COMMENT 'The monitor''s last verdict of the minute'
)
COMMENT 'Consumer lag by minute, within the last 24 hours'
AS
SELECT
    toStartOfMinute(toDateTime(observed_at, 'UTC')) AS minute, consumer_group, topic, partition,
    max(lag.lag_records) AS lag_records,
    if(countIf(NOT isNaN(lag.lag_seconds)) = 0, NULL, maxIf(lag.lag_seconds, NOT isNaN(lag.lag_seconds))) AS lag_seconds,
    if(isNaN(argMax(lag.records_per_second, observed_at)), NULL, argMax(lag.records_per_second, observed_at)) AS records_per_second,
    argMax(lag.status, observed_at) AS status
FROM consumer_lag AS lag
WHERE observed_at > now() - 86400
GROUP BY minute, consumer_group, topic, partition
ORDER BY minute, consumer_group, topic, partition;

CREATE VIEW IF NOT EXISTS dead_letter_reasons
(
    day       Date COMMENT 'Day, UTC',
    topic     LowCardinality(String) COMMENT 'Topic the records came from',
    reason    LowCardinality(String) COMMENT 'Short code, such as invalid_json',
    records   UInt64 COMMENT 'Records that could not be used',
    newest_at DateTime64(3, 'UTC') COMMENT 'When the last of them was rejected, UTC'
)
COMMENT 'Dead letters by day and reason, of the last 30 days; no keys and payloads'
AS
SELECT toDate(recorded_at) AS day, topic, reason, uniqExact(partition, offset) AS records,
       max(recorded_at) AS newest_at
FROM dead_letters
GROUP BY day, topic, reason
ORDER BY day, topic, reason;

CREATE VIEW IF NOT EXISTS definitions_history
(
    number       UInt32 COMMENT 'Counts what was applied, from 1',
    version      String COMMENT 'The first 16 hex digits of SHA-256 over the content',
    applied_at   DateTime64(3, 'UTC') COMMENT 'When `tideline segments apply` published them, UTC',
    applied_by   String COMMENT 'Who did',
    note         String COMMENT 'What they said about it',
    taken_at     DateTime64(3, 'UTC') COMMENT 'When the first shard took them, by its clock, UTC',
    taken_by     UInt64 COMMENT 'Shards that took them',
    in_force     UInt64 COMMENT 'Shards in which they are in force now',
    document     String COMMENT 'The definitions as JSON'
)
COMMENT 'Definitions that were ever in force, one row each, the newest first; none before the first ones were applied'
AS
SELECT
    number, version, any(applied) AS applied_at, any(who) AS applied_by, any(said) AS note,
    min(at) AS taken_at, uniqExact(shard) AS taken_by, uniqExactIf(shard, newest = seq) AS in_force,
    any(text) AS document
FROM
(
    SELECT
        d.number AS number, d.version AS version, d.shard AS shard, d.seq AS seq, d.taken_at AS at,
        d.applied_at AS applied, d.applied_by AS who, d.note AS said, d.document AS text,
        max(d.seq) OVER (PARTITION BY d.shard) AS newest
    FROM definitions_taken AS d FINAL
    WHERE (d.shard, d.life) NOT IN (SELECT shard, life FROM past_lives)
)
GROUP BY number, version
ORDER BY number DESC;

CREATE VIEW IF NOT EXISTS console_log
(
    happened_at DateTime64(3, 'UTC') COMMENT 'When, by the console''s clock, UTC',
    who         String COMMENT 'Who did it, as the console knows them',
    role        LowCardinality(String) COMMENT 'marketing | campaigns | sre | admin',
    action      LowCardinality(String) COMMENT 'contacted | apply | export | erase_request | ...',
    user_id     String COMMENT 'The customer that it was about, or the pseudonym; empty when about nobody',
    what        String COMMENT 'What it was about otherwise: an alert, an audience, a version',
    result      LowCardinality(String) COMMENT 'asked | done | refused | failed',
    detail      String COMMENT 'More about the result, in words',
    action_id   String COMMENT 'Names one action; one row each'
)
COMMENT 'What people did in the console, one row each, the newest first'
AS
SELECT happened_at, who, role, action, user_id, what, result, detail, action_id
FROM console_actions FINAL
ORDER BY happened_at DESC, action_id;

CREATE VIEW IF NOT EXISTS dead_letters_newest
(
    topic         LowCardinality(String) COMMENT 'Topic the record came from',
    partition     UInt16 COMMENT 'Partition it came from',
    offset        UInt64 COMMENT 'Its offset there; one row each',
    reason        LowCardinality(String) COMMENT 'Short code, such as invalid_json',
    detail        String COMMENT 'What exactly was wrong',
    recorded_at   DateTime64(3, 'UTC') COMMENT 'Clock of the batch that rejected it, UTC',
    record_key    String COMMENT 'The record''s key: it may name a user',
    payload       String COMMENT 'The first bytes of the record''s value: they may name a user',
    payload_bytes UInt32 COMMENT 'Full length of the value, in bytes'
)
COMMENT 'Records that could not be used, the newest first; ask for some'
AS
SELECT topic, partition, offset, reason, detail, recorded_at, record_key, payload, payload_bytes
FROM dead_letters FINAL
ORDER BY recorded_at DESC, topic, partition, offset DESC;

CREATE VIEW IF NOT EXISTS canary_trips
(
    recorded_at      DateTime64(3, 'UTC') COMMENT 'Time of its record in Kafka, UTC',
    shard            UInt16 COMMENT 'Kafka partition',
    offset           UInt64 COMMENT 'Its offset; one row each',
    seconds          Float64 COMMENT 'From Kafka to its row here, the first time it arrived',
    champion_version LowCardinality(String) COMMENT 'Version of the ONNX model',
    p_churn          Nullable(Float32) COMMENT 'What it makes of its typical customer, blended with the learner; NULL when it gives no number'
)
COMMENT 'Canaries that went through the whole pipeline, within the last 24 hours, the newest first'
AS
SELECT
    at AS recorded_at, shard, offset,
    (toUnixTimestamp64Milli(arrived) - toUnixTimestamp64Milli(at)) / 1000 AS seconds,
    version AS champion_version, if(isNaN(p), NULL, p) AS p_churn
FROM
(
    SELECT c.shard AS shard, c.offset AS offset, any(c.recorded_at) AS at, min(c.inserted_at) AS arrived,
           any(c.champion_version) AS version, any(c.p_churn) AS p
    FROM canaries AS c
    WHERE c.recorded_at > now() - 86400
    GROUP BY shard, offset
)
ORDER BY recorded_at DESC, shard;

-- What is there already. A row that comes meanwhile is newer, or the same; so these can run twice.
INSERT INTO segment_entries (dimension, user_id, segment, before, since, why, version, shard)
SELECT
    dimension, user_id, to_segment, from_segment, changed_at, why,
    bitShiftLeft(toUInt64(life), 32) + number, shard
FROM segment_changes;

INSERT INTO users_now
(
    user_id, shard, seq, scored_at, p_churn, p_champion, p_learner, expected_spend, spend_low,
    spend_high, p_buy_7d, p_buy_30d, next_order_at, horizon_days, champion_version, learner_version,
    value_tier, lifecycle, at_risk, lifetime_orders, last_order_at, segments
)
SELECT
    user_id, shard, seq, scored_at, p_churn, p_champion, p_learner, expected_spend, spend_low,
    spend_high, p_buy_7d, p_buy_30d, next_order_at, horizon_days, champion_version, learner_version,
    value_tier, lifecycle, at_risk, lifetime_orders, last_order_at, own.names AS segments
FROM (SELECT * FROM latest_scores FINAL) AS scores
LEFT JOIN
(
    SELECT user_id, arrayStringConcat(arraySort(groupArray(toString(dimension))), ',') AS names
    FROM segment_entries FINAL
    WHERE dimension NOT IN ('value_tier', 'lifecycle', 'rfm') AND segment = 'in'
    GROUP BY user_id
) AS own ON scores.user_id = own.user_id
SETTINGS join_use_nulls = 0;

INSERT INTO segment_totals (dimension, segment, shard, seq, as_of, users, spend_cents, life)
SELECT
    pair.1, pair.2, shard, bitShiftLeft(toUInt64(life), 32), max(scored_at), count(), sum(cents), life
FROM
(
    SELECT
        shard, toUInt32(bitShiftRight(seq, 32)) AS life, scored_at,
        toInt64(round(if(isNaN(expected_spend), 0, toFloat64(expected_spend)) * 100)) AS cents,
        arrayConcat(
            [('value_tier', toString(value_tier)), ('lifecycle', toString(lifecycle))],
            arrayMap(name -> (name, 'in'), arrayFilter(name -> name != '', splitByChar(',', toString(segments))))
        ) AS pairs
    FROM users_now FINAL
)
ARRAY JOIN pairs AS pair
GROUP BY pair, shard, life;

INSERT INTO user_alerts
(
    user_id, alert_id, shard, rule, episode, state, version, raised_at, closed_at, closed_why, p_churn,
    expected_spend, priority, horizon_days, reasons, action, arm, value_tier, lifecycle,
    champion_version, life
)
SELECT
    user_id, alert_id, shard, rule, episode, state, version, raised_at, closed_at, closed_why, p_churn,
    expected_spend, priority, horizon_days, reasons, action, arm, value_tier, lifecycle,
    champion_version, life
FROM alerts;

INSERT INTO audience_entries
(
    audience, user_id, segment, change, arm, fed, since, number, version, definitions, p_churn,
    expected_spend, value_tier, lifecycle, shard
)
SELECT
    audience, user_id, segment, change, arm, fed, changed_at, number,
    bitShiftLeft(toUInt64(life), 32) + number, definitions, p_churn, expected_spend, value_tier,
    lifecycle, shard
FROM audience_changes;

INSERT INTO judged_predictions
(
    day, shard, ordinal, p_churn, p_champion, p_learner, churned, spend_predicted, spend,
    champion_version
)
SELECT
    toDate(matured_at), shard, ordinal, p_churn, p_champion, p_learner, churned, spend_predicted, spend,
    champion_version
FROM matured_predictions;

-- `latest_scores` had the same rows without segments, in large blocks. Nothing reads it any more; what it
-- has goes as score_history does, and is erased with its person until then.
DROP VIEW IF EXISTS latest_scores_feed;

CREATE OR REPLACE VIEW scores_live
(
    user_id          String COMMENT 'User id, or its pseudonym; one row each',
    p_churn          Nullable(Float32) COMMENT 'Probability, 0 to 1, of no order within horizon_days; NULL where status says so',
    expected_spend   Nullable(Float32) COMMENT 'Expected spend within horizon_days, in the shop''s currency; NULL where status says so',
    spend_low        Nullable(Float32) COMMENT 'With a chance of 80 % the spend within horizon_days is at least this; NULL when unknown',
    spend_high       Nullable(Float32) COMMENT 'And at most this; NULL when unknown',
    p_buy_7d         Nullable(Float32) COMMENT 'Probability, 0 to 1, of an order within 7 days, as of the last order or daily sweep; NULL when unknown',
    p_buy_30d        Nullable(Float32) COMMENT 'Probability, 0 to 1, of an order within 30 days; NULL when unknown',
    next_order_at    Nullable(DateTime64(3, 'UTC')) COMMENT 'When the next order is due, as likely before as after, UTC; NULL when unknown or over a year away',
    horizon_days     UInt16 COMMENT 'How far the prediction looks ahead, in days',
    status           String COMMENT 'scored | not enough data: no model for users with so few orders yet, or too few days of the shop',
    evidence         String COMMENT 'How much is behind it, by orders so far: no order | one order | few orders (2 to 5) | many orders',
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
    if(isNaN(scores.spend_low), NULL, scores.spend_low) AS spend_low,
    if(isNaN(scores.spend_high), NULL, scores.spend_high) AS spend_high,
    if(isNaN(scores.p_buy_7d), NULL, scores.p_buy_7d) AS p_buy_7d,
    if(isNaN(scores.p_buy_30d), NULL, scores.p_buy_30d) AS p_buy_30d,
    if(toUnixTimestamp64Milli(scores.next_order_at) = 0, NULL, scores.next_order_at) AS next_order_at,
    horizon_days,
    if(isNaN(scores.p_churn), 'not enough data', 'scored') AS status,
    multiIf(lifetime_orders = 0, 'no order', lifetime_orders = 1, 'one order', lifetime_orders <= 5, 'few orders', 'many orders') AS evidence,
    value_tier, lifecycle, at_risk, lifetime_orders, last_order_at, scored_at,
    if(isNaN(scores.p_champion), NULL, scores.p_champion) AS p_champion,
    if(isNaN(scores.p_learner), NULL, scores.p_learner) AS p_learner,
    champion_version, learner_version, shard, seq
FROM users_now AS scores FINAL
WHERE (shard, toUInt32(bitShiftRight(seq, 32))) NOT IN (SELECT shard, life FROM past_lives);

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
    FROM users_now FINAL
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
        SELECT user_id, p_churn, expected_spend FROM users_now FINAL
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
    FROM users_now FINAL
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
        SELECT user_id, expected_spend FROM users_now FINAL
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

ALTER TABLE latest_scores MODIFY TTL toDateTime(inserted_at) + INTERVAL 180 DAY;

-- The newest look at every partition, which consumer_lag has among those of 30 days.
CREATE TABLE IF NOT EXISTS lag_now
(
    consumer_group     LowCardinality(String) COMMENT 'Kafka consumer group',
    topic              LowCardinality(String) COMMENT 'Kafka topic',
    partition          UInt16 COMMENT 'Kafka partition',
    observed_at        DateTime64(3, 'UTC') COMMENT 'When the monitor looked, UTC; the newest row stays',
    committed          Int64 COMMENT 'Committed offset; -1 when the group has not committed yet',
    log_end            Int64 COMMENT 'Offset the next record will get',
    lag_records        Int64 COMMENT 'Records not yet committed; -1 when unknown',
    lag_seconds        Float32 COMMENT 'Age of the oldest of them, in seconds; NaN when unknown',
    records_per_second Float32 COMMENT 'By how many records the lag grows per second; NaN when unknown',
    retention_ratio    Float32 COMMENT 'Share of the retained log that is not committed, 0 to 1; NaN when unknown',
    status             LowCardinality(String) COMMENT 'The monitor''s verdict',
    subscribed         UInt8 COMMENT '0 when no member of the group subscribes to the topic any more',
    inserted_at        DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'When the row arrived here, UTC'
)
ENGINE = ReplacingMergeTree(observed_at)
ORDER BY (consumer_group, topic, partition)
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'The newest look of the lag monitor at every partition; people read consumer_lag_live';

CREATE MATERIALIZED VIEW IF NOT EXISTS lag_now_feed TO lag_now AS
SELECT
    consumer_group, topic, partition, observed_at, committed, log_end, lag_records, lag_seconds,
    records_per_second, retention_ratio, status, subscribed
FROM consumer_lag;

INSERT INTO lag_now
(
    consumer_group, topic, partition, observed_at, committed, log_end, lag_records, lag_seconds,
    records_per_second, retention_ratio, status, subscribed
)
SELECT
    consumer_group, topic, partition, observed_at, committed, log_end, lag_records, lag_seconds,
    records_per_second, retention_ratio, status, subscribed
FROM consumer_lag;

CREATE OR REPLACE VIEW consumer_lag_live
(
    consumer_group     LowCardinality(String) COMMENT 'Kafka consumer group',
    topic              LowCardinality(String) COMMENT 'Kafka topic',
    partition          UInt16 COMMENT 'Kafka partition; one row each',
    lag_records        Int64 COMMENT 'Records not yet committed; -1 when unknown',
    lag_seconds        Float32 COMMENT 'Age of the oldest of them, in seconds; NaN when unknown',
    records_per_second Float32 COMMENT 'By how many records the lag grows per second; NaN when unknown',
    retention_ratio    Float32 COMMENT 'Share of the retained log that is not committed, 0 to 1; NaN when unknown',
    status             LowCardinality(String) COMMENT 'The monitor''s verdict',
    subscribed         UInt8 COMMENT '0 when no member of the group subscribes to the topic any more',
    committed          Int64 COMMENT 'Committed offset; -1 when the group has not committed yet',
    log_end            Int64 COMMENT 'Offset the next record will get',
    observed_at        DateTime64(3, 'UTC') COMMENT 'When the monitor looked, UTC; an old time means that it is blind'
)
COMMENT 'The newest look at every partition, within the last 30 days'
AS
SELECT
    consumer_group, topic, partition, lag_records, lag_seconds, records_per_second, retention_ratio,
    status, subscribed, committed, log_end, observed_at
FROM lag_now FINAL
WHERE observed_at > now() - 2592000;
