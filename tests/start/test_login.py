"""A listener that wants TLS and a login: the guide finds out, and asks until it is let in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from streams.cli import tideline
from streams.kafka.access import KafkaAccess
from streams.kafka.reach import speaks_tls
from streams.local.kafka import ApacheKafka, Secure, available
from streams.local.tansu import TansuBroker
from streams.start.files import draft_of, secret_file
from tests.certificates import Authority

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.timeout(600),
    pytest.mark.skipif(available() is not None, reason=str(available())),
]
PASSWORD = "sesame-kafka-password"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def secure(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApacheKafka]:
    listeners = Secure(authority.sign("broker"), authority.file, {"shop": PASSWORD})
    with ApacheKafka(tmp_path_factory.mktemp("secure-kafka"), secure=listeners) as broker:
        yield broker


def test_security_is_asked_for_if_the_listener_needs_it(
    secure: ApacheKafka, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streams.commands.start._at_a_terminal", lambda: True)
    target = tmp_path / "tideline.toml"
    answers = [
        secure.bootstrap,  # in plain text, which it does not answer to
        "", "", str(authority.file), "", "shop", "sesame-wrong",
        "", "", "", "", "", PASSWORD,
    ]  # fmt: skip
    done = CliRunner().invoke(
        tideline, ["start", "--config", str(target)], input="\n".join(answers) + "\n"
    )
    said = " ".join(done.output.split())
    assert "[sasl_ssl]" in said, "it speaks TLS"
    assert "refuses the login of user shop" in said
    assert f"{secure.bootstrap} answers" in said
    assert "sesame" not in done.output + draft_of(target).read_text()
    assert 'security = "sasl_ssl"' in draft_of(target).read_text()
    assert not secret_file(target, "kafka.password").exists(), "where to keep it comes later"


def test_speaks_tls_tells_tls_plain_text_and_no_listener_apart(
    secure: ApacheKafka, tansu: TansuBroker, dead_broker: str
) -> None:
    assert speaks_tls(KafkaAccess((secure.bootstrap,)), 10.0) is True
    assert speaks_tls(KafkaAccess((tansu.bootstrap,)), 2.0) is False
    assert speaks_tls(KafkaAccess((dead_broker,)), 2.0) is None
