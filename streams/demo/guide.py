"""Says where to look next while the demo stays up: addresses, and lines to paste."""

from __future__ import annotations

import os
from pathlib import Path
from shlex import quote

from streams.demo.directory import environment_file
from streams.demo.options import BROKER_NAMES, Broker
from streams.settings import Settings

__all__ = ["QUERY", "query_line", "where_to_look"]

QUERY = (
    "SELECT user_id, round(priority), reasons FROM churn_alerts_live ORDER BY priority DESC LIMIT 5"
)


def query_line(settings: Settings) -> str:
    """A shell command that asks ClickHouse for the alerts with the most at stake."""
    here = settings.clickhouse
    program = (
        "from clickhouse_driver import Client; "
        f'print(*Client("{here.host}", {here.port}, '
        f'"{here.database}").execute("{QUERY}"), sep="\\n")'
    )
    return f"python -c {quote(program)}"


def where_to_look(
    settings: Settings, directory: Path, broker: Broker, console_url: str = ""
) -> str:
    """Writes the `env` file that the lines need, and returns the text."""
    kafka, clickhouse, web = settings.kafka, settings.clickhouse, settings.web
    variables = {
        "TIDELINE_KAFKA_BROKER_URL": kafka.broker_url,
        "TIDELINE_CLICKHOUSE_HOST": clickhouse.host,
        "TIDELINE_CLICKHOUSE_PORT": str(clickhouse.port),
        "TIDELINE_STREAM_CLOCK": settings.stream.clock,
        "TIDELINE_KAFKA_SESSION_TIMEOUT_SECONDS": f"{kafka.session_timeout_seconds:g}",
    }
    if settings.console.lag_url:
        variables["TIDELINE_CONSOLE_LAG_URL"] = settings.console.lag_url
    env = os.path.relpath(environment_file(directory, variables))
    if env.startswith(".."):
        env = str(directory / "env")
    console = f"Console     {console_url}\n" if console_url else ""
    return f"""
All is processed; everything stays up until Ctrl-C. In another terminal:

  . {quote(env)}
  tideline lag
  tideline dlq list
  {query_line(settings)}

{console}ClickHouse  {clickhouse.host}:{clickhouse.port} (native protocol), database \
{clickhouse.database}
            see churn_alerts_live, segment_members, scores_live, ledger
Kafka       {kafka.broker_url} ({BROKER_NAMES[broker]})
Metrics     http://{web.metrics_host}:{web.metrics_port}/metrics (the worker's)
Logs        {os.path.relpath(directory)}
"""
