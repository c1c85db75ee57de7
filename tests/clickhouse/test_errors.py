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


@pytest.mark.parametrize(
    ("exc", "kind", "remedy"),
    [
        (ssl.SSLCertVerificationError("wrong host"), SinkRefused, "TIDELINE_CLICKHOUSE_CA_FILE"),
        (NetworkError("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed"), SinkRefused, "CA_FILE"),
        (ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER]"), SinkRefused, "usually 9440"),
        (ssl.SSLError(1, "[SSL: BAD_RECORD_MAC]"), SinkUnavailable, "ClickHouse is up"),
        (ServerException("WRONG_VERSION_NUMBER", 60), SinkRefused, "tideline migrate"),
        (ServerException("busy", 252), SinkUnavailable, "ClickHouse is up"),
        (ServerException("no", 193), SinkRefused, "TIDELINE_CLICKHOUSE_PASSWORD"),
        (ServerException("no", 497), SinkRefused, "grant the user"),
        (ServerException("no", 98_765), SinkRefused, "fix the cause"),
        (ValueError("no"), SinkRefused, "fix the cause"),
    ],
    ids=repr,
)
def test_every_error_has_its_remedy(exc: Exception, kind: type[Exception], remedy: str) -> None:
    found = sink_error(exc, "reading", TARGET)
    assert type(found) is kind
    assert remedy in str(found).split("(")[-1]


def test_a_reason_is_one_line_of_bounded_length_and_never_missing() -> None:
    long = str(sink_error(ValueError(" a\n b " + 1_000 * "x"), "reading", TARGET))
    assert long.startswith("reading at db:9000/tideline: ValueError: a b xx")
    assert f" a b {496 * 'x'} (" in long
    assert "EOFError: EOFError (" in str(sink_error(EOFError(), "reading", TARGET))
