"""The demo's directory, signals, readiness and the commands it shows to paste."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from schemas.errors import SettingsError
from streams.demo.directory import DemoDirectory, environment_file
from streams.demo.guide import query_line, where_to_look
from streams.demo.interrupts import Interrupted, Interrupts
from streams.demo.source import demo_source
from streams.demo.system import running_shards
from streams.replay.records import CLICKSTREAM
from streams.settings import Settings, load


def test_the_directory_is_cleared_at_the_start_and_gone_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "demo"
    with DemoDirectory(path) as first:
        first.keep = True
        (path / "kafka").mkdir()
        (path / "kafka" / "log").touch()
    assert (path / "kafka").exists()
    with DemoDirectory(path):
        assert not (path / "kafka").exists()
        (path / "worker.log").touch()
    assert not path.exists()


def test_somebody_elses_files_are_never_cleared(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(SettingsError, match="no demo made"), DemoDirectory(tmp_path):
        pass
    assert (tmp_path / "thesis.tex").exists()
    with pytest.raises(SettingsError, match="not a directory"), DemoDirectory(
        tmp_path / "thesis.tex"
    ):  # fmt: skip
        pass


def test_two_demos_do_not_share_a_directory(tmp_path: Path) -> None:
    path = tmp_path / "demo"
    with DemoDirectory(path):
        (path / "mine").touch()
        with pytest.raises(SettingsError, match="Another demo"), DemoDirectory(path):
            pass
        assert (path / "mine").exists()


def _stop_and_clean_up(cleaned: list[bool]) -> None:
    try:
        os.kill(os.getpid(), signal.SIGINT)
        signal.pause()
    finally:
        os.kill(os.getpid(), signal.SIGTERM)  # impatience must not cut the clean-up short
        cleaned.append(True)


def test_only_the_first_signal_interrupts() -> None:
    before = signal.getsignal(signal.SIGINT)
    cleaned: list[bool] = []
    with Interrupts() as interrupts:
        interrupts.raise_if_interrupted()
        with pytest.raises(Interrupted) as caught:
            _stop_and_clean_up(cleaned)
        assert cleaned
        assert caught.value.exit_status == 130
        with pytest.raises(Interrupted):
            interrupts.raise_if_interrupted()
    assert signal.getsignal(signal.SIGINT) is before


def test_running_shards_are_those_whose_state_is_running() -> None:
    text = """\
# HELP tideline_shard_state 1 for the state a shard is in
# TYPE tideline_shard_state gauge
tideline_shard_state{shard="0",state="recovering"} 0.0
tideline_shard_state{shard="0",state="running"} 1.0
tideline_shard_state{shard="1",state="recovering"} 1.0
tideline_shard_state{shard="1",state="running"} 0.0
"""
    assert running_shards(text) == {0}
    assert running_shards("") == set()


def test_the_env_file_sets_variables_and_finds_this_python(tmp_path: Path) -> None:
    file = environment_file(tmp_path, {"TIDELINE_KAFKA_BROKER_URL": "127.0.0.1:1 ; exit 3"})
    done = subprocess.run(
        ["sh", "-c",
         f'. {shlex.quote(str(file))}; echo "$TIDELINE_KAFKA_BROKER_URL"; command -v python'],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    url, python = done.stdout.splitlines()
    assert url == "127.0.0.1:1 ; exit 3"
    assert Path(python).parent == Path(sys.executable).parent


def test_the_guide_names_addresses_and_settings_that_load(tmp_path: Path) -> None:
    settings = Settings()
    settings = replace(
        settings,
        clickhouse=replace(settings.clickhouse, port=4567),
        console=replace(settings.console, lag_url="http://127.0.0.1:9"),
    )
    text = where_to_look(settings, tmp_path, "tansu", "http://127.0.0.1:8380")
    assert "127.0.0.1:4567" in text
    assert "Console     http://127.0.0.1:8380\n" in text
    assert "tideline lag" in text
    exports = (tmp_path / "env").read_text().splitlines()
    pairs = (line.removeprefix("export ").split("=", 1) for line in exports)
    environ = {name: value for name, value in pairs if name.startswith("TIDELINE_")}
    assert load(environ).clickhouse.port == 4567
    assert load(environ).console.lag_url == "http://127.0.0.1:9"


def test_the_query_to_paste_is_one_line_of_python() -> None:
    command, flag, program = shlex.split(query_line(Settings()))
    assert (command, flag) == ("python", "-c")
    compile(program, "query", "exec")


def test_the_source_says_what_is_simulated_and_has_visitors() -> None:
    source = demo_source((0, 10))
    records = [record for block in source.records for record in block]
    assert source.start_ms <= records[0].timestamp_ms <= records[-1].timestamp_ms < source.stop_ms
    clicks = [r for r in records if r.topic_kind == CLICKSTREAM]
    assert all(b'"simulated":true' in r.value for r in clicks)
    assert sum((r.key or b"").startswith(b"visitor-") for r in clicks) > 50
    assert "simulated" in source.records.summary()["browsing"]
