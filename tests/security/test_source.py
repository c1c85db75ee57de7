"""What the source must not do, read from the source itself."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.kafka import clients
from streams.kafka.access import KafkaAccess
from streams.settings import Secret

ROOT = Path(__file__).parents[2]
FILES = sorted(
    f for folder in ("schemas", "models", "streams") for f in (ROOT / folder).rglob("*.py")
)
# Modules that run code from data, or write data that only they can read.
FORBIDDEN = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal",
             "torch", "skops", "yaml"}  # fmt: skip
# Its parser alone gives events and makes nothing of them; `load` and the constructors would.
PARSES_YAML = ROOT / "streams/campaigns/nodes.py"
CLIENTS = {"AIOKafkaConsumer", "AIOKafkaProducer", "AIOKafkaAdminClient", "AIOKafkaConnection",
           "KafkaConsumer", "KafkaProducer", "KafkaAdminClient"}  # fmt: skip
CLIENTS_FILE = ROOT / "streams/kafka/clients.py"


def nodes(file: Path) -> Iterator[ast.AST]:
    return ast.walk(ast.parse(file.read_text()))


def called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def no_pickle(tree: ast.AST) -> list[str]:
    """What in a tree could load or store a pickle, or run what it reads."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [a.name for a in node.names if a.name.split(".")[0] in FORBIDDEN]
        elif isinstance(node, ast.ImportFrom):
            found += [node.module or ""] if (node.module or "").split(".")[0] in FORBIDDEN else []
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found += [node.value] if node.value in FORBIDDEN else []  # importlib, __import__
        elif isinstance(node, ast.Call):
            name = called(node)
            if name in {"eval", "exec", "read_pickle", "to_pickle", "__reduce__"}:
                found.append(name)
            allowed = [k for k in node.keywords if k.arg == "allow_pickle"]
            if any(not (isinstance(k.value, ast.Constant) and k.value.value is False)
                   for k in allowed):  # fmt: skip
                found.append("allow_pickle")
            numpy = (
                isinstance(node.func, ast.Attribute) and getattr(node.func.value, "id", "") == "np"
            )
            if (
                numpy and name in {"load", "save", "savez"} and not allowed
            ):  # the default changed once
                found.append(f"np.{name}")
    return found


def test_no_pickle_and_nothing_that_runs_what_it_reads() -> None:
    assert len(FILES) > 100
    for file in FILES:
        found = no_pickle(ast.parse(file.read_text()))
        assert not found or (file == PARSES_YAML and found == ["yaml"]), (file, found)


def test_yaml_is_parsed_into_events_and_nothing_is_made_of_it() -> None:
    source = PARSES_YAML.read_text()
    used = set(re.findall(r"yaml\.(\w+)", source))
    assert "parse" in used
    assert not used & {"load", "load_all", "unsafe_load", "full_load", "compose", "Loader"}


@pytest.mark.parametrize(
    "code",
    ["import pickle", "from joblib import load", "import torch.nn", "np.load(f)",
     "x.load(f, allow_pickle=True)", "f(allow_pickle=flag)", "importlib.import_module('dill')",
     "eval(text)", "pd.read_pickle(f)"],
)  # fmt: skip
def test_the_check_for_pickle_finds_them(code: str) -> None:
    assert no_pickle(ast.parse(code))


def test_arrays_alone_may_be_read_if_it_is_said() -> None:
    assert not no_pickle(ast.parse("np.load(f, allow_pickle=False)"))


def made_clients(tree: ast.AST) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and called(node) in CLIENTS:
            yield node


def test_kafka_clients_are_made_in_one_place_only() -> None:
    """A client made elsewhere would be the one that fails when a cluster asks for TLS."""
    for file in FILES:
        if file != CLIENTS_FILE:
            for node in made_clients(ast.parse(file.read_text())):
                raise AssertionError(f"{file}:{node.lineno}: use streams.kafka.clients")


def test_every_kind_of_kafka_client_gets_tls_and_login() -> None:
    seen = set()
    for node in made_clients(ast.parse(CLIENTS_FILE.read_text())):
        seen.add(called(node))
        spread = {ast.unparse(k.value) for k in node.keywords if k.arg is None}
        assert spread & {"_common(access)", "access.client_options()"}, called(node)
    assert seen == CLIENTS


@pytest.mark.parametrize(
    "access",
    [
        KafkaAccess(("a:1", "b:2")),
        KafkaAccess(("a:1",), security="sasl_ssl", username="u", password=Secret("p")),
    ],
)
def test_what_all_clients_share_is_the_whole_way_in(access: KafkaAccess) -> None:
    common = clients._common(access)
    assert common["bootstrap_servers"] == list(access.brokers)
    assert common.items() >= access.client_options().items()
    assert ("ssl_context" in common) == ("sasl_plain_password" in common) == access.tls


def test_nobody_takes_the_brokers_without_the_way_in() -> None:
    allowed = {ROOT / "streams/kafka/access.py", ROOT / "streams/settings/sections.py"}
    for file in FILES:
        if file in allowed:
            continue
        for node in nodes(file):
            if isinstance(node, ast.Attribute) and node.attr == "brokers":
                assert "kafka.brokers" not in ast.unparse(node), (
                    f"{file}:{node.lineno}: use streams.kafka.access.kafka_access(settings)"
                )


def test_no_shell_and_no_certificate_goes_unchecked() -> None:
    for file in FILES:
        for node in nodes(file):
            if not isinstance(node, ast.Call):
                continue
            for keyword in node.keywords:
                value = getattr(keyword.value, "value", None)
                assert not (keyword.arg == "shell" and value), file
                assert not (keyword.arg in {"verify", "check_hostname"} and value is False), file
            assert called(node) not in {"_create_unverified_context", "system", "popen"}, file
