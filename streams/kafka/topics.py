"""Creates the topics that are missing and checks those that are there.

What must hold (`schemas.topics` says why): both inputs and everything per shard have the same
number of partitions, of which Tideline's own topics may have more; checkpoints and learner
snapshots are compacted, inputs are not, and inputs of a replay (clock = event) are kept for ever.
Existing topics are never altered: they may be shared.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from kafka.admin import ConfigResource, ConfigResourceType, NewTopic
from kafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from schemas.errors import FatalError
from schemas.topics import Topic, topics
from streams.kafka.access import kafka_access
from streams.kafka.admin import connect, partition_counts
from streams.settings import Settings

__all__ = ["TopicReport", "check", "create_missing", "require", "wanted"]

_CREATE = "tideline topics --create"


@dataclass(frozen=True)
class TopicReport:
    """One topic's state: `ok`, `missing` or `wrong`, with what is wrong and the fix. A problem that
    is ok has no fix."""

    topic: Topic
    state: Literal["ok", "missing", "wrong"]
    problem: str = ""
    fix: str = ""


def wanted(settings: Settings) -> tuple[Topic, ...]:
    """The topics that these settings need."""
    return topics(
        settings.topic_names,
        settings.kafka.partitions,
        keep_inputs=settings.stream.clock == "event",
        min_insync_replicas=settings.kafka.min_insync_replicas,
    )


def check(settings: Settings, timeout_seconds: float = 10.0) -> list[TopicReport]:
    """The state of every topic. Raises BrokerUnavailable."""
    with connect(kafka_access(settings), timeout_seconds) as admin:
        return _reports(admin, wanted(settings))


def create_missing(settings: Settings) -> list[Topic]:
    """Create what is missing and return it. Safe to call from several processes at once.

    Raises BrokerUnavailable, or FatalError if a topic can't be created or an existing one is wrong.
    """
    with connect(kafka_access(settings)) as admin:
        missing = [r.topic for r in _reports(admin, wanted(settings)) if r.state == "missing"]
        for topic in missing:
            _create(admin, topic, settings.kafka.replication_factor)
        if missing:
            admin.wait_for_topics([topic.name for topic in missing])
        _refuse(_reports(admin, wanted(settings)))
    return missing


def require(settings: Settings) -> None:
    """Return if every topic is there and right; raise FatalError naming all that are not."""
    _refuse(check(settings))


def require_state(settings: Settings) -> None:
    """As `require`, for the topics of the shards' state alone. A broker that creates topics by
    itself would create these as ordinary ones, and expire checkpoints."""
    _refuse([report for report in check(settings) if report.topic.is_state])


def require_named(settings: Settings, names: Collection[str]) -> None:
    """As `require`, for the topics of these names alone."""
    _refuse([report for report in check(settings) if report.topic.name in names])


def _refuse(reports: Sequence[TopicReport]) -> None:
    bad = [report for report in reports if report.state != "ok"]
    if bad:
        lines = "\n".join(f"  {r.topic.name}: {r.problem}. {r.fix}" for r in bad)
        raise FatalError(f"Topics are not as Tideline needs them:\n{lines}")


def _create(admin: Any, topic: Topic, replication_factor: int) -> None:
    new = NewTopic(
        topic.name, topic.partitions, replication_factor, topic_configs=dict(topic.config)
    )
    answer = admin.create_topics([new], raise_errors=False)["topics"][0]
    error = for_code(answer["error_code"])
    # Another process may have been faster: fine, its topic is checked like any other.
    if answer["error_code"] and error is not TopicAlreadyExistsError:
        raise FatalError(
            f"Kafka refused to create topic {topic.name}: {error.__name__}: "
            f"{answer.get('error_message') or 'no reason given'}. Check this user's rights and "
            f"TIDELINE_KAFKA_REPLICATION_FACTOR ({replication_factor}), then run `{_CREATE}` again."
        )


def _reports(admin: Any, needed: Sequence[Topic]) -> list[TopicReport]:
    names = [topic.name for topic in needed]
    counts = partition_counts(admin, names)
    configs = _configs(admin, [name for name in names if name in counts])
    return [_report(topic, counts.get(topic.name), configs.get(topic.name, {})) for topic in needed]


def _report(topic: Topic, partitions: int | None, config: Mapping[str, str]) -> TopicReport:
    """Pure: judge one topic. A config value that the broker did not give is not judged."""
    if partitions is None:
        return TopicReport(topic, "missing", "it does not exist", f"Run `{_CREATE}`")
    spare = topic.may_have_more and partitions > topic.partitions
    if partitions != topic.partitions and not spare:
        return TopicReport(
            topic,
            "wrong",
            f"it has {partitions} partitions, needed are {topic.partitions}",
            "If somebody added partitions, or more are needed, run `tideline repartition` "
            '(docs/operations.md, "Grow"). If Tideline has not run yet, set '
            f"TIDELINE_KAFKA_PARTITIONS={partitions} if all input topics have that many; else "
            "delete the topic or choose another TIDELINE_KAFKA_APP_ID, and run "
            f"`{_CREATE}`"
            if topic.partitions > 1
            else f"Delete the topic and run `{_CREATE}`",
        )
    policy = topic.config.get("cleanup.policy", "delete")
    if (has := config.get("cleanup.policy", policy)) != policy:
        return _wrong_config(topic, "cleanup.policy", has, policy)
    kept, needs = config.get("retention.ms", "-1"), topic.config.get("retention.ms")
    if needs == "-1" and kept != "-1":
        return _wrong_config(topic, "retention.ms", kept, "-1")
    insync = topic.config.get("min.insync.replicas", "1")
    if int(has := config.get("min.insync.replicas", insync)) < int(insync):
        return _wrong_config(topic, "min.insync.replicas", has, insync, is_kept=True)
    left = f"it has {partitions} partitions, of which {topic.partitions} are used" if spare else ""
    return TopicReport(topic, "ok", left)


def _wrong_config(
    topic: Topic, key: str, has: str, needs: str, *, is_kept: bool = False
) -> TopicReport:
    """`is_kept`: what the topic has is as it should be, so nothing need be deleted."""
    again = "run `tideline reset`" if topic.is_state else f"delete the topic and run `{_CREATE}`"
    return TopicReport(
        topic,
        "wrong",
        f"its {key} is {has}, needed is {needs}",
        f"Alter it with `kafka-configs --alter --entity-type topics --entity-name {topic.name} "
        f"--add-config {key}={needs}`" + ("" if is_kept else f", or {again}"),
    )


def _configs(admin: Any, names: Sequence[str]) -> dict[str, dict[str, str]]:
    """Each topic's configuration as the broker gives it; empty if it does not."""
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    if not resources:
        return {}
    try:
        answer = admin.describe_configs(resources, config_filter="all")
    except (KafkaError, ValueError, OSError):
        return {}  # Tansu drops the connection; a user without DescribeConfigs is refused
    return {
        name: {key: entry["value"] for key, entry in entries.items()}
        for name, entries in answer.get("topic", {}).items()
    }
