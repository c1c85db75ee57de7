from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from kafka.admin import NewTopic

from schemas.errors import BrokerUnavailable, FatalError
from schemas.topics import Topic, TopicNames, topics
from streams.kafka.admin import connect
from streams.kafka.topics import _report, check, create_missing, require, wanted
from streams.settings import Settings, override

if TYPE_CHECKING:
    from tests.local_broker import Cli

NAMES = TopicNames("clicks", "orders", "app")


def test_replays_keep_their_inputs_for_ever() -> None:
    kept = {t.name: t.config.get("retention.ms") for t in topics(NAMES, 4, keep_inputs=True)}
    usual = {t.name: t.config.get("retention.ms") for t in topics(NAMES, 4)}
    changed = {name for name in kept if kept[name] != usual[name]}
    assert changed == {"clicks", "orders"}
    assert kept["clicks"] == kept["orders"] == "-1"
    event = wanted(override(Settings(), stream_clock="event"))
    assert event[0].config["retention.ms"] == "-1"


@pytest.mark.parametrize(
    ("partitions", "config", "expected"),
    [
        (None, {}, "it does not exist"),
        (3, {}, "it has 3 partitions, needed are 4"),
        (4, {"cleanup.policy": "delete"}, "its cleanup.policy is delete, needed is compact"),
        (4, {"cleanup.policy": "compact"}, ""),
        (4, {}, ""),  # the broker did not say: not judged
    ],
)
def test_a_topic_is_judged(partitions: int | None, config: dict[str, str], expected: str) -> None:
    checkpoints = next(t for t in topics(NAMES, 4) if t.name == NAMES.checkpoints)
    report = _report(checkpoints, partitions, config)
    assert report.problem == expected
    assert bool(report.fix) == bool(expected)


def test_fewer_replicas_in_sync_than_settings_say_are_refused_and_nothing_is_to_be_deleted() -> (
    None
):
    durable = override(Settings(), kafka_replication_factor=3, kafka_min_insync_replicas=2)
    assert {topic.config["min.insync.replicas"] for topic in wanted(durable)} == {"2"}
    assert not any("min.insync.replicas" in topic.config for topic in wanted(Settings()))
    orders = wanted(durable)[1]
    report = _report(orders, 4, {"min.insync.replicas": "1"})
    assert report.problem == "its min.insync.replicas is 1, needed is 2"
    assert "--add-config min.insync.replicas=2" in report.fix
    assert "delete" not in report.fix
    for has in ({"min.insync.replicas": "2"}, {"min.insync.replicas": "3"}, {}):
        assert _report(orders, 4, has).state == "ok"
    assert _report(wanted(Settings())[1], 4, {"min.insync.replicas": "1"}).state == "ok"


def test_input_retention_matters_only_for_replays() -> None:
    def judge(topic: Topic) -> str:
        return _report(topic, 4, {"retention.ms": "1000", "cleanup.policy": "delete"}).problem

    assert judge(topics(NAMES, 4)[0]) == ""
    assert judge(topics(NAMES, 4, keep_inputs=True)[0]) == "its retention.ms is 1000, needed is -1"


@pytest.mark.kafka
def test_create_is_complete_and_repeatable(settings: Settings, cli: Cli) -> None:
    before = cli("topics", settings=settings)
    assert before.exit_code == 1
    assert "Run `tideline topics --create`" in before.stdout
    with pytest.raises(FatalError, match="tideline topics --create"):
        require(settings)

    created = cli("topics", "--create", "--json", settings=settings)
    assert created.exit_code == 0, created.output
    assert {row["state"] for row in json.loads(created.stdout)} == {"ok"}
    assert create_missing(settings) == []
    require(settings)
    assert cli("topics", settings=settings).exit_code == 0


@pytest.mark.kafka
def test_inputs_that_are_not_co_partitioned_are_refused(settings: Settings) -> None:
    with connect(settings.kafka.brokers) as admin:
        admin.create_topics([NewTopic(settings.kafka.orders_topic, 3, 1)])
    with pytest.raises(FatalError, match="3 partitions, needed are 2") as caught:
        create_missing(settings)
    assert settings.kafka.orders_topic in str(caught.value)
    assert "TIDELINE_KAFKA_PARTITIONS=3" in str(caught.value)
    states = {report.topic.name: report.state for report in check(settings)}
    assert states.pop(settings.kafka.orders_topic) == "wrong"
    assert set(states.values()) == {"ok"}


def test_no_broker_is_one_clear_error(dead_broker: str) -> None:
    settings = override(Settings(), kafka_broker_url=dead_broker)
    with pytest.raises(BrokerUnavailable, match=settings.kafka.broker_url):
        check(settings, timeout_seconds=0.3)
