"""Why Kafka does not let us in: which broker's answer counts, and the setting that it names."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka.errors import (
    AuthenticationFailedError,
    IllegalSaslStateError,
    KafkaConnectionError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)

from schemas.errors import BrokerUnavailable, SettingsError
from streams.kafka import clients, reach
from streams.kafka.access import KafkaAccess
from streams.kafka.reach import explain, probe, probe_now, require_reachable, speaks_tls
from streams.local.process import LOOPBACK
from tests.certificates import Authority

DOWN = ConnectionRefusedError("nobody listens")
REFUSES = SaslAuthenticationFailed("wrong password")


class Brokers:
    """What each broker answers when it is connected to: an error, or None."""

    def __init__(self, **answers: BaseException | None) -> None:
        self.answers = answers
        self.seen: list[tuple[str, int, dict[str, Any]]] = []
        self.open: set[str] = set()

    @property
    def access(self) -> KafkaAccess:
        return KafkaAccess(tuple(f"{host}:9092" for host in self.answers), "sasl_ssl", username="u")

    def connection(self, access: KafkaAccess, host: str, port: int, **options: Any) -> Connection:
        self.seen.append((host, port, options))
        return Connection(self, host)


class Connection:
    def __init__(self, brokers: Brokers, host: str) -> None:
        self._brokers, self._host = brokers, host

    async def connect(self) -> None:
        await asyncio.sleep(0)
        error = self._brokers.answers[self._host]
        if not isinstance(error, OSError):
            self._brokers.open.add(self._host)
        if error is not None:
            raise error

    def close(self) -> asyncio.Task[None]:
        async def closed() -> None:
            for _ in range(3):
                await asyncio.sleep(0)
            self._brokers.open.remove(self._host)

        return asyncio.ensure_future(closed())


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Any:
    """made(host=error or None, ...): brokers that every connection goes to."""

    def make(**answers: BaseException | None) -> Brokers:
        brokers = Brokers(**answers)
        monkeypatch.setattr(clients, "connection", brokers.connection)
        return brokers

    return make


@pytest.mark.parametrize("order", [("a", "b", "c"), ("b", "a", "c"), ("c", "a", "b")])
def test_a_refusal_is_raised_before_an_outage_in_any_order(
    made: Any, order: tuple[str, ...]
) -> None:
    answers = {"a": DOWN, "b": REFUSES, "c": KafkaConnectionError("closed")}
    brokers = made(**{host: answers[host] for host in order})
    with pytest.raises(
        SettingsError, match=r"Kafka at b:9092 refuses the login of user u: .*wrong"
    ):
        probe_now(brokers.access)
    assert [host for host, _, _ in brokers.seen] == list(order), "all of them were tried"
    assert not brokers.open, "and every connection was closed"


def test_the_first_of_several_outages_is_raised(made: Any) -> None:
    brokers = made(a=DOWN, b=KafkaConnectionError("closed"))
    with pytest.raises(BrokerUnavailable, match=r"a:9092 does not answer.*nobody listens"):
        probe_now(brokers.access)


def test_one_broker_that_lets_us_in_is_enough(made: Any) -> None:
    brokers = made(a=DOWN, b=REFUSES, c=None, d=None)
    asyncio.run(probe(brokers.access, 2.5))
    assert [(host, port) for host, port, _ in brokers.seen] == [
        ("a", 9092), ("b", 9092), ("c", 9092)
    ]  # fmt: skip
    assert {options["request_timeout_ms"] for _, _, options in brokers.seen} == {2500}
    assert not brokers.open


def test_an_ipv6_address_is_taken_out_of_its_brackets(made: Any) -> None:
    brokers = made(**{"::1": None})
    probe_now(KafkaAccess(("[::1]:9094",), "sasl_ssl"))
    assert [(host, port) for host, port, _ in brokers.seen] == [("::1", 9094)]


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server((LOOPBACK, 0)) as listening:
        yield listening


def address(listener: socket.socket) -> str:
    return f"{LOOPBACK}:{listener.getsockname()[1]}"


def no_probe(*_: Any) -> None:
    raise AssertionError("a plaintext listener is only connected to")


def test_a_plaintext_broker_is_reachable_if_it_listens(
    listener: socket.socket, dead_broker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reach, "probe_now", no_probe)
    require_reachable([address(listener)])
    require_reachable([dead_broker, address(listener)])
    for _ in range(2):
        connection, _address = listener.accept()
        with connection:
            assert connection.recv(1) == b"", "it hung up"


def test_plaintext_brokers_that_all_are_down_are_unavailable(
    dead_broker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reach, "probe_now", no_probe)
    with pytest.raises(BrokerUnavailable, match=f"{dead_broker}.*does not answer") as raised:
        require_reachable([dead_broker])
    assert isinstance(raised.value.__cause__, ConnectionRefusedError)


def test_plaintext_brokers_share_the_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[Any] = []

    def connect(address: tuple[str, int], timeout: float) -> Any:
        tried.append((address, timeout))
        raise DOWN

    monkeypatch.setattr(socket, "create_connection", connect)
    with pytest.raises(BrokerUnavailable):
        require_reachable(["a:1", "[::1]:2"], 3.0)
    assert tried == [(("a", 1), 1.5), (("::1", 2), 1.5)]


@pytest.mark.parametrize("security", ["ssl", "sasl_plaintext", "sasl_ssl"])
def test_any_other_broker_is_reachable_if_it_lets_us_in(
    security: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    probed: list[Any] = []
    monkeypatch.setattr(reach, "probe_now", lambda *given: probed.append(given))
    monkeypatch.setattr(socket, "create_connection", no_probe)
    access = KafkaAccess(("a:1", "b:2"), security)
    require_reachable(access, 3.0)
    assert probed == [(access, 1.5)]


@contextlib.contextmanager
def answering(context: ssl.SSLContext | None) -> Iterator[str]:
    """A listener that shakes hands once, or hangs up if it has no TLS."""
    with socket.create_server((LOOPBACK, 0)) as listening:

        def serve() -> None:
            with contextlib.suppress(OSError):
                client, _ = listening.accept()
                with client:
                    if context is not None:
                        context.wrap_socket(client, server_side=True).close()
                    else:
                        client.recv(1)

        thread = threading.Thread(target=serve)
        thread.start()
        yield address(listening)
        thread.join()


@pytest.mark.parametrize("trusted", [True, False])
def test_a_listener_with_any_certificate_speaks_tls(
    trusted: bool, dead_broker: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path / "authority")
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(authority.sign("broker"))
    with answering(context) as broker:
        assert speaks_tls(KafkaAccess((dead_broker, broker)), 20.0) is True


def test_a_listener_that_hangs_up_does_not_and_nobody_is_neither(dead_broker: str) -> None:
    with answering(None) as broker:
        assert speaks_tls(KafkaAccess((broker, dead_broker)), 20.0) is False
    assert speaks_tls(KafkaAccess((dead_broker,)), 20.0) is None


def untrusted() -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "verify failed")
    error.verify_message = "self-signed certificate"
    return error


def broken(reason: str | None) -> ssl.SSLError:
    error = ssl.SSLError(1, "odd record")
    error.reason = reason  # type: ignore[assignment]  # OpenSSL does not always give one
    return error


@pytest.mark.parametrize(
    ("error", "ca_file", "parts"),
    [
        (untrusted(), "", ["self-signed certificate", "KAFKA_CA_FILE", "now: the system's"]),
        (untrusted(), "/ca.pem", ["now: /ca.pem"]),
        (broken("BAD_RECORD"), "", ["BAD_RECORD", "SECURITY (sasl_ssl)", "CERT_FILE"]),
        (broken(None), "", ["odd record"]),
        (SaslAuthenticationFailed("no such user"), "", ["of user shop", "no such user"]),
        *(
            (kind(), "", ["login of user shop", kind.__name__, "KAFKA_PASSWORD", "(PLAIN)"])
            for kind in (
                AuthenticationFailedError, IllegalSaslStateError, UnsupportedSaslMechanismError
            )
        ),
    ],
    ids=repr,
)  # fmt: skip
def test_what_stays_wrong_is_a_setting(
    error: BaseException, ca_file: str, parts: list[str]
) -> None:
    access = KafkaAccess(
        ("a:1", "b:2"), "sasl_ssl", ca_file, username="shop", sasl_mechanism="PLAIN"
    )
    for broker, named in (("b:2", "b:2"), ("", "a:1, b:2")):
        found = explain(access, error, broker)
        assert isinstance(found, SettingsError)
        for part in (f"Kafka at {named}", *parts):
            assert part in str(found)
        assert broker == "" or "a:1" not in str(found)


@pytest.mark.parametrize(
    ("security", "hint"),
    [("plaintext", "that it is the TLS listener"), ("ssl", "that its listener speaks ssl")],
)
@pytest.mark.parametrize("error", [DOWN, TimeoutError(), KafkaConnectionError("closed")], ids=repr)
def test_what_may_pass_is_an_outage(error: BaseException, security: str, hint: str) -> None:
    found = explain(KafkaAccess(("a:1",), security), error)
    assert isinstance(found, BrokerUnavailable)
    for part in ("Kafka at a:1 does not answer", type(error).__name__, str(error), hint):
        assert part in str(found)
