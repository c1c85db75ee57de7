"""Looks for one person in everything that Tideline keeps; says what it found and when it expires.

It searches the newest checkpoint of every shard, every table of ClickHouse with text in it, and
every topic. What the person did after an erasure is reported as `later`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import msgspec
from clickhouse_driver import Client

from schemas.errors import StateError
from schemas.features import FEATURE_NAMES
from schemas.messages import DeadLetter, Erasure
from schemas.tables import PERSONAL
from streams.clickhouse.client import clickhouse_target, connect
from streams.clickhouse.errors import sink_error
from streams.core.erasure import named_in
from streams.core.state import snapshot
from streams.core.texts import Texts
from streams.kafka.access import kafka_access
from streams.kafka.dead_letters import topic_records
from streams.kafka.log import KafkaLog
from streams.privacy.erase_clickhouse import was_before
from streams.privacy.erasure_board import board_of
from streams.privacy.pseudonyms import pseudonyms
from streams.settings import Settings
from streams.shard.checkpoints import CheckpointStore

__all__ = ["Finding", "verify"]

State = Literal["left", "expires", "later"]


class _Timed(msgspec.Struct):
    ts: int


_TIMED: Final = msgspec.json.Decoder(_Timed)
_LETTER: Final = msgspec.json.Decoder(DeadLetter)
_NOT_LOGGED: Final = {"log_queries": 0}  # these statements name the person
_SERVER_LOGS: Final = ("query_log", "text_log")


@dataclass(frozen=True)
class Finding:
    """Something that names the person.

    `state`: `left` should be gone; `expires` can't be deleted one by one and is ignored until the
    topic's retention; `later` is of the person's time after the erasure.
    """

    place: str
    what: str
    count: int
    state: State


async def verify(
    settings: Settings, user: str, progress: Callable[[str], None] = lambda _place: None
) -> tuple[list[Finding], list[Erasure]]:
    """Everything found, and what the shards have reported of erasing this user.

    Raises BrokerUnavailable, SinkUnavailable, SinkRefused, StateError.
    """
    async with board_of(settings) as board:
        erasures = board.match(user)
    found = await _states(settings, user, erasures, progress)
    found += _topics(settings, user, erasures, progress)
    progress("ClickHouse")
    found += _tables(settings, user, erasures)
    return [each for each in found if each.count], erasures


async def _states(
    settings: Settings, user: str, erasures: Sequence[Erasure], progress: Callable[[str], None]
) -> list[Finding]:
    """The state that the next owner of each shard would load."""
    topic, found = settings.topic_names.checkpoints, []
    log = KafkaLog(kafka_access(settings))
    await log.start()
    try:
        for shard in range(settings.kafka.partitions):
            place = f"{topic}/{shard}"
            progress(place)
            stored = await CheckpointStore(log, topic, shard, "reader").load()
            if stored is None:
                continue
            try:
                state = snapshot.load(stored.meta, stored.arrays, len(FEATURE_NAMES))
            except (ValueError, KeyError, msgspec.DecodeError) as exc:
                raise StateError(
                    f"{place}: the checkpoint can't be read: {exc}. Verify with the version of "
                    "Tideline that the workers run."
                ) from exc
            if state.knows(user):
                row = state.rows_of(Texts.of([user]))[0]
                since_ms = int(state.columns.first_seen_ms[row])
                found.append(
                    Finding(place, "user in the state", 1, _judge(since_ms, shard, erasures))
                )
    finally:
        await log.stop()
    return found


def _judge(at_ms: int, shard: int, erasures: Sequence[Erasure]) -> State:
    cutoffs = [e.cutoff_ms for e in erasures if e.shard == shard]
    return "later" if cutoffs and at_ms >= max(cutoffs) else "left"


def _known_as(settings: Settings, user: str) -> list[str]:
    """The names under which results may have the user."""
    key = pseudonyms(settings)
    return [user] if key is None else [user, key.user(user)]


def _topics(
    settings: Settings, user: str, erasures: Sequence[Erasure], progress: Callable[[str], None]
) -> list[Finding]:
    names, found = settings.topic_names, []
    key, packed = user.encode(), msgspec.msgpack.encode(user)
    quoted = msgspec.json.encode(user)

    def read_in(topic: str, names_user: Callable[[Any], bool]) -> int:
        progress(topic)
        return sum(names_user(record) for record in topic_records(settings, topic))

    def in_text(record: Any) -> bool:
        return record.key == key or quoted in (record.value or b"")

    known_as = [name.encode() for name in _known_as(settings, user)]

    def in_alert(record: Any) -> bool:
        return any(name == record.key for name in known_as) or in_text(record)

    def in_letter(record: Any) -> bool:
        try:
            letter = _LETTER.decode(record.value or b"")
        except msgspec.MsgspecError:
            return in_text(record)
        return user in named_in(letter.key, letter.payload) or quoted in (letter.payload or b"")

    def in_bytes(record: Any) -> bool:
        return record.key == key or packed in (record.value or b"")

    for topic in (names.clickstream, names.orders):
        counts = dict.fromkeys(("expires", "later"), 0)
        progress(topic)
        source = (names.clickstream, names.orders).index(topic)
        for record in topic_records(settings, topic):
            if in_text(record):
                counts[_of_record(record, source, erasures)] += 1
        what = "events: they stay until the topic's retention, and no longer count"
        found.append(Finding(topic, what, counts["expires"], "expires"))
        found.append(Finding(topic, "events sent since", counts["later"], "later"))
    until = "until the topic's retention"
    found.append(
        Finding(names.alerts, f"alerts, {until}", read_in(names.alerts, in_alert), "expires")
    )
    for topic, what in (
        (names.audiences, "changes of audiences"),
        (names.undelivered, "changes of audiences that a destination refused"),
    ):
        found.append(Finding(topic, f"{what}, {until}", read_in(topic, in_alert), "expires"))
    letters = read_in(names.dead_letters, in_letter)
    what = f"dead letters, {until}; `tideline dlq` leaves them out"
    found.append(Finding(names.dead_letters, what, letters, "expires"))
    nameless = (names.journal, names.examples, names.learner, names.erasures)
    return found + [Finding(t, "records", read_in(t, in_bytes), "left") for t in nameless]


def _of_record(
    record: Any, source: int, erasures: Sequence[Erasure]
) -> Literal["expires", "later"]:
    try:
        at_ms = min(record.timestamp, _TIMED.decode(record.value or b"").ts)
    except msgspec.MsgspecError:
        at_ms = record.timestamp
    mine = [e for e in erasures if e.shard == record.partition]
    before = [record.offset < e.stop[source] or at_ms < e.cutoff_ms for e in mine]
    return "expires" if any(before) or not mine else "later"


def _tables(settings: Settings, user: str, erasures: Sequence[Erasure]) -> list[Finding]:
    target = replace(clickhouse_target(settings), send_receive_timeout_seconds=3_600.0)
    client = connect(target)
    try:
        found = [f for n in _known_as(settings, user) for f in _own_tables(client, n, erasures)]
        return [*found, *_server_logs(client, user)]
    except Exception as exc:
        raise sink_error(exc, "looking for the person", target) from exc
    finally:
        client.disconnect()


def _own_tables(client: Client, user: str, erasures: Sequence[Erasure]) -> Iterable[Finding]:
    """Every text column of every table, whatever it is for."""
    columns = client.execute(
        "SELECT table, groupArray(name), groupArray(type) FROM system.columns "
        "WHERE database = currentDatabase() AND type LIKE '%String%' AND table IN ("
        "SELECT name FROM system.tables WHERE database = currentDatabase() "
        "AND engine LIKE '%MergeTree') GROUP BY table ORDER BY table"
    )
    values = {"user": user, "quoted": msgspec.json.encode(user).decode(), "prefix": f"{user}/"}
    for table, names, types in columns:
        tests = []
        for name, kind in zip(names, types, strict=True):
            if (table, name) == ("erasures", "operator"):
                continue
            if kind.startswith("Array"):
                tests.append(f"has(`{name}`, %(user)s)")
            else:
                tests.append(
                    f"(`{name}` = %(user)s OR startsWith(`{name}`, %(prefix)s) "
                    f"OR position(`{name}`, %(quoted)s) > 0)"
                )
        if not tests:
            continue
        condition = " OR ".join(tests)
        is_before = was_before(table, erasures) if table in PERSONAL and erasures else "1"
        counts = f"countIf(NOT ({is_before})), countIf({is_before})"
        query = f"SELECT {counts} FROM {table} WHERE {condition}"  # noqa: S608
        ((after, before),) = client.execute(query, values, settings=_NOT_LOGGED)
        yield Finding(f"ClickHouse {table}", "rows", int(before), "left")
        yield Finding(f"ClickHouse {table}", "rows written since", int(after), "later")


def _server_logs(client: Client, user: str) -> Iterable[Finding]:
    """What ClickHouse's own logs keep of statements that people wrote. They are not Tideline's."""
    present = client.execute(
        "SELECT name FROM system.tables WHERE database = 'system' AND name IN %(logs)s",
        {"logs": list(_SERVER_LOGS)},
    )
    for (table,) in present:
        column = "query" if table == "query_log" else "message"
        query = f"SELECT count() FROM system.{table} WHERE position({column}, %(q)s) > 0"  # noqa: S608
        ((rows,),) = client.execute(query, {"q": f"'{user}'"}, settings=_NOT_LOGGED)
        what = "statements that name the person: ClickHouse's own log, until its time to live"
        yield Finding(f"ClickHouse system.{table}", what, int(rows), "expires")
