"""A real ClickHouse server over real TCP: Debian's package, which is of 2018 (18.16).

The local front (chDB) has no server of its own, so what happens between a client and a real one
when a connection breaks can only be seen here. Our DDL is lowered mechanically to what this server
knows. What it can't do, and so is not tested on it:

- insert deduplication tokens (2021): what is repeated is dropped by the table's key alone, which is
  the harder case of the two;
- milliseconds (DateTime64, 2019): times are cut to seconds;
- the views `ledger` and `recent_ledger` (window functions), `model_quality` and
  `quality_by_evidence`; all others are
  there, in the form that they were first released in;
- JSON (toJSONString, 2021): nothing feeds `user_points`, which stays empty.
"""

from __future__ import annotations

import logging
import re
import shutil
import signal
from pathlib import Path
from typing import Any, Final

from clickhouse_driver.settings import available as driver_settings

from streams.clickhouse.client import ClickHouseTarget, connect
from streams.clickhouse.migrations import available, split_statements
from streams.local.process import ChildProcess
from streams.local.server import LocalServer

__all__ = [
    "NOT_THERE",
    "OldClickHouse",
    "forget_new_settings",
    "known",
    "lowered",
    "missing",
    "prepare",
]

NOT_THERE: Final = (
    "ledger", "recent_ledger", "model_quality", "quality_by_evidence", "alert_episodes",
    "customers", "customer_scores", "customer_contacts", "alert_outcomes", "segment_sizes_now",
    "segment_size_hours", "segment_flow_hours", "audience_people", "quality_days",
    "batch_minutes", "lag_minutes", "definitions_history", "canary_trips", "customer_points",
    "customer_versions",
)  # fmt: skip
"""Views that this server can't have."""

_CONFIG = """\
<?xml version="1.0"?>
<yandex>
  <logger><level>warning</level><console>1</console></logger>
  <listen_host>{host}</listen_host>
  <tcp_port>{port}</tcp_port>
  <path>{path}/data/</path>
  <tmp_path>{path}/tmp/</tmp_path>
  <user_files_path>{path}/user_files/</user_files_path>
  <users_config>users.xml</users_config>
  <default_profile>default</default_profile>
  <default_database>default</default_database>
  <mark_cache_size>67108864</mark_cache_size>
  <timezone>UTC</timezone>
</yandex>
"""
_USERS = """\
<?xml version="1.0"?>
<yandex>
  <profiles><default><readonly>{readonly}</readonly></default><admin></admin></profiles>
  <users>
    <default>
      <password>{password}</password><networks><ip>{host}</ip></networks>
      <profile>default</profile><quota>default</quota>
    </default>
    <admin>
      <password></password><networks><ip>{host}</ip></networks>
      <profile>admin</profile><quota>default</quota>
    </admin>
  </users>
  <quotas><default></default></quotas>
</yandex>
"""


def missing() -> str | None:
    """Why the server can't run here, in words for a skipped test; None if it can."""
    if shutil.which("clickhouse-server") is None:
        return "clickhouse-server is missing; on Debian: apt-get install clickhouse-server"
    return None


class OldClickHouse(LocalServer):
    """The server, with settings and data in `directory`. `port` stays the same over restarts."""

    name = "clickhouse-server"
    version = "18.16"
    ready_seconds = 60.0

    def __init__(self, directory: Path) -> None:
        self._data = directory.resolve()
        super().__init__(self._data)

    def _program(self, directory: Path) -> ChildProcess:
        directory.mkdir(parents=True, exist_ok=True)
        config = directory / "config.xml"
        config.write_text(_CONFIG.format(host=self.host, port=self.port, path=directory))
        self.configure_user()
        program = shutil.which("clickhouse-server") or "clickhouse-server"
        return ChildProcess(
            self.name, [program, f"--config-file={config}"], directory / "server.log"
        )

    def configure_user(self, *, readonly: bool = False, password: str = "") -> None:
        """What the worker's user may, and how it gets in; the server notices within seconds.
        The user `admin` may always do everything."""
        text = _USERS.format(host=self.host, readonly=int(readonly), password=password)
        (self._data / "users.xml").write_text(text)

    def send(self, which: signal.Signals) -> None:
        """Freeze it, or let it go on."""
        assert self._child is not None
        popen: Any = self._child._popen
        popen.send_signal(which)


_VIEW: Final = re.compile(r"(CREATE|DROP)(?: OR REPLACE)? VIEW (?:IF (?:NOT )?EXISTS )?(\w+)")
_LOWERINGS: Final = tuple(
    (re.compile(pattern, re.DOTALL), by)
    for pattern, by in (
        (r" COMMENT '(?:[^']|'')*'", ""),
        (r" CODEC\((?:[^()]|\([^()]*\))*\)", ""),
        (r"LowCardinality\((\w+)\)", r"\1"),
        (r"DateTime64\(3, *'UTC'\)", "DateTime('UTC')"),
        (r"\bnow64\(3\)", "now()"),
        (r"ADD COLUMN IF NOT EXISTS", "ADD COLUMN"),
        (r"\nTTL [^\n]*", ""),
        (r"\nSETTINGS non_replicated_deduplication_window[^\n]*", ""),
        (r"\nCOMMENT '(?:[^']|'')*'", ""),
        # A materialized view must name every column of its table, and a view none of its own.
        (r"(CREATE MATERIALIZED VIEW .*?\bSELECT)\b", r"\1 now() AS inserted_at,"),
        (r"(CREATE VIEW IF NOT EXISTS \w+)\s*\(.*?\n\)", r"\1"),
    )
)


def known(statement: str) -> bool:
    """Whether this server can run a statement of ours, once it is lowered."""
    return "MODIFY TTL" not in statement and "toJSONString" not in statement


def lowered(statement: str) -> str:
    """A statement of ours in this server's words."""
    for pattern, by in _LOWERINGS:
        statement = pattern.sub(by, statement)
    return statement


def prepare(target: ClickHouseTarget) -> None:
    """As `migrate`, lowered."""
    with connect(target, database="") as client:
        client.execute(f"CREATE DATABASE IF NOT EXISTS {target.database}")
    made = set(NOT_THERE)
    with connect(target) as client:
        for migration in available():
            for statement in split_statements(migration.sql):
                view = _VIEW.match(statement)
                if not known(statement):
                    continue
                if view is not None and view[2] == "latest_scores_feed" and migration.version > 18:
                    continue  # views stay here as they were made first: of latest_scores
                if view is not None and view[0].startswith("DROP") and view[2].endswith("_feed"):
                    client.execute(f"DROP TABLE IF EXISTS {view[2]}")  # its word for it
                    made.discard(view[2])
                    continue
                if view is not None and (view[1] == "DROP" or view[2] in made):
                    continue
                if view is not None:
                    made.add(view[2])
                client.execute(lowered(statement))


def forget_new_settings() -> None:
    """Make clickhouse-driver, in this process, leave out what this server refuses to hear of."""
    # It sends a setting to servers this old only if it knows its type, and warns of the others.
    driver_settings.settings.pop("deduplicate_blocks_in_dependent_materialized_views", None)
    logging.getLogger("clickhouse_driver.settings.writer").setLevel(logging.ERROR)
