-- What `tideline trainer` did: the models it trained, how they compared with the champion, and which
-- were promoted. The trainer itself goes by what is in the store of models; this is for people.

CREATE TABLE IF NOT EXISTS trainer_log
(
    version                LowCardinality(String) COMMENT 'The model it is about; empty for a training that was not possible',
    event                  LowCardinality(String) COMMENT 'trained | too_few: labels for a training | promoted | rejected',
    labels_until           DateTime64(3, 'UTC') COMMENT 'The model learned what was known then, UTC',
    happened_at            DateTime64(3, 'UTC') COMMENT 'When it happened by the clock of the trainer, UTC',
    why                    String COMMENT 'The reason, in words',
    champion_version       LowCardinality(String) COMMENT 'The champion at that time; the one that was compared with',
    row_count              UInt32 COMMENT 'Examples that were trained on, or compared by',
    judged_after           DateTime64(3, 'UTC') COMMENT 'Compared by labels that became known after this, UTC; 1970-01-01 when not compared',
    judged_until           DateTime64(3, 'UTC') COMMENT 'And up to this, UTC',
    log_loss_champion      Float32 COMMENT 'Mean log loss of churn in nats, of the champion on these labels; NaN when not compared',
    log_loss_challenger    Float32 COMMENT 'The same of this model',
    deviance_champion      Float32 COMMENT 'Mean Tweedie deviance of spend, of the champion on these labels; NaN when not compared',
    deviance_challenger    Float32 COMMENT 'The same of this model',
    inserted_at            DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'When the row arrived here, UTC'
)
ENGINE = ReplacingMergeTree
ORDER BY (labels_until, version, event)
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'What the trainer did, one row per model and event';

CREATE VIEW IF NOT EXISTS challengers
(
    version             LowCardinality(String) COMMENT 'A model that the trainer made; one row each',
    state               String COMMENT 'waiting: for labels to be compared by | promoted | rejected',
    labels_until        DateTime64(3, 'UTC') COMMENT 'It learned what was known then, UTC',
    trained_at          Nullable(DateTime64(3, 'UTC')) COMMENT 'When it was trained, UTC',
    trained_rows        Nullable(UInt32) COMMENT 'Examples that it learned from',
    trained_why         Nullable(String) COMMENT 'schedule | drift',
    decided_at          Nullable(DateTime64(3, 'UTC')) COMMENT 'When it was decided on, UTC; NULL while it waits',
    champion_version    LowCardinality(String) COMMENT 'The champion that it was compared with, or is to be',
    judged_rows         Nullable(UInt32) COMMENT 'Labels that both were compared by: none of them was known to either',
    log_loss_champion   Nullable(Float32) COMMENT 'Mean log loss of churn in nats, of the champion; NULL when not compared',
    log_loss_challenger Nullable(Float32) COMMENT 'The same of this model',
    deviance_champion   Nullable(Float32) COMMENT 'Mean Tweedie deviance of spend, of the champion; NULL when not compared',
    deviance_challenger Nullable(Float32) COMMENT 'The same of this model',
    why                 Nullable(String) COMMENT 'The reason of the decision, in words'
)
COMMENT 'The models that the trainer made, and what became of them; the newest first'
AS
SELECT
    version,
    if(decided, if(promoted, 'promoted', 'rejected'), 'waiting') AS state,
    until AS labels_until,
    if(trained, trained_time, NULL) AS trained_at,
    if(trained, learned_from, NULL) AS trained_rows,
    if(trained, reason_trained, NULL) AS trained_why,
    if(decided, decided_time, NULL) AS decided_at,
    champion AS champion_version,
    if(decided, compared_by, NULL) AS judged_rows,
    if(isNaN(champion_loss), NULL, champion_loss) AS log_loss_champion,
    if(isNaN(own_loss), NULL, own_loss) AS log_loss_challenger,
    if(isNaN(champion_deviance), NULL, champion_deviance) AS deviance_champion,
    if(isNaN(own_deviance), NULL, own_deviance) AS deviance_challenger,
    if(decided, reason, NULL) AS why
FROM
(
    SELECT
        model AS version,
        max(learned_until) AS until,
        countIf(event = 'trained') > 0 AS trained,
        countIf(event IN ('promoted', 'rejected')) > 0 AS decided,
        countIf(event = 'promoted') > 0 AS promoted,
        maxIf(happened_at, event = 'trained') AS trained_time,
        maxIf(row_count, event = 'trained') AS learned_from,
        anyIf(said, event = 'trained') AS reason_trained,
        maxIf(happened_at, event != 'trained') AS decided_time,
        argMax(beside, event != 'trained') AS champion,
        maxIf(row_count, event != 'trained') AS compared_by,
        argMax(loss_beside, event != 'trained') AS champion_loss,
        argMax(loss, event != 'trained') AS own_loss,
        argMax(deviance_beside, event != 'trained') AS champion_deviance,
        argMax(deviance, event != 'trained') AS own_deviance,
        anyIf(said, event != 'trained') AS reason
    FROM
    (
        SELECT
            version AS model, labels_until AS learned_until, event, happened_at, row_count, why AS said,
            champion_version AS beside, log_loss_champion AS loss_beside, log_loss_challenger AS loss,
            deviance_champion AS deviance_beside, deviance_challenger AS deviance
        FROM trainer_log FINAL
        WHERE version != ''
    )
    GROUP BY model
)
ORDER BY labels_until DESC, version;
