"""`tideline start`: sets Tideline up by questions, up to the commands that start the services."""
# ruff: noqa: PLC0415  (heavy imports wait until the command runs)

from __future__ import annotations

import importlib
import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from schemas.errors import SettingsError
from streams.commands.history_options import history_options, read_orders, take_history_options
from streams.commands.support import Invocation, pass_invocation
from streams.settings import SECTIONS, Settings
from streams.start.files import draft_of
from streams.start.questions import ASKED, Value

if TYPE_CHECKING:
    from streams.history.several import Histories
    from streams.start.steps import CommandName, Run

__all__ = ["read_files", "run_with", "start"]

_Command = TypeVar("_Command", bound=Callable[..., Any])
_DEFAULT = Path("tideline.toml")
_FLAGS = ("strict",)


def _asked_options(command: _Command) -> _Command:
    """An option for each setting that is asked for, such as --kafka-broker-url."""
    for key in reversed(ASKED):
        table, _, name = key.partition(".")
        item = next(f for f in fields(SECTIONS[table]) if f.name == name)
        option = click.option(
            f"--{table}-{name}".replace("_", "-"), f"{table}__{name}", metavar="VALUE",
            help=item.metadata["help"],
        )  # fmt: skip
        command = option(command)
    return command


@click.command()
@click.argument("files", nargs=-1, metavar="[FILE]...")
@click.option("--config", type=click.Path(dir_okay=False, path_type=Path),
              help="The file of settings to write.  [default: tideline --config, "
              "TIDELINE_CONFIG, or tideline.toml]")  # fmt: skip
@click.option("--yes", is_flag=True,
              help="Ask nothing: take options, environment, file and proposals.")  # fmt: skip
@click.option("--overwrite", is_flag=True,
              help="With --yes: replace a file that has other settings.")  # fmt: skip
@click.option("--no-history", is_flag=True, help="There are no files with past orders.")
@click.option("--horizon-days", type=click.IntRange(1, 365),
              help="Days without an order that mean churn.  [default: what fits the history]",
)  # fmt: skip
@click.option("--keep-password", type=click.Choice(["file", "environment", "toml"]),
              help="Where to keep a password that you type.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Check everything, and write nothing.")
@_asked_options
@history_options
@pass_invocation
@click.pass_context
def start(
    ctx: click.Context, invocation: Invocation, /, files: tuple[str, ...], config: Path | None,
    yes: bool, overwrite: bool, no_history: bool, horizon_days: int | None,
    keep_password: str | None, dry_run: bool, **options: Any,
) -> None:  # fmt: skip
    """Set Tideline up for your shop, by questions.

    It asks for Kafka, topics, ClickHouse and files of past orders. It checks each answer at once
    and shows what it reads. Then it writes the settings, creates topics and tables, counts the
    history, trains a model, and says which processes to start. Ctrl-C loses nothing: run it again
    to continue.

    FILE: a file of past orders; there may be several. An option answers its question in advance.
    """
    from streams.start.run import Start
    from streams.start.terminal import Nobody, Person

    if not yes and not _at_a_terminal():
        raise click.UsageError(
            "This is not a terminal, so nobody can answer. Run it in one, or with --yes."
        )
    if files and no_history:
        raise click.UsageError("Give either files or --no-history.")
    named = config or invocation.config or os.environ.get("TIDELINE_CONFIG") or _DEFAULT
    target = Path(named).absolute()
    given = _given(files, no_history, horizon_days, keep_password, options, ctx)
    environ = {name: value for name, value in os.environ.items() if name != "TIDELINE_CONFIG"}
    guide = Start(
        target, environ, given, Nobody() if yes else Person(), read_files,
        run_with(invocation, target), _history_help(), lambda: time.time_ns() // 1_000_000,
        keep=not yes, dry_run=dry_run, overwrite=overwrite, program=os.path.abspath(sys.argv[0]),
    )  # fmt: skip
    try:
        status = guide.run()
    except (click.Abort, KeyboardInterrupt):
        click.echo("\nStopped.", err=True)
        _say_kept(target)
        status = 130
    except Exception:
        _say_kept(target)
        raise
    ctx.exit(status)


def _at_a_terminal() -> bool:
    return sys.stdin.isatty()


def _say_kept(target: Path) -> None:
    if draft_of(target).exists():
        click.echo(
            f"Your answers are kept in {draft_of(target)}.\nContinue with: tideline start --config "
            f"{target}",
            err=True,
        )


def _given(
    files: Sequence[str], no_history: bool, horizon_days: int | None, keep_password: str | None,
    options: dict[str, Any], ctx: click.Context,
) -> dict[str, Value]:  # fmt: skip
    """Answers by options. Raises SettingsError."""
    import shlex

    from streams.start.session import parsed

    history = take_history_options(options)
    found: dict[str, Value] = {}
    for name, text in options.items():
        if text is not None:
            key = name.replace("__", ".")
            found[key] = parsed(key, text)
    if files:
        found["start.files"] = parsed("start.files", shlex.join(files))
    elif no_history:
        found["start.files"] = ""
    if horizon_days is not None:
        found["start.horizon_days"] = horizon_days
    if keep_password is not None:
        found["start.keep"] = keep_password
    arguments = [
        word
        for parameter in ctx.command.params
        if parameter.name in history
        and ctx.get_parameter_source(parameter.name) is click.core.ParameterSource.COMMANDLINE
        for word in _arguments(parameter, history[parameter.name])
    ]
    if arguments:
        found["start.options"] = shlex.join(arguments)
    return found


def _arguments(option: click.Parameter, value: Any) -> list[str]:
    """An option as it is typed."""
    name = option.opts[0]
    if isinstance(value, bool):
        return [name]
    values = value if isinstance(value, tuple) else (value,)
    return [f"{name}={each}" for each in values]


@click.command()
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@history_options
def _reader(files: tuple[Path, ...], **options: Any) -> Histories:
    """Reads files with the options as every command takes them."""
    from streams.history.several import Histories

    return Histories([read_orders(file, options) for file in files])


def read_files(files: Sequence[Path], options: Sequence[str]) -> Histories:
    """As `streams.start.looking.Read`."""
    try:
        found: Histories = _reader.main(
            [*options, "--", *map(str, files)], prog_name="tideline start", standalone_mode=False
        )
    except click.UsageError as error:
        raise SettingsError(error.format_message()) from error
    return found


def _history_help() -> dict[str, str]:
    """Name -> help of each option that says how files are read."""
    return {
        option.opts[0].removeprefix("--"): option.help or ""
        for option in _reader.params
        if isinstance(option, click.Option) and option.name not in _FLAGS
    }


def run_with(invocation: Invocation, target: Path) -> Run:
    """Runs a command as the shell would, in this process."""

    def run(name: CommandName, arguments: Sequence[str], settings: Settings) -> int:
        command: click.Command = getattr(importlib.import_module(f"streams.commands.{name}"), name)
        inner = Invocation(target, invocation.debug, settings)
        root = logging.getLogger()
        before = root.handlers[:], root.level
        try:
            status = command.main(
                list(arguments), prog_name=f"tideline {name}", standalone_mode=False, obj=inner
            )
        except click.UsageError as error:
            raise SettingsError(error.format_message()) from error
        except ModuleNotFoundError as error:
            raise SettingsError(
                f"`tideline {name}` needs {error.name}, which is not installed. Run: pip install "
                "'tideline[local,train]'"
            ) from error
        finally:
            root.handlers[:], root.level = before  # the guide logs nothing
        return int(status or 0)

    return run
