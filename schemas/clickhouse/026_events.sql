-- Events to look at: what customers did, one row per event that counted. Workers write them where
-- [clickhouse] keep_events_days says for how long; by default they write none. And the features behind the
-- newest score row of each user, where keep_features_days says so.

CREATE TABLE IF NOT EXISTS events
(
    user_id        String COMMENT 'User id, or its pseudonym' CODEC(ZSTD(1)),
    ts             DateTime64(3, 'UTC') COMMENT 'Time of the event, UTC, to the millisecond' CODEC(Delta, ZSTD(1)),
    event_hash     UInt32 COMMENT 'Half a hash of the event''s id: an event that comes twice is here once' CODEC(NONE),
    type           LowCardinality(String) COMMENT 'view | search | cart_add | cart_remove | wishlist | review | share | support | placed | cancelled | returned',
    session_hash   UInt32 COMMENT 'Half a hash of the session''s id, or the number of its half hour since 1970 where the shop sends none; 0 for orders' CODEC(ZSTD(1)),
    order_hash     UInt64 COMMENT 'Hash of the order''s id; 0 for clicks' CODEC(ZSTD(1)),
    item_id        String COMMENT 'Item of a click; empty when it has none, and for orders' CODEC(ZSTD(1)),
    category       String COMMENT 'Category of a click''s item; empty when it has none, and for orders' CODEC(ZSTD(1)),
    amount         Float64 COMMENT 'What an order is worth, or what was given back, in the shop''s currency; 0 for clicks' CODEC(ZSTD(1)),
    lines          UInt16 COMMENT 'Lines of an order' CODEC(ZSTD(1)),
    rating         Float32 COMMENT 'Stars of a review, 1 to 5; 0 when none were given' CODEC(ZSTD(1)),
    simulated      UInt8 COMMENT '1 for browsing that `tideline replay` made up' CODEC(ZSTD(1)),
    lifecycle      LowCardinality(String) COMMENT 'visitor | new | active | at_risk | lapsed: of the user, after the batch that the event was in',
    value_tier     LowCardinality(String) COMMENT 'none | low | medium | high: as lifecycle',
    segments       LowCardinality(String) COMMENT 'The shop''s own segments that the user was in then, with commas between',
    first_event_at DateTime64(3, 'UTC') COMMENT 'Time of the user''s first event, as known then, UTC' CODEC(ZSTD(1)),
    first_order_at DateTime64(3, 'UTC') COMMENT 'Time of the user''s first order, as known then, UTC; 1970-01-01 when there was none' CODEC(ZSTD(1)),
    shard          UInt16 COMMENT 'Kafka partition the user belongs to' CODEC(ZSTD(1)),
    taken_at       DateTime64(3, 'UTC') COMMENT 'Clock of the batch that the event was in, UTC' CODEC(Delta, ZSTD(1)),
    keep_days      UInt16 COMMENT 'For how many days the row is kept, as the worker''s setting was when it was written' CODEC(ZSTD(1)),
    inserted_at    DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'When the row arrived here, UTC; counts for the time to live' CODEC(Delta, ZSTD(1))
)
ENGINE = ReplacingMergeTree
PARTITION BY toMonday(inserted_at)
-- Users in 1,024 groups of about the same size, so that a funnel over some of the groups reads a fair
-- sample of the users and no more. Neither life nor batch is in the key: an event is the same event
-- whichever life of a shard reads it.
ORDER BY (cityHash64(user_id) % 1024, user_id, ts, event_hash)
TTL toDateTime(inserted_at) + toIntervalDay(keep_days)
-- A week's parts are dropped whole, and for free: no row is kept for more than a week too long. By days,
-- each question about one user would open several parts for every day.
SETTINGS non_replicated_deduplication_window = 1000, ttl_only_drop_parts = 1
COMMENT 'Events that counted, for as long as the setting keep_events_days says';

CREATE VIEW IF NOT EXISTS customer_events
(
    user_id        String COMMENT 'User id, or its pseudonym',
    user_group     UInt16 COMMENT 'cityHash64(user_id) % 1024: with it, one customer''s events are found at once',
    ts             DateTime64(3, 'UTC') COMMENT 'Time of the event, UTC',
    event_hash     UInt32 COMMENT 'Half a hash of the event''s id',
    type           LowCardinality(String) COMMENT 'view | search | cart_add | cart_remove | wishlist | review | share | support | placed | cancelled | returned',
    session_hash   UInt32 COMMENT 'Half a hash of the session''s id, or the number of its half hour since 1970; 0 for orders',
    order_hash     UInt64 COMMENT 'Hash of the order''s id; 0 for clicks',
    item_id        String COMMENT 'Item of a click; empty when it has none, and for orders',
    category       String COMMENT 'Category of a click''s item; empty when it has none, and for orders',
    amount         Float64 COMMENT 'What an order is worth, or what was given back, in the shop''s currency; 0 for clicks',
    lines          UInt16 COMMENT 'Lines of an order',
    rating         Float32 COMMENT 'Stars of a review, 1 to 5; 0 when none were given',
    simulated      UInt8 COMMENT '1 for browsing that `tideline replay` made up',
    taken_at       DateTime64(3, 'UTC') COMMENT 'Clock of the batch that the event was in, UTC',
    kept_until     DateTime('UTC') COMMENT 'When the row''s time to live is over, UTC; it is gone within a week after'
)
COMMENT 'What customers did, one row per event; ask for one user with their group'
AS
SELECT
    user_id, cityHash64(user_id) % 1024 AS user_group, ts, event_hash,
    newest.1 AS type, newest.2 AS session_hash, newest.3 AS order_hash, newest.4 AS item_id,
    newest.5 AS category, newest.6 AS amount, newest.7 AS lines, newest.8 AS rating,
    newest.9 AS simulated, newest.10 AS taken_at,
    toDateTime(newest.11, 'UTC') + toIntervalDay(newest.12) AS kept_until
FROM
(
    -- Of one user's events this takes a third of what FINAL does: it merges whole granules.
    SELECT
        user_id, ts, event_hash,
        argMax((
            type, session_hash, order_hash, item_id, category, amount, lines, rating, simulated,
            taken_at, inserted_at, keep_days
        ), inserted_at) AS newest
    FROM events
    GROUP BY user_id, ts, event_hash
);

-- Rows as they are: whoever counts users need not care that one was written twice.
CREATE VIEW IF NOT EXISTS event_groups
(
    user_group     UInt16 COMMENT 'Of 1,024 groups of users of about the same size; some of them are a fair sample',
    user_hash      UInt64 COMMENT 'Tells users apart, and names none',
    ts             DateTime64(3, 'UTC') COMMENT 'Time of the event, UTC',
    type           LowCardinality(String) COMMENT 'view | search | cart_add | cart_remove | wishlist | review | share | support | placed | cancelled | returned',
    simulated      UInt8 COMMENT '1 for browsing that `tideline replay` made up',
    lifecycle      LowCardinality(String) COMMENT 'visitor | new | active | at_risk | lapsed: of the user, after the batch that the event was in',
    value_tier     LowCardinality(String) COMMENT 'none | low | medium | high: as lifecycle',
    segments       Array(String) COMMENT 'The shop''s own segments that the user was in then',
    first_event_at DateTime64(3, 'UTC') COMMENT 'Time of the user''s first event, as known then, UTC',
    first_order_at DateTime64(3, 'UTC') COMMENT 'Time of the user''s first order, as known then, UTC; 1970-01-01 when there was none',
    taken_at       DateTime64(3, 'UTC') COMMENT 'Clock of the batch that the event was in, UTC'
)
COMMENT 'What users did, by groups of users, to count users in; an event may be in it twice'
AS
SELECT
    cityHash64(user_id) % 1024 AS user_group, cityHash64(user_id) AS user_hash, ts, type,
    simulated, lifecycle, value_tier,
    if(segments = '', CAST([] AS Array(String)), splitByChar(',', toString(segments))) AS segments,
    first_event_at, first_order_at, taken_at
FROM events;

CREATE TABLE IF NOT EXISTS user_features
(
    user_id       String COMMENT 'User id, or its pseudonym' CODEC(ZSTD(1)),
    shard         UInt16 COMMENT 'Kafka partition the user belongs to' CODEC(ZSTD(1)),
    seq           UInt64 COMMENT 'Life of the shard (seq >> 32) and number of the batch in it; the row with the highest one stays' CODEC(ZSTD(1)),
    scored_at     DateTime64(3, 'UTC') COMMENT 'Clock of the batch that scored the user, UTC' CODEC(ZSTD(1)),
    feature_names LowCardinality(String) COMMENT 'Names of the features, in their order, with commas between',
    features      Array(Float32) COMMENT 'What the score was made of; NaN is unknown' CODEC(ZSTD(1)),
    keep_days     UInt16 COMMENT 'For how many days the row is kept, as the worker''s setting was when it was written' CODEC(ZSTD(1)),
    inserted_at   DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'When the row arrived here, UTC; counts for the time to live' CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree(seq)
ORDER BY user_id
TTL toDateTime(inserted_at) + toIntervalDay(keep_days)
SETTINGS non_replicated_deduplication_window = 1000, index_granularity = 128
COMMENT 'The features behind the newest score row of each user, for as long as the setting keep_features_days says';

CREATE VIEW IF NOT EXISTS customer_features
(
    user_id       String COMMENT 'User id, or its pseudonym',
    scored_at     DateTime64(3, 'UTC') COMMENT 'When the score was made of them, UTC',
    feature_names LowCardinality(String) COMMENT 'Names of the features, in their order, with commas between',
    features      Array(Float32) COMMENT 'The features; NaN is unknown'
)
COMMENT 'The features behind the newest score row of each user; ask for some user ids'
AS
SELECT user_id, scored_at, feature_names, features
FROM user_features FINAL
WHERE (shard, toUInt32(bitShiftRight(seq, 32))) NOT IN (SELECT shard, life FROM past_lives);
