"""How a connection to ClickHouse is made, without one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from schemas.errors import SettingsError
from streams.clickhouse import client
from streams.clickhouse.client import ClickHouseTarget, clickhouse_target, connect
from streams.settings import Settings, override
from tests.certificates import Authority


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The arguments of every client that is made."""
    found: list[dict[str, Any]] = []
    monkeypatch.setattr(client, "Client", lambda host, **more: found.append({"host": host, **more}))
    return found


def test_a_client_gets_all_of_its_target(made: list[dict[str, Any]], tmp_path: Path) -> None:
    bundle = str(Authority(tmp_path / "authority").file)
    target = ClickHouseTarget("db", 9440, "shop", "ann", "hush", True, bundle, 2.0, 30.0)
    connect(target)
    assert made[0] == {
        "host": "db", "port": 9440, "database": "shop", "user": "ann", "password": "hush",
        "secure": True, "verify": True, "ca_certs": bundle, "client_name": "tideline",
        "connect_timeout": 2.0, "send_receive_timeout": 30.0, "sync_request_timeout": 2.0,
        "compression": False,
    }  # fmt: skip
    connect(ClickHouseTarget("db"))
    assert (made[1]["secure"], made[1]["verify"], made[1]["ca_certs"]) == (False, True, None)


def test_a_database_can_be_named_in_place_of_the_target_s(made: list[dict[str, Any]]) -> None:
    for database, expected in ((None, "tideline"), ("", ""), ("other", "other")):
        connect(ClickHouseTarget("db"), database)
        assert made[-1]["database"] == expected


@pytest.mark.parametrize("content", [None, "not a certificate"])
def test_a_bundle_that_is_no_use_names_its_setting_if_tls_is_wanted(
    made: list[dict[str, Any]], content: str | None, tmp_path: Path
) -> None:
    bundle = tmp_path / "ca.pem"
    if content is not None:
        bundle.write_text(content)
    target = ClickHouseTarget("db", secure=True, ca_file=str(bundle))
    with pytest.raises(SettingsError, match=r"TIDELINE_CLICKHOUSE_CA_FILE.*ca\.pem"):
        connect(target)
    assert made == []
    connect(ClickHouseTarget("db", ca_file=str(bundle)))
    assert len(made) == 1


def test_every_setting_of_the_way_in_is_taken_over() -> None:
    settings = override(
        Settings(),
        clickhouse_host="db", clickhouse_port=9440, clickhouse_database="shop",
        clickhouse_user="ann", clickhouse_password="hush", clickhouse_secure=True,
        clickhouse_ca_file="/ca",
    )  # fmt: skip
    target = clickhouse_target(settings)
    assert target == ClickHouseTarget("db", 9440, "shop", "ann", "hush", True, "/ca")
    assert str(target) == "db:9440/shop"
