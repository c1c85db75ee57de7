"""The parts of the README that follow from the code; `make docs` rewrites them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

from streams.cli import COMMANDS
from streams.settings import Settings, describe
from streams.telemetry.metrics import Metrics
from tests.bench import report

__all__ = ["BLOCKS", "README", "main", "rewritten"]

README: Final = Path(__file__).parents[2] / "README.md"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |"
                     for line in lines)  # fmt: skip


def commands() -> str:
    """Every CLI command with its line of help."""
    return _table(
        ("Command", "What it does"),
        ((f"`tideline {name}`", command.help) for name, command in COMMANDS.items()),
    )


def settings() -> str:
    """Every setting, in the order in which `tideline settings` shows them."""
    return _table(
        ("Environment", "TOML", "Default", "What"),
        (
            (f"`{row.env}`", f"`[{row.table}] {row.name}`",
             f"`{row.default}`" if row.default else "", row.help)
            for row in describe(Settings())
        ),
    )  # fmt: skip


def metrics() -> str:
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


def bench() -> str:
    """What `tideline bench --record` measured last."""
    return report.readme(report.load())


BLOCKS: Final[dict[str, Callable[[], str]]] = {
    "commands": commands,
    "settings": settings,
    "metrics": metrics,
    "bench": bench,
}


def rewritten(text: str) -> str:
    """The text with every generated block as it must be. Raises ValueError if one is missing."""
    for name, make in BLOCKS.items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        block = make()
        text, count = pattern.subn(lambda match, b=block: f"{match[1]}\n{b}\n\n{match[2]}", text)
        if count != 1:
            raise ValueError(f"expected one block <!-- {name} -->, found {count}")
    return text


def main() -> None:
    """Rewrite the README in place."""
    README.write_text(rewritten(README.read_text()))


if __name__ == "__main__":
    main()
