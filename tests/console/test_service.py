"""The process: where it may listen, what it says of itself, and how it stops."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request

import aiohttp
import pytest

from schemas.errors import SettingsError
from streams.console.service import Service, address
from streams.local.process import free_port
from streams.process import Parts
from streams.settings import Settings, load, override
from streams.telemetry.metrics import Metrics
from tests.console.doubles import Answers, rows, served
from tests.console.people import everything


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"HOST": "0.0.0.0"}, "nobody would be asked who they are"),
        ({"HOST": "10.1.2.3", "PUBLIC_URL": "https://t.example"}, "TOKENS_FILE"),
        ({"HOST": "::", "TOKENS_FILE": "t.toml"}, "TIDELINE_CONSOLE_PUBLIC_URL: missing"),
        ({"USER_HEADER": "X-User"}, "TIDELINE_CONSOLE_TRUSTED_PROXIES: goes with"),
        ({"USER_HEADER": "X-User", "TRUSTED_PROXIES": "10.0.0.1"}, "ROLES_HEADER: goes with"),
        ({"ROLES_HEADER": "X-Groups", "TRUSTED_PROXIES": "10.0.0.1"}, "goes with"),
        ({"TRUSTED_PROXIES": "everybody"}, "expected a list like"),
        ({"USER_HEADER": "X User:"}, "expected a header's name"),
        ({"PUBLIC_URL": "https://t.example/path"}, "expected a URL of a host"),
        ({"ZONE": "Europe/Atlantis"}, "expected a time zone's name"),
        ({"SEAL_KEY": "short"}, "32 characters or more"),
        ({"PORT": "0"}, "expected a port"),
    ],
)
def test_nobody_comes_in_by_accident(environ: dict[str, str], said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load({f"TIDELINE_CONSOLE_{name}": value for name, value in environ.items()})
    assert said in str(caught.value)
    assert "short" not in str(caught.value).replace("shortest", "")


def test_what_may_be_set_may_be_set() -> None:
    proxy = {
        "HOST": "0.0.0.0", "PUBLIC_URL": "https://tideline.example.com",
        "USER_HEADER": "X-Forwarded-User", "ROLES_HEADER": "X-Forwarded-Groups",
        "TRUSTED_PROXIES": "10.0.0.5, 10.1.0.0/16, ::1", "ZONE": "Europe/Berlin",
    }  # fmt: skip
    found = load({f"TIDELINE_CONSOLE_{name}": value for name, value in proxy.items()})
    assert address(found) == "https://tideline.example.com"
    assert address(Settings()) == "http://127.0.0.1:8380"
    assert address(override(Settings(), console_host="::1")) == "http://[::1]:8380"


def get(url: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def test_it_serves_without_clickhouse_and_kafka_says_so_and_stops_with_its_streams() -> None:
    port, metrics = free_port(), free_port()
    settings = override(
        Settings(), console_port=port, web_metrics_port=metrics, clickhouse_port=free_port(),
        kafka_broker_url=f"127.0.0.1:{free_port()}",
    )  # fmt: skip

    async def go() -> None:
        errors: list[BaseException] = []
        service = Service(settings, Metrics())
        parts = Parts(service.parts(errors.append))
        await parts.start()
        try:
            url = f"http://127.0.0.1:{port}"
            status, body = await asyncio.to_thread(get, f"{url}/today")
            assert status == 503
            assert b"check that ClickHouse is up" in body
            status, _ = await asyncio.to_thread(get, f"http://127.0.0.1:{metrics}/healthz")
            assert status == 200
            status, body = await asyncio.to_thread(get, f"http://127.0.0.1:{metrics}/readyz")
            assert status == 503
            assert "ClickHouse does not answer" in json.loads(body)["reasons"][0]
            _, text = await asyncio.to_thread(get, f"http://127.0.0.1:{metrics}/metrics")
            assert b'tideline_console_answers_total{form="html",page="today",status="5xx"} 1.0' in (
                text
            )
            async with aiohttp.ClientSession() as client, client.get(f"{url}/today.live") as answer:
                assert (await answer.content.readuntil(b"\n\n")).startswith(b"event: away")
                async with asyncio.timeout(10):
                    await parts.stop()
                    assert not await answer.content.read()
        finally:
            await parts.stop()
        assert not errors

    asyncio.run(go())


def test_a_port_that_is_taken_is_named() -> None:
    async def go() -> None:
        server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        parts = Parts(Service(override(Settings(), console_port=port), Metrics()).parts(print))
        with pytest.raises(SettingsError, match="TIDELINE_CONSOLE_PORT"):
            await parts.start()
        server.close()
        await server.wait_closed()

    asyncio.run(go())


def test_who_is_erased_is_gone_with_the_next_look() -> None:
    """Nothing is kept of a page: what ClickHouse no longer has is on none."""
    reader = everything("x")
    gone = Answers(
        {key: rows(answer.columns) if not callable(answer) else answer
         for key, answer in reader.answers.items()}
        | {"spend_low": rows(["user_id"])}
    )  # fmt: skip
    with served(reader) as console:
        assert "ann" in console.get("/customers/ann").text
        assert "ann" in console.get("/today.json").text
        console.console.reader = gone
        assert console.get("/customers/ann").status == 404
        for path in ("/today", "/today.json", "/today.csv", "/customers.json?q=an"):
            assert '"ann"' not in console.get(path).text
            assert ">ann<" not in console.get(path).text
            assert ",ann," not in console.get(path).text
