"""What a worker and the learner do when `CURRENT` changes, on real artifacts."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest

from models.artifact import CURRENT_FILE, MANIFEST_FILE, artifacts_root, load_artifact
from models.artifact import promote as put_into_use
from models.champion import SCORES_FILE
from models.registry import ScorerStore, Switch, watch
from schemas.errors import ArtifactError
from schemas.messages import LearnerSnapshot
from streams.core.events.records import RecordBatch, Records
from streams.learner.service import SLICE_EXAMPLES, LearnerService
from tests.models.synthetic import example, rows
from tests.shard.memory import MemoryLog

OLD, NEW = "2026-01-01-old", "2026-02-02-new"


def make(root: Path, version: str, horizon_days: int) -> Path:
    """The shipped model under another name and horizon."""
    shipped = next(p for p in artifacts_root().iterdir() if p.is_dir())
    path = Path(shutil.copytree(shipped, root / version))
    manifest = msgspec.json.decode((path / MANIFEST_FILE).read_bytes())
    manifest |= {"version": version, "horizon_days": horizon_days}
    (path / MANIFEST_FILE).write_bytes(msgspec.json.encode(manifest))
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    make(tmp_path, OLD, 28)
    make(tmp_path, NEW, 14)
    put_into_use(tmp_path, OLD)
    return tmp_path


def damage(path: Path) -> None:
    content = bytearray((path / SCORES_FILE).read_bytes())
    content[-10] ^= 1
    (path / SCORES_FILE).write_bytes(content)


def wrong_golden(path: Path) -> None:
    manifest = msgspec.json.decode((path / MANIFEST_FILE).read_bytes())
    manifest["golden"]["outputs"]["p_churn"][2] += 2e-5
    (path / MANIFEST_FILE).write_bytes(msgspec.json.encode(manifest))


def test_a_promotion_is_loaded_once_and_the_old_model_stays_available(root: Path) -> None:
    store = ScorerStore(root, "USD")
    assert (store.followed, store.get("").champion_version) == (True, OLD)
    assert store.refresh() is None
    put_into_use(root, NEW)
    assert store.refresh() == Switch(NEW)
    assert store.refresh() is None
    assert (store.get("").champion_version, store.get("").horizon_days) == (NEW, 14)
    assert (store.get(OLD).champion_version, store.get(OLD).horizon_days) == (OLD, 28)
    put_into_use(root, OLD)
    assert store.refresh() == Switch(OLD)


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (damage, "was altered"),
        (wrong_golden, "golden vector 2"),
        (lambda path: (path / MANIFEST_FILE).write_bytes(b"{"), "can't be read"),
        (shutil.rmtree, "Put that artifact back"),
    ],
)
def test_a_bad_artifact_is_refused_logged_once_and_the_old_one_stays(
    root: Path, spoil: object, why: str
) -> None:
    store = ScorerStore(root, "USD")
    good = shutil.copytree(root / NEW, root / ".good")
    spoil(root / NEW)  # type: ignore[operator]
    (root / CURRENT_FILE).write_text(NEW)
    switch = store.refresh()
    assert switch is not None
    assert switch.version == NEW
    assert why in str(switch.refused)
    assert store.refresh() is None
    assert store.get("").champion_version == OLD
    # Mended, it is taken up.
    shutil.rmtree(root / NEW, ignore_errors=True)
    shutil.copytree(good, root / NEW)
    os.utime(root / NEW / SCORES_FILE)
    assert store.refresh() == Switch(NEW)


def test_artifact_whose_last_file_arrives_during_the_load_is_tried_again(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, get = ScorerStore(root, "USD"), ScorerStore.get
    last, away = root / NEW / SCORES_FILE, root / ".away"
    last.rename(away)

    def slow(self: ScorerStore, version: str) -> object:
        try:
            return get(self, version)
        finally:
            if away.exists():
                away.rename(last)

    monkeypatch.setattr(ScorerStore, "get", slow)
    (root / CURRENT_FILE).write_text(NEW)
    switch = store.refresh()
    assert switch is not None
    assert switch.refused is not None
    assert store.refresh() == Switch(NEW)


def test_promote_refuses_what_workers_would_refuse_and_changes_nothing(root: Path) -> None:
    damage(root / NEW)
    with pytest.raises(ArtifactError, match="was altered"):
        put_into_use(root, NEW)
    (root / NEW).rename(root / "2026-03-03-other")
    with pytest.raises(ArtifactError):
        put_into_use(root, "2026-03-03-other")
    make(root, "2026-04-04-a", 28).rename(root / "2026-04-04-b")
    with pytest.raises(ArtifactError, match="Name the directory as the manifest does"):
        put_into_use(root, "2026-04-04-b")
    assert (root / CURRENT_FILE).read_text().strip() == OLD


@pytest.mark.parametrize("content", [None, "", "../elsewhere"])
def test_an_unusable_current_file_is_logged_once(root: Path, content: str | None) -> None:
    store = ScorerStore(root, "USD")
    if content is None:
        (root / CURRENT_FILE).unlink()
    else:
        (root / CURRENT_FILE).write_text(content)
    switch = store.refresh()
    assert switch is not None
    assert switch.refused is not None
    assert store.refresh() is None
    assert store.get("").champion_version == OLD


def test_one_artifact_by_its_own_directory_stays(root: Path) -> None:
    store = ScorerStore(root / NEW, "USD")
    put_into_use(root, OLD)
    assert not store.followed
    assert store.refresh() is None
    assert store.get("").champion_version == NEW
    assert store.get(OLD).champion_version == OLD  # replay finds its siblings


def test_a_missing_old_artifact_says_what_to_do(root: Path) -> None:
    with pytest.raises(ArtifactError, match=r"Model gone.*Put that artifact back"):
        ScorerStore(root, "USD").get("gone")


def test_watching_reports_switches_and_refusals(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def go() -> list[Switch]:
        store, switches = ScorerStore(root, "USD"), []
        heard = asyncio.Event()

        def hear(switch: Switch) -> None:
            switches.append(switch)
            heard.set()

        task = asyncio.create_task(watch(store, hear, seconds=0.001))
        damage(root / NEW)
        (root / CURRENT_FILE).write_text(NEW)
        async with asyncio.timeout(20):
            await heard.wait()
            heard.clear()
            make(root, "2026-05-05-third", 7)
            put_into_use(root, "2026-05-05-third")
            await heard.wait()
        task.cancel()
        return switches

    with caplog.at_level("INFO"):
        refused, switched = asyncio.run(go())
    assert refused.refused is not None
    assert (switched.version, switched.refused) == ("2026-05-05-third", None)
    assert f"champion {NEW} is refused, {OLD} stays in use" in caplog.text
    assert "champion 2026-05-05-third is in use from the next step on (7 days)" in caplog.text


def test_the_learner_goes_on_with_a_promoted_champion(root: Path) -> None:
    """Also in the middle of a batch; no example is taken twice, and versions go on."""
    old, new = (load_artifact(root / version).manifest for version in (OLD, NEW))
    x = rows(1, seed=1)[0]

    def batch(version: str, first: int, n: int) -> RecordBatch:
        made = [
            example(x, i % 2 == 0, ordinal=first + i, champion_version=version, p_champion=0.4)
            for i in range(n)
        ]
        values: list[bytes | None] = [msgspec.msgpack.encode(e) for e in made]
        at = np.arange(first, first + n, dtype=np.int64)
        return RecordBatch.of("examples", 0, Records.of(at, at, [None] * n, values))

    async def go() -> list[LearnerSnapshot | None]:
        service = LearnerService(MemoryLog(), "learner", old)
        await service.restore()
        assert await service.take(batch(OLD, 1, 10)) == 10
        published = [await service.publish()]
        taking = asyncio.create_task(service.take(batch(OLD, 11, 2 * SLICE_EXAMPLES)))
        await asyncio.sleep(0)
        service.adopt(new)  # after the first slice
        assert await taking == SLICE_EXAMPLES
        assert await service.take(batch(OLD, 1, 10)) == 0
        published.append(await service.publish())
        assert await service.take(batch(NEW, 11 + 2 * SLICE_EXAMPLES, 5)) == 5
        published.append(await service.publish())
        return published

    first, between, last = asyncio.run(go())
    assert first is not None
    assert between is not None
    assert last is not None
    assert [s.champion_version for s in (first, between, last)] == [OLD, NEW, NEW]
    assert [s.labels for s in (first, between, last)] == [10, 0, 5]
    assert first.version < between.version < last.version
    assert last.positions == {"0": 10 + 2 * SLICE_EXAMPLES + 5}
