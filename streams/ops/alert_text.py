"""The story of an alert for people, and as a document."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from math import isnan
from typing import Any

from streams.ops.alert_records import Found
from streams.ops.alert_story import Score, Since, Story

__all__ = ["document", "lines"]

_CLOSED = {
    "ordered": "the customer ordered",
    "score_fell": "the score fell",
    "lapsed": "the customer counts as gone, or has too few orders",
}


def document(story: Story, found: Found | None, trace: str = "") -> dict[str, Any]:
    """Everything, of plain values; times in ISO 8601, UTC. `trace` is the batch's; '': none."""
    batch = story.batch
    body: dict[str, Any] = {
        "alert": asdict(story.alert),
        "batch": None if batch is None else {**asdict(batch), "step": batch.step},
        "features": story.features,
        "score_before": None if story.score_before is None else asdict(story.score_before),
        "since": asdict(story.since),
        "trace_id": trace or None,
        "journal": None,
        "records": None,
        "notes": [*story.notes, *(found.notes if found else ())],
    }
    if found is not None:
        body["records"] = [asdict(record) for record in found.records]
        if found.plan is not None:
            plan = found.plan
            body["journal"] = {
                "offset": found.journal_offset, "champion": plan.champion,
                "clock_ms": plan.clock_ms, "sweep_rows": plan.sweep_rows,
                "records": plan.records, "new_learner_snapshot": plan.learner is not None,
            }  # fmt: skip
    plain: dict[str, Any] = _plain(body)
    return plain


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, datetime):
        return _utc(value).isoformat(timespec="milliseconds")
    if isinstance(value, float) and isnan(value):  # which JSON has not
        return None
    return value


def lines(story: Story, found: Found | None, currency: str, trace: str = "") -> Iterator[str]:
    """What to print, a heading before each part. `trace` is the batch's; '': none."""
    a = story.alert
    yield f"Alert {a.alert_id}: customer {a.user_id}, episode {a.episode} of {a.rule}"
    visible = (_utc(a.inserted_at) - _utc(a.event_produced_at)).total_seconds()
    yield f"  raised     {_time(a.raised_at)}, readable {visible:.1f} s after the newest record"
    yield f"  state      {_state(story.since)}"
    yield ""
    yield "Why"
    yield (
        f"  p_churn    {a.p_churn:.1%} within {a.horizon_days} days "
        f"(champion {a.p_champion:.1%}, learner {_share(a.p_learner)})"
    )
    if story.score_before is not None:
        yield f"  before     {_score(story.score_before, currency)}"
    for reason in a.reasons:
        yield f"  reason     {reason}"
    yield f"  customer   value tier {a.value_tier}, {a.lifecycle}"
    yield from _features(story)
    yield ""
    yield "What it is worth"
    yield (
        f"  at stake   {a.priority:,.2f} {currency} "
        f"({a.p_churn:.1%} of {a.expected_spend:,.2f} {currency} expected)"
    )
    yield f"  action     {a.action}"
    arm = "holdout: nobody contacts this customer" if a.arm == "holdout" else a.arm
    yield f"  arm        {arm}"
    yield ""
    yield "Where it comes from"
    yield f"  model      champion {a.champion_version}, learner version {a.learner_version}"
    yield from _batch(story, found)
    if trace:
        yield f"  trace      {trace}"
    yield ""
    yield "What happened since"
    yield from _since(story.since, currency)
    for note in [*story.notes, *(found.notes if found else ())]:
        yield f"  note       {note}"


def _features(story: Story) -> Iterator[str]:
    for name, value in (story.features or {}).items():
        if value:
            yield f"  feature    {name} = {value:g}"
    unknown = sum(1 for value in (story.features or {}).values() if value is None)
    if story.features is not None:
        yield f"  feature    all others are 0, but {unknown} that are unknown"


def _batch(story: Story, found: Found | None) -> Iterator[str]:
    batch = story.batch
    if batch is None:
        return
    yield f"  batch      shard {batch.shard}, step {batch.step} (seq {batch.seq})"
    yield (
        f"  offsets    clickstream {batch.clickstream_from} to {batch.clickstream_to}, orders "
        f"{batch.orders_from} to {batch.orders_to} (the last ones are not included)"
    )
    yield (
        f"  records    {batch.accepted:,} accepted: {batch.scored:,} scored, {batch.duplicates:,} "
        f"duplicate, {batch.late:,} late, {batch.dead_letters:,} dead letters, "
        f"{batch.erased:,} erased, {batch.canaries:,} canaries; "
        f"{batch.users_scored:,} customers scored"
    )
    if found is None:
        return
    if found.plan is not None:
        swept = f", {found.plan.sweep_rows:,} customers swept" if found.plan.sweep_rows else ""
        yield f"  journal    offset {found.journal_offset}{swept}"
    for record in found.records:
        place = f"{record.topic}/{record.partition}/{record.offset}"
        yield f"  record     {place}: {record.type or 'unreadable'}, {_time(record.written_at)}"


def _since(since: Since, currency: str) -> Iterator[str]:
    if since.orders is not None:
        yield f"  orders     {since.orders}"
    for move in since.moves:
        yield (
            f"  segment    {_time(move['at'])}: {move['dimension']} "
            f"{move['from'] or '(new)'} to {move['to']}, {move['why']}"
        )
    if since.newest_score is not None:
        yield f"  now        {_score(since.newest_score, currency)}"
    if since.verdict is not None:
        v = since.verdict
        came = "no order came" if v["churned"] else "an order came"
        yield (
            f"  verdict    asked on {_time(v['asked_at'])}, known since {_time(v['matured_at'])}: "
            f"{came}; {v['spend']:,.2f} {currency} spent, {v['spend_predicted']:,.2f} expected"
        )
    else:
        yield "  verdict    no prediction made since has reached its horizon"
    if since.later_alerts:
        yield f"  alerts     {since.later_alerts} later ones of the same customer"


def _state(since: Since) -> str:
    if since.state == "closed" and since.closed_at is not None:
        return f"closed {_time(since.closed_at)}: {_CLOSED.get(since.closed_why, since.closed_why)}"
    if since.state == "started_over":
        return "ended: the shard's state was started over"
    return "open"


def _score(score: Score, currency: str) -> str:
    p = "not enough data" if isnan(score.p_churn) else f"p_churn {score.p_churn:.1%}"
    return (
        f"{p}, {score.expected_spend:,.2f} {currency} expected, value tier {score.value_tier}, "
        f"{score.lifecycle}, {score.lifetime_orders} orders, {_time(score.scored_at)}"
    )


def _share(value: float) -> str:
    return "unknown" if isnan(value) else f"{value:.1%}"


def _utc(value: datetime) -> datetime:
    return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)


def _time(value: datetime) -> str:
    return _utc(value).strftime("%Y-%m-%d %H:%M:%S UTC")
