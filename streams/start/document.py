"""Writes the TOML file: settings that differ from their default, with their help as comments."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping
from dataclasses import fields
from typing import Final

from streams.settings import SECTIONS, Secret, Settings
from streams.start.questions import ASKED, SECRETS, Value, default_of

__all__ = ["HEAD", "changed", "document", "written"]

HEAD: Final = (
    "Settings of Tideline, written by `tideline start`. What is not here has its\n"
    "default: `tideline settings` shows all. Variables of the environment\n"
    "(TIDELINE_…) take precedence over this file."
)
_WIDTH: Final = 78  # it is shown on terminals of 80 columns


def changed(settings: Settings) -> dict[str, Value]:
    """The settings that differ from their default, by `<table>.<field>`; secrets in clear."""
    found: dict[str, Value] = {}
    for table, section in SECTIONS.items():
        for item in fields(section):
            value = getattr(getattr(settings, table), item.name)
            if value != item.default:
                found[f"{table}.{item.name}"] = (
                    value.reveal() if isinstance(value, Secret) else value
                )
    return found


def written(
    before: Settings, values: Mapping[str, Value], *, fixed: frozenset[str], model: bool
) -> dict[str, Value]:
    """What the file is to say: its settings `before`, and the answers that are neither defaults nor
    `fixed` by the environment. Passwords only if `start.keep` is toml; a directory of models only
    once it has a `model`, because workers stop without one."""
    found = changed(before)
    for key in (*ASKED, *(SECRETS if values.get("start.keep") == "toml" else ())):
        if key not in values or key in fixed or (key == "model.artifact" and not model):
            continue
        if values[key] == default_of(key):
            found.pop(key, None)
        else:
            found[key] = values[key]
    return found


def document(values: Mapping[str, Value], head: str) -> str:
    """The TOML text of values by `<table>.<field>`, settings in the order they are declared in.

    >>> print(document({"start.files": "a.csv", "clickhouse.user": "shop"}, "Mine."), end="")
    # Mine.
    <BLANKLINE>
    [clickhouse]
    # ClickHouse user
    user = "shop"
    <BLANKLINE>
    [start]
    files = "a.csv"
    """
    help_of = {
        f"{table}.{item.name}": str(item.metadata["help"])
        for table, section in SECTIONS.items()
        for item in fields(section)
    }
    order = {key: i for i, key in enumerate(help_of)}
    lines = [f"# {line}" for line in head.splitlines()]
    current = ""
    for key in sorted(values, key=lambda key: (order.get(key, len(order)), key)):
        table, _, name = key.partition(".")
        if table != current:
            lines += ["", f"[{table}]"]
            current = table
        lines += textwrap.wrap(
            help_of.get(key, ""), _WIDTH, initial_indent="# ", subsequent_indent="# "
        )
        lines.append(f"{name} = {_toml(values[key])}")
    return "\n".join(lines) + "\n"


def _toml(value: Value) -> str:
    if isinstance(value, str):
        # JSON's strings are TOML's, but for one control character
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(value).lower() if isinstance(value, bool) else repr(value)
