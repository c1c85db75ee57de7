"""`tideline console`: the pages that people look at in a browser."""
# ruff: noqa: PLC0415  (the web server and templates are imported when the command runs)

from __future__ import annotations

import logging
import secrets

import click

from streams import stopping
from streams.commands.support import Invocation
from streams.console.access import ROLES, SCOPES, token_hash

__all__ = ["console"]


@click.group(invoke_without_command=True)
@click.pass_context
def console(context: click.Context) -> None:
    """Serve the console: alerts, customers, segments, campaigns, models, pipeline, settings.

    On this machine alone, without a login, unless [console] says otherwise; its address is in the
    log. It reads ClickHouse's views. See docs/console.md.
    """
    invocation = context.ensure_object(Invocation)
    if context.invoked_subcommand is not None:
        stopping.release()
        return
    settings = invocation.start_logging()
    requests = stopping.StopRequests.listen()
    from streams.console.service import run

    logging.getLogger(__name__).info("console started")
    run(settings, requests)


@console.command()
@click.argument("name")
@click.option(
    "--role", "roles", multiple=True, type=click.Choice(ROLES),
    help="Of a person, for pages and actions. Repeat it for several.",
)  # fmt: skip
@click.option(
    "--scope", "scopes", multiple=True, type=click.Choice(SCOPES),
    help="Of a program, for /v1. Repeat it for several.",
)  # fmt: skip
def token(name: str, roles: tuple[str, ...], scopes: tuple[str, ...]) -> None:
    """Make a token for NAME: prints it once, and the entry for TIDELINE_CONSOLE_TOKENS_FILE.

    The file has only the hash: give NAME the token, and keep it nowhere else.
    """
    if not roles and not scopes:
        raise click.UsageError("Give a person a --role, or a program a --scope.")
    made = f"tl_{secrets.token_urlsafe(32)}"
    quoted = name.replace("\\", "\\\\").replace('"', '\\"')
    click.echo(f"The token, for {name} alone:\n\n  {made}\n", err=True)
    click.echo(f'[tokens."{quoted}"]\nsha256 = "{token_hash(made)}"')
    for key, names in (("roles", roles), ("scopes", scopes)):
        if names:
            listed = ", ".join(f'"{each}"' for each in dict.fromkeys(names))
            click.echo(f"{key} = [{listed}]")
