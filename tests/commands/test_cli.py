from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest

from schemas.errors import SinkUnavailable
from streams import cli as cli_module
from streams.cli import COMMANDS, tideline
from streams.local.process import free_port
from streams.local.tansu import TansuBroker
from streams.ops.doctor import examine
from streams.settings import Settings, describe, override

if TYPE_CHECKING:
    from tests.local_broker import Cli

GROUPS = {
    "dlq": ("list", "show", "replay"), "local": ("up",),
    "models": ("list", "show", "promote", "check"),
}  # fmt: skip
# Written by others; their own tests cover them.
ELSEWHERE = {"demo", "replay", "train"}


def test_help_names_every_command(cli: Cli) -> None:
    shown = cli("--help")
    assert shown.exit_code == 0
    for name, command in COMMANDS.items():
        assert f"  {name} " in shown.stdout
        assert command.help.split()[0] in shown.stdout
    assert {"demo", "worker", "learner", "replay", "migrate", "train", "topics"} <= set(COMMANDS)
    assert {"settings", "doctor", "dlq", "lag", "local"} <= set(COMMANDS)


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - ELSEWHERE))
def test_every_command_has_help(cli: Cli, name: str) -> None:
    shown = cli(name, "--help")
    assert shown.exit_code == 0, shown.output
    assert "Usage: tideline" in shown.stdout
    command = tideline.get_command(click.Context(tideline), name)
    assert command is not None
    assert command.help
    for option in command.params:
        if isinstance(option, click.Option):
            assert option.help, (name, option.name)
    for sub in GROUPS.get(name, ()):
        assert cli(name, sub, "--help").exit_code == 0


def test_version(cli: Cli) -> None:
    assert cli("--version").stdout == f"tideline {version('tideline')}\n"


def test_help_imports_nothing_heavy() -> None:
    code = "import sys, streams.cli; print(' '.join(sorted(m.split('.')[0] for m in sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"numpy", "kafka", "faust", "rich", "msgspec", "onnxruntime", "clickhouse_driver"}
    assert not heavy & set(done.stdout.split())


def test_a_missing_module_stops_only_its_own_command(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = cli_module._Command("no_such_module.here", "x", "Gone.")
    monkeypatch.setitem(COMMANDS, "gone", gone)
    assert "Gone." in cli("--help").stdout
    failed = cli("gone")
    assert failed.exit_code == 1
    assert "needs no_such_module" in failed.stderr
    assert "Traceback" not in failed.output


def test_unknown_command_is_a_usage_error(cli: Cli) -> None:
    assert cli("wroker").exit_code == 2


@pytest.mark.parametrize(
    ("error", "status", "expected"),
    [
        (SinkUnavailable("ClickHouse is away; check the server"), 1, "ClickHouse is away"),
        (KeyError("oops"), 1, "a bug in Tideline"),
    ],
)
def test_errors_are_one_message_and_a_traceback_only_with_debug(
    cli: Cli,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    status: int,
    expected: str,
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("streams.commands.settings.describe", fail)
    failed = cli("settings")
    assert failed.exit_code == status
    assert expected in failed.stderr
    assert "Traceback" not in failed.output
    assert cli("--debug", "settings").exception is error


def test_wrong_settings_exit_2_with_all_of_them(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TIDELINE_STREAM_CLOCK", "sundial")
    file = tmp_path / "tideline.toml"
    file.write_text("[kafka]\npartitions = 0\n", encoding="utf-8")
    failed = cli("--config", str(file), "topics")
    assert failed.exit_code == 2
    assert "TIDELINE_STREAM_CLOCK" in failed.stderr
    assert "TIDELINE_KAFKA_PARTITIONS" in failed.stderr
    assert "Traceback" not in failed.output


def test_settings_show_value_origin_and_no_secret(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIDELINE_CLICKHOUSE_PASSWORD", "hunter2")
    shown = cli("settings")
    assert "hunter2" not in shown.output
    assert "********" in shown.stdout
    rows = json.loads(cli("settings", "--json").stdout)
    assert [row["env"] for row in rows] == [row.env for row in describe(Settings())]
    by_env = {row["env"]: row for row in rows}
    assert by_env["TIDELINE_CLICKHOUSE_PASSWORD"]["value"] == "********"
    assert by_env["TIDELINE_CLICKHOUSE_PASSWORD"]["origin"] == "environment"
    for row in rows:
        assert row["env"] in shown.stdout


def test_doctor_goes_on_after_a_failure_and_names_fixes(cli: Cli, dead_broker: str) -> None:
    here = override(
        Settings(),
        kafka_broker_url=dead_broker,
        clickhouse_port=free_port(),
        model_artifact="/no/such/artifact",
    )
    done = cli("doctor", "--json", settings=here)
    findings = {row["check"]: row for row in json.loads(done.stdout)}
    assert done.exit_code == 1
    assert findings["places"]["state"] == "ok"
    assert findings["packages"]["state"] == "ok"
    for name, expected in (
        ("kafka", "TIDELINE_KAFKA_BROKER_URL"),
        ("clickhouse", "check that ClickHouse is up"),
        ("model", "/no/such/artifact"),
    ):
        assert findings[name]["state"] == "fail"
        assert expected in findings[name]["detail"]
    assert findings["offsets"]["state"] == "warn"
    assert "as this failed: kafka, clickhouse" in findings["offsets"]["detail"]


@pytest.mark.kafka
def test_doctor_sees_missing_topics(settings: Settings, broker: TansuBroker, cli: Cli) -> None:
    shown = cli("doctor", settings=override(settings, clickhouse_port=free_port()))
    assert f"ok    kafka       {broker.bootstrap} answers" in shown.stdout
    assert "fix: Run `tideline topics --create`" in shown.stdout


def test_doctor_reports_wrong_settings_as_a_finding() -> None:
    last = list(examine({"TIDELINE_STREAM_CLOCK": "sundial"}))[-1]
    assert (last.check, last.state) == ("settings", "fail")
    assert "sundial" in last.detail


def test_a_worker_without_a_broker_says_so_at_the_end_and_fails() -> None:
    address = f"127.0.0.1:{free_port()}"
    ended = subprocess.run(
        [sys.executable, "-m", "streams", "worker"],
        check=False,
        env={**os.environ, "TIDELINE_KAFKA_BROKER_URL": address},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert ended.returncode == 1
    message = ended.stderr.strip().splitlines()[-1]
    assert message.startswith(f"Error: Kafka at {address} does not answer")
    assert "AttributeError" not in ended.stderr + ended.stdout
