"""The way into Kafka in each library's terms, and TLS contexts that shake hands in memory."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest

from schemas.errors import SettingsError
from streams.kafka.access import KafkaAccess, kafka_access
from streams.settings import Secret, Settings, override
from tests.certificates import Authority

BROKER = ("localhost:9093",)
KEY_PASSWORD = "sesame-key"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def broker(authority: Authority) -> ssl.SSLContext:
    """Of a listener that wants a client certificate."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(authority.file))
    context.load_cert_chain(authority.sign("broker"))
    context.verify_mode = ssl.CERT_REQUIRED
    return context


@pytest.fixture(scope="module")
def client(authority: Authority) -> Path:
    return authority.sign("worker")


@pytest.fixture(scope="module")
def locked_key(client: Path) -> Path:
    """The client's key, with a password."""
    locked = client.with_suffix(".locked")
    subprocess.run(
        ["openssl", "ec", "-aes256", "-passout", f"pass:{KEY_PASSWORD}",
         "-in", str(client.with_suffix(".key")), "-out", str(locked)],
        check=True, capture_output=True,
    )  # fmt: skip
    return locked


def shake_hands(ours: ssl.SSLContext | None, broker: ssl.SSLContext, host: str) -> Any:
    """The certificate that the broker gets to see."""
    assert ours is not None
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    near = ours.wrap_bio(down, up, server_hostname=host)
    far = broker.wrap_bio(up, down, server_side=True)
    for side in (near, far, near, far):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    return far.getpeercert()


def common_name(certificate: Any) -> str:
    return str(dict(pair for (pair,) in certificate["subject"])["commonName"])


@pytest.mark.parametrize("security", ["plaintext", "sasl_plaintext"])
def test_there_is_no_context_without_tls(security: str) -> None:
    assert KafkaAccess(BROKER, security, ca_file="/no/such/file").ssl_context is None


@pytest.mark.parametrize("security", ["ssl", "sasl_ssl"])
def test_the_system_s_authorities_are_asked_unless_a_bundle_is_named(
    security: str, authority: Authority, broker: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    context = KafkaAccess(BROKER, security).ssl_context
    assert context is not None
    assert context.check_hostname
    with pytest.raises(ssl.SSLError, match=r"CERTIFICATE_REQUIRED|PEER_DID_NOT_RETURN"):
        shake_hands(context, broker, "localhost")  # which it gets to only with our trust


def test_a_broker_of_another_authority_or_name_is_not_trusted(
    authority: Authority, broker: ssl.SSLContext, client: Path, tmp_path: Path
) -> None:
    stranger = Authority(tmp_path / "stranger")
    for ca_file, host in ((stranger.file, "localhost"), (authority.file, "kafka.example")):
        context = KafkaAccess(BROKER, "ssl", str(ca_file), str(client)).ssl_context
        with pytest.raises(ssl.SSLCertVerificationError):
            shake_hands(context, broker, host)


@pytest.mark.parametrize("form", ["one file", "two files", "locked key"])
def test_the_client_s_certificate_is_shown_to_the_broker(
    form: str, authority: Authority, broker: ssl.SSLContext, client: Path, locked_key: Path
) -> None:
    forms: dict[str, dict[str, Any]] = {
        "one file": {"client_cert_file": str(client)},
        "two files": {
            "client_cert_file": str(client.with_suffix(".crt")),
            "client_key_file": str(client.with_suffix(".key")),
        },
        "locked key": {
            "client_cert_file": str(client.with_suffix(".crt")),
            "client_key_file": str(locked_key),
            "client_key_password": Secret(KEY_PASSWORD),
        },
    }
    access = KafkaAccess(BROKER, "ssl", str(authority.file), **forms[form])
    assert common_name(shake_hands(access.ssl_context, broker, "localhost")) == "worker"
    assert access.ssl_context is access.ssl_context, "files are read once"


def test_a_file_that_is_no_use_names_its_setting(
    authority: Authority, client: Path, locked_key: Path, tmp_path: Path
) -> None:
    empty = tmp_path / "empty.pem"
    empty.touch()
    locked = {"client_cert_file": str(client), "client_key_file": str(locked_key)}
    cases: list[tuple[str, str, dict[str, Any]]] = [
        ("CA_FILE", "none.pem", {"ca_file": str(tmp_path / "none.pem")}),
        ("CA_FILE", "empty.pem", {"ca_file": str(empty)}),
        ("CLIENT_CERT_FILE", "none.pem", {"client_cert_file": str(tmp_path / "none.pem")}),
        ("CLIENT_CERT_FILE", "worker.pem", {**locked, "client_key_password": Secret("wrong")}),
    ]
    for name, file, given in cases:
        access = KafkaAccess(BROKER, "ssl", **({"ca_file": str(authority.file)} | given))
        with pytest.raises(SettingsError, match=rf"TIDELINE_KAFKA_{name}.*{file}"):
            _ = access.ssl_context


def test_clients_get_exactly_the_options_of_their_way_in(authority: Authority) -> None:
    login = {"sasl_mechanism": "PLAIN", "username": "shop", "password": Secret("hush")}
    sasl = {
        "sasl_mechanism": "PLAIN", "sasl_plain_username": "shop", "sasl_plain_password": "hush"
    }  # fmt: skip
    for security, tls, rest in (
        ("plaintext", False, {}),
        ("ssl", True, {}),
        ("sasl_plaintext", False, sasl),
        ("sasl_ssl", True, sasl),
    ):
        access = KafkaAccess(BROKER, security, str(authority.file), **login)  # type: ignore[arg-type]
        options = access.client_options()
        assert options.pop("security_protocol") == security.upper()
        if tls:
            assert isinstance(access.ssl_context, ssl.SSLContext)
            assert options.pop("ssl_context") is access.ssl_context
        assert options == rest


def test_faust_gets_the_same_way_in(authority: Authority) -> None:
    brokers = ("a:1", "b:2")
    for security in ("plaintext", "ssl", "sasl_plaintext", "sasl_ssl"):
        access = KafkaAccess(
            brokers, security, str(authority.file), sasl_mechanism="SCRAM-SHA-256",
            username="shop", password=Secret("hush"),
        )  # fmt: skip
        options = access.faust_options()
        assert options.pop("broker") == "tideline://a:1;b:2"
        found = options.pop("broker_credentials", None)
        assert not options
        if security == "plaintext":
            assert found is None
            continue
        assert found.protocol.value == security.upper()
        context = found.context if security == "ssl" else found.ssl_context
        assert context is access.ssl_context
        if access.sasl:
            assert (found.username, found.password) == ("shop", "hush")
            assert found.mechanism.value == "SCRAM-SHA-256"


def test_every_setting_of_the_way_in_is_taken_over() -> None:
    settings = override(
        Settings(),
        kafka_broker_url="a:1,b:2", kafka_security="sasl_ssl", kafka_ca_file="/ca",
        kafka_client_cert_file="/cert", kafka_client_key_file="/key",
        kafka_client_key_password="k", kafka_sasl_mechanism="PLAIN", kafka_username="u",
        kafka_password="p",
    )  # fmt: skip
    access = kafka_access(settings)
    assert access == KafkaAccess(
        ("a:1", "b:2"), "sasl_ssl", "/ca", "/cert", "/key", Secret("k"), "PLAIN", "u", Secret("p")
    )
    assert access.client_key_password.reveal() + access.password.reveal() == "kp"
    assert str(access) == "a:1, b:2"


def test_plain_addresses_are_plain_access() -> None:
    access = KafkaAccess(("a:1",), "ssl")
    assert KafkaAccess.of(access) is access
    assert KafkaAccess.of(["a:1", "b:2"]) == KafkaAccess(("a:1", "b:2"))
