"""The parts of the documentation that follow from the code; `make docs` rewrites them in place.

A page holds a generated block between `<!-- name -->` and `<!-- /name -->`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

from schemas.features import WINDOWS
from schemas.topics import Topic, topics
from streams.cli import COMMANDS
from streams.rules import CATALOGUE
from streams.settings import Settings, describe
from streams.telemetry.metrics import Metrics
from tests.bench import report
from tests.docs import demo

__all__ = ["BLOCKS", "ROOT", "anchor", "decisions", "main", "rewritten"]

ROOT: Final = Path(__file__).parents[2]
_DAY_MS: Final = 86_400_000


def anchor(heading: str) -> str:
    """What GitHub makes of a heading (without formatting) for links to it.

    >>> anchor("D-012: Window sums, and more")
    'd-012-window-sums-and-more'
    """
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |"
                     for line in lines)  # fmt: skip


def _commands() -> str:
    """Every CLI command with its line of help."""
    return _table(
        ("Command", "What it does"),
        ((f"`tideline {name}`", command.help) for name, command in COMMANDS.items()),
    )


def _settings() -> str:
    """Every setting, in the order in which `tideline settings` shows them."""
    return _table(
        ("Environment", "TOML", "Default", "What"),
        (
            (f"`{row.env}`", f"`[{row.table}] {row.name}`",
             f"`{row.default}`" if row.default else "", row.help)
            for row in describe(Settings())
        ),
    )  # fmt: skip


def _metrics() -> str:
    """Every Prometheus metric, as it is called on /metrics."""
    families = [
        (metric, described)
        for metric in vars(Metrics()).values()
        if hasattr(metric, "describe")
        for described in metric.describe()
    ]
    return _table(
        ("Metric", "Type", "Labels", "What"),
        (
            (f"`{family.name}{'_total' if family.type == 'counter' else ''}`", family.type,
             ", ".join(f"`{label}`" for label in metric._labelnames), family.documentation)
            for metric, family in families
        ),
    )  # fmt: skip


def _topics() -> str:
    """Every Kafka topic under the default settings."""
    per_shard = 2  # any number but 1, which the topics with one partition have

    def kept(topic: Topic) -> str:
        if topic.config.get("cleanup.policy") == "compact":
            return "the newest record of each key"
        return f"{int(topic.config['retention.ms']) // _DAY_MS} days"

    return _table(
        ("Topic", "Partitions", "Kept", "What"),
        (
            (f"`{topic.name}`", "per shard" if topic.partitions == per_shard else "1", kept(topic),
             topic.why)
            for topic in topics(Settings().topic_names, per_shard)
        ),
    )  # fmt: skip


def _views() -> str:
    """Every ClickHouse view with its comment, as the newest migration defines it."""
    files = sorted((ROOT / "schemas" / "clickhouse").glob("*.sql"))
    defined = re.findall(
        r"^CREATE (?:OR REPLACE )?VIEW (?:IF NOT EXISTS )?(\w+)\n\(.*?^\)\n"
        r"COMMENT '((?:[^']|'')*)'",
        "\n".join(file.read_text() for file in files),
        re.DOTALL | re.MULTILINE,
    )
    return _table(
        ("View", "What"),
        ((f"`{name}`", words.replace("''", "'")) for name, words in dict(defined).items()),
    )


def _catalogue() -> str:
    """Every name of the language of segments; windows of one measure share a line."""
    ends = [f"_{window.name}" for window in WINDOWS]
    first, *others = ends
    rows = []
    for name, quantity in CATALOGUE.items():
        stem = next((name.removesuffix(end) for end in ends if name.endswith(end)), None)
        windowed = stem is not None and all(f"{stem}{end}" in CATALOGUE for end in ends)
        if windowed and not name.endswith(first):
            continue
        named, words = f"`{name}`", quantity.words
        if windowed:
            named = ", ".join([named, *(f"`{end}`" for end in others)])
            words = words.replace(f"the last {first[1:]}", "the window")
        by_time = {1: "grows", -1: "falls", 0: "sweep" if quantity.decays else ""}
        kind = ", ".join(f'"{value}"' for value in quantity.values) or quantity.kind
        rows.append((named, kind, by_time[quantity.slope_per_day], words))
    return _table(("Name", "Kind", "By time alone", "What"), rows)


def _formulas() -> str:
    """The names that are computed from others, with their expressions."""
    return _table(
        ("Name", "Expression"),
        ((f"`{q.name}`", f"`{q.formula}`") for q in CATALOGUE.values() if q.formula),
    )


def decisions(text: str) -> list[tuple[str, str, str]]:
    """Of the decisions page: (id, title, date) of each entry, in its order."""
    return re.findall(r"^## (D-\d{3}): (.+)\n\n(\d{4}-\d\d-\d\d)$", text, re.MULTILINE)


def _index() -> str:
    found = decisions((ROOT / "docs" / "decisions.md").read_text())
    return _table(
        ("Id", "Decision", "Date"),
        (
            (f"[{number}](#{anchor(f'{number}: {title}')})", title, day)
            for number, title, day in found
        ),
    )


def _bench() -> str:
    """What `make bench ARGS=--record` measured last."""
    return report.page(report.load())


BLOCKS: Final[dict[str, tuple[str, Callable[[], str]]]] = {
    "demo": ("README.md", demo.block),
    "commands": ("docs/reference.md", _commands),
    "settings": ("docs/reference.md", _settings),
    "metrics": ("docs/reference.md", _metrics),
    "topics": ("docs/reference.md", _topics),
    "views": ("docs/reference.md", _views),
    "catalogue": ("docs/segments.md", _catalogue),
    "formulas": ("docs/segments.md", _formulas),
    "bench": ("docs/benchmark.md", _bench),
    "index": ("docs/decisions.md", _index),
}
"""Block -> the page that has it, and what makes it."""


def _filled(text: str, name: str, block: str) -> tuple[str, int]:
    """The text with this block in the place of that name, and how many such places it has."""
    pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    return pattern.subn(lambda match: f"{match[1]}\n{block}\n\n{match[2]}", text)


def rewritten(page: str, text: str) -> str:
    """The text of a page with each of its generated blocks as it must be.

    Raises ValueError if a block is missing or there twice.
    """
    for name, (where, make) in BLOCKS.items():
        if where != page:
            continue
        text, count = _filled(text, name, make())
        if count != 1:
            raise ValueError(f"{page}: expected one block <!-- {name} -->, found {count}")
    return text


def main() -> list[Path]:
    """Rewrite every page that has a generated block; returns their paths."""
    pages = [ROOT / page for page in dict.fromkeys(where for where, _ in BLOCKS.values())]
    for path in pages:
        path.write_text(rewritten(path.relative_to(ROOT).as_posix(), path.read_text()))
    return pages


if __name__ == "__main__":
    main()
