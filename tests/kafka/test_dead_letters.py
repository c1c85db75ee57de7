from __future__ import annotations

import json
from typing import TYPE_CHECKING, cast

import msgspec
import pytest
from kafka import KafkaProducer
from kafka.consumer.fetcher import ConsumerRecord

from schemas.messages import DeadLetter
from streams.core.partitioning import PartitionerName, partitions_of_keys
from streams.kafka import dead_letters
from streams.kafka.dead_letters import (
    count_by_reason,
    not_replayable,
    origin,
    read,
    replay,
    topic_records,
)
from streams.kafka.topics import create_missing
from streams.settings import Settings, override

if TYPE_CHECKING:
    from tests.local_broker import Cli

PAYLOAD = b'{"event_id": \xff\x1b[31m'


def nobody(_: DeadLetter) -> bool:
    """Nobody was erased."""
    return False


def letter(settings: Settings, offset: int, reason: str, size: int = len(PAYLOAD)) -> DeadLetter:
    return DeadLetter(
        topic=settings.kafka.orders_topic,
        partition=1,
        offset=offset,
        reason=reason,
        detail="for the test",
        recorded_at_ms=1_700_000_000_000,
        key=b"user-3",  # of partition 1
        payload=PAYLOAD,
        payload_bytes=size,
    )


@pytest.fixture
def letters(settings: Settings) -> Settings:
    """Three letters, one of them truncated and one written twice, and one message of a stranger."""
    create_missing(settings)
    topic = settings.topic_names.dead_letters
    producer = KafkaProducer(bootstrap_servers=settings.kafka.broker_url, linger_ms=20)
    for partition, each in (
        (0, letter(settings, 7, "invalid_json")),
        (1, letter(settings, 7, "invalid_json")),
        (1, letter(settings, 8, "invalid_json")),
        (0, letter(settings, 9, "too_large", size=1_000_000)),
    ):
        producer.send(topic, msgspec.json.encode(each), partition=partition)
    producer.send(topic, b"not one of ours", partition=0)
    producer.flush()
    producer.close()
    return settings


@pytest.mark.kafka
def test_each_letter_is_read_once_and_strangers_are_skipped(letters: Settings) -> None:
    found = list(read(letters, nobody))
    assert sorted(each.offset for each in found) == [7, 8, 9]
    orders = letters.kafka.orders_topic
    assert count_by_reason(found) == [(orders, "invalid_json", 2), (orders, "too_large", 1)]
    assert {each.offset for each in found if not_replayable(letters, each)} == {9}


def test_letter_of_a_former_input_topic_is_not_replayed() -> None:
    before = override(Settings(), kafka_orders_topic="orders-4")
    old = letter(before, 7, "invalid_json")
    assert not_replayable(before, old) is None
    assert "`tideline repartition` copies it" in str(not_replayable(Settings(), old))


@pytest.mark.kafka
def test_list_counts_by_topic_and_reason(letters: Settings, cli: Cli) -> None:
    listed = json.loads(cli("dlq", "list", "--json", settings=letters).stdout)
    assert [(row["reason"], row["letters"]) for row in listed] == [
        ("invalid_json", 2),
        ("too_large", 1),
    ]
    only = cli("dlq", "list", "--reason", "too_large", settings=letters).stdout
    assert "too_large" in only
    assert "invalid_json" not in only


@pytest.mark.kafka
def test_show_prints_one_letter_safely(letters: Settings, cli: Cli) -> None:
    origin = f"{letters.kafka.orders_topic}/1/8"
    shown = cli("dlq", "show", origin, settings=letters)
    assert "invalid_json" in shown.stdout
    assert "2023-11-14T22:13:20+00:00" in shown.stdout
    assert "\x1b[31m" not in shown.stdout, "a dead letter must not drive the terminal"
    missing = cli("dlq", "show", f"{letters.kafka.orders_topic}/1/999", settings=letters)
    assert missing.exit_code == 1
    assert "tideline dlq list" in missing.stderr
    assert cli("dlq", "show", "orders-8", settings=letters).exit_code == 2


@pytest.mark.kafka
def test_replay_sends_only_with_yes_and_restores_key_payload_and_partition(
    letters: Settings, cli: Cli
) -> None:
    dry = cli("dlq", "replay", settings=letters)
    assert "would send 2" in dry.stdout
    assert "not replayable: 1" in dry.stdout
    assert records(letters) == []

    done = cli("dlq", "replay", "--yes", "--reason", "invalid_json", "--json", settings=letters)
    assert json.loads(done.stdout) == {"replayable": 2, "not_replayable": 0, "sent": 2}
    sent = records(letters)
    assert [(r.key, r.value, r.partition) for r in sent] == [(b"user-3", PAYLOAD, 1)] * 2
    origins = {dict(r.headers)["tideline-replay-of"] for r in sent}
    orders = letters.kafka.orders_topic
    assert origins == {f"{orders}/1/7".encode(), f"{orders}/1/8".encode()}


@pytest.mark.kafka
def test_what_was_sent_back_is_not_sent_again_unless_asked(letters: Settings, cli: Cli) -> None:
    orders = letters.kafka.orders_topic
    one = cli("dlq", "replay", f"{orders}/1/8", "--yes", "--json", settings=letters)
    assert json.loads(one.stdout)["sent"] == 1
    rest = cli("dlq", "replay", "--yes", "--json", settings=letters)
    assert json.loads(rest.stdout) == {"replayable": 1, "not_replayable": 1, "sent": 1}
    none = cli("dlq", "replay", "--yes", "--json", settings=letters)
    assert json.loads(none.stdout)["sent"] == 0
    assert len(records(letters)) == 2
    listed = json.loads(cli("dlq", "list", "--json", settings=letters).stdout)
    assert {row["reason"]: (row["letters"], row["replayed"]) for row in listed} == {
        "invalid_json": (0, 2),
        "too_large": (1, 0),
    }
    again = cli("dlq", "replay", "--yes", "--again", "--json", settings=letters)
    assert json.loads(again.stdout)["sent"] == 2
    assert "invalid_json" in cli("dlq", "show", f"{orders}/1/8", settings=letters).stdout


@pytest.mark.kafka
def test_a_replay_that_is_cut_off_goes_on_where_it_was(
    letters: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_letters, "_CHUNK_LETTERS", 1)

    def cut_off(_done: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        replay(letters, list(read(letters, nobody)), cut_off)
    assert len(records(letters)) == 1
    assert replay(letters, list(read(letters, nobody))) == 1
    assert sorted(
        dict(r.headers)["tideline-replay-of"].decode().split("/")[-1] for r in records(letters)
    ) == ["7", "8"]


@pytest.mark.kafka
def test_list_each_says_where_every_letter_came_from(letters: Settings, cli: Cli) -> None:
    table = cli("dlq", "list", "--each", settings=letters).stdout
    for offset in (7, 8, 9):
        assert f"{letters.kafka.orders_topic}/1/{offset}" in table
    few = cli("dlq", "list", "--each", "--limit", "1", settings=letters).stdout
    assert "2 more; --limit 0 shows all." in few


@pytest.mark.kafka
def test_an_empty_topic_and_a_filter_without_matches(settings: Settings, cli: Cli) -> None:
    create_missing(settings)
    assert "No dead letters." in cli("dlq", "list", settings=settings).stdout
    assert "No dead letters match." in cli("dlq", "replay", settings=settings).stdout
    assert cli("dlq", "replay", "--yes", "--dry-run", settings=settings).exit_code == 2


@pytest.mark.kafka
@pytest.mark.parametrize("partitioner", ["murmur2", "crc32", "unchecked"])
def test_a_letter_goes_to_the_partition_that_its_key_belongs_to(
    settings: Settings, partitioner: str
) -> None:
    """Where a letter was found says nothing, if its key did not belong there. A letter without a
    key, and any if partitions are not checked, goes where it was."""
    here = override(settings, kafka_partitioner=partitioner)
    create_missing(here)
    keys = [f"user-{n}".encode() for n in range(20)]
    wrong = msgspec.structs.replace(letter(here, 0, "wrong_partition"), payload=b"{}")
    found = [
        msgspec.structs.replace(wrong, offset=n, key=key, partition=n % 2, payload_bytes=2)
        for n, key in enumerate([*keys, None, None])
    ]
    assert replay(here, found) == len(found)
    sent = {(r.key, dict(r.headers)["tideline-replay-of"]): r.partition for r in records(here)}
    there = [sent[each.key, origin(each).encode()] for each in found]
    stays = [n % 2 for n in range(len(found))]
    if partitioner == "unchecked":
        assert there == stays
        return
    belongs = partitions_of_keys(keys, cast(PartitionerName, partitioner), 2).tolist()
    assert there == [*belongs, *stays[len(keys) :]]
    assert belongs != stays[: len(keys)]


def records(settings: Settings) -> list[ConsumerRecord]:
    return list(topic_records(settings, settings.kafka.orders_topic))
