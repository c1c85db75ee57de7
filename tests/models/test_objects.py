"""An S3 that is away, slow, or refuses us, as a worker meets it."""

from __future__ import annotations

import asyncio
import socket
import time
import uuid
from collections.abc import Iterator

import pytest

from models import objects
from models.artifact import MANIFEST_FILE, promote
from models.places import Place, place
from models.registry import ScorerStore, Switch, watch
from schemas.errors import ArtifactError, ModelsUnavailable
from streams.local.process import LOOPBACK
from streams.telemetry.logs import configure
from tests.models.s3 import CREDENTIALS, S3, serving
from tests.models.test_places import NEW, fill


@pytest.fixture
def s3() -> Iterator[S3]:
    with serving() as server:
        yield server


@pytest.fixture
def root(s3: S3) -> Place:
    root = s3.bucket(f"bucket-{uuid.uuid4().hex}")
    promote(root, fill(root))
    return root


def test_a_worker_keeps_its_champion_while_the_store_is_away(
    s3: S3, root: Place, caplog: pytest.LogCaptureFixture
) -> None:
    fill(root, NEW)
    store = ScorerStore(root, "USD")
    first = store.current.champion_version
    looks = 0
    refresh = store.refresh

    def counted() -> Switch | None:
        nonlocal looks
        looks += 1
        return refresh()

    store.refresh = counted  # type: ignore[method-assign]

    async def go() -> tuple[list[Switch], float]:
        switches: list[Switch] = []
        heard = asyncio.Event()

        def hear(switch: Switch) -> None:
            switches.append(switch)
            heard.set()

        s3.stop()
        watching = asyncio.create_task(watch(store, hear, seconds=0.01))
        longest, before = 0.0, time.monotonic()
        while looks < 3:  # two of them have failed
            await asyncio.sleep(0.01)
            now = time.monotonic()
            longest, before = max(longest, now - before), now
        assert (switches, store.current.champion_version) == ([], first)
        await asyncio.to_thread(s3.start)
        await asyncio.to_thread(promote, root, NEW)
        async with asyncio.timeout(60):
            await heard.wait()
        watching.cancel()
        return switches, longest

    with caplog.at_level("INFO"):
        switches, longest = asyncio.run(go())
    assert switches == [Switch(NEW)]
    away = [r.getMessage() for r in caplog.records if "nothing else can be promoted" in r.message]
    assert len(away) == 1
    assert first in away[0]
    assert str(s3.port) in away[0]
    assert "the store of models answers again" in caplog.text
    assert longest < 1.0, "the event loop stood still"


def test_start_without_a_store_fails_and_names_the_remedy(s3: S3, root: Place) -> None:
    with s3.away(), pytest.raises(ModelsUnavailable, match="AWS_ENDPOINT_URL"):
        ScorerStore(root, "USD")
    assert ScorerStore(root, "USD").followed


def test_request_to_a_silent_store_ends_after_the_time_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(objects, "_READ_SECONDS", 1.0)
    with socket.create_server((LOOPBACK, 0)) as silent:
        for name, value in CREDENTIALS.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{LOOPBACK}:{silent.getsockname()[1]}")
        started = time.monotonic()
        with pytest.raises(ModelsUnavailable, match="no answer in time"):
            ScorerStore(place("s3://bucket/models"), "USD")
        assert time.monotonic() - started < 20


def test_without_credentials_the_error_says_so(
    root: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    with pytest.raises(ModelsUnavailable, match=r"(?i)credentials"):
        ScorerStore(place(str(root)), "USD")


def test_missing_bucket_is_reported_as_a_missing_artifact(s3: S3) -> None:
    with pytest.raises(ArtifactError, match="No complete artifact"):
        ScorerStore(place(f"s3://{uuid.uuid4().hex}/models"), "USD")


def test_no_secret_is_logged_even_at_debug(root: Place, capsys: pytest.CaptureFixture[str]) -> None:
    configure("debug")
    try:
        ScorerStore(root, "USD")
        assert root.directories(holding=MANIFEST_FILE)
    finally:
        configure("info")
    shown = capsys.readouterr().err
    assert CREDENTIALS["AWS_SECRET_ACCESS_KEY"] not in shown
    assert "Signature" not in shown
    assert "botocore" not in shown
