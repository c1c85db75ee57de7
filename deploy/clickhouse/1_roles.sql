-- Who may do what in ClickHouse. As an administrator, before `tideline migrate`; safe to run again:
--
--   clickhouse-client --multiquery < deploy/clickhouse/1_roles.sql
--
-- The database is `tideline`; if TIDELINE_CLICKHOUSE_DATABASE says otherwise, replace the name in
-- these files. Needs ClickHouse 24.4 or newer. A test runs every statement of the product with
-- exactly these grants, and compares them with the tables and views in schemas/clickhouse/.

-- Readers ask, and can't ask for everything: a query that goes wild ends by itself. readonly = 2
-- lets clients set what they need (Grafana and drivers do), within these bounds; MIN, as 0 would
-- mean "no limit".
CREATE SETTINGS PROFILE OR REPLACE tideline_reader SETTINGS
    readonly = 2 CONST,
    max_execution_time = 60 MIN 1 MAX 60,
    max_memory_usage = 4000000000 MIN 1 MAX 4000000000,
    max_result_rows = 5000000 MIN 1 MAX 5000000,
    result_overflow_mode = 'throw' CONST,
    max_concurrent_queries_for_user = 20 MIN 1 MAX 20;

-- The console writes what people did in it, so it can't be read-only. Its questions take milliseconds.
CREATE SETTINGS PROFILE OR REPLACE tideline_console SETTINGS
    max_execution_time = 10 MIN 1 MAX 60,
    max_memory_usage = 2000000000 MIN 1 MAX 4000000000,
    max_result_rows = 1000000 MIN 1 MAX 1000000,
    result_overflow_mode = 'throw' CONST,
    max_concurrent_queries_for_user = 50 MIN 1 MAX 50;

-- Changes tables, by `tideline migrate`, and ends the shards' lives, by `tideline reset`. Tideline reads
-- only counts with it. It may read all tables, because whoever creates a view needs the view's rights.
CREATE ROLE IF NOT EXISTS tideline_migrator;
GRANT CREATE DATABASE, CREATE TABLE, CREATE VIEW, ALTER TABLE, DROP VIEW, SELECT ON tideline.* TO tideline_migrator;
GRANT INSERT ON tideline.schema_migrations TO tideline_migrator;
GRANT INSERT ON tideline.latest_scores TO tideline_migrator;
GRANT INSERT ON tideline.users_now TO tideline_migrator;
GRANT INSERT ON tideline.user_points TO tideline_migrator;
GRANT INSERT ON tideline.lag_now TO tideline_migrator;
GRANT INSERT ON tideline.segment_entries TO tideline_migrator;
GRANT INSERT ON tideline.segment_totals TO tideline_migrator;
GRANT INSERT ON tideline.segment_hours TO tideline_migrator;
GRANT INSERT ON tideline.user_alerts TO tideline_migrator;
GRANT INSERT ON tideline.audience_entries TO tideline_migrator;
GRANT INSERT ON tideline.judged_predictions TO tideline_migrator;
GRANT INSERT ON tideline.lives TO tideline_migrator;
GRANT INSERT ON tideline.ended_lives TO tideline_migrator;

-- Inserts results: the workers and the lag monitor. Can neither read a customer's results nor change any.
CREATE ROLE IF NOT EXISTS tideline_writer;
GRANT INSERT ON tideline.score_history TO tideline_writer;
GRANT INSERT ON tideline.segment_changes TO tideline_writer;
GRANT INSERT ON tideline.audience_changes TO tideline_writer;
GRANT INSERT ON tideline.campaign_sums TO tideline_writer;
GRANT INSERT ON tideline.segment_totals TO tideline_writer;
GRANT INSERT ON tideline.segment_moves TO tideline_writer;
GRANT INSERT ON tideline.definitions_taken TO tideline_writer;
GRANT INSERT ON tideline.alerts TO tideline_writer;
GRANT INSERT ON tideline.alert_budget TO tideline_writer;
GRANT INSERT ON tideline.contacts TO tideline_writer;
GRANT INSERT ON tideline.matured_predictions TO tideline_writer;
GRANT INSERT ON tideline.examples TO tideline_writer;
GRANT INSERT ON tideline.model_drift TO tideline_writer;
GRANT INSERT ON tideline.score_samples TO tideline_writer;
GRANT INSERT ON tideline.events TO tideline_writer;
GRANT INSERT ON tideline.user_features TO tideline_writer;
GRANT INSERT ON tideline.dead_letters TO tideline_writer;
GRANT INSERT ON tideline.consumer_lag TO tideline_writer;
GRANT INSERT ON tideline.canaries TO tideline_writer;
GRANT INSERT ON tideline.batches TO tideline_writer;
-- for `tideline doctor`, which compares the ledger with the topics
GRANT SELECT ON tideline.ledger TO tideline_writer;
GRANT SELECT ON tideline.fast_producers TO tideline_writer;
GRANT SELECT ON tideline.worker_clocks TO tideline_writer;
-- for the lag monitor, which watches the ledger and its canaries
GRANT SELECT ON tideline.recent_ledger TO tideline_writer;
GRANT SELECT ON tideline.canaries TO tideline_writer;
GRANT SELECT(version, sha256) ON tideline.schema_migrations TO tideline_writer;

-- Marketing: who is about to leave, and what became of the alerts.
CREATE ROLE IF NOT EXISTS tideline_marketing_ro;
GRANT SELECT ON tideline.churn_alerts_live TO tideline_marketing_ro;
GRANT SELECT ON tideline.alert_history TO tideline_marketing_ro;
GRANT SELECT ON tideline.alert_episodes TO tideline_marketing_ro;
GRANT SELECT ON tideline.alert_budget_days TO tideline_marketing_ro;
GRANT SELECT ON tideline.scores_live TO tideline_marketing_ro;
GRANT SELECT ON tideline.customers TO tideline_marketing_ro;
GRANT SELECT ON tideline.customer_scores TO tideline_marketing_ro;
GRANT SELECT ON tideline.customer_segments TO tideline_marketing_ro;
GRANT SELECT ON tideline.customer_alerts TO tideline_marketing_ro;
GRANT SELECT ON tideline.customer_contacts TO tideline_marketing_ro;
GRANT SELECT ON tideline.customer_events TO tideline_marketing_ro;
GRANT SELECT ON tideline.open_alerts TO tideline_marketing_ro;
GRANT SELECT ON tideline.alert_outcomes TO tideline_marketing_ro;

-- Campaigns: who is in which segment, and in which audience; `tideline audience` reads the latter.
CREATE ROLE IF NOT EXISTS tideline_campaign_ro;
GRANT SELECT ON tideline.segment_members TO tideline_campaign_ro;
GRANT SELECT ON tideline.segment_sizes TO tideline_campaign_ro;
GRANT SELECT ON tideline.segment_flow TO tideline_campaign_ro;
GRANT SELECT ON tideline.audience_members TO tideline_campaign_ro;
GRANT SELECT ON tideline.audience_arms TO tideline_campaign_ro;
GRANT SELECT ON tideline.campaign_results TO tideline_campaign_ro;
GRANT SELECT ON tideline.rfm_cells TO tideline_campaign_ro;
GRANT SELECT ON tideline.scores_live TO tideline_campaign_ro;
GRANT SELECT ON tideline.customers TO tideline_campaign_ro;
GRANT SELECT ON tideline.customer_segments TO tideline_campaign_ro;
GRANT SELECT ON tideline.segment_sizes_now TO tideline_campaign_ro;
GRANT SELECT ON tideline.segment_size_hours TO tideline_campaign_ro;
GRANT SELECT ON tideline.segment_flow_hours TO tideline_campaign_ro;
GRANT SELECT ON tideline.event_groups TO tideline_campaign_ro;
GRANT SELECT ON tideline.audience_people TO tideline_campaign_ro;
GRANT SELECT ON tideline.definitions_history TO tideline_campaign_ro;
GRANT SELECT ON tideline.quality_days TO tideline_campaign_ro;
GRANT SELECT ON tideline.model_quality TO tideline_campaign_ro;
GRANT SELECT ON tideline.quality_by_evidence TO tideline_campaign_ro;
GRANT SELECT ON tideline.drift_alerts TO tideline_campaign_ro;
GRANT SELECT ON tideline.challengers TO tideline_campaign_ro;

-- Operations: does it run. No user ids, and of dead letters neither key, payload nor detail.
CREATE ROLE IF NOT EXISTS tideline_sre_ro;
GRANT SELECT ON tideline.ledger TO tideline_sre_ro;
GRANT SELECT ON tideline.recent_ledger TO tideline_sre_ro;
GRANT SELECT ON tideline.past_lives TO tideline_sre_ro;
GRANT SELECT ON tideline.fast_producers TO tideline_sre_ro;
GRANT SELECT ON tideline.worker_clocks TO tideline_sre_ro;
GRANT SELECT ON tideline.batches TO tideline_sre_ro;
GRANT SELECT ON tideline.canaries TO tideline_sre_ro;
GRANT SELECT ON tideline.consumer_lag TO tideline_sre_ro;
GRANT SELECT ON tideline.consumer_lag_live TO tideline_sre_ro;
GRANT SELECT ON tideline.model_quality TO tideline_sre_ro;
GRANT SELECT ON tideline.quality_by_evidence TO tideline_sre_ro;
GRANT SELECT ON tideline.drift_alerts TO tideline_sre_ro;
GRANT SELECT ON tideline.challengers TO tideline_sre_ro;
GRANT SELECT ON tideline.schema_migrations TO tideline_sre_ro;
GRANT SELECT ON tideline.batch_minutes TO tideline_sre_ro;
GRANT SELECT ON tideline.lag_minutes TO tideline_sre_ro;
GRANT SELECT ON tideline.dead_letter_reasons TO tideline_sre_ro;
GRANT SELECT ON tideline.canary_trips TO tideline_sre_ro;
GRANT SELECT ON tideline.definitions_history TO tideline_sre_ro;
GRANT SELECT ON tideline.quality_days TO tideline_sre_ro;
GRANT SELECT ON tideline.segment_sizes_now TO tideline_sre_ro;
GRANT SELECT(topic, partition, offset, reason, recorded_at, payload_bytes, inserted_at) ON tideline.dead_letters TO tideline_sre_ro;

-- Trains models, by `tideline trainer` and `tideline train --live`: reads the examples that have been kept
-- and the drift that was noticed, and says what it did. Nothing else.
CREATE ROLE IF NOT EXISTS tideline_trainer;
GRANT SELECT ON tideline.examples TO tideline_trainer;
GRANT SELECT ON tideline.model_drift TO tideline_trainer;
GRANT INSERT ON tideline.trainer_log TO tideline_trainer;

-- Explains one alert, by `tideline alert explain`: reads what the customer's scores were, and changes nothing.
CREATE ROLE IF NOT EXISTS tideline_explainer;
GRANT SELECT ON tideline.alerts TO tideline_explainer;
GRANT SELECT ON tideline.score_history TO tideline_explainer;
GRANT SELECT ON tideline.users_now TO tideline_explainer;
GRANT SELECT ON tideline.score_samples TO tideline_explainer;
GRANT SELECT ON tideline.segment_changes TO tideline_explainer;
GRANT SELECT ON tideline.matured_predictions TO tideline_explainer;
GRANT SELECT ON tideline.batches TO tideline_explainer;
GRANT SELECT ON tideline.past_lives TO tideline_explainer;
GRANT SELECT(erasure_id, requested_at, inserted_at) ON tideline.erasures TO tideline_explainer;

-- The console, by `tideline console`: reads views, and writes who did what in it. Which of its pages show
-- user ids to whom is up to the console; it has no right to a table but that one.
CREATE ROLE IF NOT EXISTS tideline_console;
GRANT SELECT ON tideline.customers TO tideline_console;
GRANT SELECT ON tideline.customer_versions TO tideline_console;
GRANT SELECT ON tideline.customer_points TO tideline_console;
GRANT SELECT ON tideline.customer_scores TO tideline_console;
GRANT SELECT ON tideline.customer_segments TO tideline_console;
GRANT SELECT ON tideline.customer_alerts TO tideline_console;
GRANT SELECT ON tideline.customer_contacts TO tideline_console;
GRANT SELECT ON tideline.customer_events TO tideline_console;
GRANT SELECT ON tideline.customer_features TO tideline_console;
GRANT SELECT ON tideline.event_groups TO tideline_console;
GRANT SELECT ON tideline.open_alerts TO tideline_console;
GRANT SELECT ON tideline.alert_outcomes TO tideline_console;
GRANT SELECT ON tideline.segment_sizes_now TO tideline_console;
GRANT SELECT ON tideline.segment_size_hours TO tideline_console;
GRANT SELECT ON tideline.segment_flow_hours TO tideline_console;
GRANT SELECT ON tideline.audience_people TO tideline_console;
GRANT SELECT ON tideline.quality_days TO tideline_console;
GRANT SELECT ON tideline.batch_minutes TO tideline_console;
GRANT SELECT ON tideline.lag_minutes TO tideline_console;
GRANT SELECT ON tideline.dead_letter_reasons TO tideline_console;
GRANT SELECT ON tideline.dead_letters_newest TO tideline_console;
GRANT SELECT ON tideline.canary_trips TO tideline_console;
GRANT SELECT ON tideline.definitions_history TO tideline_console;
GRANT SELECT ON tideline.console_log TO tideline_console;
GRANT SELECT ON tideline.alert_episodes TO tideline_console;
GRANT SELECT ON tideline.alert_budget_days TO tideline_console;
GRANT SELECT ON tideline.audience_arms TO tideline_console;
GRANT SELECT ON tideline.campaign_results TO tideline_console;
GRANT SELECT ON tideline.challengers TO tideline_console;
GRANT SELECT ON tideline.consumer_lag_live TO tideline_console;
GRANT SELECT ON tideline.drift_alerts TO tideline_console;
GRANT SELECT ON tideline.fast_producers TO tideline_console;
GRANT SELECT ON tideline.ledger TO tideline_console;
GRANT SELECT ON tideline.past_lives TO tideline_console;
GRANT SELECT ON tideline.quality_by_evidence TO tideline_console;
GRANT SELECT ON tideline.recent_ledger TO tideline_console;
GRANT SELECT ON tideline.rfm_cells TO tideline_console;
GRANT SELECT ON tideline.worker_clocks TO tideline_console;
GRANT SELECT ON tideline.model_quality TO tideline_console;
GRANT SELECT ON tideline.scores_live TO tideline_console;
GRANT SELECT ON tideline.alert_history TO tideline_console;
GRANT SELECT ON tideline.audience_members TO tideline_console;
GRANT SELECT ON tideline.segment_flow TO tideline_console;
GRANT INSERT ON tideline.console_actions TO tideline_console;

-- Erases one person, by `tideline erase`: finds their rows, deletes them, and nothing else.
CREATE ROLE IF NOT EXISTS tideline_eraser;
GRANT SELECT(user_id, shard, scored_at), ALTER DELETE ON tideline.score_history TO tideline_eraser;
GRANT SELECT(user_id, shard, scored_at), ALTER DELETE ON tideline.latest_scores TO tideline_eraser;
GRANT SELECT(user_id, shard, scored_at), ALTER DELETE ON tideline.users_now TO tideline_eraser;
GRANT SELECT(user_id, shard, scored_at), ALTER DELETE ON tideline.user_points TO tideline_eraser;
GRANT SELECT(user_id, shard, raised_at), ALTER DELETE ON tideline.alerts TO tideline_eraser;
GRANT SELECT(user_id, shard, raised_at), ALTER DELETE ON tideline.user_alerts TO tideline_eraser;
GRANT SELECT(user_id, shard, contacted_at), ALTER DELETE ON tideline.contacts TO tideline_eraser;
GRANT SELECT(user_id, shard, changed_at), ALTER DELETE ON tideline.segment_changes TO tideline_eraser;
GRANT SELECT(user_id, shard, changed_at), ALTER DELETE ON tideline.audience_changes TO tideline_eraser;
GRANT SELECT(user_id, shard, since), ALTER DELETE ON tideline.segment_entries TO tideline_eraser;
GRANT SELECT(user_id, shard, since), ALTER DELETE ON tideline.audience_entries TO tideline_eraser;
GRANT SELECT(user_id, shard, asked_at), ALTER DELETE ON tideline.matured_predictions TO tideline_eraser;
GRANT SELECT(user_id, shard, asked_at), ALTER DELETE ON tideline.examples TO tideline_eraser;
GRANT SELECT(user_id, shard, scored_at), ALTER DELETE ON tideline.score_samples TO tideline_eraser;
GRANT SELECT(user_id, shard, taken_at), ALTER DELETE ON tideline.events TO tideline_eraser;
GRANT SELECT(user_id, shard, scored_at), ALTER DELETE ON tideline.user_features TO tideline_eraser;
GRANT SELECT(user_id), ALTER DELETE ON tideline.console_actions TO tideline_eraser;
GRANT SELECT(topic, partition, offset, record_key, payload, recorded_at), ALTER DELETE ON tideline.dead_letters TO tideline_eraser;
GRANT INSERT ON tideline.erasures TO tideline_eraser;

-- Nobody logs in as this one: the views read with its rights (3_views.sql), so that who may read a
-- view need not be able to read the tables under it; and the feeds write with them.
CREATE ROLE IF NOT EXISTS tideline_views;
GRANT SELECT ON tideline.* TO tideline_views;
GRANT INSERT ON tideline.lives TO tideline_views;
GRANT INSERT ON tideline.users_now TO tideline_views;
GRANT INSERT ON tideline.user_points TO tideline_views;
GRANT INSERT ON tideline.lag_now TO tideline_views;
GRANT INSERT ON tideline.segment_entries TO tideline_views;
GRANT INSERT ON tideline.segment_hours TO tideline_views;
GRANT INSERT ON tideline.user_alerts TO tideline_views;
GRANT INSERT ON tideline.audience_entries TO tideline_views;
GRANT INSERT ON tideline.judged_predictions TO tideline_views;
