"""What growth asks of Kafka, and what it makes of every answer: with a cluster in memory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from kafka.errors import (
    CoordinatorNotAvailableError,
    GroupAuthorizationFailedError,
    NoError,
    NotCoordinatorError,
    TopicAuthorizationFailedError,
)
from kafka.structs import OffsetAndMetadata, TopicPartition

from schemas.errors import FatalError
from streams.kafka import growth
from streams.kafka.access import KafkaAccess
from streams.kafka.growth import (
    Committed,
    Note,
    add_partitions,
    begun_at,
    commit_for,
    committed_by,
    copying_group,
    counts_of,
    create_like,
    forget_group,
    require_grown,
)

ACCESS = KafkaAccess(("a:1",))
EXISTS, FORBIDDEN = 36, 29


class Cluster:
    """Answers as kafka-python's admin client, and is the clock: it gets things done in time."""

    def __init__(self, **topics: int) -> None:
        self.seconds = 50.0
        self.topics = topics
        self.replicas = 3
        self.config: dict[str, tuple[str, str | None]] = {}
        self.created: list[Any] = []
        self.waited_for: list[str] = []
        self.refuses: dict[str, int] = {}
        self.growing: dict[str, tuple[float, int]] = {}
        self.groups: dict[str, dict[TopicPartition, OffsetAndMetadata]] = {}
        self.errors: list[type[Exception]] = []
        """What the next calls that need a group's coordinator answer."""
        self.refused: dict[str, Any] = {}

    def monotonic(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.seconds += seconds

    def describe_topics(self, names: list[str]) -> list[dict[str, Any]]:
        for name, (due, partitions) in list(self.growing.items()):
            if self.seconds >= due:
                self.topics[name] = partitions
        return [
            {"name": name, "error_code": 0 if name in self.topics else 3,
             "partitions": [{"replica_nodes": [0] * self.replicas}] * self.topics.get(name, 0)}
            for name in names
        ]  # fmt: skip

    def describe_configs(self, resources: list[Any], config_filter: str) -> dict[str, Any]:
        assert config_filter == "all"
        (resource,) = resources
        found = {k: {"value": v, "config_source": s} for k, (s, v) in self.config.items()}
        return {"topic": {resource.name: found}}

    def create_topics(self, new: list[Any], raise_errors: bool) -> dict[str, Any]:
        assert not raise_errors
        (topic,) = new
        code = self.refuses.get(topic.name, 0)
        if code in (0, EXISTS):
            self.created.append(topic)
            self.topics.setdefault(topic.name, topic.num_partitions)
        return {"topics": [{"error_code": code, "error_message": "because" if code else None}]}

    def wait_for_topics(self, names: list[str]) -> None:
        self.waited_for += names

    def create_partitions(self, wanted: Mapping[str, int]) -> None:
        for n, (name, partitions) in enumerate(wanted.items(), 1):
            self.growing.setdefault(name, (self.seconds + n, partitions))

    def _coordinate(self) -> None:
        if self.errors:
            raise self.errors.pop(0)

    def list_group_offsets(self, group: str) -> dict[str, Any]:
        self._coordinate()
        return {group: self.groups.get(group, {})}

    def alter_group_offsets(
        self, group: str, offsets: Mapping[TopicPartition, OffsetAndMetadata]
    ) -> dict[TopicPartition, Any]:
        answer: Any = self.errors.pop(0) if self.errors else NoError
        answers = dict.fromkeys(offsets, answer)
        if answer is NoError:
            self.groups.setdefault(group, {}).update(offsets)
        return answers

    def delete_groups(self, groups: list[str]) -> dict[str, Any]:
        return {
            group: self.refused.get(group) or (self.groups.pop(group) and "OK") for group in groups
        }


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Any:
    """made(topic=partitions, ...): the cluster that `growth` talks to."""

    def make(**topics: int) -> Cluster:
        cluster = Cluster(**topics)

        @contextlib.contextmanager
        def connect(access: KafkaAccess) -> Iterator[Cluster]:
            assert access == ACCESS
            yield cluster

        monkeypatch.setattr(growth, "connect", connect)
        monkeypatch.setattr(growth, "time", cluster)
        return cluster

    return make


def test_topics_that_are_missing_are_made_like_the_old_ones(made: Any) -> None:
    cluster = made(old=2, there=4)
    cluster.config = {
        "retention.ms": ("DYNAMIC_TOPIC_CONFIG", "-1"),
        "cleanup.policy": ("DEFAULT_CONFIG", "delete"),
        "min.insync.replicas": ("DYNAMIC_TOPIC_CONFIG", None),
    }
    assert create_like(ACCESS, {"new": "old", "there": "old"}, 4) == ["new"]
    (topic,) = cluster.created
    assert (topic.name, topic.num_partitions, topic.replication_factor) == ("new", 4, 3)
    assert topic.topic_configs == {"retention.ms": "-1"}, "what was set for it, not defaults"
    assert cluster.waited_for == ["new"]
    assert create_like(ACCESS, {"new": "old", "there": "old"}, 4) == []
    assert cluster.waited_for == ["new"]


def test_a_topic_that_somebody_else_makes_meanwhile_is_taken(made: Any) -> None:
    cluster = made(old=2)
    cluster.refuses = {"new": EXISTS}
    assert create_like(ACCESS, {"new": "old"}, 4) == ["new"]


def test_a_topic_that_is_refused_says_why(made: Any) -> None:
    cluster = made(old=2)
    cluster.refuses = {"new": FORBIDDEN}
    with pytest.raises(FatalError, match=r"topic new: TopicAuthorizationFailedError: because"):
        create_like(ACCESS, {"new": "old"}, 4)


def test_a_topic_with_another_number_of_partitions_is_refused(made: Any) -> None:
    made(old=2, new=3)
    with pytest.raises(FatalError, match="new has 3 partitions, needed are 4"):
        create_like(ACCESS, {"new": "old"}, 4)


def test_counts_are_of_topics_that_exist(made: Any) -> None:
    made(old=2)
    assert counts_of(ACCESS, ["old", "new"]) == {"old": 2}


def test_only_topics_with_too_few_partitions_grow_and_all_are_waited_for(made: Any) -> None:
    cluster = made(a=2, b=4, c=1, d=8)
    start = cluster.seconds
    assert add_partitions(ACCESS, ["a", "b", "c", "d"], 4) == ["a", "c"]
    assert cluster.topics == {"a": 4, "b": 4, "c": 4, "d": 8}
    assert cluster.seconds - start == pytest.approx(2.0, abs=0.5)
    assert add_partitions(ACCESS, ["a", "b"], 4) == []
    assert add_partitions(ACCESS, [], 4) == []


def test_a_topic_that_does_not_grow_is_given_up_after_a_while(made: Any) -> None:
    cluster = made(a=2)
    cluster.growing = {"a": (1e9, 4)}
    start = cluster.seconds
    with pytest.raises(FatalError, match="a did not get 4 partitions within 30 s"):
        add_partitions(ACCESS, ["a"], 4)
    assert cluster.seconds - start == pytest.approx(30.0, abs=0.5)


def test_a_topic_that_does_not_exist_cannot_grow(made: Any) -> None:
    cluster = made(a=2)
    with pytest.raises(FatalError, match=r"do not exist: b, c\. Check TIDELINE_KAFKA_APP_ID"):
        add_partitions(ACCESS, ["a", "b", "c"], 4)
    assert cluster.growing == {}


def test_what_is_committed_is_found_again_with_its_note(made: Any) -> None:
    cluster = made()
    commit_for(ACCESS, "g", {("orders", 0): 7, ("orders", 1): 0}, "a note")
    cluster.groups["g"][TopicPartition("orders", 2)] = OffsetAndMetadata(-1, "", -1)
    cluster.groups["g"][TopicPartition("orders", 3)] = OffsetAndMetadata(5, None, -1)
    assert committed_by(ACCESS, "g") == {
        ("orders", 0): Committed(7, "a note"),
        ("orders", 1): Committed(0, "a note"),
        ("orders", 3): Committed(5, ""),
    }
    assert committed_by(ACCESS, "nobody") == {}
    forget_group(ACCESS, "g")
    assert committed_by(ACCESS, "g") == {}


def test_a_coordinator_is_waited_for(made: Any) -> None:
    cluster = made()
    cluster.errors = [CoordinatorNotAvailableError, NotCoordinatorError]
    commit_for(ACCESS, "g", {("orders", 0): 7}, "")
    cluster.errors = [NotCoordinatorError, CoordinatorNotAvailableError]
    assert committed_by(ACCESS, "g") == {("orders", 0): Committed(7, "")}
    assert cluster.errors == []
    cluster.errors = [NotCoordinatorError] * 1_000
    start = cluster.seconds
    with pytest.raises(NotCoordinatorError):
        committed_by(ACCESS, "g")
    assert cluster.seconds - start == pytest.approx(30.0, abs=0.5)


def test_what_is_refused_is_named(made: Any) -> None:
    cluster = made()
    cluster.errors = [GroupAuthorizationFailedError]
    with pytest.raises(FatalError, match="may not use the group g"):
        committed_by(ACCESS, "g")
    cluster.errors = [TopicAuthorizationFailedError]
    with pytest.raises(FatalError, match="group g: TopicAuthorizationFailedError"):
        commit_for(ACCESS, "g", {("orders", 0): 7}, "")
    cluster.refused = {"g": "NonEmptyGroupError"}
    with pytest.raises(FatalError, match="group g: NonEmptyGroupError"):
        forget_group(ACCESS, "g")
    cluster.refused = {"g": "GroupIdNotFoundError"}
    forget_group(ACCESS, "g")  # it is gone, as it should be


def test_a_note_is_read_as_it_was_written() -> None:
    for done in (True, False):
        note = Note("clicks-4", "orders-4", done)
        assert Note.of(str(note)) == note
    for text in ("", "split", "split into a", "split to a b", "splits into a b"):
        assert Note.of(text) is None


@pytest.mark.parametrize(
    ("before", "note", "allowed"),
    [
        (2, Note("clicks-4", "orders-4", done=False), False),
        (1, Note("clicks-4", "orders-4", done=False), False),
        (2, Note("clicks-4", "orders-4", done=True), True),
        (3, Note("clicks-4", "orders-4", done=False), True),  # 4 is no multiple of it
        (4, Note("clicks-4", "orders-4", done=False), True),  # that is a growth from here
        (2, "set by hand", True),
        (None, "", True),
    ],
)
def test_a_worker_starts_unless_a_growth_to_its_partitions_has_not_ended(
    made: Any, before: int | None, note: Note | str, allowed: bool
) -> None:
    made()
    if before is not None:
        place = begun_at("clicks-4")
        commit_for(ACCESS, copying_group("app", before), {place: 0}, str(note))
    with (
        contextlib.nullcontext()
        if allowed
        else pytest.raises(
            FatalError, match=f"from {before} to 4 partitions.*clicks-4 and orders-4"
        )
    ):
        require_grown(ACCESS, "app", 4, "clicks-4")


def test_a_growth_that_this_user_may_not_see_is_none_of_its_own(made: Any) -> None:
    cluster = made()
    commit_for(ACCESS, copying_group("app", 2), {begun_at("c"): 0}, str(Note("c", "o", done=False)))
    cluster.errors = [GroupAuthorizationFailedError]  # of the one from 1 partition
    with pytest.raises(FatalError, match="from 2 to 4 partitions"):
        require_grown(ACCESS, "app", 4, "c")
    cluster.errors = [GroupAuthorizationFailedError] * 2
    require_grown(ACCESS, "app", 4, "c")
