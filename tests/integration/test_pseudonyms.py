"""User ids stay out of logs, metrics and, with a key, out of everything that leaves Tideline."""

from __future__ import annotations

import asyncio
import re
import signal
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from schemas.messages import AlertMessage
from streams.kafka.access import kafka_access
from streams.kafka.log import KafkaLog
from streams.privacy.pseudonyms import Pseudonyms
from streams.replay.records import Block
from streams.replay.synthetic import Synthetic
from streams.settings import Secret
from tests.integration.world import World

pytestmark = [pytest.mark.kafka, pytest.mark.clickhouse, pytest.mark.timeout(900)]

KEY = "sesame-pseudonym-key-0123456789abcdef"
SESAME = "sesame@example.org+"
USERS = 60


class Marked:
    """A small shop whose users have names that can't be overlooked, in bad records too."""

    expected_records = None

    def __init__(self) -> None:
        self.shop = Synthetic(
            users=USERS, events=3_000, order_share=0.4, malformed_share=0.05, late_share=0.02,
            duplicate_share=0.02, span_days=20.0, seed=5,
        )  # fmt: skip

    def summary(self) -> dict[str, Any]:
        return {}

    def __iter__(self) -> Iterator[Block]:
        name = SESAME.encode()
        for block in self.shop:
            yield [
                record._replace(
                    key=record.key and name + record.key,
                    value=record.value.replace(b'"user_id":"', b'"user_id":"' + name),
                )
                for record in block
            ]


def everything(here: World) -> str:
    """Every row of every table."""
    database = here.settings.clickhouse.database
    tables = here.sql(
        f"SELECT name FROM system.tables WHERE database = '{database}' AND engine LIKE '%MergeTree'"
    )
    assert len(tables) >= 8
    return "\n".join(str(here.sql(f"SELECT * FROM {name}")) for (name,) in tables)


def alerts(here: World) -> list[tuple[bytes, AlertMessage]]:
    async def read() -> list[tuple[bytes, AlertMessage]]:
        log = KafkaLog(kafka_access(here.settings))
        await log.start()
        found = []
        try:
            topic = here.settings.topic_names.alerts
            for shard in range(here.settings.kafka.partitions):
                records = await log.read(topic, shard, *(await log.ends(topic, shard)))
                for key, value in zip(records.keys, records.values, strict=True):
                    found.append((key or b"", msgspec.json.decode(value or b"", type=AlertMessage)))
        finally:
            await log.stop()
        return found

    return asyncio.run(read())


@pytest.mark.parametrize("key", ["", KEY], ids=["plain", "pseudonyms"])
def test_no_user_id_in_logs_or_metrics_and_with_a_key_nowhere_outside(
    key: str, world: Callable[..., World]
) -> None:
    here = world(
        log_level="debug", privacy_pseudonym_key=key, kafka_session_timeout_seconds=10,
        alerts_enter=1e-9, alerts_leave=0.0,
    )  # fmt: skip
    worker = here.worker()
    canaries = Marked()
    sent = here.produce(canaries).records
    here.wait("the shards run", lambda: bool(worker.shards))
    for which in (signal.SIGUSR1, signal.SIGUSR2):  # "where are you?", amid work
        worker.send(which)
    here.wait_accepted(sent, 120)
    ledger = here.ledger()
    assert ledger["dead_letters"] > 50
    assert ledger["late"] > 10
    with urllib.request.urlopen(f"http://127.0.0.1:{worker.metrics_port}/metrics") as answer:
        metrics = answer.read().decode()
    assert worker.stop()[0] == 0

    assert "tideline_dead_letters_total{" in metrics
    assert "ready in" in worker.log
    assert worker.log.count("Current thread") >= 2
    for text in (metrics, worker.log):
        assert "sesame" not in text, re.findall(r".*sesame.*", text)[:3]

    messages = alerts(here)
    assert len(messages) > 10
    users = {user for (user,) in here.sql("SELECT DISTINCT user_id FROM score_history")}
    named = {f"{SESAME}u{n}" for n in range(USERS)}
    if not key:
        assert users == named
        return
    known = Pseudonyms(Secret(KEY))
    assert users == {known.user(name) for name in named}
    for where in (everything(here), str(messages)):
        assert "sesame" not in where
        assert known.key_id in where
    # people are still distinguished, and both ways out agree
    rows = here.sql("SELECT alert_id, user_id FROM alerts FINAL WHERE version = 1")
    assert len({alert_id for alert_id, _ in rows}) == len(rows)
    assert set(rows) == {(m.alert_id, m.user_id) for _, m in messages if m.state == "open"}
    assert all(key == m.user_id.encode() for key, m in messages)
    here.check_views()
