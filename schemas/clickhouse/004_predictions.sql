-- Predictions whose truth is known, and how good they were.

CREATE TABLE IF NOT EXISTS matured_predictions
(
    shard            UInt16 COMMENT 'Kafka partition the user belongs to',
    ordinal          UInt64 COMMENT 'Numbers the examples of a shard from 1 without gaps' CODEC(DoubleDelta, ZSTD(1)),
    user_id          String COMMENT 'User id, or its pseudonym' CODEC(ZSTD(1)),
    asked_at         DateTime64(3, 'UTC') COMMENT 'When the prediction was made, UTC' CODEC(DoubleDelta, ZSTD(1)),
    matured_at       DateTime64(3, 'UTC') COMMENT 'asked_at + horizon_days, UTC: when the truth was known' CODEC(DoubleDelta, ZSTD(1)),
    horizon_days     UInt16 COMMENT 'How far the prediction looked ahead, in days' CODEC(ZSTD(1)),
    p_churn          Float32 COMMENT 'Probability, 0 to 1, as acted on at asked_at' CODEC(ZSTD(1)),
    p_champion       Float32 COMMENT 'Probability by the ONNX model alone' CODEC(ZSTD(1)),
    p_learner        Float32 COMMENT 'Probability by the online learner alone' CODEC(ZSTD(1)),
    churned          UInt8 COMMENT '1 when no order came within the horizon' CODEC(ZSTD(1)),
    spend_predicted  Float32 COMMENT 'Expected spend within the horizon, in the shop''s currency' CODEC(ZSTD(1)),
    spend            Float32 COMMENT 'Spend within the horizon, in the shop''s currency' CODEC(ZSTD(1)),
    champion_version LowCardinality(String) COMMENT 'Version of the ONNX model',
    learner_version  UInt32 COMMENT 'Version of the online learner''s snapshot' CODEC(Delta, ZSTD(1)),
    inserted_at      DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'When the row arrived here, UTC' CODEC(Delta, ZSTD(1))
)
ENGINE = ReplacingMergeTree
ORDER BY (shard, ordinal)
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'Predictions as they were made, beside what happened';

CREATE VIEW IF NOT EXISTS model_quality
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
GROUP BY day;
