"""A person is erased under load: while workers run, while one dies, and for good.

What must hold: nothing that the person did before is left or comes back, not from a checkpoint, not
from the input topics; what they do afterwards counts from zero; and everybody else's results are
those of the journal's replay, bit for bit.
"""

from __future__ import annotations

import itertools
import json
import os
import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from kafka.admin import KafkaAdminClient

from streams.core.erasure import digest
from streams.kafka.dead_letters import read as read_letters
from streams.kafka.dead_letters import topic_records
from streams.kafka.topics import create_missing
from streams.local.process import wait_until
from streams.privacy.erasure_board import letters_of_erased
from streams.privacy.pseudonyms import Pseudonyms
from streams.replay.synthetic import START_MS, Synthetic
from streams.settings import Secret, as_environ, override
from tests.integration.forking import fork_server
from tests.integration.world import WAIT_SECONDS, World
from tests.shard.oracle import Oracle

pytestmark = [pytest.mark.kafka, pytest.mark.clickhouse, pytest.mark.timeout(900)]

Worlds = Callable[..., World]
DAY_MS = 86_400_000
LONG_SECONDS = 120  # for thousands of records, on a machine that has other work
GONE = "u0"  # with `skew`, the busiest user
PAUSED = "u6"  # busy, but overdue at times: of the busiest there is no alert
ALSO = "u1"
PERSONAL_TABLES = (
    "score_history", "latest_scores", "alerts", "segment_changes", "matured_predictions",
    "examples", "score_samples", "audience_changes", "contacts", "users_now", "segment_entries",
    "user_alerts", "user_points", "audience_entries", "console_actions", "events",
    "user_features",
)  # fmt: skip

COUNTS = ("segment_totals", "segment_hours", "segment_moves", "definitions_taken")
"""What shards tell of nobody in particular."""
QUIET = (
    "matured_predictions", "examples", "audience_changes", "contacts", "audience_entries",
    "console_actions", "latest_scores",
)  # fmt: skip
"""No question matures within the days of these streams; there are no audiences and contacts, nobody
is at the console, and nothing writes latest_scores any more."""


def traffic(events: int, seed: int, start_ms: int | None = None, days: float = 30.0) -> Synthetic:
    return Synthetic(
        users=60, events=events, order_share=0.3, skew=0.8, span_days=days, duplicate_share=0.02,
        malformed_share=0.03, seed=seed, start_ms=START_MS if start_ms is None else start_ms,
    )  # fmt: skip


_commands = itertools.count(1)


class Command:
    """`tideline ARGS` in a separate process."""

    def __init__(self, here: World, *args: str, environ: dict[str, str] | None = None) -> None:
        """`environ`: settings to be changed for this command, by their names."""
        number = next(_commands)
        self._out, self._errors = (here.directory / f"command-{number}.{x}" for x in ("out", "log"))
        changed = {f"TIDELINE_{name}": value for name, value in (environ or {}).items()}
        with self._out.open("wb") as out, self._errors.open("wb") as errors:
            self._process = fork_server(os.getpid()).start(
                args, {**as_environ(here.settings), **changed}, out, errors
            )

    def done(self, timeout_seconds: float = 180) -> tuple[int, dict[str, Any]]:
        """Exit status and the JSON printed."""
        status = self._process.wait(timeout_seconds)
        out = self._out.read_text()
        assert out.startswith("{"), self._errors.read_text()
        return status, json.loads(out)

    def failed(self, timeout_seconds: float = WAIT_SECONDS) -> tuple[int, str]:
        """Exit status, and what it said on standard error."""
        return self._process.wait(timeout_seconds), self._errors.read_text()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


def erase(here: World, user: str) -> Command:
    return Command(here, "erase", user, "--yes", "--json", "--operator", "test")


def left(here: World, *users: str) -> list[dict[str, Any]]:
    """What `--verify` finds of them that should be gone; their commands run side by side."""
    commands = [Command(here, "erase", user, "--verify", "--json") for user in users]
    reports = [command.done()[1] for command in commands]
    return [f for report in reports for f in report["found"] if f["state"] == "left"]


def check_everybody_else(here: World, *erased: str) -> dict[int, Oracle]:
    """As `check_oracle`; rows that are missing are the erased ones' and from before."""
    return here.check_oracle(erased=erased)


def sent_by(here: World, user: str) -> int:
    topics = (here.inputs.clickstream, here.inputs.orders)
    return sum(
        record.key == user.encode() for t in topics for record in topic_records(here.settings, t)
    )


@pytest.mark.slow
def test_a_person_is_erased_under_load_and_stays_out_after_crash_restart_and_rebuild(
    world: Worlds,
) -> None:
    here = world()
    a, b = here.worker("a"), here.worker("b")
    here.own(a, b)
    source = traffic(900, seed=31, days=12)
    past = here.produce(source)
    here.wait_accepted(past.records, LONG_SECONDS)
    later = traffic(900, seed=33, start_ms=source.start_ms + 13 * DAY_MS, days=12)
    load = here.load(later, rate=60)
    assert here.one(f"SELECT count() FROM score_history WHERE user_id = '{GONE}'") > 0
    # Two people at once, while the worker of half the shards dies: its shards answer later.
    a.kill()
    first, second = erase(here, GONE), erase(here, ALSO)
    assert load.thread.is_alive()
    for command in (first, second):
        status, report = command.done()
        assert (status, report["outcome"]) == (0, "erased")
        assert (report["shards_done"], report["shards_found"]) == (2, 1)
        assert report["rows_deleted"]["score_history"] > 0
    assert left(here, GONE, ALSO) == []
    sent = past.records + load.join().records
    here.wait_accepted(sent, LONG_SECONDS)
    assert b.stop()[0] == 0
    here.ledger()
    live = check_everybody_else(here, GONE, ALSO)
    shard, cutoff_ms = cutoff(live, GONE)
    returned = first_seen(live, GONE)
    assert cutoff_ms <= returned

    # From the checkpoint: nothing comes back.
    c = here.worker("c")
    here.own(c)
    last = traffic(200, seed=32, start_ms=source.start_ms + 26 * DAY_MS, days=12)
    more = here.produce(last)
    here.wait_accepted(sent + more.records, LONG_SECONDS)
    assert c.stop()[0] == 0
    assert left(here, GONE) == []
    before_rebuild = check_everybody_else(here, GONE, ALSO)

    # From nothing: the input topics still hold all that they ever did.
    forget_everything_derived(here)
    d = here.worker("d")
    here.wait_accepted(sent + more.records, LONG_SECONDS)
    assert d.stop()[0] == 0
    here.ledger()
    rebuilt = here.check_oracle()  # to the row: nobody is missing any more
    assert left(here, GONE, ALSO) == []
    assert here.one("SELECT sum(erased) FROM ledger") > 0
    for user in (GONE, ALSO, "u2", "u3", "u40"):
        assert lifetime(rebuilt, user) == lifetime(before_rebuild, user), user
    assert first_seen(rebuilt, GONE) == returned
    shut_out = here.one("SELECT sum(erased) FROM ledger")
    assert shut_out < sent_by(here, GONE) + sent_by(here, ALSO) + 50
    assert not [
        x
        for x in read_letters(here.settings, letters_of_erased(here.settings))
        if (x.key, x.partition) == (GONE.encode(), shard) and x.recorded_at_ms < cutoff_ms
    ]


def cutoff(oracles: dict[int, Oracle], user: str) -> tuple[int, int]:
    """The shard that knew `user`, and the time before which nothing of theirs counts. Others may
    be erased in the same shard, in another step and so up to another time."""
    (mine,) = [
        e
        for o in oracles.values()
        for e in o.state.meta.erased
        if e.found and e.digest == digest(e.salt, user)
    ]
    return mine.shard, mine.cutoff_ms


def first_seen(oracles: dict[int, Oracle], user: str) -> int:
    (seen,) = [
        int(o.state.columns.first_seen_ms[o.state.rows_by_user[user]])
        for o in oracles.values()
        if user in o.state.rows_by_user
    ]
    return seen


def lifetime(oracles: dict[int, Oracle], user: str) -> list[bytes]:
    """What doesn't depend on how records were cut into batches."""
    names = ("orders", "revenue_cents", "first_seen_ms", "last_seen_ms", "recent_orders_ms")
    return [
        getattr(o.state.columns, name)[o.state.rows_by_user[user]].tobytes()
        for o in oracles.values()
        if user in o.state.rows_by_user
        for name in names
    ]


def forget_everything_derived(here: World) -> None:
    """Journal, checkpoints, tables and the group's offsets: only inputs and erasures are left."""
    names = here.settings.topic_names
    admin = KafkaAdminClient(bootstrap_servers=here.settings.kafka.broker_url)
    try:
        gone = [names.journal, names.checkpoints]
        admin.delete_topics(gone)
        assert wait_until(lambda: not set(gone) & set(admin.list_topics()), WAIT_SECONDS)
        admin.delete_groups([here.settings.kafka.app_id])
    finally:
        admin.close()
    create_missing(here.settings)
    for table in (*PERSONAL_TABLES, *COUNTS, "dead_letters", "batches"):
        here.sql(f"TRUNCATE TABLE {table}")


@pytest.mark.slow
def test_an_interrupted_erasure_is_finished_by_the_next_run(world: Worlds) -> None:
    here = world()
    source = traffic(600, seed=33, days=12)
    sent = here.produce(source)
    first = here.worker("first")
    here.wait_accepted(sent.records, LONG_SECONDS)
    assert first.stop()[0] == 0
    # No worker runs: the command waits, says so, and is killed.
    command = erase(here, GONE)
    topic = here.settings.topic_names.erasures
    here.wait("the request", lambda: len(list(topic_records(here.settings, topic))) > 0)
    command.kill()
    status, report = Command(
        here, "erase", GONE, "--yes", "--json", "--no-wait", "--timeout", "1"
    ).done()
    assert (status, report["outcome"]) == (4, "unfinished")
    assert report["shards_waiting"] == [0, 1]
    assert report["rows_deleted"]["score_history"] > 0
    found = left(here, GONE)
    assert [f["what"] for f in found] == ["user in the state"]
    second = here.worker("second")
    status, report = erase(here, GONE).done()
    # The shards may have followed the first request before the last one came.
    assert (status, report["outcome"]) in ((0, "erased"), (3, "nothing_found"))
    assert report["shards_waiting"] == []
    assert left(here, GONE) == []
    for command in (erase(here, GONE), erase(here, "nobody")):  # side by side
        status, report = command.done()
        assert (status, report["outcome"]) == (3, "nothing_found")
    assert second.stop()[0] == 0
    rows = here.sql("SELECT outcome, count() FROM erasures FINAL GROUP BY outcome ORDER BY outcome")
    assert sum(n for _, n in rows) == 4
    assert dict(rows)["unfinished"] == 1
    # The audit, and ClickHouse's own memory of what was run, name nobody.
    assert here.sql("SELECT * FROM erasures WHERE person = 'u0' OR operator != 'test'") == here.sql(
        "SELECT * FROM erasures WHERE operator != 'test'"
    )
    assert here.one("SELECT count() FROM system.mutations WHERE position(command, 'u0') > 0") == 0
    assert here.one("SELECT count() FROM system.mutations WHERE NOT is_done") == 0
    for table in PERSONAL_TABLES:
        active = here.sql(f"SELECT DISTINCT user_id FROM {table}")
        assert (GONE,) not in active


KEY = "erasure-pseudonym-key-0123456789abcdef"


@pytest.mark.slow
def test_with_pseudonyms_a_person_is_erased_by_theirs(world: Worlds) -> None:
    here = world(
        privacy_pseudonym_key=KEY, alerts_enter=1e-9, alerts_leave=0.0, model_score_sample_share=0.5
    )
    known = Pseudonyms(Secret(KEY))
    gone = known.user(PAUSED)
    worker = here.worker()
    source = traffic(1_200, seed=36, days=20)
    past = here.produce(source)
    here.wait_accepted(past.records, LONG_SECONDS)
    # FINAL: how many replaced rows there are besides depends on what was merged meanwhile.
    rows = {table: f"SELECT count() FROM {table} FINAL WHERE user_id = '{gone}'"
            for table in PERSONAL_TABLES}  # fmt: skip
    rows["dead_letters"] = f"SELECT count() FROM dead_letters FINAL WHERE record_key = '{gone}'"
    before = {table: here.one(query) for table, query in rows.items()}
    assert all(count for table, count in before.items() if table not in QUIET), before
    assert here.one(f"SELECT count() FROM score_history WHERE user_id = '{PAUSED}'") == 0

    # Without the workers' key nobody would be found: that must not look like success.
    for key in ("", "another-key-another-key-another-key"):
        wrong = Command(
            here, "erase", PAUSED, "--yes", "--json", environ={"PRIVACY_PSEUDONYM_KEY": key}
        )
        status, message = wrong.failed()
        assert status == 2, message
        assert known.key_id in message
        assert "TIDELINE_PRIVACY_PSEUDONYM_KEY" in message
        assert PAUSED not in message
    assert {table: here.one(query) for table, query in rows.items()} == before

    status, report = erase(here, PAUSED).done()
    assert (status, report["outcome"], report["shards_found"]) == (0, "erased", 1)
    assert report["rows_deleted"].keys() == before.keys()
    assert all(report["rows_deleted"][table] >= count for table, count in before.items())
    assert {here.one(query) for query in rows.values()} == {0}
    assert left(here, PAUSED) == []
    others = here.one("SELECT uniqExact(user_id) FROM users_now")
    assert others > 50  # everybody else is there still
    person = here.one("SELECT person FROM erasures FINAL")
    assert gone not in person
    assert here.one(f"SELECT count() FROM system.mutations WHERE position(command, '{gone}')") == 0

    # They come back as somebody new, under the same pseudonym, and go once more.
    more = here.produce(traffic(300, seed=37, start_ms=source.start_ms + 21 * DAY_MS, days=5))
    here.wait_accepted(past.records + more.records, LONG_SECONDS)
    assert here.one(rows["users_now"]) > 0
    assert left(here, PAUSED) == []
    status, report = erase(here, PAUSED).done()
    assert (status, report["outcome"]) == (0, "erased")
    assert worker.stop()[0] == 0
    assert {here.one(query) for query in rows.values()} == {0}
    here.ledger()


def test_a_dead_letter_that_is_replayed_after_the_erasure_stays_out(world: Worlds) -> None:
    here = world(stream_currency_rates="EUR=1.1", stream_clock="wall")
    now_ms = time.time_ns() // 1_000_000 - 60_000
    value = {
        "event_id": "o-1", "user_id": GONE, "type": "placed", "ts": now_ms,
        "order_id": "1", "amount": 5.0, "currency": "GBP",
    }  # fmt: skip
    send(here, here.inputs.orders, GONE, value)
    other = value | {"event_id": "o-2", "user_id": "u9"}
    send(here, here.inputs.orders, "u9", other)
    worker = here.worker()
    here.wait_accepted(2)
    here.wait(
        "the letters",
        lambda: len(list(read_letters(here.settings, letters_of_erased(here.settings)))) == 2,
    )
    status, report = erase(here, GONE).done()
    assert (status, report["rows_deleted"]["dead_letters"]) == (0, 1)
    assert [x.key for x in read_letters(here.settings, letters_of_erased(here.settings))] == [b"u9"]
    _, report = Command(here, "dlq", "replay", "--yes", "--json").done()
    assert report["sent"] == 1
    # By other means than ours: the person's record with its own time, now behind the cutoff.
    send(here, here.inputs.orders, GONE, value | {"currency": "EUR"})
    here.wait_accepted(4)
    assert worker.stop()[0] == 0
    assert here.one("SELECT sum(erased) FROM ledger") == 1
    assert here.sql(f"SELECT * FROM scores_live WHERE user_id = '{GONE}'") == []
    here.ledger()


def send(here: World, topic: str, user: str, value: dict[str, Any]) -> None:
    from kafka import KafkaProducer  # noqa: PLC0415  (its import warns)

    producer = KafkaProducer(bootstrap_servers=here.settings.kafka.broker_url)
    producer.send(
        topic, key=user.encode(), value=msgspec.json.encode(value), timestamp_ms=value["ts"]
    ).get(timeout=WAIT_SECONDS)
    producer.close()


def test_a_letter_that_is_replayed_after_the_fix_counts_once_however_often(world: Worlds) -> None:
    here = world(stream_clock="wall")
    now_ms = time.time_ns() // 1_000_000 - 60_000
    value = {
        "event_id": "o-1", "user_id": "u9", "type": "placed", "ts": now_ms, "order_id": "1",
        "amount": 5.0, "currency": "GBP",
    }  # fmt: skip
    send(here, here.inputs.orders, "u9", value)
    before = here.worker("before")
    here.wait_accepted(1)
    assert before.stop()[0] == 0
    assert here.ledger()["dead_letters"] == 1
    here.settings = override(here.settings, stream_currency_rates="GBP=1.3")
    fixed = here.worker("fixed")
    for again in ((), (), ("--again",)):
        Command(here, "dlq", "replay", "--yes", "--json", *again).done()
    here.wait_accepted(3)
    assert fixed.stop()[0] == 0
    books = here.ledger()
    assert (books["scored"], books["duplicates"], books["dead_letters"]) == (1, 1, 1)
    assert here.one("SELECT lifetime_orders FROM scores_live WHERE user_id = 'u9'") == 1
