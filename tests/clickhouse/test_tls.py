"""TLS to a real ClickHouse server. chDB has no TLS, so this runs on Debian's clickhouse-server,
which is of 2018: its users, too, are those of users.xml."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from schemas.errors import SettingsError, SinkRefused, SinkUnavailable
from streams.clickhouse.client import ClickHouseTarget, connect
from streams.clickhouse.errors import sink_error
from streams.local.process import LOOPBACK, ChildProcess, free_port
from tests.certificates import Authority

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        shutil.which("clickhouse-server") is None,
        reason="clickhouse-server is missing; on Debian: apt-get install clickhouse-server",
    ),
]

PASSWORD = "sesame-clickhouse-password"
PLAIN: list[int] = []  # the same server's port without TLS
_CONFIG = """<?xml version="1.0"?>
<yandex>
  <logger><level>warning</level><console>1</console></logger>
  <listen_host>{host}</listen_host>
  <tcp_port>{plain}</tcp_port><tcp_port_secure>{port}</tcp_port_secure>
  <openSSL><server>
    <certificateFile>{cert}</certificateFile><privateKeyFile>{key}</privateKeyFile>
    <verificationMode>none</verificationMode><loadDefaultCAFile>false</loadDefaultCAFile>
    <disableProtocols>sslv2,sslv3</disableProtocols>
  </server></openSSL>
  <path>{path}/data/</path><tmp_path>{path}/tmp/</tmp_path>
  <user_files_path>{path}/user_files/</user_files_path>
  <users_config>users.xml</users_config>
  <default_profile>default</default_profile><default_database>default</default_database>
  <mark_cache_size>67108864</mark_cache_size><timezone>UTC</timezone>
</yandex>
"""
_USERS = """<?xml version="1.0"?>
<yandex>
  <profiles><default></default></profiles><quotas><default></default></quotas>
  <users><shop>
    <password>{password}</password><networks><ip>{host}</ip></networks>
    <profile>default</profile><quota>default</quota>
  </shop></users>
</yandex>
"""


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouseTarget]:
    path = tmp_path_factory.mktemp("clickhouse-tls")
    authority = Authority(path / "authority")
    authority.sign("server")
    port, plain = free_port(), free_port()
    PLAIN[:] = [plain]
    signed = authority.directory
    (path / "config.xml").write_text(
        _CONFIG.format(host=LOOPBACK, port=port, plain=plain, path=path,
                       cert=signed / "server.crt", key=signed / "server.key")
    )  # fmt: skip
    (path / "users.xml").write_text(_USERS.format(host=LOOPBACK, password=PASSWORD))
    server = ChildProcess(
        "clickhouse-server",
        [str(shutil.which("clickhouse-server")), f"--config-file={path / 'config.xml'}"],
        path / "server.log",
    )
    server.start()

    def answers() -> bool:
        with socket.create_connection((LOOPBACK, port), timeout=1.0):
            return True

    server.wait_ready(answers, 30)
    yield ClickHouseTarget(
        LOOPBACK, port, database="default", user="shop", password=PASSWORD, secure=True,
        ca_file=str(authority.file), send_receive_timeout_seconds=10,
    )  # fmt: skip
    server.stop()


def ask(target: ClickHouseTarget) -> object:
    client = connect(target)
    try:
        return client.execute("SELECT 1")[0][0]
    except Exception as error:
        raise sink_error(error, "asking", target) from error
    finally:
        client.disconnect()


def test_a_server_that_our_authority_vouches_for_is_trusted(target: ClickHouseTarget) -> None:
    assert ask(target) == 1
    assert ask(replace(target, host="localhost")) == 1


def test_another_authority_is_refused_for_good_and_the_setting_named(
    target: ClickHouseTarget, tmp_path: Path
) -> None:
    stranger = Authority(tmp_path / "stranger")
    for ca_file in (str(stranger.file), ""):
        with pytest.raises(SinkRefused, match="TIDELINE_CLICKHOUSE_CA_FILE"):
            ask(replace(target, ca_file=ca_file))


def test_a_wrong_password_names_the_settings_and_not_itself(target: ClickHouseTarget) -> None:
    with pytest.raises(SinkRefused, match="TIDELINE_CLICKHOUSE_PASSWORD") as refused:
        ask(replace(target, password="sesame-wrong"))
    assert "sesame" not in str(refused.value)


def test_tls_to_a_port_without_it_names_the_port(target: ClickHouseTarget) -> None:
    with pytest.raises(SinkRefused, match="TIDELINE_CLICKHOUSE_PORT"):
        ask(replace(target, port=PLAIN[0]))


def test_no_tls_to_a_port_that_wants_it_fails(target: ClickHouseTarget) -> None:
    with pytest.raises(SinkUnavailable, match="check that ClickHouse is up"):
        ask(replace(target, secure=False, ca_file=""))


def test_an_unreadable_ca_bundle_is_reported_before_any_connection(
    target: ClickHouseTarget, tmp_path: Path
) -> None:
    empty = tmp_path / "empty.pem"
    empty.touch()
    for file in (tmp_path / "missing.pem", empty):
        with pytest.raises(SettingsError, match="TIDELINE_CLICKHOUSE_CA_FILE"):
            connect(replace(target, ca_file=str(file)))
