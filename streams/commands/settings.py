"""`tideline settings`: every setting with its effective value and where it came from."""

from __future__ import annotations

from dataclasses import asdict

import click

from streams.commands.support import (
    Invocation,
    json_option,
    pass_invocation,
    print_json,
    print_table,
)
from streams.settings import describe

__all__ = ["settings"]


@click.command()
@json_option
@pass_invocation
def settings(invocation: Invocation, as_json: bool) -> None:
    """Every setting: its value and where it came from. Secrets are masked.

    A setting comes from the environment (TIDELINE_KAFKA_BROKER_URL), else from the TOML
    file that --config or TIDELINE_CONFIG names (`broker_url` in table [kafka]), else it has its
    default. A secret can also be in a file: TIDELINE_CLICKHOUSE_PASSWORD_FILE names the one that
    holds the ClickHouse password.
    """
    rows = describe(invocation.settings)
    if as_json:
        print_json([asdict(row) for row in rows])
        return
    print_table(
        ("ENVIRONMENT", "TOML", "VALUE", "FROM", "WHAT"),
        ((r.env, f"[{r.table}] {r.name}", r.value, r.origin, r.help) for r in rows),
    )
