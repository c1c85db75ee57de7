-- The users, one per role. As an administrator, after 1_roles.sql. ClickHouse gets hashes, so that
-- no password is in its logs or on a command line:
--
--   hash() { sha256sum "$1" | cut -d' ' -f1; }      # a file without a newline at its end
--   clickhouse-client --multiquery \
--     --param_migrator="$(hash migrator.pw)" --param_writer="$(hash writer.pw)" \
--     --param_marketing="$(hash marketing.pw)" --param_campaign="$(hash campaign.pw)" \
--     --param_sre="$(hash sre.pw)" --param_eraser="$(hash eraser.pw)" \
--     --param_trainer="$(hash trainer.pw)" --param_explainer="$(hash explainer.pw)" \
--     --param_console="$(hash console.pw)" \
--     < deploy/clickhouse/2_users.sql
--
-- Long random passwords, please (`openssl rand -hex 32 | tr -d '\n' > writer.pw`): a plain hash
-- keeps a short one no secret. To change one: ALTER USER … IDENTIFIED WITH sha256_hash BY '…'.
-- Then: TIDELINE_CLICKHOUSE_USER=tideline_writer for worker and lag monitor, tideline_migrator for
-- `tideline migrate` and `tideline reset`, tideline_eraser for `tideline erase`, tideline_console for
-- `tideline console`, tideline_trainer for
-- `tideline trainer` and `tideline train --live`. HOST LIKE '10.%' behind a user's name limits where it may come from.
CREATE USER IF NOT EXISTS tideline_migrator IDENTIFIED WITH sha256_hash BY {migrator:String} DEFAULT ROLE tideline_migrator;
CREATE USER IF NOT EXISTS tideline_writer IDENTIFIED WITH sha256_hash BY {writer:String} DEFAULT ROLE tideline_writer;
CREATE USER IF NOT EXISTS tideline_marketing_ro IDENTIFIED WITH sha256_hash BY {marketing:String} DEFAULT ROLE tideline_marketing_ro SETTINGS PROFILE 'tideline_reader';
CREATE USER IF NOT EXISTS tideline_campaign_ro IDENTIFIED WITH sha256_hash BY {campaign:String} DEFAULT ROLE tideline_campaign_ro SETTINGS PROFILE 'tideline_reader';
CREATE USER IF NOT EXISTS tideline_sre_ro IDENTIFIED WITH sha256_hash BY {sre:String} DEFAULT ROLE tideline_sre_ro SETTINGS PROFILE 'tideline_reader';
CREATE USER IF NOT EXISTS tideline_eraser IDENTIFIED WITH sha256_hash BY {eraser:String} DEFAULT ROLE tideline_eraser;
CREATE USER IF NOT EXISTS tideline_trainer IDENTIFIED WITH sha256_hash BY {trainer:String} DEFAULT ROLE tideline_trainer;
CREATE USER IF NOT EXISTS tideline_explainer IDENTIFIED WITH sha256_hash BY {explainer:String} DEFAULT ROLE tideline_explainer SETTINGS PROFILE 'tideline_reader';
CREATE USER IF NOT EXISTS tideline_console IDENTIFIED WITH sha256_hash BY {console:String} DEFAULT ROLE tideline_console SETTINGS PROFILE 'tideline_console';
CREATE USER IF NOT EXISTS tideline_views NOT IDENTIFIED HOST NONE DEFAULT ROLE tideline_views;
GRANT tideline_migrator TO tideline_migrator;
GRANT tideline_writer TO tideline_writer;
GRANT tideline_marketing_ro TO tideline_marketing_ro;
GRANT tideline_campaign_ro TO tideline_campaign_ro;
GRANT tideline_sre_ro TO tideline_sre_ro;
GRANT tideline_eraser TO tideline_eraser;
GRANT tideline_trainer TO tideline_trainer;
GRANT tideline_explainer TO tideline_explainer;
GRANT tideline_console TO tideline_console;
GRANT tideline_views TO tideline_views;
