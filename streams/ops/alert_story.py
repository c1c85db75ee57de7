"""What ClickHouse knows of one alert: why it was raised, by which batch and model, and what came of
it. What it no longer has is named, with the reason."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from math import isnan
from typing import Any, Final

from schemas.errors import TidelineError
from schemas.features import FEATURE_NAMES, FEATURES_HASH
from schemas.lives import life_of, position_of

__all__ = [
    "QUERIES",
    "Alert",
    "Ask",
    "Batch",
    "Score",
    "Since",
    "Story",
    "UnknownAlert",
    "batch_of",
    "story_of",
]

Ask = Callable[[str, dict[str, Any]], list[tuple[Any, ...]]]
"""A query with %(parameters)s -> rows. Times are UTC. Raises TidelineError."""

SCORES_KEPT_DAYS: Final = 180
SAMPLES_KEPT_DAYS: Final = 14


class UnknownAlert(TidelineError):
    """No alert has this id."""


@dataclass(frozen=True)
class Alert:
    """The opening of an alert; the columns of `alerts`."""

    alert_id: str
    user_id: str
    shard: int
    life: int
    rule: str
    episode: int
    raised_at: datetime
    p_churn: float
    p_champion: float
    p_learner: float
    expected_spend: float
    priority: float
    horizon_days: int
    reasons: list[str]
    action: str
    arm: str
    value_tier: str
    lifecycle: str
    champion_version: str
    learner_version: int
    event_produced_at: datetime
    inserted_at: datetime


@dataclass(frozen=True)
class Batch:
    """A row of `batches`."""

    shard: int
    seq: int
    clock: datetime
    clickstream_from: int
    clickstream_to: int
    orders_from: int
    orders_to: int
    accepted: int
    scored: int
    duplicates: int
    late: int
    dead_letters: int
    erased: int
    canaries: int
    users_scored: int
    inputs_since: int
    """The last batch on earlier input topics; 0: there were none."""

    @property
    def step(self) -> int:
        """Its number in the life of the shard."""
        return position_of(self.seq)


@dataclass(frozen=True)
class Score:
    """A score of the customer."""

    scored_at: datetime
    seq: int
    p_churn: float
    expected_spend: float
    value_tier: str
    lifecycle: str
    at_risk: bool
    lifetime_orders: int
    last_order_at: datetime


@dataclass(frozen=True)
class Since:
    """What happened after the alert was raised."""

    state: str
    """open, closed, or started_over: the shard's state was, so nothing closes it any more."""
    closed_at: datetime | None
    closed_why: str
    orders: int | None
    """None: not known how many there were before."""
    newest_score: Score | None
    moves: list[dict[str, Any]]
    """Changes of segment: at, dimension, from, to, why."""
    verdict: dict[str, Any] | None
    """The first prediction asked for from then on whose horizon has passed: asked_at, matured_at,
    churned, spend_predicted, spend."""
    later_alerts: int


@dataclass(frozen=True)
class Story:
    """All of it. `notes` are sentences on what is missing, and why."""

    alert: Alert
    batch: Batch | None
    features: dict[str, float | None] | None
    """By name, None where unknown; None altogether if they were not kept."""
    score_before: Score | None
    since: Since
    in_present_topics: bool = True
    """Whether the batch's offsets are of the topics that the shard reads now."""
    notes: list[str] = field(default_factory=list)


def _columns(kind: type[Alert | Batch | Score]) -> str:
    return ", ".join(each.name for each in fields(kind))


_ALERT: Final = (
    f"SELECT {_columns(Alert)} FROM alerts FINAL WHERE alert_id = %(id)s AND version = 1"  # noqa: S608
)
_CLOSED: Final = (
    "SELECT closed_at, closed_why FROM alerts FINAL WHERE alert_id = %(id)s AND version = 2"
)
_BATCHES: Final = (
    f"SELECT {_columns(Batch)} FROM batches FINAL WHERE shard = %(shard)s AND clock = "  # noqa: S608
    "toDateTime64(%(raised)s, 3, 'UTC') AND bitShiftRight(seq, 32) = %(life)s ORDER BY seq"
)
_SCORES: Final = f"SELECT {_columns(Score)} FROM score_history FINAL WHERE user_id = %(user)s AND "  # noqa: S608
_AT: Final = "scored_at <= toDateTime64(%(raised)s, 3, 'UTC') ORDER BY scored_at DESC, seq DESC "
_NEWEST: Final = f"SELECT {_columns(Score)} FROM users_now FINAL WHERE user_id = %(user)s"  # noqa: S608
_SAMPLE: Final = (
    "SELECT features, features_hash FROM score_samples FINAL "
    "WHERE shard = %(shard)s AND seq = %(seq)s AND user_id = %(user)s"
)
_MOVES: Final = (
    "SELECT changed_at, dimension, from_segment, to_segment, why FROM segment_changes FINAL "
    "WHERE user_id = %(user)s AND changed_at >= toDateTime64(%(raised)s, 3, 'UTC') "
    "ORDER BY changed_at, change_id LIMIT 20"
)
_VERDICT: Final = (
    "SELECT asked_at, matured_at, churned, spend_predicted, spend FROM matured_predictions FINAL "
    "WHERE shard = %(shard)s AND user_id = %(user)s "
    "AND asked_at >= toDateTime64(%(raised)s, 3, 'UTC') ORDER BY asked_at LIMIT 1"
)
_LATER: Final = (
    "SELECT count() FROM alerts FINAL WHERE user_id = %(user)s AND version = 1 "
    "AND raised_at > toDateTime64(%(raised)s, 3, 'UTC')"
)
_TOPICS_SINCE: Final = (
    "SELECT max(inputs_since) FROM batches WHERE shard = %(shard)s "
    "AND bitShiftRight(seq, 32) = %(life)s"
)
_PAST: Final = "SELECT count() FROM past_lives WHERE shard = %(shard)s AND life = %(life)s"
_ERASED: Final = "SELECT count(), max(requested_at) FROM erasures FINAL"
QUERIES: Final = (
    _ALERT, _CLOSED, _BATCHES, f"{_SCORES}{_AT}", _NEWEST, _SAMPLE, _MOVES, _VERDICT, _LATER,
    _TOPICS_SINCE, _PAST, _ERASED,
)  # fmt: skip
"""All of them, for the test of who may ask them."""


def story_of(alert_id: str, ask: Ask) -> Story:
    """Everything about one alert. Raises UnknownAlert, and what `ask` raises."""
    rows = ask(_ALERT, {"id": alert_id})
    if not rows:
        raise UnknownAlert(_unknown(alert_id, ask(_ERASED, {})))
    alert = Alert(*rows[0])
    at = {
        "id": alert_id, "user": alert.user_id, "shard": alert.shard, "life": alert.life,
        "raised": alert.raised_at.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3],
    }  # fmt: skip
    notes: list[str] = []
    scores = [_score(row) for row in ask(f"{_SCORES}{_AT}LIMIT 2", at)]
    found = (Batch(*row) for row in ask(_BATCHES, at))
    batch = batch_of(found, scores, alert.raised_at, notes)
    before = next((s for s in scores if s.scored_at < alert.raised_at), None)
    if not scores:
        notes.append(
            f"The customer's scores from then are gone: they are kept for {SCORES_KEPT_DAYS} days."
        )
    features, present = None, True
    if batch is not None:
        features = _features(ask(_SAMPLE, {**at, "seq": batch.seq}), notes)
        present = batch.inputs_since == ask(_TOPICS_SINCE, at)[0][0]
    since = _since(alert, at, scores, ask)
    return Story(alert, batch, features, before, since, present, notes)


def batch_of(
    found: Iterable[Batch], scores: Sequence[Score], raised_at: datetime, notes: list[str]
) -> Batch | None:
    """The batch that raised an alert, of those with its clock: the one that wrote the customer's
    score then. Under a simulated clock several may share it; if none of them wrote a score, it is
    not known which it was, and `notes` says so."""
    batches = list(found)
    wrote = {score.seq for score in scores if score.scored_at == raised_at}
    exact = [batch for batch in batches if batch.seq in wrote]
    if len(exact) == 1 or len(batches) == 1:
        return (exact or batches)[0]
    if batches:
        steps = ", ".join(str(batch.step) for batch in batches[:10])
        notes.append(f"{len(batches)} batches have the alert's clock; it was one of: {steps}.")
    else:
        notes.append("Its batch is not in the table batches: the table lost rows, or is another's.")
    return None


def _features(rows: Sequence[tuple[Any, ...]], notes: list[str]) -> dict[str, float | None] | None:
    if not rows:
        notes.append(
            f"Its features were not kept. [model] score_sample_share of all scores have theirs in "
            f"score_samples, for {SAMPLES_KEPT_DAYS} days; the reasons above name the strongest."
        )
        return None
    values, features_hash = rows[0]
    if features_hash != FEATURES_HASH or len(values) != len(FEATURE_NAMES):
        notes.append("Its features are those of another release, which this one can't name.")
        return None
    return {
        name: None if isnan(value) else value
        for name, value in zip(FEATURE_NAMES, values, strict=True)
    }


def _since(alert: Alert, at: dict[str, Any], scores: Sequence[Score], ask: Ask) -> Since:
    closed = ask(_CLOSED, at)
    ended = not closed and ask(_PAST, at)[0][0] > 0
    newest = next((_score(row) for row in ask(_NEWEST, at)), None)
    known = next(iter(scores), None)
    orders = None
    if newest is not None and known is not None and life_of(known.seq) == life_of(newest.seq):
        orders = newest.lifetime_orders - known.lifetime_orders
    verdict = ask(_VERDICT, at)
    names = ("asked_at", "matured_at", "churned", "spend_predicted", "spend")
    return Since(
        state="closed" if closed else "started_over" if ended else "open",
        closed_at=closed[0][0] if closed else None,
        closed_why=closed[0][1] if closed else "",
        orders=orders,
        newest_score=newest,
        moves=[
            dict(zip(("at", "dimension", "from", "to", "why"), row, strict=True))
            for row in ask(_MOVES, at)
        ],
        verdict=dict(zip(names, verdict[0], strict=True)) if verdict else None,
        later_alerts=ask(_LATER, at)[0][0],
    )


def _score(row: tuple[Any, ...]) -> Score:
    score = Score(*row)
    return replace(score, at_risk=bool(score.at_risk))


def _unknown(alert_id: str, erased: Sequence[tuple[Any, ...]]) -> str:
    words = (
        f"There is no alert {alert_id!r} in this database. The views churn_alerts_live and "
        "alert_history have the ids of all alerts; a new one may take a second to arrive. Check "
        "TIDELINE_CLICKHOUSE_DATABASE, too"
    )
    count, newest = erased[0] if erased else (0, None)
    if count and newest is not None:
        day = newest.astimezone(UTC).date() if newest.tzinfo else newest.date()
        words += (
            f". If the alert was there once, its customer has been erased, and their alerts with "
            f"them: there were {count} erasures, the last on {day}"
        )
    return words + "."
