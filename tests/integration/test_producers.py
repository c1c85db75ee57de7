"""What real producers do to a worker: wrong clocks, transactions, other partitioners, repeats.

On Apache Kafka and by the clock on the wall. The tests share an application and, as far as they let
it live, a worker; each has users of its own, so they may run in any order.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from streams.core.hashing import key_pseudonym
from streams.core.partitioning import PartitionerName, partitions_of_keys
from streams.local.clickhouse import ChdbServer
from streams.local.kafka import ApacheKafka
from tests.databases import Databases
from tests.integration.producers import (
    Record,
    accept_any_timestamp,
    order,
    send,
    send_by_librdkafka,
    transactions,
)
from tests.integration.world import Worker, World

pytestmark = [pytest.mark.kafka, pytest.mark.clickhouse, pytest.mark.timeout(600)]

PARTITIONS = 4
DAY_MS = 86_400_000


class Shop:
    """The application, and its worker: one runs when a test needs it."""

    def __init__(self, here: World) -> None:
        self.here = here
        self.orders = here.inputs.orders
        self.clicks = here.inputs.clickstream
        self._worker: Worker | None = None

    def work(self, **own: Any) -> Worker:
        """The worker that runs, or a new one, which may have settings of its `own`."""
        if self._worker is None or not self._worker.running:
            self._worker = self.here.worker(**own)
            self.here.own(self._worker)
        return self._worker

    def stop(self) -> None:
        if self._worker is not None and self._worker.running:
            assert self._worker.stop()[0] == 0

    def order(self, user: str, order_id: str, ts_ms: int, **changes: Any) -> Record:
        return Record(self.orders, user, order(user, order_id, ts_ms, **changes))

    def take_in(self, records: Sequence[Record]) -> dict[str, int]:
        """Send them; what the ledger counts more when they are in. It is balanced."""
        before = self.here.ledger()
        send(self.here, records)
        return self.taken_since(before, len(records))

    def taken_since(self, before: dict[str, int], records: int) -> dict[str, int]:
        """What the ledger counts more than `before`, once so many records are in."""
        self.here.wait_accepted(before["accepted"] + records)
        return {
            name: n - before[name] for name, n in self.here.ledger().items() if n > before[name]
        }

    def lifetime_orders(self, users: Sequence[str]) -> dict[str, int]:
        """By user; those that ClickHouse doesn't know are left out."""
        named = ", ".join(f"'{user}'" for user in users)
        return dict(
            self.here.sql(
                f"SELECT user_id, lifetime_orders FROM scores_live WHERE user_id IN ({named})"
            )
        )


@pytest.fixture(scope="module")
def shop(
    apache_kafka: ApacheKafka,
    clickhouse: ChdbServer,
    databases: Databases,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Shop]:
    """At the end, what ClickHouse and the checkpoints hold is what the journal's replay gives."""
    folder = tmp_path_factory.mktemp("producers")
    settings: dict[str, Any] = {
        "stream_clock": "wall", "kafka_partitions": PARTITIONS,
        "stream_lateness_days": 90,  # one test's orders are old, and the others' are of now
        "alerts_enter": 0.95, "alerts_leave": 0.9,  # an alert that was open would leave its mark
    }  # fmt: skip
    with (
        databases.lent() as lent,
        World(
            apache_kafka.bootstrap, clickhouse, folder, database=lent.database, forked=True,
            **settings,
        ) as here,
    ):  # fmt: skip
        shop = Shop(here)
        yield shop
        shop.stop()
        here.check_oracle()
        here.check_views()


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def partitions(users: Sequence[str], name: PartitionerName = "murmur2") -> list[int]:
    found: list[int] = partitions_of_keys([u.encode() for u in users], name, PARTITIONS).tolist()
    return found


def users_of(partition: int, count: int, prefix: str) -> list[str]:
    """Users whose orders and clicks are in one partition."""
    names = [f"{prefix}{n}" for n in range(count * PARTITIONS * 8)]
    return [u for u, n in zip(names, partitions(names), strict=True) if n == partition][:count]


def test_an_event_of_a_fast_clock_is_set_aside_and_the_shard_goes_on(shop: Shop) -> None:
    accept_any_timestamp(shop.here, shop.orders)
    *good, bad = users_of(1, 11, "clock")
    ahead = now_ms() + 400 * DAY_MS
    worker = shop.work()
    for number in range(3):
        if number == 2:  # a restart changes nothing
            shop.stop()
            shop.work()
        sent = [shop.order(user, f"{user}-{number}", now_ms()) for user in good]
        assert shop.take_in(sent) == {"accepted": 10, "scored": 10}
        assert shop.lifetime_orders(good) == dict.fromkeys(good, number + 1)
        if number == 0:
            fast = Record(shop.orders, bad, order(bad, bad, ahead), timestamp_ms=ahead)
            assert shop.take_in([fast]) == {"accepted": 1, "dead_letters": 1}
            assert f"{shop.orders}/1: 1 dead letters (future_timestamp)" in worker.log
            assert key_pseudonym(bad.encode()) in worker.log
            assert bad not in worker.log
    assert shop.lifetime_orders([bad]) == {}
    letters = json.loads(shop.here.command("dlq", "list", "--json").stdout)
    assert [(x["topic"], x["letters"]) for x in letters if x["reason"] == "future_timestamp"] == [
        (shop.orders, 1)
    ]


def test_only_committed_transactions_count_and_no_offset_is_waited_for(shop: Shop) -> None:
    committed, aborted, waiting, beside = users_of(2, 4, "tx")
    (elsewhere,) = users_of(3, 1, "tx")
    places = iter(range(100))

    async def script(one: Any, two: Any) -> None:
        async def sends(producer: Any, *users: str) -> None:
            for user in users:
                await (await shop.order(user, f"tx{next(places)}", now_ms()).by(producer))

        await one.begin_transaction()
        await sends(one, committed, elsewhere)
        await one.commit_transaction()
        await one.begin_transaction()
        await sends(one, aborted)
        await one.abort_transaction()
        # one is open while two, of the same partitions, commits and aborts
        await one.begin_transaction()
        await sends(one, waiting)
        await two.begin_transaction()
        await sends(two, beside, elsewhere)
        await two.commit_transaction()
        await two.begin_transaction()
        await sends(two, aborted, elsewhere)
        await two.abort_transaction()
        wanted = {committed: 1, elsewhere: 2}
        known = (committed, aborted, waiting, beside, elsewhere)
        await asyncio.to_thread(
            shop.here.wait, "what is before the open transaction",
            lambda: shop.lifetime_orders(known) == wanted,
        )  # fmt: skip
        await one.commit_transaction()
        # an abort is the last thing in both partitions
        await two.begin_transaction()
        await sends(two, aborted, elsewhere)
        await two.abort_transaction()

    shop.work()
    start = shop.here.ledger()
    transactions(shop.here, ("one", "two"), script)
    shop.here.wait_committed()
    assert shop.taken_since(start, 5) == {"accepted": 5, "scored": 5}
    orders = {committed: 1, waiting: 1, beside: 1, elsewhere: 2}
    assert shop.lifetime_orders([aborted, *orders]) == orders
    assert shop.here.one("SELECT sum(skipped_offsets) FROM ledger") == 15  # 5 records, 10 markers
    shop.stop()
    shop.work()
    assert shop.take_in([shop.order(committed, "after", now_ms())]) == {"accepted": 1, "scored": 1}
    shop.here.wait_committed()


def test_keys_in_other_partitions_stop_the_worker_or_are_set_aside_and_sent_again(
    shop: Shop,
) -> None:
    users = [f"P{n}" for n in range(40)]
    old = now_ms()
    shop.work()
    placed = [shop.order(u, f"{u}-{k}", old - k * DAY_MS) for u in users for k in range(3)]
    assert shop.take_in(placed) == {"accepted": 120, "scored": 120}

    before = shop.here.ledger()
    views = {
        user: Record(
            shop.clicks, user,
            {"event_id": f"c{user}", "user_id": user, "type": "view", "ts": old, "item_id": "x"},
        )
        for user in users
    }  # fmt: skip
    right = dict(zip(users, partitions(users), strict=True))
    by_crc32 = dict(zip(users, partitions(users, "crc32"), strict=True))
    wrong = [user for user in users if right[user] != by_crc32[user]]
    strays = send_by_librdkafka(shop.here, (views[user] for user in wrong))
    placed_right = [views[user] for user in users if user not in wrong]
    assert sorted(p for p, _ in strays) == sorted(by_crc32[user] for user in wrong)
    # What the documentation says sets that producer right.
    others = send_by_librdkafka(shop.here, placed_right, partitioner="murmur2_random")
    assert sorted(p for p, _ in others) == sorted(right[u] for u in users if u not in wrong)
    worker = shop.work()
    shop.here.wait("the worker ends", lambda: worker.exit_status is not None)
    assert worker.exit_status == 1
    last = worker.log.strip().splitlines()[-1]
    named = re.search(rf"{shop.clicks}/(\d+), offset (\d+): ", last)
    assert named is not None, last
    assert (int(named[1]), int(named[2])) in strays
    assert "crc32 puts them there" in last
    assert "TIDELINE_KAFKA_MISPLACED=dead_letter" in last

    setting_aside = shop.work(kafka_misplaced="dead_letter", stream_checkpoint_interval_seconds=600)
    assert shop.taken_since(before, 40) == {
        "accepted": 40, "scored": 40 - len(strays), "dead_letters": len(strays),
    }  # fmt: skip
    # It ends without a checkpoint: a worker that refuses has its steps to replay.
    setting_aside.kill()
    shop.work()
    replayed = shop.here.command(
        "dlq", "replay", "--reason", "wrong_partition", "--yes", "--json"
    )  # fmt: skip
    assert json.loads(replayed.stdout)["sent"] == len(strays)
    assert shop.taken_since(before, 40 + len(strays)) == {
        "accepted": 40 + len(strays), "scored": 40, "dead_letters": len(strays),
    }  # fmt: skip
    assert shop.lifetime_orders(users) == dict.fromkeys(users, 3)
    shards = dict(
        shop.here.sql(
            "SELECT user_id, groupUniqArray(shard) FROM score_history "
            "WHERE user_id LIKE 'P%' GROUP BY user_id"
        )
    )
    assert shards == {u: [n] for u, n in zip(users, partitions(users), strict=True)}


def test_an_order_counts_once_however_often_it_is_delivered_or_exported(
    shop: Shop, tmp_path: Path
) -> None:
    shop.work()
    at = now_ms() // 1000 * 1000
    hook = [shop.order("hook", "1001", at, event_id=f"delivery-{n}") for n in range(3)]
    assert shop.take_in(hook) == {"accepted": 3, "scored": 1, "duplicates": 2}
    live = shop.order("export", "1002", at - 7_200_000, event_id="evt-1", amount=50.0)
    assert shop.take_in([live]) == {"accepted": 1, "scored": 1}

    before = shop.here.ledger()
    export = tmp_path / "orders.csv"
    time_of = [datetime.fromtimestamp((at - ago) / 1000, UTC).isoformat() for ago in (7_200_000, 0)]
    export.write_text(
        "customer_id,order_id,date,total\n"
        f"export,1002,{time_of[0]},50.00\nexport,1003,{time_of[1]},50.00\n"
    )
    done = shop.here.command("replay", str(export), "--json")
    assert done.exit_code == 0, done.stderr
    assert shop.taken_since(before, 2) == {"accepted": 2, "scored": 1, "duplicates": 1}
    assert shop.lifetime_orders(["hook", "export"]) == {"hook": 1, "export": 2}


def test_who_cancels_has_the_figures_of_one_who_never_ordered_that(shop: Shop) -> None:
    """Whether the cancellation comes after its order or before it. (The value tier is by rank among
    a shard's scored customers, who are others in each shard here.)"""
    shop.work()
    now, users = now_ms(), ("base", "cancels", "cancels-early")
    kept = [shop.order(u, f"{u}{d}", now - d * DAY_MS) for u in users for d in (60, 40, 20)]
    assert shop.take_in(kept) == {"accepted": 9, "scored": 9}
    undone = [
        [
            shop.order(user, f"{user}-{n}", now - 2_000 + n),
            shop.order(
                user, f"{user}-{n}", now - 1_000 + n, event_id=f"{user}-{n}x", kind="cancelled"
            ),
        ]
        for user in users[1:]
        for n in range(3)
    ]  # fmt: skip
    pairs = [pair if pair[0].key == "cancels" else pair[::-1] for pair in undone]
    sent = [record for pair in pairs for record in pair]
    assert shop.take_in(sent) == {"accepted": 12, "scored": 12}
    found = shop.here.sql(
        "SELECT lifetime_orders, round(p_churn, 3), round(expected_spend, 1), lifecycle, "
        "last_order_at FROM scores_live WHERE user_id IN "
        f"{users} ORDER BY user_id"
    )
    assert found == [found[0]] * 3
    assert found[0][0] == 3
    assert 0.0 < found[0][1] < 1.0
