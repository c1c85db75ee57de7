"""The dashboards of deploy/grafana: their panels and queries, as Grafana would ask them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.deploy.files import ROOT

__all__ = ["BOARDS", "GRAFANA", "Query", "board", "expanded", "queries"]

GRAFANA: Final = ROOT / "deploy" / "grafana"
BOARDS: Final = sorted((GRAFANA / "dashboards").glob("*.json"))
_FROM, _TO = "toDateTime('2026-11-01 00:00:00')", "toDateTime('2026-12-01 00:00:00')"
_MACROS: Final = {
    r"\$__timeFilter\((\w+)\)": rf"\1 >= {_FROM} AND \1 <= {_TO}",
    r"\$__dateFilter\((\w+)\)": rf"\1 >= toDate({_FROM}) AND \1 <= toDate({_TO})",
}


@dataclass(frozen=True)
class Query:
    """What one panel asks one data source."""

    board: str
    panel: str
    kind: str
    source: str
    text: str
    is_series: bool

    def __str__(self) -> str:
        return f"{self.board}: {self.panel}"


def board(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def queries(of_type: str) -> list[Query]:
    """Every query to data sources of a type, in the order of the panels."""
    return [query for path in BOARDS for query in _queries(path, of_type)]


def _queries(path: Path, of_type: str) -> Iterator[Query]:
    for panel in board(path)["panels"]:
        for target in panel.get("targets", ()):
            source = target["datasource"]
            if source["type"] == of_type:
                text = target["expr"] if of_type == "prometheus" else target["rawSql"]
                is_series = target.get("queryType") == "timeseries"
                yield Query(
                    path.stem, panel["title"], panel["type"], source["uid"], text, is_series
                )


def expanded(sql: str) -> str:
    """The query with the plugin's macros replaced, for November 2026.

    >>> expanded("SELECT 1 WHERE $__dateFilter(day)")[:22]
    'SELECT 1 WHERE day >= '
    """
    for macro, text in _MACROS.items():
        sql = re.sub(macro, text, sql)
    return sql
