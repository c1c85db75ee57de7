"""What every `streams.shard.services.Sink` must do: the one in memory, and ClickHouse's."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from schemas.errors import SinkRefused
from schemas.tables import TABLES
from streams.clickhouse.client import ClickHouseTarget, connect
from streams.clickhouse.sink import ClickHouseSink
from tests.shard.memory import SORTING_KEYS, MemorySink

WAIT_SECONDS = 100.0  # for what takes a moment on a machine that has nothing else to do
Columns = dict[str, list[Any]]


class OnMemory:
    def __init__(self) -> None:
        self.sink = MemorySink()

    def rows(self, table: str, *columns: str) -> list[tuple[Any, ...]]:
        return sorted(tuple(row[c] for c in columns) for row in self.sink.rows[table].values())


class OnClickHouse:
    def __init__(self, target: ClickHouseTarget) -> None:
        self._target = target
        self.sink = ClickHouseSink(target, linger_seconds=0.0).start()

    def rows(self, table: str, *columns: str) -> list[tuple[Any, ...]]:
        with connect(self._target) as client:
            found = client.execute(f"SELECT {', '.join(columns)} FROM {table} FINAL")
        return sorted(map(tuple, found))


@pytest.fixture(params=["memory", pytest.param("clickhouse", marks=pytest.mark.clickhouse)])
def system(request: pytest.FixtureRequest) -> Iterator[Any]:
    if request.param == "memory":
        yield OnMemory()
        return
    found = OnClickHouse(request.getfixturevalue("target"))
    yield found
    found.sink.close(WAIT_SECONDS)


def rows_of(table: str, n: int, **given: Any) -> Columns:
    """`n` rows, empty or zero unless given; those that say how long they are kept, for a day."""

    def zero(kind: str) -> Any:
        return [] if kind.startswith("Array") else "" if "String" in kind else 0

    kinds = TABLES[table].columns
    rows = {name: list(given.get(name, [zero(kind)] * n)) for name, kind in kinds.items()}
    return rows | ({"keep_days": [1] * n} if "keep_days" in kinds else {})


def wait(*futures: Future[None]) -> None:
    for future in futures:
        future.result(WAIT_SECONDS)


def test_rows_are_there_once_the_future_is_done(system: Any) -> None:
    letters = rows_of("dead_letters", 3, offset=[7, 8, 9], topic=["a", "b", "a"])
    wait(system.sink.submit({"dead_letters": letters, "batches": rows_of("batches", 1, seq=[1])}))
    assert system.rows("dead_letters", "topic", "offset") == [("a", 7), ("a", 9), ("b", 8)]
    assert system.rows("batches", "seq") == [(1,)]


def test_a_row_that_comes_again_is_there_once(system: Any) -> None:
    """In the same step, in another, and among others."""
    for _ in range(2):
        wait(system.sink.submit({"batches": rows_of("batches", 2, seq=[1, 2])}))
    wait(system.sink.submit({"batches": rows_of("batches", 3, seq=[2, 3, 1])}))
    assert system.rows("batches", "seq") == [(1,), (2,), (3,)]


@pytest.mark.parametrize("table", SORTING_KEYS)
def test_rows_that_differ_in_any_part_of_the_key_both_stay(system: Any, table: str) -> None:
    kinds = TABLES[table].columns
    parts = [
        {name: ["x", "y"] if "String" in kinds[name] else [1, 2]} for name in SORTING_KEYS[table]
    ]
    wait(*(system.sink.submit({table: rows_of(table, 2, **part)}) for part in parts))
    different = {
        tuple(part.get(name, ["" if "String" in kinds[name] else 0] * 2)[i]
              for name in SORTING_KEYS[table])
        for part in parts for i in range(2)
    }  # fmt: skip
    plain = [name for name in SORTING_KEYS[table] if "DateTime" not in kinds[name]]
    assert len(system.rows(table, *plain)) == len(different)


def test_the_sorting_keys_in_memory_are_the_tables_own(system: Any) -> None:
    if isinstance(system, OnMemory):
        pytest.skip("they are its own")
    with connect(system._target) as client:
        for table, key in SORTING_KEYS.items():
            ((sorted_by,),) = client.execute(
                "SELECT sorting_key FROM system.tables WHERE database = currentDatabase() "
                f"AND name = '{table}'"
            )
            # of groups of users, which follow from the user
            own = sorted_by.removeprefix("cityHash64(user_id) % 1024, ")
            assert tuple(own.split(", ")) == key, table


def test_nothing_to_write_is_done_too(system: Any) -> None:
    wait(system.sink.submit({}), system.sink.submit({"alerts": rows_of("alerts", 0)}))
    assert system.rows("alerts", "alert_id") == []


@pytest.mark.parametrize("wrong", ["table", "column", "length"])
def test_what_fits_no_table_is_refused_at_once(system: Any, wrong: str) -> None:
    blocks = {"batches": rows_of("batches", 2, seq=[1, 2])}
    if wrong == "table":
        blocks = {"orders": {"a": [1]}}
    elif wrong == "column":
        del blocks["batches"]["late"]
    else:
        blocks["batches"]["late"] = [1]
    with pytest.raises(SinkRefused):
        system.sink.submit(blocks)


def test_there_is_room_when_nothing_waits(system: Any) -> None:
    wait(system.sink.submit({"batches": rows_of("batches", 1)}))
    asyncio.run(asyncio.wait_for(system.sink.wait_for_room(), WAIT_SECONDS))
