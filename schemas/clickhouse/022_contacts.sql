-- Contacts with customers, the daily budget of alerts, and what became of every alert.

-- What the shop told, and no result: it stays when a shard begins another life.
CREATE TABLE IF NOT EXISTS contacts
(
    event_id     String COMMENT 'Id of the contact, as the shop gave it' CODEC(ZSTD(1)),
    user_id      String COMMENT 'User id, or its pseudonym' CODEC(ZSTD(1)),
    shard        UInt16 COMMENT 'Kafka partition the user belongs to' CODEC(ZSTD(1)),
    seq          UInt64 COMMENT 'Life of the shard (seq >> 32) and number of the batch in it that counted the contact' CODEC(Delta, ZSTD(1)),
    contacted_at DateTime64(3, 'UTC') COMMENT 'When the user was contacted, UTC' CODEC(Delta, ZSTD(1)),
    campaign     LowCardinality(String) COMMENT 'Campaign, as the shop named it; empty when it did not',
    channel      LowCardinality(String) COMMENT 'How, as the shop named it; empty when it did not',
    alert_id     String COMMENT 'The user''s alert that was open then; empty without one' CODEC(ZSTD(1)),
    named_alert_id String COMMENT 'Alert that the shop named as the reason; empty when it named none' CODEC(ZSTD(1)),
    arm          LowCardinality(String) COMMENT 'treat | holdout, of alerts: nobody in the holdout should have been contacted',
    inserted_at  DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'When the row arrived here, UTC' CODEC(Delta, ZSTD(1))
)
ENGINE = ReplacingMergeTree
ORDER BY (user_id, event_id)
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'Every contact with a customer that the shop told';

CREATE TABLE IF NOT EXISTS alert_budget
(
    shard       UInt16 COMMENT 'Kafka partition' CODEC(ZSTD(1)),
    day         DateTime64(3, 'UTC') COMMENT 'Day in the shop''s time zone, as 00:00 of that date' CODEC(Delta, ZSTD(1)),
    per_day     UInt32 COMMENT 'Alerts that the whole shop may have on a day' CODEC(ZSTD(1)),
    share       UInt32 COMMENT 'Alerts that this shard might open on this day' CODEC(ZSTD(1)),
    candidates  UInt32 COMMENT 'Customers who might have got an alert, each counted once' CODEC(ZSTD(1)),
    opened      UInt32 COMMENT 'Alerts that opened' CODEC(ZSTD(1)),
    over_budget UInt32 COMMENT 'Customers not below the floor who found no room, each counted once' CODEC(ZSTD(1)),
    floor       Float32 COMMENT 'Least value at stake that opened an alert, in the shop''s currency; NaN while it was not known' CODEC(ZSTD(1)),
    life        UInt32 COMMENT 'Life of the shard' CODEC(ZSTD(1)),
    inserted_at DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'When the row arrived here, UTC' CODEC(Delta, ZSTD(1))
)
ENGINE = ReplacingMergeTree
ORDER BY (shard, life, day)
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'What became of the daily budget of alerts: a row per shard and day that is over';

CREATE VIEW IF NOT EXISTS alert_budget_days
(
    day         DateTime64(3, 'UTC') COMMENT 'Day in the shop''s time zone, as 00:00 of that date',
    per_day     UInt32 COMMENT 'Alerts that the shop may have on a day',
    candidates  UInt64 COMMENT 'Customers who might have got an alert',
    opened      UInt64 COMMENT 'Alerts that opened',
    over_budget UInt64 COMMENT 'Customers worth an alert who found no room on this day',
    floor       Float32 COMMENT 'Least value at stake that opened an alert, over all shards, in the shop''s currency; NaN while it was not known',
    shards      UInt64 COMMENT 'Shards that have told of this day'
)
COMMENT 'The daily budget of alerts, over all shards; days that are over'
AS
SELECT
    day, max(most) AS per_day, sum(asked) AS candidates, sum(raised) AS opened,
    sum(beyond) AS over_budget, min(least) AS floor, count() AS shards
FROM
(
    -- Under other names: an alias above would stand for the sum in the sums below it.
    SELECT day, per_day AS most, candidates AS asked, opened AS raised, over_budget AS beyond,
           floor AS least
    FROM alert_budget FINAL
    WHERE (shard, life) NOT IN (SELECT shard, life FROM past_lives)
)
GROUP BY day
ORDER BY day;

-- Every alert, with whether its customer was contacted, and what followed. The newest batch's clock says
-- what is over by now: that of a replay is in the past.
CREATE VIEW IF NOT EXISTS alert_episodes
(
    alert_id     String COMMENT 'The same id in every system',
    user_id      String COMMENT 'User id, or its pseudonym',
    episode      UInt32 COMMENT 'The user''s alerts, counted from 1',
    arm          LowCardinality(String) COMMENT 'treat | holdout: compare the two to measure uplift',
    outcome      LowCardinality(String) COMMENT 'opened (not contacted yet) | contacted | won back (ordered after a contact, within the horizon) | ordered (otherwise) | lost (no order within the horizon after the contact, or after opening without one) | ended (the score fell, the user is suppressed, or the shard began a new life)',
    raised_at    DateTime64(3, 'UTC') COMMENT 'When it was raised, UTC',
    contacted_at DateTime64(3, 'UTC') COMMENT 'When the user was first contacted for it, UTC; 1970-01-01 without a contact',
    contacts     UInt64 COMMENT 'Contacts for it',
    closed_at    DateTime64(3, 'UTC') COMMENT 'When it ended, UTC; 1970-01-01 while open',
    closed_why   LowCardinality(String) COMMENT 'ordered | score_fell | lapsed | suppressed | started_over; empty while open',
    priority     Float32 COMMENT 'Spend at stake when raised, in the shop''s currency',
    action       LowCardinality(String) COMMENT 'Recommended action'
)
COMMENT 'Every alert from opened to won back or lost, one row each'
AS
SELECT
    alert_id, user_id, episode, arm,
    multiIf(
        closed_why = 'ordered' AND contacts > 0 AND closed_at >= contacted_at
            AND closed_at <= addDays(contacted_at, horizon_days), 'won back',
        closed_why = 'ordered', 'ordered',
        closed_why = 'lapsed', 'lost',
        closed_why != '', 'ended',
        as_of > addDays(if(contacts > 0, contacted_at, raised_at), horizon_days), 'lost',
        contacts > 0, 'contacted',
        'opened'
    ) AS outcome,
    raised_at, contacted_at, contacts, closed_at, closed_why, priority, action
FROM
(
    SELECT
        opened.alert_id AS alert_id, history.user_id AS user_id, opened.episode AS episode,
        history.arm AS arm, history.raised_at AS raised_at, opened.horizon_days AS horizon_days,
        opened.priority AS priority, history.action AS action, history.closed_at AS closed_at,
        history.closed_why AS closed_why, (SELECT max(clock) FROM batches) AS as_of
    FROM (SELECT alert_id, episode, horizon_days, priority FROM alerts FINAL WHERE version = 1) AS opened
    INNER JOIN alert_history AS history ON opened.alert_id = history.alert_id
) AS episodes
LEFT JOIN
(
    SELECT
        if(c.named_alert_id != '', c.named_alert_id, c.alert_id) AS alert_id, user_id,
        count() AS contacts, min(c.contacted_at) AS contacted_at
    FROM contacts AS c FINAL
    GROUP BY alert_id, user_id
) AS told USING (alert_id, user_id)
SETTINGS join_use_nulls = 0;

ALTER TABLE audience_changes
    ADD COLUMN IF NOT EXISTS fed UInt8 DEFAULT arm = 'treat' COMMENT '1: the feed has the user after this change; 0: held out, to be left alone, or gone' CODEC(ZSTD(1)) AFTER arm;

CREATE OR REPLACE VIEW audience_members
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
COMMENT 'Who is in each audience now and may be contacted: nobody who is held out or to be left alone; one row per audience and user'
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
        argMax(fed, number) AS last_fed,
        argMax(segment, number) AS last_segment, argMax(changed_at, number) AS last_at,
        argMax(p_churn, number) AS last_churn, argMax(expected_spend, number) AS last_spend,
        argMax(value_tier, number) AS last_tier, argMax(lifecycle, number) AS last_lifecycle,
        argMax(definitions, number) AS last_definitions
    FROM audience_changes
    WHERE (shard, life) NOT IN (SELECT shard, life FROM past_lives)
    GROUP BY audience, user_id
)
WHERE last_change = 'entered' AND last_arm = 'treat' AND last_fed = 1;
