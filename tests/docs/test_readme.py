"""What the README says is so: commands, settings, metrics, events, queries and paths."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from pathlib import Path

import click
import jsonschema
import msgspec
import pytest

from schemas.events import CLICK_TYPES, ORDER_TYPES, ClickEvent, OrderEvent
from streams.cli import COMMANDS, tideline
from streams.settings import load
from tests.docs.generated import BLOCKS, README, rewritten

ROOT = README.parent
TEXT = README.read_text()
SCHEMAS = {"clickstream": ClickEvent, "orders": OrderEvent}


def blocks(language: str) -> list[str]:
    """The code blocks of one language, without their indentation in lists."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```$", TEXT, re.DOTALL | re.MULTILINE)
    return [re.sub(rf"^{indent}", "", code, flags=re.MULTILINE) for indent, code in found]


def section(title: str) -> str:
    return re.split(r"^## ", TEXT.split(f"## {title}\n", 1)[1], flags=re.MULTILINE)[0]


EVENTS = [json.loads(code) for code in blocks("json")]
COMMAND_LINES = [
    shlex.split(line, comments=True) for code in blocks("sh") for line in code.splitlines()
]


@pytest.mark.parametrize("name", BLOCKS)
def test_a_generated_table_is_up_to_date(name: str) -> None:
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    for text in (TEXT, rewritten(TEXT)):
        assert text.count(begin) == text.count(end) == 1
    current, wanted = (t.split(begin)[1].split(end)[0] for t in (TEXT, rewritten(TEXT)))
    assert current == wanted, "run: make docs"


def test_a_missing_block_is_told() -> None:
    with pytest.raises(ValueError, match="<!-- commands -->, found 0"):
        rewritten(TEXT.replace("<!-- commands -->", ""))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_mentioned(name: str) -> None:
    assert f"tideline {name}" in TEXT


def _parse(command: click.Command, name: str, args: list[str], parent: click.Context) -> None:
    """As click would, without running anything; a usage error is raised."""
    context = command.make_context(name, list(args), parent=parent)
    if isinstance(command, click.Group) and context._protected_args:
        rest = [*context._protected_args, *context.args]
        sub = command.get_command(context, rest[0])
        assert sub is not None, rest[0]
        _parse(sub, rest[0], rest[1:], context)


@pytest.mark.parametrize("words", [w for w in COMMAND_LINES if w[:1] == ["tideline"]], ids=" ".join)
def test_a_command_line_is_one_that_tideline_takes(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "orders.csv").touch()
    _parse(tideline, "tideline", words[1:], click.Context(click.Command("sh")))


def test_every_make_command_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    shown = {words[1] for words in COMMAND_LINES if words[:1] == ["make"]}
    shown |= set(re.findall(r"`make ([a-z]+)", TEXT))
    assert {"demo", "test"} <= shown <= targets


def test_there_are_events_of_both_topics() -> None:
    types = {event["type"] for event in EVENTS}
    assert types & set(CLICK_TYPES)
    assert types & set(ORDER_TYPES)


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event["type"])
def test_an_event_is_decoded_and_fits_its_published_schema(event: dict[str, object]) -> None:
    name = "orders" if event["type"] in ORDER_TYPES else "clickstream"
    msgspec.json.decode(json.dumps(event), type=SCHEMAS[name])
    unknown = set(event) - set(SCHEMAS[name].__struct_fields__)
    assert not unknown
    schema = json.loads((ROOT / f"schemas/json/{name}.v1.schema.json").read_text())
    jsonschema.validate(event, schema)


def test_every_type_of_click_is_named() -> None:
    assert f"Topic `clickstream`: {', '.join(CLICK_TYPES)}." in TEXT
    assert f"Topic `orders`: {', '.join(ORDER_TYPES)}." in TEXT


@pytest.mark.parametrize("code", blocks("toml"))
def test_a_settings_file_loads(code: str, tmp_path: Path) -> None:
    file = tmp_path / "tideline.toml"
    file.write_text(code)
    loaded = load({}, file)
    tables = tomllib.loads(code)
    assert loaded.kafka.partitions == tables["kafka"]["partitions"]


def test_queries_read_views_that_exist() -> None:
    ddl = "".join(file.read_text() for file in (ROOT / "schemas/clickhouse").glob("*.sql"))
    views = set(re.findall(r"CREATE VIEW IF NOT EXISTS (\w+)", ddl))
    queried = {name for code in blocks("sql") for name in re.findall(r"FROM (\w+)", code)}
    assert queried
    assert queried <= views


def test_links_and_pictures_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", TEXT):
        assert "://" not in target, "this page needs nothing from elsewhere"
        assert (ROOT / target).exists(), target


def test_where_things_are_is_where_they_are() -> None:
    paths = re.findall(r"`([\w./-]+/[\w./-]*)`", section("Where things are"))
    assert {"schemas/", "models/", "streams/", "deploy/", "tests/"} <= set(paths)
    for path in paths:
        assert (ROOT / path).exists(), path


def test_files_named_anywhere_exist() -> None:
    for path in re.findall(r"`((?:schemas|models|streams|deploy|tests)/[\w./-]+)`", TEXT):
        assert (ROOT / path).exists(), path
    for name in ("docker-compose.yml", "LICENSE"):
        assert name in TEXT
        assert (ROOT / name).exists()


def test_the_demo_s_output_has_its_place() -> None:
    assert TEXT.index("<!-- demo-output -->") < TEXT.index("<!-- /demo-output -->")


def test_the_households_of_the_model_that_ships() -> None:
    artifacts = ROOT / "models/artifacts"
    version = (artifacts / "CURRENT").read_text().strip()
    manifest = json.loads((artifacts / version / "manifest.json").read_text())
    assert f"{manifest['training']['users']:,} households" in TEXT
    assert f'"No order in {manifest["horizon_days"]} days"' in TEXT
