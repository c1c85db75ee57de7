"""What a PromQL expression names: metrics, with the labels and values that they are asked for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Final

from streams.core.health import SHARES
from streams.telemetry import metrics as declared
from streams.telemetry.delivery_metrics import DELIVERY_RESULTS
from streams.telemetry.metrics import Metrics

__all__ = ["Selector", "grouped_by", "problems", "selectors"]

_NAME: Final = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
_WORDS: Final = {"and", "or", "unless", "bool", "offset", "inf", "nan"}
_GROUPING: Final = re.compile(
    r"\b(?:by|on|without|ignoring|group_left|group_right)\s*\(([^)]*)\)", re.IGNORECASE
)
_SELECTOR: Final = re.compile(rf"(?<![\w:$.])({_NAME})\s*(?:\{{([^}}]*)\}})?(?!\s*\(|[\w:])")
_MATCHER: Final = re.compile(rf"({_NAME})\s*(=~|!~|!=|=)\s*[\"']([^\"']*)[\"']")
_OF_PROMETHEUS: Final = {"up": {"job", "instance"}}
_TARGET: Final = {"job", "instance"}
_VALUES: Final = {
    "tideline_consumer_status": {"status": set(declared.LAG_STATUSES)},
    "tideline_consumer_group_status": {"status": set(declared.GROUP_STATUSES)},
    "tideline_consumer_group_role": {"role": set(declared.GROUP_ROLES)},
    "tideline_shard_state": {"state": set(declared.SHARD_STATES)},
    "tideline_events_total": {"outcome": set(declared.OUTCOMES)},
    "tideline_health_state": {"share": set(SHARES)},
    "tideline_recent_share_ratio": {"share": set(SHARES)},
    "tideline_drifts_total": {"kind": set(declared.DRIFT_KINDS)},
    "tideline_model_log_loss_nats": {"model": set(declared.MODELS)},
    "tideline_batch_seconds_bucket": {"stage": set(declared.STAGES)},
    "tideline_record_visible_seconds_bucket": {"step": set(declared.RECORD_STEPS)},
    "tideline_record_visible_seconds_count": {"step": set(declared.RECORD_STEPS)},
    "tideline_trainer_state": {"state": set(declared.TRAINER_STATES)},
    "tideline_deliveries_total": {"result": set(DELIVERY_RESULTS)},
}


@dataclass(frozen=True)
class Selector:
    """One metric in an expression; matchers: (label, operator, value)."""

    name: str
    matchers: tuple[tuple[str, str, str], ...] = ()


def selectors(expression: str) -> Iterator[Selector]:
    """
    >>> [each.name for each in selectors('sum by (job) (rate(a_total{x="1"}[5m])) and on (b) c')]
    ['a_total', 'c']
    """
    text = re.sub(r"\[[^\]]*\]", "", _GROUPING.sub(" ", expression))
    for name, inside in _SELECTOR.findall(text):
        if name.lower() not in _WORDS:
            yield Selector(name, tuple(_MATCHER.findall(inside)))


def grouped_by(expression: str) -> set[str]:
    """The labels that the expression groups or joins by.

    >>> sorted(grouped_by("sum by (a, b) (x) * on (c) group_left () y"))
    ['a', 'b', 'c']
    """
    return {
        label.strip()
        for labels in _GROUPING.findall(expression)
        for label in labels.split(",")
        if label.strip()
    }


@cache
def _exported() -> dict[str, set[str]]:
    """Every series' name of ours -> its labels."""
    found: dict[str, set[str]] = {}
    for metric in vars(Metrics()).values():
        for family in metric.describe() if hasattr(metric, "describe") else ():
            labels = set(metric._labelnames)
            if family.type == "counter":
                found[f"{family.name}_total"] = labels
            elif family.type == "histogram":
                found |= {f"{family.name}_{part}": labels for part in ("count", "sum")}
                found[f"{family.name}_bucket"] = labels | {"le"}
            else:
                found[family.name] = labels
    return found


def problems(expression: str, recorded: set[str]) -> list[str]:
    """What in the expression nobody exports; `recorded`: what recording rules make."""
    known = _exported() | _OF_PROMETHEUS
    wrong, labels = [], set(_TARGET)
    for selector in selectors(expression):
        if selector.name in recorded:
            continue
        if selector.name not in known:
            wrong.append(f"no metric {selector.name}")
            continue
        labels |= known[selector.name]
        for label, operator, value in selector.matchers:
            if label not in known[selector.name] | _TARGET:
                wrong.append(f"{selector.name} has no label {label}")
            values = _VALUES.get(selector.name, {}).get(label)
            asked = value.split("|") if "~" in operator else [value]
            if values is not None and not set(asked) <= values:
                wrong.append(f"{selector.name}: {label} is never {value}")
    return wrong + [f"no label {label}" for label in sorted(grouped_by(expression) - labels)]
