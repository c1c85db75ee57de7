"""Reading: one contract for the real reader and the double; values are never SQL; pseudonyms."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.clickhouse.client import ClickHouseTarget
from streams.console.reads import (
    ClickHouseReader,
    Reader,
    ReadFailed,
    Rows,
    Sealed,
    UnknownPseudonym,
)
from streams.console.sealing import Seal
from streams.local.clickhouse import ChdbServer
from tests.console.doubles import Answers, rows
from tests.console.hostile import TEXTS

QUERY = "SELECT %(text)s AS text, %(number)s AS number WHERE %(text)s != 'none'"


@pytest.fixture(params=["real", "double"])
def reader(request: pytest.FixtureRequest) -> Iterator[Reader]:
    """What answers `QUERY`: ClickHouse, or the double."""
    if request.param == "double":
        yield Answers(
            {"AS text": lambda given: rows(["text", "number"], [(given["text"], given["number"])])}
        )
        return
    server: ChdbServer = request.getfixturevalue("clickhouse")
    real = ClickHouseReader(ClickHouseTarget(server.host, server.port, database="default"))
    yield real
    real.close()


def ask(reader: Reader, query: str = QUERY, **parameters: Any) -> Rows:
    return asyncio.run(reader.rows(query, **parameters))


@pytest.mark.clickhouse
def test_rows_have_their_columns_names_and_a_time(reader: Reader) -> None:
    found = ask(reader, text="it's", number=3)
    assert found.columns == ("text", "number")
    assert list(found) == [{"text": "it's", "number": 3}]
    assert found.first() == {"text": "it's", "number": 3}
    assert found.as_of_ms > 1_700_000_000_000


@pytest.mark.clickhouse
def test_any_text_comes_back_as_it_went(reader: Reader) -> None:
    for text in (*TEXTS, "\\", "'", "\\'", "\n\r\t\b\f\0", "😀", "a" * 3_000, ""):
        assert ask(reader, text=text, number=1).first() == {"text": text, "number": 1}
    # No Unicode: what can't be sent is replaced, and nothing breaks.
    assert ask(reader, text="a\udc80b", number=1).first() == {"text": "a?b", "number": 1}


@pytest.mark.clickhouse
def test_what_is_no_value_is_refused_before_it_is_sent(reader: Reader) -> None:
    class Evil(str):
        __slots__ = ()

        def __str__(self) -> str:
            return "1; DROP TABLE x"

    for value in (None, b"bytes", {"a": 1}, object(), True, [], [None]):
        with pytest.raises(TypeError):
            ask(reader, text=value, number=1)
    assert ask(reader, text=Evil("plain"), number=1).first() == {"text": "plain", "number": 1}
    with pytest.raises(KeyError):
        ask(reader, text="x")


@pytest.mark.clickhouse
def test_a_wrong_query_or_an_absent_server_says_what_to_do(clickhouse: ChdbServer) -> None:
    heard: list[str] = []
    target = ClickHouseTarget(clickhouse.host, clickhouse.port, database="default")
    real = ClickHouseReader(target, observe=lambda result, seconds: heard.append(result))
    with pytest.raises(ReadFailed, match="tideline migrate") as caught:
        ask(real, "SELECT 1 FROM no_such_view")
    assert caught.value.answered_ms is None
    assert real.failing
    assert ask(real, "SELECT 1 AS one").first() == {"one": 1}
    assert not real.failing
    with pytest.raises(ReadFailed) as caught:
        ask(real, "SELECT x")
    assert caught.value.answered_ms is not None
    assert heard == ["failed", "ok", "failed"]
    real.close()
    away = ClickHouseReader(ClickHouseTarget("127.0.0.1", 1, database="default"))
    with pytest.raises(ReadFailed, match="check that ClickHouse is up"):
        ask(away, "SELECT 1")
    away.close()


@pytest.mark.clickhouse
def test_a_query_that_goes_wild_ends(clickhouse: ChdbServer) -> None:
    target = ClickHouseTarget(clickhouse.host, clickhouse.port, database="default")
    real = ClickHouseReader(target, limit_seconds=1.0)
    with pytest.raises(ReadFailed):
        ask(
            real, "SELECT sum(sipHash64(number)) FROM numbers(1000000000000) SETTINGS max_threads=1"
        )
    real.close()


@pytest.mark.clickhouse
@pytest.mark.parametrize("nice", [0, -10])
def test_a_reader_s_queries_may_go_before_others(clickhouse: ChdbServer, nice: int) -> None:
    target = ClickHouseTarget(clickhouse.host, clickhouse.port, database="default")
    real = ClickHouseReader(target, nice=nice)
    found = ask(
        real, "SELECT toInt32(value) AS nice FROM system.settings WHERE name = 'os_thread_priority'"
    )
    assert found.first() == {"nice": nice}
    real.close()


# -- pseudonyms


SEAL = Seal("0123456789abcdef0123456789abcdef")


@settings(max_examples=60)
@given(st.text(max_size=100))
def test_what_is_sealed_opens_again_and_looks_like_nothing(user_id: str) -> None:
    sealed = SEAL.sealed(user_id)
    assert SEAL.opened(sealed) == user_id.encode(errors="surrogateescape").decode(
        errors="surrogateescape"
    )
    assert sealed == SEAL.sealed(user_id)
    assert sealed.startswith("~")
    assert sealed[1:].replace("-", "").replace("_", "").isalnum()


@settings(max_examples=60)
@given(st.text(max_size=100))
def test_nobody_without_the_key_makes_a_pseudonym(text: str) -> None:
    assert SEAL.opened(text) is None
    assert SEAL.opened(f"~{text}") is None
    assert Seal("another key of thirty-two letters").opened(SEAL.sealed("ann")) is None


def sealed_for(reader: Reader, *, sees_ids: bool) -> Sealed:
    return Sealed(reader, SEAL, sees_ids=sees_ids)


def test_columns_that_name_people_are_sealed_and_texts_that_may_are_hidden() -> None:
    at = datetime(2026, 11, 30, tzinfo=UTC)
    double = Answers(
        {"x": rows(
            ["user_id", "other_user_id", "record_key", "payload", "detail", "n", "at"],
            [("ann", "bob", b"cy", "{ann}", "ann sent", 3, at), ("", "", "", "", "", 0, at)],
        )}
    )  # fmt: skip
    first, second = asyncio.run(sealed_for(double, sees_ids=False).rows("x")).rows
    assert first == (SEAL.sealed("ann"), SEAL.sealed("bob"), SEAL.sealed("cy"), "", "", 3, at)
    assert second[:3] == ("", "", "")
    assert asyncio.run(sealed_for(double, sees_ids=True).rows("x")).rows[0][0] == "ann"


def test_pseudonyms_go_in_as_ids_and_ids_only_from_who_sees_them() -> None:
    double = Answers({"x": rows(["n"], [(1,)])})
    sealed, open_ = (sealed_for(double, sees_ids=sees) for sees in (False, True))
    asyncio.run(sealed.rows("x", user_id=SEAL.sealed("ann"), prefix="a"))
    asyncio.run(open_.rows("x", user_id=SEAL.sealed("ann")))
    asyncio.run(open_.rows("x", user_id="ann"))
    asyncio.run(sealed.rows("x", after_user_id=[SEAL.sealed("ann")]))
    people = [{**each}.popitem()[1] for _, each in double.asked[1:]]
    assert double.asked[0][1] == {"user_id": "ann", "prefix": "a"}
    assert people == ["ann", "ann", ["ann"]]
    for wrong in ("ann", "~ann", ""):
        with pytest.raises(UnknownPseudonym):
            asyncio.run(sealed.rows("x", user_id=wrong))
