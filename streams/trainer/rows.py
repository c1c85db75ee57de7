"""What the trainer did, as rows of the table `trainer_log`. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from streams.trainer.plan import Challenger, Decision, Train

__all__ = ["Row", "columns", "decided", "too_few", "trained"]

Row = dict[str, Any]
_NOT_COMPARED: Final[Row] = {
    "judged_after": 0,
    "judged_until": 0,
    **dict.fromkeys(
        ("log_loss_champion", "log_loss_challenger", "deviance_champion", "deviance_challenger"),
        float("nan"),
    ),
}


def trained(challenger: Challenger, champion_version: str) -> Row:
    """A model was made, while that champion was in use."""
    return {
        "version": challenger.version,
        "event": "trained",
        "labels_until": challenger.cut_ms,
        "happened_at": challenger.trained_at_ms,
        "why": challenger.why,
        "champion_version": champion_version,
        "row_count": challenger.rows,
        **_NOT_COMPARED,
    }


def too_few(training: Train, why: str, champion_version: str, at_ms: int) -> Row:
    """A training was not possible."""
    return {
        "version": "",
        "event": "too_few",
        "labels_until": training.cut_ms,
        "happened_at": at_ms,
        "why": why,
        "champion_version": champion_version,
        "row_count": 0,
        **_NOT_COMPARED,
    }


def decided(decision: Decision) -> Row:
    """A challenger was promoted or rejected."""

    def number(value: float | None) -> float:
        return float("nan") if value is None else value

    return {
        "version": decision.version,
        "event": "promoted" if decision.promote else "rejected",
        "labels_until": decision.cut_ms,
        "happened_at": decision.decided_at_ms,
        "why": decision.why,
        "champion_version": decision.champion,
        "row_count": decision.rows,
        "judged_after": decision.after_ms,
        "judged_until": decision.until_ms,
        "log_loss_champion": number(decision.log_loss[0]),
        "log_loss_challenger": number(decision.log_loss[1]),
        "deviance_champion": number(decision.deviance[0]),
        "deviance_challenger": number(decision.deviance[1]),
    }


def columns(rows: Sequence[Row], names: Iterable[str]) -> dict[str, list[Any]]:
    """The rows by column, [k] each, in the order of `names`."""
    return {name: [row[name] for row in rows] for name in names}
