"""`tideline backfill`: history before live traffic and amid it, on a real broker and database."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from schemas.events import OrderEvent
from streams.replay.records import Block, order_records
from tests.integration.world import World

pytestmark = [pytest.mark.kafka, pytest.mark.clickhouse, pytest.mark.timeout(900)]

Worlds = Callable[..., World]
DAY_MS = 86_400_000
CUSTOMERS = 40


class Orders:
    """Live orders as a source."""

    def __init__(self, orders: list[OrderEvent]) -> None:
        self._orders = sorted(orders, key=lambda order: order.ts)

    @property
    def expected_records(self) -> int:
        return len(self._orders)

    def __iter__(self) -> Any:
        block: Block = order_records(self._orders)
        yield block

    def summary(self) -> dict[str, Any]:
        return {}


def placed(customer: int, number: int, ts: int, source: str) -> OrderEvent:
    return OrderEvent(
        event_id=f"{source}-{customer}-{number}", user_id=f"c{customer}", type="placed", ts=ts,
        order_id=f"{customer}/{number}", amount=10.0 + number,
    )  # fmt: skip


def three_years(now_ms: int) -> list[OrderEvent]:
    """An order of each customer every 30 days, the last ones within the last week."""
    return [
        placed(customer, number, now_ms - customer * 3_600_000 - number * 30 * DAY_MS, "live")
        for customer in range(CUSTOMERS)
        for number in range(36)
    ]


def write_csv(path: Path, orders: list[OrderEvent]) -> Path:
    rows = "".join(f"{o.user_id},{o.order_id},{o.ts},{o.amount}\n" for o in orders)
    path.write_text("customer_id,order_id,timestamp,amount\n" + rows)
    return path


def books(here: World) -> dict[str, tuple[int, int]]:
    return {
        user: (orders, round(orders_seen))
        for user, orders, orders_seen in here.sql(
            "SELECT user_id, lifetime_orders, toUnixTimestamp(last_order_at) FROM scores_live"
        )
    }


def test_a_shop_begins_with_its_history_and_everybody_is_scored_at_once(
    world: Worlds, tmp_path: Path
) -> None:
    here = world(kafka_partitions=2, stream_clock="wall")
    now_ms = int(time.time() * 1000)
    orders = three_years(now_ms)
    file = write_csv(tmp_path / "orders.csv", orders)
    # traffic flows already, and the file repeats it
    live = [o for o in orders if o.ts > now_ms - 5 * DAY_MS]
    here.produce(Orders(live))

    work = str(tmp_path / "work")
    done = here.command("backfill", str(file), "--work-dir", work, "--json")
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert sum(shard["orders"] for shard in said["shards"]) == len(orders)
    assert not Path(work).exists()

    worker = here.worker()
    here.wait("everybody is scored", lambda: here.one(
        "SELECT count() FROM scores_live WHERE status = 'scored'") == CUSTOMERS)  # fmt: skip
    here.wait_accepted(len(live))
    assert here.one("SELECT min(lifetime_orders) = 36 AND max(lifetime_orders) = 36 "
                    "FROM scores_live") == 1  # fmt: skip
    assert here.ledger() == {"accepted": len(live), "scored": 0, "duplicates": len(live),
                             "late": 0, "dead_letters": 0}  # fmt: skip
    assert worker.stop()[0] == 0

    again = here.command("backfill", str(file), "--work-dir", work, "--json")
    assert all(shard["already"] for shard in json.loads(again.stdout)["shards"]), again.output


def test_a_running_shop_gets_its_history_while_no_worker_runs(
    world: Worlds, tmp_path: Path
) -> None:
    here = world(kafka_partitions=2, stream_clock="wall")
    now_ms = int(time.time() * 1000)
    orders = three_years(now_ms)
    file = write_csv(tmp_path / "orders.csv", orders)
    live = [o for o in orders if o.ts > now_ms - 5 * DAY_MS]
    worker = here.worker()
    here.produce(Orders(live))
    here.wait_accepted(len(live))

    words = ("backfill", str(file), "--work-dir", str(tmp_path / "work"))
    refused = here.command(*words, "--wait", "0")
    if refused.exit_code:  # the broker says who is in the group
        assert "Workers of" in refused.stderr, refused.output
    assert worker.stop()[0] == 0
    done = here.command(*words, "--wait", "60")
    assert done.exit_code == 0, done.output
    assert "the shards were at rest for" in done.stdout

    worker = here.worker("after")
    here.wait("everybody's orders", lambda: here.one(
        "SELECT countIf(lifetime_orders = 36) FROM scores_live") == CUSTOMERS)  # fmt: skip
    assert here.ledger()["late"] == 0
    assert worker.stop()[0] == 0
    here.check_views()
