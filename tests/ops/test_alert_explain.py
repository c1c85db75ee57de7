"""From an alert's id to its batch, offsets and features, and to what became of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from schemas.features import FEATURE_NAMES
from schemas.lives import position_of
from streams.clickhouse.client import ClickHouseTarget, connect
from streams.clickhouse.sink import ClickHouseSink
from streams.ops.alert_records import find
from streams.ops.alert_story import Ask, Story, UnknownAlert, story_of
from streams.ops.alert_text import document, lines
from streams.settings import Settings, override
from streams.telemetry.traces import trace_id
from tests.databases import Databases
from tests.shard.oracle import Oracle
from tests.shard.rig import SHARD, TOPICS, Rig, make_quick, script

if TYPE_CHECKING:
    from tests.local_broker import Cli

pytestmark = pytest.mark.clickhouse


class _Shop:
    """A shard's whole life: its log, what each step put out, and ClickHouse with all of it."""

    def __init__(self, target: ClickHouseTarget) -> None:
        self.target = target
        self.rig = Rig()
        self.rig.config = replace(self.rig.config, sample_share=0.5)
        self.rig.load(script())
        self.oracle: Oracle = asyncio.run(self._run())
        sink = ClickHouseSink(target).start()
        for outputs in self.oracle.outputs:
            sink.submit(outputs.tables).result(60)
        sink.close()
        self.client = connect(target)

    async def _run(self) -> Oracle:
        await self.rig.process("one", fetch=17).run()
        return await self.rig.oracle()

    @property
    def ask(self) -> Ask:
        return lambda query, given: list(self.client.execute(query, given))

    def story(self, alert_id: str) -> Story:
        return story_of(alert_id, self.ask)

    @property
    def raised(self) -> dict[str, int]:
        """Alert -> seq of the step that raised it."""
        return {
            alert.alert_id: plan.seq
            for plan, outputs in zip(self.oracle.plans, self.oracle.outputs, strict=True)
            for alert in outputs.alerts
            if alert.state == "open"
        }


@pytest.fixture(scope="module")
def shop(databases: Databases) -> Iterator[_Shop]:
    with databases.lent() as target:
        with pytest.MonkeyPatch.context() as patch:
            make_quick(patch)
            made = _Shop(target)
        yield made
        made.client.disconnect()


def test_every_alert_leads_to_the_step_that_raised_it_and_to_its_plan(shop: _Shop) -> None:
    plans = {plan.seq: plan for plan in shop.oracle.plans}
    found = 0
    for alert_id, seq in shop.raised.items():
        story = shop.story(alert_id)
        if story.batch is None:  # several steps had that simulated time
            assert f"it was one of: {position_of(seq)}" in " ".join(story.notes) or str(
                position_of(seq)
            ) in " ".join(story.notes)
            continue
        found += 1
        assert (story.batch.shard, story.batch.seq) == (SHARD, seq)
        kafka = asyncio.run(find(shop.rig.log, TOPICS, story.batch, story.alert.user_id, str))
        assert kafka.plan == plans[seq]
        for record in kafka.records:
            source = 0 if record.topic == TOPICS.clickstream else 1
            assert plans[seq].start[source] <= record.offset < plans[seq].stop[source]
            (key, _) = next(
                (key, value)
                for offset, key, value in shop.rig.log.records(record.topic, SHARD)
                if offset == record.offset
            )
            assert key == story.alert.user_id.encode()
            assert record.type
        assert kafka.records or "daily sweep" in " ".join(kafka.notes)
    assert found > len(shop.raised) / 2 > 0


def test_features_are_those_that_were_served_where_they_were_sampled(shop: _Shop) -> None:
    stories = [shop.story(alert_id) for alert_id in shop.raised]
    kept = [story.features for story in stories if story.features is not None]
    assert kept
    assert all(list(features) == list(FEATURE_NAMES) for features in kept)
    without = [story for story in stories if story.batch is not None and story.features is None]
    assert without
    assert all("score_sample_share" in " ".join(story.notes) for story in without)


def test_what_happened_since_is_what_the_steps_after_it_said(shop: _Shop) -> None:
    closed = {
        alert.alert_id
        for outputs in shop.oracle.outputs
        for alert in outputs.alerts
        if alert.state == "closed"
    }
    assert closed
    assert closed < shop.raised.keys()
    for alert_id in shop.raised:
        since = shop.story(alert_id).since
        assert since.state == ("closed" if alert_id in closed else "open")
        assert bool(since.closed_why) == (alert_id in closed)
        assert since.newest_score is not None
        assert since.orders is not None
        assert since.orders >= (since.closed_why == "ordered")


def test_the_text_and_the_document_tell_the_same_and_json_has_no_nan(shop: _Shop) -> None:
    for alert_id in shop.raised:
        story = shop.story(alert_id)
        found = None
        if story.batch is not None:
            found = asyncio.run(find(shop.rig.log, TOPICS, story.batch, story.alert.user_id, str))
        text = "\n".join(lines(story, found, "USD"))
        body = json.loads(json.dumps(document(story, found), allow_nan=False))
        assert body["alert"]["alert_id"] in text
        assert body["since"]["state"] in text
        assert all(reason in text for reason in body["alert"]["reasons"])
        assert all(note in text for note in body["notes"])
        assert body["alert"]["raised_at"].endswith("+00:00")
        if body["batch"] is not None:
            assert f"step {body['batch']['step']} (seq {body['batch']['seq']})" in text
            assert body["journal"]["offset"] >= 0


def test_the_outcomes_of_a_batch_are_all_there_and_add_up(shop: _Shop) -> None:
    story = next(s for s in map(shop.story, shop.raised) if s.batch is not None)
    was = story.batch
    assert was is not None
    batch = replace(
        was, accepted=56, scored=3, duplicates=5, late=7, dead_letters=11, erased=13, canaries=17
    )
    text = "\n".join(lines(replace(story, batch=batch), None, "USD"))
    said = "56 accepted: 3 scored, 5 duplicate, 7 late, 11 dead letters, 13 erased, 17 canaries; "
    assert said in text
    outcomes_then = (was.scored, was.duplicates, was.late, was.dead_letters, was.erased)
    assert was.accepted == sum(outcomes_then) + was.canaries


def test_an_id_that_is_not_there_is_refused_with_what_may_be_the_reason(shop: _Shop) -> None:
    with pytest.raises(UnknownAlert, match="alert_history have the ids") as unknown:
        shop.story("no-such'; id")
    assert "erased" not in str(unknown.value)
    shop.client.execute(
        "INSERT INTO erasures (erasure_id, person, requested_at) VALUES",
        [("e1", "hash", datetime(2026, 11, 29, 12, tzinfo=UTC))],
    )
    with pytest.raises(UnknownAlert, match="1 erasures, the last on 2026-11-29"):
        shop.story("no-such-id")
    shop.client.execute("TRUNCATE TABLE erasures")


def test_what_is_gone_is_said(shop: _Shop) -> None:
    alert_id = next(a for a in shop.raised if shop.story(a).batch is not None)
    story = shop.story(alert_id)
    assert story.batch is not None
    gone = replace(story.batch, clickstream_from=10**6, clickstream_to=10**6 + 5, seq=10**15)
    kafka = asyncio.run(find(shop.rig.log, TOPICS, gone, story.alert.user_id, str))
    assert kafka.plan is None
    assert "no longer in the journal" in kafka.notes[0]
    assert "1000000 to 1000005, are gone" in kafka.notes[1]
    past: Any = {"seen": []}

    def without_scores(query: str, given: dict[str, Any]) -> list[tuple[Any, ...]]:
        past["seen"].append(query)
        return [] if "score_history" in query or "batches" in query else shop.ask(query, given)

    bare = story_of(alert_id, without_scores)
    assert (bare.batch, bare.features, bare.since.orders) == (None, None, None)
    assert "kept for 180 days" in " ".join(bare.notes)
    assert "not in the table batches" in " ".join(bare.notes)
    assert list(lines(bare, None, "USD"))


def test_the_command_explains_from_clickhouse_though_kafka_is_away(
    shop: _Shop, cli: Cli, dead_broker: str
) -> None:
    settings = override(
        Settings(),
        clickhouse_host=shop.target.host,
        clickhouse_port=shop.target.port,
        clickhouse_database=shop.target.database,
        kafka_broker_url=dead_broker,
    )
    alert_id = next(a for a in shop.raised if shop.story(a).batch is not None)
    shown = cli("alert", "explain", alert_id, "--no-kafka", settings=settings)
    assert shown.exit_code == 0, shown.output
    for heading in ("Why", "What it is worth", "Where it comes from", "What happened since"):
        assert f"\n{heading}\n" in shown.output
    shown = cli("alert", "explain", alert_id, "--json", settings=settings)
    assert shown.exit_code == 0, shown.output
    body = json.loads(shown.stdout)
    assert (body["journal"], body["records"]) == (None, [])
    assert "Kafka was not looked at: No Kafka broker answers" in " ".join(body["notes"])
    assert body["trace_id"] is None
    traced = override(settings, trace_endpoint="http://127.0.0.1:4318", trace_share=1.0)
    shown = cli("alert", "explain", alert_id, "--no-kafka", "--json", settings=traced)
    body = json.loads(shown.stdout)
    batch = body["batch"]
    assert body["trace_id"] == trace_id(settings.kafka.app_id, batch["shard"], batch["seq"])
    shown = cli("alert", "explain", "nothing", settings=settings)
    assert shown.exit_code == 1
    assert "There is no alert 'nothing'" in shown.output
