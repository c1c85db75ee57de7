-- What `/v1/users/{id}` answers is kept as it is read: one text per user (D-093).

-- A point read opens a mark and a compressed block of each column that it reads, so all values are in one
-- column, and a block has no more than a mark. The text is a JSON array, in this order; what is added
-- goes to its end:
--
--   shard, life, number of the batch in it, p_churn, expected_spend, spend_low, spend_high, p_buy_7d,
--   p_buy_30d, value_365d, value_365d_low, value_365d_high, horizon_days, status, evidence, value_tier,
--   lifecycle, segments, next_order_at, at_risk, lifetime_orders, last_order_at, scored_at, inserted_at,
--   champion_version, learner_version
--
-- Unknown is null, times are Unix ms and 0 for never, and Float32 has as many digits as tell it from others.
-- Nothing in it depends on what a server's profile says of JSON: no NaN, no 64-bit integer, no named tuple.
CREATE TABLE IF NOT EXISTS user_points
(
    user_id          String COMMENT 'User id, or its pseudonym',
    shard            UInt16 COMMENT 'Kafka partition the user belongs to',
    seq              UInt64 COMMENT 'Life of the shard (seq >> 32) and number of the batch in it; the row with the highest one stays',
    scored_at        DateTime64(3, 'UTC') COMMENT 'Clock of the batch that scored the user, UTC, to the millisecond',
    answer           String COMMENT 'The newest score with everything that the views derive from it, as a JSON array; migration 025 has its order'
)
ENGINE = ReplacingMergeTree(seq)
ORDER BY user_id
SETTINGS non_replicated_deduplication_window = 1000, index_granularity = 64, min_compress_block_size = 4096, max_compress_block_size = 65536
COMMENT 'The newest score of each user as one text, for point reads; people read customers';

CREATE MATERIALIZED VIEW IF NOT EXISTS user_points_feed TO user_points AS
SELECT
    user_id, shard, seq, scored_at,
    toJSONString(tuple(
        shard, toUInt32(bitShiftRight(seq, 32)), toUInt32(bitAnd(seq, 0xFFFFFFFF)),
        if(isNaN(p_churn), NULL, p_churn), if(isNaN(expected_spend), NULL, expected_spend),
        if(isNaN(spend_low), NULL, spend_low), if(isNaN(spend_high), NULL, spend_high),
        if(isNaN(p_buy_7d), NULL, p_buy_7d), if(isNaN(p_buy_30d), NULL, p_buy_30d),
        if(isNaN(value_365d), NULL, value_365d), if(isNaN(value_365d_low), NULL, value_365d_low),
        if(isNaN(value_365d_high), NULL, value_365d_high), horizon_days,
        if(isNaN(p_churn), 'not enough data', 'scored'),
        multiIf(lifetime_orders = 0, 'no order', lifetime_orders = 1, 'one order', lifetime_orders <= 5, 'few orders', 'many orders'),
        value_tier, lifecycle,
        if(segments = '', CAST([] AS Array(String)), splitByChar(',', toString(segments))),
        toFloat64(toUnixTimestamp64Milli(next_order_at)), at_risk, lifetime_orders,
        toFloat64(toUnixTimestamp64Milli(last_order_at)),
        toFloat64(toUnixTimestamp64Milli(scored_at)),
        toFloat64(toUnixTimestamp64Milli(inserted_at)), champion_version, learner_version
    )) AS answer
FROM score_history;

-- What is there already. A row that comes meanwhile is newer, or the same.
INSERT INTO user_points (user_id, shard, seq, scored_at, answer)
SELECT
    user_id, shard, seq, scored_at,
    toJSONString(tuple(
        shard, toUInt32(bitShiftRight(seq, 32)), toUInt32(bitAnd(seq, 0xFFFFFFFF)),
        if(isNaN(p_churn), NULL, p_churn), if(isNaN(expected_spend), NULL, expected_spend),
        if(isNaN(spend_low), NULL, spend_low), if(isNaN(spend_high), NULL, spend_high),
        if(isNaN(p_buy_7d), NULL, p_buy_7d), if(isNaN(p_buy_30d), NULL, p_buy_30d),
        if(isNaN(value_365d), NULL, value_365d), if(isNaN(value_365d_low), NULL, value_365d_low),
        if(isNaN(value_365d_high), NULL, value_365d_high), horizon_days,
        if(isNaN(p_churn), 'not enough data', 'scored'),
        multiIf(lifetime_orders = 0, 'no order', lifetime_orders = 1, 'one order', lifetime_orders <= 5, 'few orders', 'many orders'),
        value_tier, lifecycle,
        if(segments = '', CAST([] AS Array(String)), splitByChar(',', toString(segments))),
        toFloat64(toUnixTimestamp64Milli(next_order_at)), at_risk, lifetime_orders,
        toFloat64(toUnixTimestamp64Milli(last_order_at)),
        toFloat64(toUnixTimestamp64Milli(scored_at)),
        toFloat64(toUnixTimestamp64Milli(inserted_at)), champion_version, learner_version
    )) AS answer
FROM users_now FINAL;

-- Without FINAL or GROUP BY, which cost more than the read: until parts are merged a user has several rows,
-- and the reader takes the newest. It leaves out what past_lives has, too.
CREATE OR REPLACE VIEW customer_points
(
    user_id          String COMMENT 'User id, or its pseudonym; may have several rows',
    answer           String COMMENT 'A JSON array: shard, life, number of the batch, and the values that migration 025 lists; the highest life and number is the newest'
)
COMMENT 'The newest score of each user as one text, for point reads; with older rows, and what past lives said'
AS
SELECT user_id, answer FROM user_points;
