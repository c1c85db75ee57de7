"""Which ClickHouse errors are worth another try."""

from __future__ import annotations

import ssl

import pytest
from clickhouse_driver.errors import NetworkError, ServerException, SocketTimeoutError

from schemas.errors import SinkRefused, SinkUnavailable
from streams.clickhouse.backoff import Backoff
from streams.clickhouse.client import ClickHouseTarget
from streams.clickhouse.errors import classify, sink_error

TARGET = ClickHouseTarget("db", 9000, password="hush")


@pytest.mark.parametrize(
    "exc",
    [
        *(
            ServerException("busy", code)
            for code in (159, 202, 209, 210, 225, 241, 242, 252, 319, 394, 425, 999)
        ),
        NetworkError("refused"),
        SocketTimeoutError("slow"),
        EOFError("Unexpected EOF while reading bytes"),
        ConnectionResetError(),
        TimeoutError(),
        BrokenPipeError(),
        SinkUnavailable(),
    ],
    ids=repr,
)
def test_what_may_pass_is_unavailable(exc: Exception) -> None:
    assert classify(exc) is SinkUnavailable


@pytest.mark.parametrize(
    "exc",
    [
        *(ServerException("no", code) for code in (16, 47, 53, 60, 81, 164, 192, 497, 516)),
        ServerException("a code nobody has looked at", 98_765),
        ssl.SSLCertVerificationError("wrong host"),
        ValueError("a column does not fit"),
        SinkRefused(),
    ],
    ids=repr,
)
def test_what_stays_wrong_or_is_unknown_is_refused(exc: Exception) -> None:
    assert classify(exc) is SinkRefused


def test_a_message_says_what_where_why_and_what_to_do() -> None:
    exc = ServerException("DB::Exception: Table x.alerts does not exist. Stack trace:\n\n0. …", 60)
    message = str(sink_error(exc, "inserting 3 rows into alerts", TARGET))
    for part in (
        "inserting 3 rows into alerts",
        "db:9000/tideline",
        "x.alerts",
        "tideline migrate",
    ):
        assert part in message
    assert "0. …" not in message


def test_the_password_stays_out_of_sight() -> None:
    assert "hush" not in f"{TARGET!r} {TARGET} {sink_error(EOFError(), 'reading', TARGET)}"


def test_backoff_doubles_to_its_cap_and_jitters_down_to_half() -> None:
    backoff = Backoff(first_seconds=1.0, cap_seconds=5.0)
    most = [backoff.delay_seconds(n, lambda: 1.0) for n in (1, 2, 3, 4, 10_000)]
    assert most == [1.0, 2.0, 4.0, 5.0, 5.0]
    assert backoff.delay_seconds(2, lambda: 0.0) == 1.0
