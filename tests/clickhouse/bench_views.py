"""How long the console's questions take, and what their tables cost.

    python -m tests.clickhouse.bench_views [--scale 1] [--days 50] [--keep DIR] [--only TEXT]

Fills a chDB in this process with a million users, 50 million score rows and 5 million segment
changes (`--scale` 1.0), in the order in which they come in life, and asks every question of the
console. Prints the median and the worst of seven answers in ms, and the CPU time, which other work
on the machine changes less. Then point reads for the API, in several ways; then rows per second
into score_history and segment_changes without and with what the console and its point reads
added; and bytes on disk by table.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from streams.clickhouse.migrations import available, split_statements
from tests.clickhouse.filling import Shop, fill, insert_scores, score_rows

LIMIT_MS: Final = 200.0
_VALUE: Final = "ifNull(expected_spend, -1)"


def _page(where: str, order: str) -> str:
    return f"SELECT user_id, {_VALUE} FROM customers WHERE {where} ORDER BY {order} LIMIT 100"


def _flow(days: int) -> str:
    return (
        "SELECT from_segment, to_segment, sum(moves) FROM segment_flow_hours WHERE dimension = "
        f"'lifecycle' AND hour >= now() - INTERVAL {days} DAY GROUP BY 1, 2"
    )


_SINCE: Final = (
    "SELECT user_id, since, why FROM customer_segments WHERE dimension = {0} AND segment = {1} "
    "ORDER BY since DESC, user_id LIMIT 100"
)
QUESTIONS: Final[dict[str, str]] = {
    "1 sizes now": "SELECT * FROM segment_sizes_now",
    "2 sizes of a segment, 28 days": "SELECT toDate(hour) AS day, argMax(users, hour) FROM "
    "segment_size_hours WHERE dimension = 'vip' AND segment = 'in' AND hour >= now() - INTERVAL "
    "28 DAY GROUP BY day ORDER BY day",
    "2 sizes of all segments, 28 days": "SELECT toDate(hour) AS day, dimension, segment, "
    "argMax(users, hour) FROM segment_size_hours WHERE hour >= now() - INTERVAL 28 DAY "
    "GROUP BY day, dimension, segment",
    "3 flow, a day": _flow(1),
    "3 flow, 7 days": _flow(7),
    "3 flow, 28 days": _flow(28),
    "3 entries and exits by day": "SELECT toDate(hour) AS day, to_segment, sum(moves) FROM "
    "segment_flow_hours WHERE hour >= now() - INTERVAL 28 DAY GROUP BY day, to_segment",
    "4 members of a segment by value": _page("has(segments, 'vip')", f"{_VALUE} DESC, user_id"),
    "4 its next page": _page(
        f"has(segments, 'vip') AND ({_VALUE} < 900 OR ({_VALUE} = 900 AND user_id > 'c-5'))",
        f"{_VALUE} DESC, user_id",
    ),
    "4 members of a stage by value": _page("lifecycle = 'at_risk'", f"{_VALUE} DESC, user_id"),
    "4 details of the 100": "SELECT * FROM customers WHERE user_id IN ({users})",
    "4 members of a segment by since": _SINCE.format("'vip'", "'in'"),
    "4 members of a stage by since": _SINCE.format("'lifecycle'", "'at_risk'"),
    "5 open alerts, top 50": "SELECT alert_id, user_id, priority, action, arm, value_tier FROM "
    "open_alerts ORDER BY priority DESC, alert_id LIMIT 50",
    "5 details of the 50": "SELECT * FROM customer_alerts WHERE user_id IN ({users}) AND "
    "closed_why = ''",
    "5 the same, filtered": "SELECT * FROM open_alerts WHERE arm = 'treat' AND value_tier = 'high' "
    "AND action = 'win-back coupon' AND arrayExists(r -> position(r, 'fewer visits') > 0, reasons) "
    "ORDER BY priority DESC, alert_id LIMIT 50",
    "5 open alerts counted": "SELECT action, arm, value_tier, count(), sum(priority) FROM "
    "open_alerts GROUP BY 1, 2, 3",
    "5 outcomes, 28 days": "SELECT outcome, arm, sum(alerts) FROM alert_outcomes WHERE day >= "
    "today() - 28 GROUP BY 1, 2",
    "6 the 50 riskiest": "SELECT user_id FROM customers WHERE p_churn IS NOT NULL ORDER BY "
    "p_churn * expected_spend DESC, user_id LIMIT 50",
    "7 one customer": "SELECT * FROM customers WHERE user_id = '{user}'",
    "7 segments": "SELECT * FROM customer_segments WHERE user_id = '{user}'",
    "7 alerts": "SELECT * FROM customer_alerts WHERE user_id = '{user}'",
    "7 contacts": "SELECT * FROM customer_contacts WHERE user_id = '{user}'",
    "7 audiences": "SELECT * FROM audience_people WHERE user_id = '{user}'",
    "7 scores of 90 days": "SELECT toStartOfInterval(scored_at, INTERVAL 6 HOUR) AS t, "
    "argMax(p_churn, scored_at) FROM customer_scores WHERE user_id = '{user}' AND scored_at >= "
    "now() - INTERVAL 90 DAY GROUP BY t ORDER BY t",
    "8 search": "SELECT user_id, p_churn FROM customers WHERE user_id LIKE 'c-3f%' ORDER BY "
    "user_id LIMIT 10",
    "9 audiences by arm": "SELECT audience, arm, count(), sum(expected_spend) FROM audience_people "
    "GROUP BY 1, 2",
    "9 members of an audience": "SELECT * FROM audience_people WHERE audience = 'save_now' AND "
    "user_id > 'c-5' ORDER BY user_id LIMIT 100",
    "9 results": "SELECT * FROM campaign_results",
    "10 quality by week": "SELECT toMonday(day) AS week, sum(n), sum(loss_blend_sum) / sum(n), "
    "sum(loss_champion_sum) / sum(n) FROM quality_days WHERE day >= today() - 84 GROUP BY week",
    "10 calibration, 28 days": "SELECT bin, sum(n), sum(churned) / sum(n) FROM quality_days WHERE "
    "day >= today() - 28 GROUP BY bin",
    "10 quality by evidence": "SELECT evidence, sum(scored) FROM quality_by_evidence WHERE day >= "
    "today() - 28 GROUP BY evidence",
    "10 drift": "SELECT * FROM drift_alerts",
    "10 challengers": "SELECT * FROM challengers",
    "11 recent ledger": "SELECT * FROM recent_ledger",
    "11 ledger": "SELECT * FROM ledger",
    "11 lag now": "SELECT * FROM consumer_lag_live",
    "11 lag, 6 hours": "SELECT minute, topic, max(lag_seconds) FROM lag_minutes WHERE minute > "
    "now() - INTERVAL 6 HOUR GROUP BY 1, 2",
    "11 batches and freshness, 6 hours": "SELECT minute, sum(batches), max(seconds_worst) FROM "
    "batch_minutes WHERE minute > now() - INTERVAL 6 HOUR GROUP BY 1",
    "11 dead letters by reason": "SELECT * FROM dead_letter_reasons",
    "11 dead letters, newest": "SELECT * FROM dead_letters_newest LIMIT 20",
    "11 canaries": "SELECT shard, max(recorded_at), avg(seconds) FROM canary_trips GROUP BY shard",
    "11 worker clocks": "SELECT * FROM worker_clocks",
    "12 actions": "SELECT * FROM console_log LIMIT 50",
    "definitions": "SELECT * FROM definitions_history",
}  # fmt: skip

_COLUMNS: Final = (
    "p_churn, expected_spend, p_buy_7d, next_order_at, value_tier, lifecycle, segments, scored_at"
)
POINTS: Final[dict[str, str]] = {
    "customers (FINAL, blocks of 128)": "SELECT * FROM customers WHERE user_id IN ({users})",
    "customer_points (one text, 64)": "SELECT user_id, answer FROM customer_points WHERE user_id "
    "IN ({users}) SETTINGS max_threads = 1",
    "users_now, LIMIT 1 BY": f"SELECT user_id, {_COLUMNS} FROM users_now WHERE user_id IN "
    "({users}) ORDER BY seq DESC LIMIT 1 BY user_id",
    "scores_live (FINAL, blocks of 8,192)": "SELECT * FROM scores_live WHERE user_id IN ({users})",
}
_BEFORE_CONSOLE: Final = 22
_STEPS: Final = (
    ("before console", _BEFORE_CONSOLE), ("before user_points", 24), ("now", 10**9),
)  # fmt: skip
"""What inserts feed, by the last migration of each step."""
_BLOCK: Final = 50_000  # rows: what a sink inserts at once when it has much


class Database:
    """A chDB in this process."""

    def __init__(
        self, directory: Path, name: str, up_to: int = 10**9, *, again: bool = False
    ) -> None:
        from chdb import session  # noqa: PLC0415  (takes a second)

        self._session: Any = session.Session(str(directory))
        self.ask(f"CREATE DATABASE IF NOT EXISTS {name}")
        self.use(name)
        for migration in available():
            if migration.version <= up_to:
                for statement in split_statements(migration.sql):
                    if statement.startswith("CREATE") or not again:
                        self.ask(statement)

    def use(self, name: str) -> None:
        self.ask(f"USE {name}")

    def ask(self, query: str) -> list[list[str]]:
        """Rows of texts."""
        answer = str(self._session.query(query, "TSV"))
        return [line.split("\t") for line in answer.splitlines()]


def timed(act: Callable[[], object], times: int) -> tuple[float, float, float]:
    """Median and worst wall time, and least CPU time, in ms."""
    wall, cpu = [], []
    for _ in range(times):
        began, used = time.perf_counter(), time.process_time()
        act()
        wall.append(1000 * (time.perf_counter() - began))
        cpu.append(1000 * (time.process_time() - used))
    return statistics.median(wall), max(wall), min(cpu)


def questions(database: Database, only: str) -> list[str]:
    """Ask each; returns those that take too long."""
    ((user,),) = database.ask("SELECT user_id FROM user_alerts ORDER BY user_id LIMIT 1 OFFSET 999")
    some = database.ask(
        "SELECT DISTINCT user_id FROM users_now WHERE cityHash64(user_id) % 997 = 1"
    )
    users = ", ".join(f"'{each}'" for (each,) in some[:100])
    slow = []
    print(f"\n{'question':38}{'ms':>9}{'worst':>9}{'CPU ms':>9}")
    for name, query in QUESTIONS.items():
        if only in name:
            text = query.replace("{user}", user).replace("{users}", users)
            database.ask(text)  # so that files are open, as a console's are
            median, worst, cpu = timed(lambda: database.ask(text), 7)  # noqa: B023
            slow += [name] if median > LIMIT_MS else []
            mark = "" if median <= LIMIT_MS else "  over"
            print(f"{name:38}{median:9.1f}{worst:9.1f}{cpu:9.1f}{mark}", flush=True)
    return slow


def point_reads(database: Database) -> None:
    """Some users at once, others each time."""
    print(f"\n{'point reads':38}{'users':>7}{'p50 ms':>9}{'p99 ms':>9}{'CPU ms':>9}")
    sample = [row[0] for row in database.ask(
        "SELECT DISTINCT user_id FROM users_now WHERE cityHash64(user_id, 1) % 50 = 0 LIMIT 20000"
    )]  # fmt: skip
    for name, query in POINTS.items():
        for count in (1, 10, 50, 200):
            wall, cpu = [], []
            for i in range(60):
                users = [sample[(i * 991 + j * 37) % len(sample)] for j in range(count)]
                text = query.replace("{users}", ", ".join(f"'{each}'" for each in users))
                median, _, used = timed(lambda: database.ask(text), 1)  # noqa: B023
                wall.append(median)
                cpu.append(used)
            wall.sort()
            p50, p99 = statistics.median(wall), wall[int(0.99 * len(wall))]
            used = statistics.median(cpu)
            print(f"{name:38}{count:7}{p50:9.1f}{p99:9.1f}{used:9.1f}", flush=True)


def price(directory: Path, users: int) -> None:
    """Rows per second into the two busiest tables, without and with what was added since: each in
    turn, so that a machine which has other work changes all alike."""
    rows = score_rows(f"cityHash64(number) % {users}", "0", "1", f"numbers({_BLOCK})")
    moves = (
        "SELECT hex(sipHash128(number)) AS change_id, user_id, shard, 'lifecycle' AS "
        "dimension, 'new' AS from_segment, lifecycle AS to_segment, scored_at AS changed_at, "
        "'moved' AS why, 7 AS life, number FROM (SELECT *, rowNumberInAllBlocks() AS number "
        "FROM given)"
    )
    columns = (
        "change_id, user_id, shard, dimension, from_segment, to_segment, changed_at, why, "
        "life, number"
    )
    for _, up_to in _STEPS:
        database = Database(directory, f"price_{up_to}", up_to)
        database.ask(f"CREATE TABLE given ENGINE = Memory AS {rows}")
    taken: dict[str, list[tuple[float, float]]] = {}
    for turn in range(16):
        for name, up_to in _STEPS:
            database.use(f"price_{up_to}")
            segments = up_to > _BEFORE_CONSOLE
            for table, statement in (
                ("score_history", insert_scores("SELECT * FROM given", segments=segments)),
                ("segment_changes", f"INSERT INTO segment_changes ({columns}) {moves}"),
            ):
                wall, _, cpu = timed(lambda: database.ask(statement), 1)  # noqa: B023
                if turn:  # the first makes files
                    taken.setdefault(f"{table}, {name}", []).append((wall, cpu))
    print(f"\n{'inserts of 50,000 rows':38}{'rows/s':>11}{'CPU us/row':>12}")
    for what, times in sorted(taken.items()):
        wall, cpu = (statistics.median(each) for each in zip(*times, strict=True))
        print(f"{what:38}{1000 * _BLOCK / wall:11,.0f}{1000 * cpu / _BLOCK:12.2f}", flush=True)


def on_disk(database: Database) -> None:
    print(f"\n{'on disk':38}{'rows':>13}{'MB':>9}{'parts':>7}")
    for table, rows, size, parts in database.ask(
        "SELECT table, sum(rows), sum(bytes_on_disk), count() FROM system.parts WHERE active AND "
        "database = 'shop' GROUP BY table ORDER BY 3 DESC"
    ):
        print(f"{table:38}{int(rows):13,}{int(size) / 1e6:9.1f}{parts:>7}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="of users and of everything")
    parser.add_argument("--days", type=int, default=50, help="a score row per user for each")
    parser.add_argument("--keep", type=Path, help="directory to fill once, and to ask again")
    parser.add_argument("--only", default="", help="questions whose name has this text")
    parser.add_argument("--no-price", action="store_true", help="leave out point reads and inserts")
    asked = parser.parse_args()
    shop = replace(Shop().scaled(asked.scale), days=asked.days)
    directory = asked.keep or Path(tempfile.mkdtemp(prefix="bench-views-"))
    filled = directory / "filled"
    try:
        database = Database(directory / "data", "shop", again=filled.exists())
        if not filled.exists():
            began = time.monotonic()

            def say(table: str) -> None:
                print(f"{time.monotonic() - began:7.0f} s  {table}", flush=True)

            fill(database.ask, shop, say)
            filled.touch()
        print(f"{shop.users:,} users; ClickHouse {database.ask('SELECT version()')[0][0]}")
        slow = questions(database, asked.only)
        if not asked.no_price:
            point_reads(database)
        on_disk(database)
        if not asked.no_price:
            price(directory / "data", shop.users)
        print(f"\nover {LIMIT_MS:.0f} ms: {', '.join(slow) or 'none'}")
    finally:
        if asked.keep is None:
            shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
