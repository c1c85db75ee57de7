"""The right answers for handed-in cases about traffic. A new one: a function, and a line in `LIVE`.

Each case's own `CASE.md` says what it is about.
"""

from __future__ import annotations

import json
import re
import time
from datetime import UTC, datetime
from typing import Any

from tests.cases.live import LiveCase, Shop
from tests.integration.producers import accept_any_timestamp, order

__all__ = ["LIVE"]

HOUR_MS = 3_600_000


def _fast_clock(shop: Shop) -> str:
    here, orders, sent = shop.world, shop.world.inputs.orders, 0
    accept_any_timestamp(here, orders)
    found = []
    for batches in (("one", "bad", "two"), ("three",)):  # and a restart
        worker = shop.work()
        for batch in batches:
            sent += shop.send(shop.run("events.py", batch))
            here.wait_accepted(sent)
        found.append(shop.figures("scored", "late", "dead_letters"))
        worker.stop()
    log = worker.log  # of both: they write to one file
    named = re.findall(
        rf"{orders}/0: 1 dead letters \((\w+)\), the first of them at offset 10 ", log
    )
    return f"{'; '.join(found)}; the log names its place and {' and '.join(named)}"


def _another_partitioner(shop: Shop) -> str:
    here, clicks = shop.world, shop.world.inputs.clickstream
    first = shop.work()
    sent = shop.send(shop.run("orders.py"))
    here.wait_accepted(sent)
    shop.run("clicks.py")
    here.wait("the worker stops", lambda: first.exit_status is not None)
    last = first.log.strip().splitlines()[-1]
    names = (rf"{clicks}/\d+, offset \d+", "crc32", "murmur2_random", "MISPLACED=dead_letter")
    missing = [name for name in names if re.search(name, last) is None]
    words = f"it names neither {missing}: {last}" if missing else "it names place and remedy"
    shop.work(kafka_misplaced="dead_letter")
    here.wait_accepted(sent := 2 * sent)
    replayed: dict[str, Any] = json.loads(
        here.command("dlq", "replay", "--reason", "wrong_partition", "--yes", "--json").stdout
    )
    here.wait_accepted(sent + replayed["sent"])
    customers, whole, apart = here.sql(
        "SELECT count(), countIf(lifetime_orders = 3), (SELECT countIf(shards > 1) FROM "
        "(SELECT uniq(shard) AS shards FROM score_history GROUP BY user_id)) FROM scores_live"
    )[0]
    return (
        f"the worker ends with {first.exit_status}, {words}; {replayed['sent']} letters replayed; "
        f"{whole} of {customers} customers have 3 orders, {apart} are in two shards; "
        f"{shop.figures('late')}"
    )


def _aborted(shop: Shop) -> str:
    here, found = shop.world, []
    for _ in range(2):  # and a restart
        worker = shop.work()
        shop.run("tx.py")
        here.wait_committed()
        orders = here.sql("SELECT user_id, lifetime_orders FROM scores_live ORDER BY user_id")
        orders_each = ", ".join(f"{user} {n}" for user, n in orders)
        found.append(f"{orders_each}: {shop.figures('accepted', 'scored', 'duplicates')}")
        worker.stop()
    return "; ".join(found)


def _history_after_live_traffic(shop: Shop) -> str:
    here = shop.world
    shop.run("make.py")
    worker = shop.work()
    here.wait_accepted(live := shop.send(shop.run("live.py")))
    worker.stop()
    file = str(shop.folder / "hist.csv")
    counted = here.command("backfill", file, "--work-dir", str(shop.folder / "work"), "--json")
    if counted.exit_code:
        return f"the history is refused: {counted.stderr}"
    orders = sum(shard["orders"] for shard in json.loads(counted.stdout)["shards"])
    shop.work()
    here.wait_accepted(live + shop.send(shop.run("live.py")))  # again, under the same ids
    everybody = f"SELECT sum(lifetime_orders) = {orders + live} FROM scores_live"
    here.wait("everybody is scored", lambda: bool(here.one(everybody)))
    return f"{orders} past orders and {live} live ones count; {shop.figures('late')}"


def _order_twice(shop: Shop) -> str:
    here, now_ms = shop.world, time.time_ns() // 1_000_000
    earlier_ms = now_ms // 1000 * 1000 - 2 * HOUR_MS
    shop.work()
    webhook = (shop.folder / "webhook.jsonl").read_text().replace("NOW", str(now_ms))
    # The order of the export, as the live producer sent it: its time has milliseconds, too, so the
    # export amends it.
    live = order("u2", "1002", earlier_ms + 250, "evt-1", amount=50.0)
    record = {"topic": here.inputs.orders, "key": "u2", "value": live}
    here.wait_accepted(sent := shop.send(webhook + json.dumps(record)))
    export = shop.folder / "backfill.csv"
    earlier = datetime.fromtimestamp(earlier_ms // 1000, UTC).isoformat()
    export.write_text(export.read_text().replace("TWO_HOURS_AGO", earlier))
    replayed = here.command("replay", str(export), "--json")
    if replayed.exit_code:
        return f"the export is refused: {replayed.stderr}"
    here.wait_accepted(sent + 1)
    orders = here.sql("SELECT user_id, lifetime_orders FROM scores_live ORDER BY user_id")
    orders_each = ", ".join(f"{user} {n}" for user, n in orders)
    return f"{orders_each}: {shop.figures('scored', 'duplicates')}"


def _cancelled(shop: Shop) -> str:
    here, now_ms = shop.world, time.time_ns() // 1_000_000
    shop.work()
    here.wait_accepted(shop.send(shop.run("events.py")))
    base, cancel = here.sql(
        "SELECT lifetime_orders, round(p_churn, 3), round(expected_spend, 1), "
        f"round(({now_ms} - toUnixTimestamp64Milli(last_order_at)) / 86400000) "
        "FROM scores_live ORDER BY user_id"
    )
    if base != cancel:
        return f"base {base}, cancel {cancel}"
    orders, *_, days = base
    return f"the same: {orders} orders, the last one {days:.0f} days ago; {shop.figures('late')}"


def _started_over(shop: Shop) -> str:
    """Once with few batches before, and once with a life's worth of them."""
    here, names, at_ms = shop.world, shop.world.settings.topic_names, time.time_ns() // 1_000_000
    found = []

    def sends(n: int) -> int:
        value = order("N001", f"a-{n}", at_ms - 1_000 + n)
        return shop.send(json.dumps({"topic": here.inputs.orders, "key": "N001", "value": value}))

    worker = shop.work()
    here.wait_accepted(sent := sends(0))
    worker.stop()
    here.sql(
        "INSERT INTO score_history SELECT * REPLACE (seq + 500000 AS seq) FROM score_history FINAL"
    )
    for _ in range(2):
        here.recreate([names.checkpoints, names.journal])
        accepted = here.accepted
        worker = shop.work()
        here.wait_accepted(accepted + sent + sends(sent))
        sent += 1
        worker.stop()
        orders = here.one("SELECT lifetime_orders FROM scores_live WHERE user_id = 'N001'")
        in_ledger = here.one("SELECT sum(accepted) FROM ledger")
        found.append(f"{orders} orders, {in_ledger} records since, {shop.figures('late')}")
    return "; ".join(found)


_BY_HAND = "its script names the partition by hand: run with TIDELINE_KAFKA_PARTITIONER=unchecked"
_UNCHECKED = {"kafka_partitioner": "unchecked"}
LIVE = (
    LiveCase("16-one-fast-clock", "fut",
             "20 scored, 0 late, 1 dead_letters, balanced; 30 scored, 0 late, 1 dead_letters, "
             "balanced; the log names its place and future_timestamp", _fast_clock, _UNCHECKED,
             note=_BY_HAND),
    LiveCase("17-another-partitioner", "part",
             "the worker ends with 1, it names place and remedy; 90 letters replayed; 40 of 40 "
             "customers have 3 orders, 0 are in two shards; 0 late, balanced",
             _another_partitioner, needs="confluent_kafka"),
    LiveCase("18-aborted-transactions", "tx",
             "committed 2: 2 accepted, 2 scored, 0 duplicates, balanced; "
             "committed 2: 4 accepted, 2 scored, 2 duplicates, balanced", _aborted, _UNCHECKED,
             needs="confluent_kafka", note=_BY_HAND),
    LiveCase("20-history-after-live-traffic", "boot",
             "1829 past orders and 40 live ones count; 0 late, balanced",
             _history_after_live_traffic),
    LiveCase("22-one-order-twice", "dup",
             "u1 1, u2 1: 3 scored, 2 duplicates, balanced", _order_twice),
    LiveCase("23-cancelled-orders-count", "can",
             "the same: 3 orders, the last one 20 days ago; 0 late, balanced", _cancelled),
    LiveCase("26-start-anew-keeps-old-scores", "boot2",
             "2 orders, 2 records since, 0 late, balanced; 3 orders, 3 records since, 0 late, "
             "balanced", _started_over),
)  # fmt: skip
