"""`tideline alert`: everything about one alert."""
# ruff: noqa: PLC0415

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

import click

from streams.commands.support import Invocation, json_option, pass_invocation, print_json

if TYPE_CHECKING:
    from streams.ops.alert_records import Found
    from streams.ops.alert_story import Story
    from streams.settings import Settings

__all__ = ["alert"]


@click.group()
def alert() -> None:
    """Look at one alert."""


@alert.command()
@click.argument("alert_id", metavar="ID")
@click.option("--no-kafka", is_flag=True, help="Ask ClickHouse alone.")
@json_option
@pass_invocation
def explain(invocation: Invocation, alert_id: str, no_kafka: bool, as_json: bool) -> None:
    """Where an alert comes from, and what became of it.

    From its id to the batch that raised it, with its offsets, model, reasons and (where they were
    sampled) features; what it was worth; and what happened since. ClickHouse has all that, and
    Kafka, while it keeps them, the step in the journal and the customer's records in the batch.

    ClickHouse's user must be allowed to read results: with the roles of deploy/clickhouse/, set
    TIDELINE_CLICKHOUSE_USER to tideline_explainer.
    """
    settings = invocation.settings
    from streams.ops.alert_text import document, lines

    story = _story(settings, alert_id)
    found = None if no_kafka or story.batch is None else _found(settings, story)
    trace = _trace(settings, story)
    if as_json:
        print_json(document(story, found, trace))
        return
    for line in lines(story, found, settings.stream.currency, trace):
        click.echo(line)


def _trace(settings: Settings, story: Story) -> str:
    """The trace of its batch, if workers with these settings have sent one."""
    from streams.telemetry.traces import is_sampled, trace_id

    if story.batch is None or not settings.trace.endpoint:
        return ""
    trace = trace_id(settings.kafka.app_id, story.batch.shard, story.batch.seq)
    return trace if is_sampled(trace, settings.trace.share) else ""


def _story(settings: Settings, alert_id: str) -> Story:
    from streams.clickhouse.client import clickhouse_target, connect
    from streams.clickhouse.errors import sink_error
    from streams.ops.alert_story import story_of

    target = clickhouse_target(settings)
    client = connect(target)

    def ask(query: str, given: dict[str, Any]) -> list[tuple[Any, ...]]:
        try:
            rows: list[tuple[Any, ...]] = client.execute(query, given)
        except Exception as error:
            raise sink_error(error, "reading about the alert", target) from error
        return rows

    try:
        return story_of(alert_id, ask)
    finally:
        client.disconnect()


def _found(settings: Settings, story: Story) -> Found | None:
    """What Kafka has; a note if it can't be asked, since ClickHouse's part is worth having."""
    from schemas.errors import BrokerUnavailable, StateError
    from streams.kafka.access import kafka_access
    from streams.kafka.log import KafkaLog
    from streams.ops.alert_records import find
    from streams.privacy.pseudonyms import PATTERN, pseudonyms

    batch, key, user_id = story.batch, pseudonyms(settings), story.alert.user_id
    assert batch is not None  # noqa: S101  (the caller asks for a batch's records)
    if not story.in_present_topics:
        return _nothing("its offsets are those of topics before the last `tideline repartition`")
    if re.match(PATTERN, user_id) and (key is None or not user_id.startswith(f"{key.key_id}.")):
        return _nothing(
            f"the customer is named by the key {user_id.split('.')[0]}; set it in "
            "TIDELINE_PRIVACY_PSEUDONYM_KEY"
        )

    async def look() -> Found:
        log = KafkaLog(kafka_access(settings))
        await log.start()
        try:
            return await find(log, settings.topic_names, batch, user_id, key.user if key else str)
        finally:
            await log.stop()

    try:
        return asyncio.run(look())
    except (BrokerUnavailable, StateError) as error:
        return _nothing(str(error))


def _nothing(why: str) -> Found:
    from streams.ops.alert_records import Found

    return Found(None, None, [], [f"Kafka was not looked at: {why.rstrip('.')}."])
