"""The `tideline` command: finds the subcommands, and turns errors into one clear message.

Exit status: 0 done, 1 failed, 2 wrong usage or settings. A traceback only with --debug.
Subcommands are imported when they are invoked, so that `--help` is quick and a missing extra
stops only the command that needs it.
"""

from __future__ import annotations

import importlib
import logging
from pathlib import Path
from typing import Any, Final, NamedTuple, NoReturn

import click

from schemas.errors import SettingsError, TidelineError
from streams import stopping
from streams.commands.support import Invocation

__all__ = ["COMMANDS", "tideline"]


class _Command(NamedTuple):
    """Where a subcommand is, and its line in `tideline --help`, which does not import it."""

    module: str
    attribute: str
    help: str
    serves: bool = False
    """It may run on as a service, and then handles stop requests itself (`streams.stopping`)."""


COMMANDS: Final[dict[str, _Command]] = {
    "start": _Command(
        "streams.commands.start", "start", "Set Tideline up for your shop, by questions."
    ),
    "demo": _Command(
        "streams.commands.demo",
        "demo",
        "See it all run: local servers, a year of real orders, results.",
    ),
    "worker": _Command(
        "streams.commands.run", "worker", "Score events: run one worker.", serves=True
    ),
    "learner": _Command(
        "streams.commands.run", "learner", "Learn from matured labels, online.", serves=True
    ),
    "trainer": _Command(
        "streams.commands.run",
        "trainer",
        "Retrain the champion, judge challengers, promote.",
        serves=True,
    ),
    "replay": _Command(
        "streams.commands.replay", "replay", "Send recorded or synthetic events to Kafka."
    ),
    "backfill": _Command(
        "streams.commands.backfill", "backfill", "Put a history of orders into the shards' state."
    ),
    "lag": _Command(
        "streams.commands.lag", "lag", "Show how far behind the consumers are.", serves=True
    ),
    "deliver": _Command(
        "streams.commands.deliver",
        "deliver",
        "Bring changes of audiences to other systems.",
        serves=True,
    ),
    "console": _Command(
        "streams.commands.console",
        "console",
        "Serve the pages that people look at in a browser.",
        serves=True,
    ),
    "audience": _Command(
        "streams.commands.audience", "audience", "Show who is in an audience, or write a file."
    ),
    "topics": _Command(
        "streams.commands.topics", "topics", "Check Kafka's topics, or create them."
    ),
    "migrate": _Command("streams.commands.run", "migrate", "Create or update ClickHouse's tables."),
    "train": _Command(
        "streams.commands.train", "train", "Train a champion and write its artifact."
    ),
    "models": _Command("streams.commands.models", "models", "List, check and promote models."),
    "skew": _Command(
        "streams.commands.skew", "skew", "Recompute sampled live scores from the log."
    ),
    "evaluate": _Command(
        "streams.commands.evaluate", "evaluate", "Measure the scores on an order history."
    ),
    "dlq": _Command("streams.commands.dlq", "dlq", "Show dead letters, and replay them."),
    "segments": _Command(
        "streams.commands.segments", "segments", "Define segments and audiences, and see who is in."
    ),
    "alert": _Command(
        "streams.commands.alert", "alert", "Explain an alert: why, by what, and what became of it."
    ),
    "alerts": _Command(
        "streams.commands.alerts", "alerts", "Measure alerts on a history, or explain one."
    ),
    "erase": _Command("streams.commands.erase", "erase", "Erase a person everywhere."),
    "reset": _Command(
        "streams.commands.reset", "reset", "Start the state over, from the input topics."
    ),
    "repartition": _Command(
        "streams.commands.repartition", "repartition", "Move to more partitions, with all state."
    ),
    "settings": _Command(
        "streams.commands.settings", "settings", "Show every setting, its value and its source."
    ),
    "pseudonyms": _Command(
        "streams.commands.pseudonyms", "pseudonyms", "Show which pseudonym belongs to which user."
    ),
    "doctor": _Command(
        "streams.commands.doctor", "doctor", "Check this installation, line by line."
    ),
    "capacity": _Command(
        "streams.commands.capacity",
        "capacity",
        "Estimate the machines that a rate of events needs.",
    ),
    "local": _Command(
        "streams.commands.local", "local", "Run Kafka and ClickHouse on this machine."
    ),
}


class TidelineGroup(click.Group):
    """A group of lazily imported commands, with our errors turned into messages."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        where = COMMANDS[cmd_name]
        if not where.serves:
            stopping.release()
        try:
            found = getattr(importlib.import_module(where.module), where.attribute)
        except ModuleNotFoundError as error:
            if ctx.find_object(Invocation) and ctx.ensure_object(Invocation).debug:
                raise
            raise click.ClickException(
                f"`tideline {cmd_name}` needs {error.name}, which is not installed. "
                "Run: pip install 'tideline[local,train]'"
            ) from error
        assert isinstance(found, click.Command), where  # noqa: S101  (a bug in COMMANDS)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.help) for name, command in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            invocation = ctx.find_object(Invocation)
            if invocation is not None and invocation.debug:
                raise
            _explain(error)


def _explain(error: Exception) -> NoReturn:
    if isinstance(error, TidelineError):
        click.echo(f"Error: {error}", err=True)
        raise click.exceptions.Exit(2 if isinstance(error, SettingsError) else 1) from error
    if isinstance(error, OSError) and error.filename is not None:
        click.echo(
            f"Error: {error.filename}: {error.strerror}. Check the path, and who may use it.",
            err=True,
        )
        raise click.exceptions.Exit(1) from error
    click.echo(
        f"Error: {type(error).__name__}: {error}\n"
        "This is a bug in Tideline; `tideline --debug …` shows where.",
        err=True,
    )
    raise click.exceptions.Exit(1) from error


def _version(ctx: click.Context, param: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        from importlib.metadata import version  # noqa: PLC0415  (slow to import)

        click.echo(f"tideline {version('tideline')}")
        ctx.exit()


@click.group(cls=TidelineGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    help="TOML file with settings; the environment (TIDELINE_…) wins over it.",
)
@click.option("--debug", is_flag=True, help="Log everything, and show tracebacks.")
@click.option("--version", is_flag=True, expose_value=False, is_eager=True, callback=_version,
              help="Show the version.")  # fmt: skip
@click.pass_context
def tideline(ctx: click.Context, config: Path | None, debug: bool) -> None:
    """Live churn risk, customer value and segments from a shop's clickstream and orders.

    `tideline demo` shows it at work. `tideline start` sets it up on your own Kafka and ClickHouse.
    """
    ctx.obj = Invocation(config=config, debug=debug)
    if not debug:
        # Without a handler, libraries print tracebacks of what we report ourselves.
        logging.getLogger().addHandler(logging.NullHandler())
