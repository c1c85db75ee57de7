-- Views read with the rights of `tideline_views`, not of who asks. As an administrator, after
-- `tideline migrate`, the first time and whenever it has made a new view; until then the writer and
-- readers are refused, never let in further.
--
--   clickhouse-client --database=tideline --multiquery < deploy/clickhouse/3_views.sql
ALTER TABLE scores_live MODIFY SQL SECURITY DEFINER DEFINER = tideline_views;
ALTER TABLE churn_alerts_live MODIFY SQL SECURITY DEFINER DEFINER = tideline_views;
ALTER TABLE alert_history MODIFY SQL SECURITY DEFINER DEFINER = tideline_views;
ALTER TABLE alert_episodes MODIFY SQL SECURITY DEFINER DEFINER = tideline_views;
ALTER TABLE alert_budget_days MODIFY SQL SECURITY DEFINER DEFINER = tideline_views;
ALTER TABLE segment_members MODIFY SQL SECURITY DEFINER DEFINER = tideline_views;
ALTER TABLE segment_sizes MODIFY SQL SECURITY DEFINER DEFINER = tideline_views;
ALTER TABLE segment_flow MODIFY SQL SECURITY DEFINER DEFINER = tideline_views;
ALTER TABLE audience_members MODIFY SQL SECURITY DEFINER DEFINER = tideline_views;
ALTER TABLE rfm_cells MODIFY SQL SECURITY DEFINER DEFINER = tideline_views;
ALTER TABLE campaign_results MODIFY SQL SECURITY DEFINER DEFINER = tideline_views;
ALTER TABLE audience_arms MODIFY SQL SECURITY DEFINER DEFINER = tideline_views;
ALTER TABLE model_quality MODIFY SQL SECURITY DEFINER DEFINER = tideline_views;
ALTER TABLE quality_by_evidence MODIFY SQL SECURITY DEFINER DEFINER = tideline_views;
ALTER TABLE drift_alerts MODIFY SQL SECURITY DEFINER DEFINER = tideline_views;
ALTER TABLE challengers MODIFY SQL SECURITY DEFINER DEFINER = tideline_views;
ALTER TABLE recent_ledger MODIFY SQL SECURITY DEFINER DEFINER = tideline_views;
ALTER TABLE ledger MODIFY SQL SECURITY DEFINER DEFINER = tideline_views;
ALTER TABLE consumer_lag_live MODIFY SQL SECURITY DEFINER DEFINER = tideline_views;
ALTER TABLE past_lives MODIFY SQL SECURITY DEFINER DEFINER = tideline_views;
ALTER TABLE fast_producers MODIFY SQL SECURITY DEFINER DEFINER = tideline_views;
ALTER TABLE worker_clocks MODIFY SQL SECURITY DEFINER DEFINER = tideline_views;
ALTER TABLE latest_scores_feed MODIFY SQL SECURITY DEFINER DEFINER = tideline_views;
ALTER TABLE lives_feed MODIFY SQL SECURITY DEFINER DEFINER = tideline_views;
