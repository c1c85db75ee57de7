-- What a customer is worth within a year, beside the short horizon, with its interval.

ALTER TABLE score_history
    ADD COLUMN IF NOT EXISTS value_365d Float32 DEFAULT nan COMMENT 'Expected spend within 365 days, in the shop''s currency; NaN is unknown' CODEC(ZSTD(1)) AFTER next_order_at,
    ADD COLUMN IF NOT EXISTS value_365d_low Float32 DEFAULT nan COMMENT 'With a chance of 80 % the spend within 365 days is at least this; NaN is unknown' CODEC(ZSTD(1)) AFTER value_365d,
    ADD COLUMN IF NOT EXISTS value_365d_high Float32 DEFAULT nan COMMENT 'And at most this; NaN is unknown' CODEC(ZSTD(1)) AFTER value_365d_low,
    ADD COLUMN IF NOT EXISTS value_365d_seen_days UInt16 DEFAULT 0 COMMENT 'How many days ahead were known when the model learned value_365d; 0: it does not know it' CODEC(ZSTD(1)) AFTER value_365d_high;

ALTER TABLE users_now
    ADD COLUMN IF NOT EXISTS value_365d Float32 DEFAULT nan COMMENT 'Expected spend within 365 days, in the shop''s currency; NaN is unknown' AFTER next_order_at,
    ADD COLUMN IF NOT EXISTS value_365d_low Float32 DEFAULT nan COMMENT 'With a chance of 80 % the spend within 365 days is at least this; NaN is unknown' AFTER value_365d,
    ADD COLUMN IF NOT EXISTS value_365d_high Float32 DEFAULT nan COMMENT 'And at most this; NaN is unknown' AFTER value_365d_low,
    ADD COLUMN IF NOT EXISTS value_365d_seen_days UInt16 DEFAULT 0 COMMENT 'How many days ahead were known when the model learned value_365d; 0: it does not know it' AFTER value_365d_high;

-- Rows that a worker inserts between the two statements reach users_now with the user's next.
DROP VIEW IF EXISTS users_now_feed;

CREATE MATERIALIZED VIEW IF NOT EXISTS users_now_feed TO users_now AS
SELECT
    user_id, shard, seq, scored_at, p_churn, p_champion, p_learner, expected_spend, spend_low,
    spend_high, p_buy_7d, p_buy_30d, next_order_at, value_365d,
    value_365d_low, value_365d_high, value_365d_seen_days, horizon_days, champion_version, learner_version,
    value_tier, lifecycle, at_risk, lifetime_orders, last_order_at, segments
FROM score_history;

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
    value_365d       Nullable(Float32) COMMENT 'Expected spend within 365 days, in the shop''s currency, as of the last order or daily sweep; NULL when unknown: of visitors, and where value_365d_seen_days is 0',
    value_365d_low   Nullable(Float32) COMMENT 'With a chance of 80 % the spend within 365 days is at least this; NULL when unknown',
    value_365d_high  Nullable(Float32) COMMENT 'And at most this; NULL when unknown',
    value_365d_seen_days UInt16 COMMENT 'How many days ahead were known when the model learned value_365d; the rest is extrapolated; 0: the model does not know it, and its MODEL_CARD.md says why',
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
    if(isNaN(scores.value_365d), NULL, scores.value_365d) AS value_365d,
    if(isNaN(scores.value_365d_low), NULL, scores.value_365d_low) AS value_365d_low,
    if(isNaN(scores.value_365d_high), NULL, scores.value_365d_high) AS value_365d_high,
    value_365d_seen_days,
    horizon_days,
    if(isNaN(scores.p_churn), 'not enough data', 'scored') AS status,
    multiIf(lifetime_orders = 0, 'no order', lifetime_orders = 1, 'one order', lifetime_orders <= 5, 'few orders', 'many orders') AS evidence,
    value_tier, lifecycle, at_risk, lifetime_orders, last_order_at, scored_at,
    if(isNaN(scores.p_champion), NULL, scores.p_champion) AS p_champion,
    if(isNaN(scores.p_learner), NULL, scores.p_learner) AS p_learner,
    champion_version, learner_version, shard, seq
FROM users_now AS scores FINAL
WHERE (shard, toUInt32(bitShiftRight(seq, 32))) NOT IN (SELECT shard, life FROM past_lives);

CREATE OR REPLACE VIEW customers
(
    user_id          String COMMENT 'User id, or its pseudonym; one row each',
    p_churn          Nullable(Float32) COMMENT 'Probability, 0 to 1, of no order within horizon_days; NULL where status says so',
    expected_spend   Nullable(Float32) COMMENT 'Expected spend within horizon_days, in the shop''s currency; NULL where status says so',
    spend_low        Nullable(Float32) COMMENT 'With a chance of 80 % the spend within horizon_days is at least this; NULL when unknown',
    spend_high       Nullable(Float32) COMMENT 'And at most this; NULL when unknown',
    p_buy_7d         Nullable(Float32) COMMENT 'Probability, 0 to 1, of an order within 7 days, as of the last order or daily sweep; NULL when unknown',
    p_buy_30d        Nullable(Float32) COMMENT 'Probability, 0 to 1, of an order within 30 days; NULL when unknown',
    next_order_at    Nullable(DateTime64(3, 'UTC')) COMMENT 'When the next order is due, as likely before as after, UTC; NULL when unknown or over a year away',
    value_365d       Nullable(Float32) COMMENT 'Expected spend within 365 days, in the shop''s currency, as of the last order or daily sweep; NULL when unknown: of visitors, and where value_365d_seen_days is 0',
    value_365d_low   Nullable(Float32) COMMENT 'With a chance of 80 % the spend within 365 days is at least this; NULL when unknown',
    value_365d_high  Nullable(Float32) COMMENT 'And at most this; NULL when unknown',
    value_365d_seen_days UInt16 COMMENT 'How many days ahead were known when the model learned value_365d; the rest is extrapolated; 0: the model does not know it, and its MODEL_CARD.md says why',
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
    if(isNaN(now.value_365d), NULL, now.value_365d) AS value_365d,
    if(isNaN(now.value_365d_low), NULL, now.value_365d_low) AS value_365d_low,
    if(isNaN(now.value_365d_high), NULL, now.value_365d_high) AS value_365d_high,
    value_365d_seen_days,
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

-- For hundreds of reads a second, each of up to 200 users: without FINAL, whose merge costs a page of 200
-- some 50 ms, and without the list of past lives, which the reader can keep for a second.
CREATE VIEW IF NOT EXISTS customer_points
(
    user_id          String COMMENT 'User id, or its pseudonym; one row each',
    p_churn          Nullable(Float32) COMMENT 'Probability, 0 to 1, of no order within horizon_days; NULL where status says so',
    expected_spend   Nullable(Float32) COMMENT 'Expected spend within horizon_days, in the shop''s currency; NULL where status says so',
    spend_low        Nullable(Float32) COMMENT 'With a chance of 80 % the spend within horizon_days is at least this; NULL when unknown',
    spend_high       Nullable(Float32) COMMENT 'And at most this; NULL when unknown',
    p_buy_7d         Nullable(Float32) COMMENT 'Probability, 0 to 1, of an order within 7 days, as of the last order or daily sweep; NULL when unknown',
    p_buy_30d        Nullable(Float32) COMMENT 'Probability, 0 to 1, of an order within 30 days; NULL when unknown',
    next_order_at    Nullable(DateTime64(3, 'UTC')) COMMENT 'When the next order is due, as likely before as after, UTC; NULL when unknown or over a year away',
    value_365d       Nullable(Float32) COMMENT 'Expected spend within 365 days, in the shop''s currency, as of the last order or daily sweep; NULL when unknown: of visitors, and where value_365d_seen_days is 0',
    value_365d_low   Nullable(Float32) COMMENT 'With a chance of 80 % the spend within 365 days is at least this; NULL when unknown',
    value_365d_high  Nullable(Float32) COMMENT 'And at most this; NULL when unknown',
    value_365d_seen_days UInt16 COMMENT 'How many days ahead were known when the model learned value_365d; the rest is extrapolated; 0: the model does not know it, and its MODEL_CARD.md says why',
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
    champion_version LowCardinality(String) COMMENT 'Version of the ONNX model',
    learner_version  UInt32 COMMENT 'Version of the online learner''s snapshot',
    shard            UInt16 COMMENT 'Kafka partition the user belongs to',
    inserted_at      DateTime64(3, 'UTC') COMMENT 'When the row arrived here, UTC',
    life             UInt32 COMMENT 'Life of the shard: leave out what past_lives has'
)
COMMENT 'The newest score of each user for point reads; with what past lives said'
AS
SELECT
    user_id,
    if(isNaN(newest.1), NULL, newest.1) AS p_churn,
    if(isNaN(newest.2), NULL, newest.2) AS expected_spend,
    if(isNaN(newest.3), NULL, newest.3) AS spend_low,
    if(isNaN(newest.4), NULL, newest.4) AS spend_high,
    if(isNaN(newest.5), NULL, newest.5) AS p_buy_7d,
    if(isNaN(newest.6), NULL, newest.6) AS p_buy_30d,
    if(toUnixTimestamp64Milli(newest.7) = 0, NULL, newest.7) AS next_order_at,
    if(isNaN(newest.8), NULL, newest.8) AS value_365d,
    if(isNaN(newest.9), NULL, newest.9) AS value_365d_low,
    if(isNaN(newest.10), NULL, newest.10) AS value_365d_high,
    newest.11 AS value_365d_seen_days,
    newest.12 AS horizon_days,
    if(isNaN(newest.1), 'not enough data', 'scored') AS status,
    multiIf(newest.17 = 0, 'no order', newest.17 = 1, 'one order', newest.17 <= 5, 'few orders', 'many orders') AS evidence,
    newest.13 AS value_tier,
    newest.14 AS lifecycle,
    if(newest.15 = '', CAST([] AS Array(String)), splitByChar(',', toString(newest.15))) AS segments,
    newest.16 AS at_risk,
    newest.17 AS lifetime_orders,
    newest.18 AS last_order_at,
    newest.19 AS scored_at,
    newest.20 AS champion_version,
    newest.21 AS learner_version,
    newest.22 AS shard,
    newest.23 AS inserted_at,
    toUInt32(bitShiftRight(newest.24, 32)) AS life
FROM
(
    SELECT
        user_id,
        argMax((
            p_churn, expected_spend, spend_low, spend_high, p_buy_7d, p_buy_30d, next_order_at,
            value_365d, value_365d_low, value_365d_high, value_365d_seen_days, horizon_days,
            value_tier, lifecycle, segments, at_risk, lifetime_orders, last_order_at, scored_at,
            champion_version, learner_version, shard, inserted_at, seq
        ), seq) AS newest
    FROM users_now
    GROUP BY user_id
);
