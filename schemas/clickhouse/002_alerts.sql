-- Churn alerts. An alert has a row when it opens (version 1) and another when it closes (version 2),
-- so that what was said then, the reasons above all, stays readable. A repeat of either replaces it.
-- There is no partition, so that repeats always meet, however far apart in time they are.

CREATE TABLE IF NOT EXISTS alerts
(
    alert_id          String COMMENT 'Hash of user, rule and episode: the same after any replay' CODEC(ZSTD(1)),
    user_id           String COMMENT 'User id, or its pseudonym' CODEC(ZSTD(1)),
    shard             UInt16 COMMENT 'Kafka partition the user belongs to' CODEC(ZSTD(1)),
    rule              LowCardinality(String) COMMENT 'Name of the alert rule',
    episode           UInt32 COMMENT 'The user''s episodes under this rule, counted from 1' CODEC(ZSTD(1)),
    state             LowCardinality(String) COMMENT 'open | closed',
    version           UInt8 COMMENT '1: the row of the opening; 2: that of the closing' CODEC(ZSTD(1)),
    raised_at         DateTime64(3, 'UTC') COMMENT 'When it was raised, UTC' CODEC(ZSTD(1)),
    closed_at         DateTime64(3, 'UTC') COMMENT 'When it ended, UTC; 1970-01-01 while open' CODEC(ZSTD(1)),
    closed_why        LowCardinality(String) COMMENT 'ordered | score_fell | lapsed; empty in the opening row',
    p_churn           Float32 COMMENT 'Probability, 0 to 1, of no order within horizon_days, when raised',
    p_champion        Float32 COMMENT 'Probability by the ONNX model alone',
    p_learner         Float32 COMMENT 'Probability by the online learner alone',
    expected_spend    Float32 COMMENT 'Expected spend within horizon_days, in the shop''s currency',
    priority          Float32 COMMENT 'p_churn x expected_spend: the spend at stake, in the shop''s currency',
    horizon_days      UInt16 COMMENT 'How far the prediction looks ahead, in days' CODEC(ZSTD(1)),
    reasons           Array(String) COMMENT 'What raised the score most, strongest first, in words; empty in the closing row' CODEC(ZSTD(1)),
    action            LowCardinality(String) COMMENT 'Recommended action',
    arm               LowCardinality(String) COMMENT 'treat | holdout: contact nobody in the holdout',
    value_tier        LowCardinality(String) COMMENT 'none | low | medium | high, when raised',
    lifecycle         LowCardinality(String) COMMENT 'visitor | new | active | at_risk | lapsed, when raised',
    champion_version  LowCardinality(String) COMMENT 'Version of the ONNX model',
    learner_version   UInt32 COMMENT 'Version of the online learner''s snapshot' CODEC(ZSTD(1)),
    event_produced_at DateTime64(3, 'UTC') COMMENT 'When the newest record of the raising batch was produced, UTC' CODEC(ZSTD(1)),
    inserted_at       DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'When the row arrived here, UTC; minus event_produced_at it is the time to alert' CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree
ORDER BY (alert_id, version)
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'Churn alerts, open and closed; people read churn_alerts_live';

CREATE VIEW IF NOT EXISTS churn_alerts_live
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
ORDER BY priority DESC, alert_id;

CREATE VIEW IF NOT EXISTS alert_history
(
    alert_id       String COMMENT 'The same id in every system',
    user_id        String COMMENT 'User id, or its pseudonym',
    arm            LowCardinality(String) COMMENT 'treat | holdout: compare the two to measure uplift',
    raised_at      DateTime64(3, 'UTC') COMMENT 'When it was raised, UTC',
    closed_at      DateTime64(3, 'UTC') COMMENT 'When it ended, UTC; 1970-01-01 while open',
    closed_why     LowCardinality(String) COMMENT 'ordered | score_fell | lapsed; empty while open',
    p_churn        Float32 COMMENT 'Probability, 0 to 1, when raised',
    expected_spend Float32 COMMENT 'Expected spend, in the shop''s currency, when raised',
    reasons        Array(String) COMMENT 'What raised the score most, strongest first',
    action         LowCardinality(String) COMMENT 'Recommended action'
)
COMMENT 'Every alert ever, with how it ended, one row each'
AS
SELECT
    opened.alert_id AS alert_id, user_id, arm, raised_at, closed.at AS closed_at,
    closed.why AS closed_why, p_churn, expected_spend, reasons, action
FROM (SELECT * FROM alerts FINAL WHERE version = 1) AS opened
LEFT JOIN
(
    SELECT alert_id, closed_at AS at, closed_why AS why FROM alerts FINAL WHERE version = 2
) AS closed USING (alert_id);
