"""The demo's result: one JSON object, and whether the books balance."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from streams.demo.figures import Figures

__all__ = ["Summary", "summarise"]


@dataclass(frozen=True)
class Summary:
    """What one run did. `events_in` is what the broker acknowledged to the replay."""

    events_in: int
    scored: int
    duplicates: int
    late: int
    dead_letters: int
    users: int
    alerts: int
    segment_changes: int
    learner_updates: int
    seconds: float
    """From the first record sent to everything processed."""
    events_per_second: int
    ledger_balanced: bool
    accepted: int
    alerts_closed: int
    promotions: list[dict[str, Any]]
    """Models that the trainer made and put into use."""
    scored_by_promoted: int
    """Scores that they gave."""
    segments: dict[str, dict[str, int]]
    broker: str
    broker_version: str

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)

    @property
    def problem(self) -> str:
        """Why the run counts as failed, in words; empty if it does not."""
        if self.accepted != self.events_in:
            return (
                f"{self.events_in:,} records were produced and {self.accepted:,} accepted: "
                "the worker lost some, or took some twice."
            )
        if not self.ledger_balanced:
            return (
                f"The ledger does not balance: of {self.accepted:,} accepted records "
                f"{self.scored:,} were scored, {self.duplicates:,} duplicates, {self.late:,} late, "
                f"{self.dead_letters:,} dead letters; or offsets were skipped or taken twice. "
                "The ledger view says which shard."
            )
        return ""


def summarise(
    figures: Figures, *, sent: int, labels: int, seconds: float, broker: str, broker_version: str
) -> Summary:
    """`sent` records acknowledged; `labels` learned; `seconds` from the first record to the end."""
    ledger = figures.ledger
    return Summary(
        events_in=sent,
        scored=ledger.scored,
        duplicates=ledger.duplicates,
        late=ledger.late,
        dead_letters=ledger.dead_letters,
        users=figures.users,
        alerts=figures.alerts_opened,
        segment_changes=figures.segment_changes,
        learner_updates=labels,
        seconds=round(seconds, 2),
        events_per_second=round(ledger.accepted / seconds) if seconds > 0 else 0,
        ledger_balanced=ledger.balanced and ledger.accepted == sent,
        accepted=ledger.accepted,
        alerts_closed=figures.alerts_closed,
        promotions=[asdict(promotion) for promotion in figures.promotions],
        scored_by_promoted=figures.scored_by_promoted,
        segments={dimension: dict(sizes) for dimension, sizes in figures.segments.items()},
        broker=broker,
        broker_version=broker_version,
    )
