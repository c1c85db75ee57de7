"""The files of deploy/prometheus, as tests read them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

__all__ = ["PROMETHEUS", "ROOT", "RULES", "Alert", "alerts", "records"]

ROOT: Final = Path(__file__).parents[2]
PROMETHEUS: Final = ROOT / "deploy" / "prometheus"
RULES: Final = sorted((PROMETHEUS / "rules").glob("*.yml"))


@dataclass(frozen=True)
class Alert:
    """One alert rule."""

    name: str
    expression: str
    severity: str
    summary: str
    runbook: str
    for_seconds: float
    """How long the expression must hold until it fires."""


@cache
def _rules() -> list[dict[str, Any]]:
    return [
        rule
        for file in RULES
        for group in yaml.safe_load(file.read_text())["groups"]
        for rule in group["rules"]
    ]


def alerts() -> list[Alert]:
    """Every alert, in the order of the files."""
    return [
        Alert(
            rule["alert"],
            rule["expr"],
            rule["labels"]["severity"],
            rule["annotations"]["summary"],
            rule["annotations"]["runbook"],
            _seconds(rule.get("for", "0s")),
        )
        for rule in _rules()
        if "alert" in rule
    ]


def _seconds(duration: str) -> float:
    """
    >>> _seconds("15m")
    900.0
    """
    return float(duration[:-1]) * {"s": 1, "m": 60, "h": 3_600}[duration[-1]]


def records() -> dict[str, str]:
    """What recording rules make -> its expression."""
    return {rule["record"]: rule["expr"] for rule in _rules() if "record" in rule}
