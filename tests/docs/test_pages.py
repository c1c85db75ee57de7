"""What the pages name is there: links, commands, settings, metrics, tests, files, queries."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import subprocess
import tomllib
from functools import cache
from pathlib import Path

import click
import jsonschema
import msgspec
import pytest

from schemas.events import CLICK_TYPES, CONTACTED, ORDER_TYPES, ClickEvent, Contact, OrderEvent
from streams.cli import COMMANDS, tideline
from streams.core.events.decode import REASONS
from streams.settings import Settings, describe, load
from streams.telemetry.metrics import Metrics
from tests.clickhouse.roles import deployed
from tests.docs.generated import BLOCKS, ROOT, decisions, rewritten
from tests.docs.pages import PAGES, Page
from tests.test_layers import RULES

BY_NAME = {page.name: page for page in PAGES}
MAX_README_BYTES = 8_192
SCHEMAS = {"clickstream": ClickEvent, "contacts": Contact, "orders": OrderEvent}
ROOMS = ("schemas", "models", "streams", "deploy", "tests", "docs", ".ci")
SUFFIXES = {".py", ".md", ".sql", ".svg", ".yml", ".toml", ".lock", ".onnx"}
DECISIONS = {number for number, _, _ in decisions(BY_NAME["docs/decisions.md"].text)}
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def tracked() -> list[Path]:
    """Every file of the project that is in version control, or will be."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [path for name in listed.stdout.splitlines() if (path := ROOT / name).is_file()]


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_bytes()) <= MAX_README_BYTES


@pytest.mark.parametrize("name", BLOCKS)
def test_generated_block_is_up_to_date(name: str) -> None:
    page, _ = BLOCKS[name]
    text = BY_NAME[page].text
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    assert text.count(begin) == text.count(end) == 1
    current, wanted = (t.split(begin)[1].split(end)[0] for t in (text, rewritten(page, text)))
    assert current == wanted, "run: make docs"


def test_missing_block_raises() -> None:
    text = BY_NAME["docs/reference.md"].text.replace("<!-- commands -->", "")
    with pytest.raises(ValueError, match=r"reference.md: .*<!-- commands -->, found 0"):
        rewritten("docs/reference.md", text)


@each_page
def test_page_has_one_title_and_whole_code_spans(page: Page) -> None:
    assert page.text.startswith("# ")
    assert len(re.findall(r"^# ", page.prose, re.MULTILINE)) == 1
    assert page.prose.count("`") % 2 == 0
    assert page.text.count("```") % 2 == 0


@each_page
def test_tables_have_as_many_cells_in_every_row(page: Page) -> None:
    for table in re.findall(r"(?:^\|.*\n)+", page.prose, re.MULTILINE):
        rows = [len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()]
        assert len(set(rows)) == 1, table.splitlines()[0]


@each_page
def test_links_lead_somewhere(page: Page) -> None:
    for target in page.links:
        if re.match(r"https?://", target):
            continue
        file, _, heading = target.partition("#")
        path = (page.path.parent / file).resolve() if file else page.path
        assert path.exists(), target
        if heading:
            assert heading in BY_NAME[path.relative_to(ROOT).as_posix()].anchors, target


def test_the_indexes_link_every_page() -> None:
    """That of the pages, and that of the runbooks."""
    indexes = [BY_NAME["docs/README.md"], BY_NAME["deploy/runbooks/README.md"]]
    linked = {(index.path.parent / target).resolve() for index in indexes for target in index.links}
    assert linked >= {page.path for page in PAGES if page is not indexes[0]}


@each_page
def test_make_commands_exist(page: Page) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {words[1] for words in page.command_lines if words[:1] == ["make"]}
    named |= {m[1] for span in page.spans if (m := re.match(r"make ([a-z-]+)", span))}
    assert named <= targets, named - targets


def _parse(command: click.Command, name: str, args: list[str], parent: click.Context) -> None:
    """As click would, without running anything; a usage error is raised."""
    context = command.make_context(name, list(args), parent=parent)
    if isinstance(command, click.Group) and context._protected_args:
        rest = [*context._protected_args, *context.args]
        sub = command.get_command(context, rest[0])
        assert sub is not None, rest[0]
        _parse(sub, rest[0], rest[1:], context)


@pytest.mark.parametrize(
    "words",
    [w for page in PAGES for w in page.command_lines if w[0] == "tideline"],
    ids=" ".join,
)
def test_command_line_is_one_that_tideline_takes(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "orders.csv").touch()
    _parse(tideline, "tideline", words[1:], click.Context(click.Command("sh")))


def _options(words: list[str]) -> tuple[set[str], set[str]]:
    """The options that the words name, and those that their command takes.

    Raises AssertionError if there is no such command.
    """
    command: click.Command = tideline
    context = click.Context(tideline)
    taken = {name for parameter in command.params for name in parameter.opts}
    for word in words:
        if not isinstance(command, click.Group) or not re.fullmatch(r"[a-z]+", word):
            break
        found = command.get_command(context, word)
        assert found is not None, f"no command {word}"
        command = found
        taken |= {name for p in command.params for name in (*p.opts, *p.secondary_opts)}
    return {word.split("=")[0] for word in words if word.startswith("--")}, taken | {"--help"}


@each_page
def test_commands_in_the_prose_exist_with_their_options(page: Page) -> None:
    for span in page.spans:
        match = re.match(r"(?:\.venv/bin/)?tideline (.+)", span)
        if match:
            named, taken = _options(match[1].split())
            assert named <= taken, span


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_in_the_reference(name: str) -> None:
    assert f"`tideline {name}`" in BY_NAME["docs/reference.md"].text


@each_page
def test_modules_that_can_be_run_exist(page: Page) -> None:
    for module in re.findall(r"python -m ([\w.]+)", page.text):
        assert importlib.util.find_spec(module) is not None, module


@each_page
def test_paths_exist(page: Page) -> None:
    names = {path.name for path in tracked()}
    for span in page.spans:
        if not re.fullmatch(r"[\w./-]+", span):
            continue
        if span.split("/")[0] in ROOMS and "/" in span:
            assert (ROOT / span).exists(), span
        elif "/" not in span and Path(span).suffix in SUFFIXES:
            assert span in names, span


@each_page
def test_tests_that_are_named_exist(page: Page) -> None:
    named = {span for span in page.spans if re.fullmatch(r"test_\w+", span)}
    if named:
        assert named <= names_of_tests(), named - names_of_tests()


@cache
def names_of_tests() -> set[str]:
    """Every function of the tests, by its name."""
    return {
        node.name
        for file in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


@each_page
def test_settings_in_toml_exist(page: Page) -> None:
    known = {(row.table, row.name) for row in describe(Settings())}
    for table, name in re.findall(r"`\[(\w+)\] (\w+)", page.text):
        assert (table, name) in known, f"[{table}] {name}"


@each_page
def test_metrics_and_database_users_exist(page: Page) -> None:
    known = {
        f"{family.name}{'_total' if family.type == 'counter' else ''}"
        for metric in vars(Metrics()).values()
        if hasattr(metric, "describe")
        for family in metric.describe()
    }
    known |= {s.split()[5] for s in deployed("2_users.sql") if s.startswith("CREATE USER")}
    for span in page.spans:
        if re.fullmatch(r"tideline_\w+", span):
            assert span in known, span


@pytest.mark.parametrize("code", [code for page in PAGES for code in page.blocks("toml")])
def test_settings_file_loads(code: str, tmp_path: Path) -> None:
    file = tmp_path / "tideline.toml"
    file.write_text(code)
    loaded = load({"TIDELINE_KAFKA_PASSWORD": "x"} if "sasl_ssl" in code else {}, file)
    tables = tomllib.loads(code)
    assert tables
    for table, values in tables.items():
        for name, value in values.items():
            assert getattr(getattr(loaded, table), name) == value


@pytest.mark.parametrize("page", [p for p in PAGES if p.blocks("sql")], ids=lambda p: p.name)
def test_queries_read_views_that_exist(page: Page) -> None:
    ddl = "".join(file.read_text() for file in (ROOT / "schemas/clickhouse").glob("*.sql"))
    views = set(re.findall(r"CREATE VIEW IF NOT EXISTS (\w+)", ddl))
    queried = {name for code in page.blocks("sql") for name in re.findall(r"FROM (\w+)", code)}
    assert queried
    assert queried <= views


EVENTS = [json.loads(code) for page in PAGES for code in page.blocks("json")]


def test_events_of_both_topics_are_shown() -> None:
    types = {event["type"] for event in EVENTS}
    assert types & set(CLICK_TYPES)
    assert types & set(ORDER_TYPES)


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event["type"])
def test_event_is_decoded_and_fits_its_published_schema(event: dict[str, object]) -> None:
    of = dict.fromkeys(ORDER_TYPES, "orders") | {CONTACTED: "contacts"}
    name = of.get(str(event["type"]), "clickstream")
    msgspec.json.decode(json.dumps(event), type=SCHEMAS[name])
    unknown = set(event) - set(SCHEMAS[name].__struct_fields__)
    assert not unknown
    schema = json.loads((ROOT / f"schemas/json/{name}.v1.schema.json").read_text())
    jsonschema.validate(event, schema)


def test_types_of_events_and_reasons_are_all_named() -> None:
    text = " ".join(BY_NAME["docs/events.md"].text.split())
    assert f"Topic `clickstream`: {', '.join(CLICK_TYPES)}." in text
    assert f"Topic `orders`: {', '.join(ORDER_TYPES)}." in text
    assert f"reasons: {', '.join(REASONS)}; and `late`" in text


def test_the_households_and_the_horizon_of_the_model_that_ships() -> None:
    artifacts = ROOT / "models/artifacts"
    version = (artifacts / "CURRENT").read_text().strip()
    manifest = json.loads((artifacts / version / "manifest.json").read_text())
    households = f"{manifest['training']['users']:,} households"
    assert households in BY_NAME["docs/models.md"].text
    assert f'"No order in {manifest["horizon_days"]} days"' in BY_NAME["README.md"].text


def test_the_layout_lists_every_room_after_those_that_it_imports() -> None:
    """As `tests/test_layers.py` has it."""
    table = BY_NAME["CONTRIBUTING.md"].text.split("## Layout")[1].split("\n\n")[2]
    firsts = [line.split("|")[1] for line in table.splitlines()[2:]]
    rooms = [
        span.removesuffix("/").removesuffix(".py").replace("/", ".")
        for first in firsts
        for span in re.findall(r"`([^`]+)`", first)
    ]
    assert sorted(rooms) == sorted(RULES)
    for i, room in enumerate(rooms):
        assert RULES[room] <= set(rooms[:i]), room


def test_cited_decisions_exist() -> None:
    for path in tracked():
        if path.suffix in {".py", ".md", ".sql", ".yml", ".toml"} or path.name == "Makefile":
            cited = set(re.findall(r"\bD-\d{3}\b", path.read_text()))
            assert cited <= DECISIONS, f"{path.relative_to(ROOT)}: {cited - DECISIONS}"


def test_the_way_through_the_code_is_named_in_order() -> None:
    """README -> events -> agents -> shard -> step."""
    text = BY_NAME["README.md"].text
    way = ["schemas/events.py", "streams/agents.py", "streams/shard/shard.py",
           "streams/core/step.py"]  # fmt: skip
    places = [text.index(f"`{path}`") for path in way]
    assert places == sorted(places)
