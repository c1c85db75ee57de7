"""Every part of Tideline on an Apache Kafka that wants TLS and a password, or a certificate."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from schemas.errors import SettingsError
from streams.cli import tideline as cli
from streams.kafka.access import KafkaAccess
from streams.kafka.reach import probe_now
from streams.kafka.topics import wanted
from streams.lag.monitor import poll_once
from streams.local.kafka import ApacheKafka, Secure, available
from streams.local.process import LOOPBACK
from streams.replay.synthetic import Synthetic
from streams.settings import as_environ
from tests.certificates import Authority
from tests.integration.forking import run_forked
from tests.integration.world import WAIT_SECONDS, World

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.clickhouse,
    pytest.mark.timeout(600),
    pytest.mark.skipif(available() is not None, reason=str(available())),
]

PASSWORD = "sesame-kafka-password"
DAY_MS = 86_400_000
Worlds = Callable[..., World]


@dataclass(frozen=True)
class SecureKafka:
    """The broker, who signed its certificate, and what settings get in."""

    broker: ApacheKafka
    authority: Authority

    @property
    def login(self) -> dict[str, Any]:
        return {
            "kafka_security": "sasl_ssl",
            "kafka_ca_file": self.authority.file,
            "kafka_username": "shop",
            "kafka_password": PASSWORD,
        }


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureKafka]:
    directory = tmp_path_factory.mktemp("secure-kafka")
    authority = Authority(directory / "authority")
    listeners = Secure(authority.sign("broker"), authority.file, {"shop": PASSWORD})
    with ApacheKafka(directory / "kafka", secure=listeners) as broker:
        yield SecureKafka(broker, authority)


def tideline(here: World, *arguments: str, **changes: Any) -> subprocess.CompletedProcess[str]:
    """`tideline ARGUMENTS` on the world's settings, some of them changed."""
    environ = {**os.environ, **as_environ(here.settings)}
    environ |= {f"TIDELINE_{name.upper()}": str(value) for name, value in changes.items()}
    return run_forked(arguments, environ, WAIT_SECONDS)


@pytest.mark.slow
def test_a_worker_and_all_its_helpers_run_over_tls_with_a_password(
    world: Worlds, secure: SecureKafka
) -> None:
    here = world(secure.broker, **secure.login, kafka_session_timeout_seconds=10)
    # Replayed letters have today's time. After events of years ago each shard would sweep through
    # all the days in between.
    start_ms = time.time_ns() // 1_000_000 - 10 * DAY_MS
    here.learner()
    worker = here.worker()
    # a real `tideline replay`, malformed events included, so that there are dead letters
    sent = tideline(
        here, "replay", "--synthetic", "--events", "1500", "--users", "100",
        "--malformed-share", "0.01", "--span-days", "9", "--json",
        "--start", datetime.fromtimestamp(start_ms / 1000, UTC).isoformat(),
    )  # fmt: skip
    assert sent.returncode == 0, sent.stderr
    here.wait_accepted(1_500, 180)
    more = here.produce(
        Synthetic(
            users=100, events=1_000, order_share=0.3, span_days=9.0, seed=3, start_ms=start_ms
        )
    ).records
    here.wait_accepted(1_500 + more, 180)

    lag = poll_once(here.settings)
    assert lag.problems == ()
    assert sum(group.ours for group in lag.groups) == 2
    letters = tideline(here, "dlq", "list", "--json")
    assert letters.returncode == 0, letters.stderr
    assert here.ledger()["dead_letters"] > 0
    assert "invalid_json" in letters.stdout
    broken = here.one("SELECT count() FROM dead_letters FINAL WHERE reason = 'invalid_json'")
    replayed = tideline(here, "dlq", "replay", "--reason", "invalid_json", "--yes")
    assert replayed.returncode == 0, replayed.stdout + replayed.stderr
    here.wait_accepted(1_500 + more + broken, 180)
    doctor = tideline(here, "doctor")
    assert f"{secure.broker.bootstrap} answers" in doctor.stdout

    debugging = [tideline(here, "--debug", name).stderr for name in ("topics", "lag")]
    assert worker.stop()[0] == 0
    here.check_oracle()
    assert PASSWORD not in "".join(debugging)
    assert PASSWORD not in worker.log + doctor.stdout + letters.stdout + sent.stderr


@pytest.mark.parametrize(
    "command",
    [
        ("worker",), ("learner",), ("topics",), ("topics", "--create"), ("lag",), ("dlq", "list"),
        ("replay", "--synthetic", "--events", "10"), ("doctor",),
    ],
    ids=" ".join,
)  # fmt: skip
def test_a_refused_client_names_the_setting(
    command: tuple[str, ...], secure: SecureKafka, tmp_path: Path
) -> None:
    """In this process, as nothing gets as far as starting anything."""
    good = {"kafka_broker_url": secure.broker.bootstrap, **secure.login}
    stranger = Authority(tmp_path / "stranger")
    for changes, named in (
        ({"kafka_password": "sesame-wrong-password"}, "TIDELINE_KAFKA_PASSWORD"),
        ({"kafka_username": "nobody"}, "TIDELINE_KAFKA_USERNAME"),
        ({"kafka_ca_file": stranger.file}, "TIDELINE_KAFKA_CA_FILE"),
    ):
        environ = {f"TIDELINE_{k.upper()}": str(v) for k, v in {**good, **changes}.items()}
        done = CliRunner().invoke(cli, command, env=environ, prog_name="tideline")
        assert done.exit_code == (1 if command == ("doctor",) else 2), done.output
        assert named in done.output.replace("\n", ""), done.output
        assert "Traceback" not in done.output
        assert PASSWORD not in done.output
        assert "sesame-wrong-password" not in done.output


def test_a_certificate_for_another_host_is_refused(tmp_path: Path) -> None:
    """A bare TLS server will do: nothing of Kafka is spoken before the certificate is checked."""
    authority = Authority(tmp_path / "authority")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(authority.sign("broker", hosts="DNS:kafka.example"))
    with socket.create_server((LOOPBACK, 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError), listener.accept()[0] as client:
                context.wrap_socket(client, server_side=True).close()

        thread = threading.Thread(target=serve)
        thread.start()
        access = KafkaAccess(
            (f"{LOOPBACK}:{listener.getsockname()[1]}",), "ssl", str(authority.file)
        )
        with pytest.raises(SettingsError, match=r"not valid for '127\.0\.0\.1'.*BROKER_URL"):
            probe_now(access, WAIT_SECONDS)
        thread.join(WAIT_SECONDS)


def test_a_certificate_of_our_own_lets_us_in_where_it_is_wanted(
    world: Worlds, secure: SecureKafka
) -> None:
    here = world(secure.broker, **secure.login)
    ours = secure.authority.sign("worker")
    changes = {
        "kafka_broker_url": f"127.0.0.1:{secure.broker.mtls_port}", "kafka_security": "ssl",
        "kafka_username": "", "kafka_password": "",
    }  # fmt: skip
    good = tideline(here, "topics", **changes, kafka_client_cert_file=ours)
    assert good.returncode == 0, good.stderr
    assert wanted(here.settings)[0].name in good.stdout
    without = tideline(here, "topics", **changes)
    assert without.returncode == 1
    assert "TIDELINE_KAFKA_SECURITY" in without.stderr
