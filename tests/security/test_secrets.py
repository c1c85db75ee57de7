"""A secret shows nowhere: settings, errors, logs, tracebacks, reprs, the doctor."""

from __future__ import annotations

import dataclasses
import io
import json
import logging
import os
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from streams.cli import COMMANDS, tideline
from streams.clickhouse.client import clickhouse_target
from streams.faust_app import app_options
from streams.kafka.access import kafka_access
from streams.local.process import free_port
from streams.privacy.pseudonyms import pseudonyms
from streams.settings import SECTIONS, Secret, Settings, describe, load
from streams.settings.reader import env_name
from streams.telemetry.logs import configure

SESAME = "sesame-secret-0123456789abcdefghij"
FIELDS = [
    (table, item) for table, section in SECTIONS.items() for item in dataclasses.fields(section)
]
SECRETS = [(table, item.name) for table, item in FIELDS if isinstance(item.default, Secret)]


def sesame(table: str, name: str) -> str:
    """A value of this secret that no other has."""
    marked = f"{SESAME}-{table}-{name}"
    return f"https://127.0.0.1/{marked}" if name.endswith("_url") else marked


@pytest.fixture
def environ() -> dict[str, str]:
    """Every secret set, each to a marked one of its own; nobody answers anywhere."""
    return {
        **{env_name(*secret): sesame(*secret) for secret in SECRETS},
        "TIDELINE_KAFKA_SECURITY": "sasl_ssl",
        "TIDELINE_KAFKA_USERNAME": "shop",
        "TIDELINE_KAFKA_BROKER_URL": f"127.0.0.1:{free_port()}",
        "TIDELINE_CLICKHOUSE_PORT": str(free_port()),
        "TIDELINE_LOG_LEVEL": "debug",
    }


def test_there_are_secrets_and_all_are_known_as_such() -> None:
    known = {("kafka", "password"), ("clickhouse", "password"), ("privacy", "pseudonym_key")}
    assert known <= set(SECRETS)
    words = ("password", "_key", "token", "secret", "webhook_url")  # the URL is the right to post
    assert {(table, item.name) for table, item in FIELDS if item.name.endswith(words)} == set(
        SECRETS
    )


def shown(settings: Settings) -> list[Any]:
    """All that is made of settings and lives in a process."""
    return [
        settings, describe(settings), kafka_access(settings), clickhouse_target(settings),
        pseudonyms(settings), app_options(settings, "app"), dataclasses.asdict(settings),
    ]  # fmt: skip


def test_no_object_shows_a_secret(environ: dict[str, str]) -> None:
    for thing in shown(load(environ)):
        text = f"{thing!r} {thing!s} {json.dumps(thing, default=str)}"
        assert "sesame" not in text, type(thing)


def _fail(thing: Any) -> None:
    raise ValueError(thing)


def test_no_traceback_or_log_line_shows_a_secret(environ: dict[str, str]) -> None:
    out = io.StringIO()
    settings = load(environ)
    root = logging.getLogger()
    before = root.handlers[:], root.level
    configure("debug", "json", out)
    try:
        for thing in shown(settings):
            try:
                _fail(thing)
            except ValueError as error:
                logging.getLogger("x").exception("failed with %s", thing)
                inner = error.__traceback__ and error.__traceback__.tb_next
                frames = traceback.StackSummary.extract(
                    traceback.walk_tb(inner), capture_locals=True
                )
                assert "thing" in (frames[0].locals or {})
                assert "sesame" not in "".join(frames.format())
    finally:
        root.handlers[:], level = before
        root.setLevel(level)
    assert len(out.getvalue().splitlines()) == len(shown(settings))
    assert "sesame" not in out.getvalue()


@pytest.mark.parametrize(("table", "name"), SECRETS)
def test_a_secret_can_come_from_a_file(
    table: str, name: str, environ: dict[str, str], tmp_path: Path
) -> None:
    """As Docker and Kubernetes mount them."""
    env = env_name(table, name)
    file = tmp_path / "secret"
    file.write_text(environ.pop(env) + "\n")
    settings = load(environ | {f"{env}_FILE": str(file)})
    assert getattr(getattr(settings, table), name).reveal() == sesame(table, name)
    assert settings.origins[env] == f"file {file}"
    assert "sesame" not in repr(settings) + repr(describe(settings))


@pytest.mark.parametrize(
    "arguments",
    [["settings"], ["settings", "--json"], ["doctor"], ["doctor", "--json"], ["topics"], ["lag"],
     ["migrate"], ["dlq", "list"], ["worker"], ["learner"], ["--debug", "topics"],
     ["--debug", "worker"], ["--debug", "migrate"], ["--debug", "doctor"],
     ["replay", "--synthetic", "--events", "1"]],
    ids=" ".join,
)  # fmt: skip
def test_no_command_shows_a_secret(arguments: list[str], environ: dict[str, str]) -> None:
    """Whole processes, so that whatever they print on their way out is seen too."""
    assert arguments[arguments[0] == "--debug"] in COMMANDS
    done = subprocess.run(
        [sys.executable, "-m", "streams", *arguments],
        env={**os.environ, **environ}, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    printed = done.stdout + done.stderr
    assert printed
    assert "sesame" not in printed
    if "settings" in arguments:
        assert printed.count("********") == len(SECRETS)
    elif "--debug" in arguments and "doctor" not in arguments:
        assert "Traceback" in printed


def test_no_wrong_setting_shows_a_secret(environ: dict[str, str]) -> None:
    wrong = {"TIDELINE_KAFKA_PARTITIONS": "x", "TIDELINE_KAFKA_SECURITY": "plaintext",
             "TIDELINE_PRIVACY_PSEUDONYM_KEY": "sesame"}  # fmt: skip
    done = CliRunner().invoke(tideline, ["settings"], env=environ | wrong, prog_name="tideline")
    assert done.exit_code == 2
    for name in (
        "TIDELINE_KAFKA_PASSWORD: of no use",
        "TIDELINE_PRIVACY_PSEUDONYM_KEY: got (secret)",
    ):
        assert name in done.output
    assert "sesame" not in done.output
