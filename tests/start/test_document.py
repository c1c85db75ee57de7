"""What the file of settings says, and that it is written whole."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import pytest
from hypothesis import strategies as st

from streams.settings import Settings, as_given, load, override
from streams.start.document import HEAD, changed, document, written
from streams.start.ending import what_to_start
from streams.start.files import draft_of, read_draft, write_draft, write_whole
from streams.start.questions import Value

NOTHING: frozenset[str] = frozenset()


def reread(tmp_path: Path, text: str) -> Settings:
    file = tmp_path / "reread.toml"
    file.write_text(text, encoding="utf-8")
    return load({}, file)


def test_document_loads_as_the_settings_it_was_made_from(tmp_path: Path) -> None:
    made = override(
        Settings(), kafka_partitions=12, kafka_partitioner="crc32", clickhouse_secure=True,
        alerts_enter=0.625, stream_currency_rates="EUR=1.08", clickhouse_password='q"\\\n#ü',
    )  # fmt: skip
    text = document(changed(made), HEAD)
    assert reread(tmp_path, text) == made
    assert "broker_url" not in text, "a default is not written"
    assert "# partitions of each input topic" in text


@hypothesis.given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_is_written_as_toml(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    made = override(Settings(), clickhouse_password=text)
    file = tmp_path_factory.mktemp("toml") / "x.toml"
    file.write_text(document(changed(made), HEAD), encoding="utf-8")
    assert as_given({}, file).clickhouse.password.reveal() == text


def test_answers_are_added_to_the_settings_in_the_file() -> None:
    before = override(Settings(), alerts_enter=0.6, kafka_partitions=9)
    found = written(
        before, {"kafka.partitions": 4, "clickhouse.host": "db", "kafka.broker_url": "b:1"},
        fixed=frozenset({"kafka.broker_url"}), model=False,
    )  # fmt: skip
    assert found == {"alerts.enter": 0.6, "clickhouse.host": "db"}


@pytest.mark.parametrize(("keep", "there"), [("file", False), ("environment", False),
                                             ("toml", True)])  # fmt: skip
def test_password_is_written_only_on_request(keep: str, there: bool) -> None:
    values = {"clickhouse.password": "hunter2", "start.keep": keep}
    found = written(Settings(), values, fixed=NOTHING, model=False)
    assert ("hunter2" in document(found, HEAD)) is there


def test_model_directory_is_written_only_once_it_has_a_model() -> None:
    values = {"model.artifact": "/m"}
    assert written(Settings(), values, fixed=NOTHING, model=False) == {}
    assert written(Settings(), values, fixed=NOTHING, model=True) == {"model.artifact": "/m"}


def test_a_draft_is_read_as_it_was_written(tmp_path: Path) -> None:
    target = tmp_path / "tideline.toml"
    assert read_draft(target) == {}
    values: dict[str, Value] = {
        "kafka.partitions": 3, "start.files": "'a b.csv'", "clickhouse.secure": True,
        "alerts.active_within_days": 84.0,
    }  # fmt: skip
    write_draft(target, values)
    assert read_draft(target) == values
    assert draft_of(target).name == "tideline.toml.draft"


def test_a_file_is_replaced_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "tideline.toml"
    path.write_text("old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"tideline\.toml"):
        write_whole(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["tideline.toml"]


def test_a_secret_file_is_for_its_user_alone(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    write_whole(path, "x", private=True)
    assert path.stat().st_mode & 0o777 == 0o600
    open_ = tmp_path / "open"
    open_.write_text("")
    open_.chmod(0o640)
    write_whole(open_, "x")
    assert open_.stat().st_mode & 0o777 == 0o640, "as it was"


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    real, link = tmp_path / "real.toml", tmp_path / "link.toml"
    real.write_text("old")
    link.symlink_to(real)
    write_whole(link, "new")
    assert link.is_symlink()
    assert real.read_text() == "new"


def test_the_end_names_every_process_and_variable() -> None:
    text = what_to_start(
        Path("/etc/my shop/t.toml"), {"TIDELINE_CLICKHOUSE_PASSWORD_FILE": "/etc/pw"},
        frozenset({"TIDELINE_LOG_LEVEL"}), "/usr/bin/tideline", model=True,
    )  # fmt: skip
    assert "export TIDELINE_CONFIG='/etc/my shop/t.toml'" in text
    assert "export TIDELINE_CLICKHOUSE_PASSWORD_FILE=/etc/pw" in text
    services = ("tideline worker", "tideline learner", "tideline lag --serve", "tideline trainer")
    for command in services:
        assert f"\n  {command}" in text
    assert "TIDELINE_LOG_LEVEL" in text
    assert "ExecStart=/usr/bin/tideline worker" in text


def test_without_a_model_the_end_says_how_to_get_a_trainer() -> None:
    text = what_to_start(Path("/t.toml"), {}, NOTHING, "/usr/bin/tideline", model=False)
    assert "\n  tideline trainer" not in text
    assert "`tideline models init`" in text
