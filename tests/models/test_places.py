"""What every place of artifacts does alike: a directory, an S3, and another object store."""

from __future__ import annotations

import builtins
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from models.artifact import (
    CURRENT_FILE,
    MANIFEST_FILE,
    current_version,
    default_artifact_path,
    load_artifact,
    promote,
    versions,
    write_artifact,
)
from models.champion import SCORES_FILE
from models.objects import ObjectPlace
from models.places import LocalPlace, Place, place
from models.registry import ScorerStore, Switch
from schemas.errors import ArtifactError, ModelsUnavailable, SettingsError
from tests.models.s3 import S3, serving, shipped_files, shipped_version

NEW = "2026-02-02-new"


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with serving() as server:
        yield server


@pytest.fixture(params=["directory", "file URL", "memory", "S3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """An empty place."""
    name = f"bucket-{uuid.uuid4().hex}"
    if request.param == "directory":
        return place(str(tmp_path))
    if request.param == "file URL":
        return place((tmp_path / "my models").as_uri())
    if request.param == "memory":
        return place(f"memory://{name}/models")
    server: S3 = request.getfixturevalue("s3")
    return server.bucket(name)


def fill(root: Place, version: str = "", **changes: Any) -> str:
    """The shipped model, perhaps under another name or with another manifest."""
    files, version = shipped_files(), version or shipped_version()
    manifest = msgspec.json.decode(files[MANIFEST_FILE]) | {"version": version, **changes}
    files[MANIFEST_FILE] = msgspec.json.encode(manifest)
    root.put(version, files, last=MANIFEST_FILE)
    return version


def test_place_returns_what_was_written(root: Place) -> None:
    assert not root.holds(CURRENT_FILE)
    with pytest.raises(OSError, match=CURRENT_FILE):
        root.read(CURRENT_FILE)
    assert root.directories(holding=MANIFEST_FILE) == []
    root.replace(CURRENT_FILE, b"one\n")
    root.replace(CURRENT_FILE, b"two\n")
    assert root.read(CURRENT_FILE) == b"two\n"
    for name in ("b", "a"):
        root.put(name, {"x": name.encode(), MANIFEST_FILE: b"{}"}, last=MANIFEST_FILE)
    root.put("c", {"x": b"c"}, last=MANIFEST_FILE)
    assert root.directories(holding=MANIFEST_FILE) == ["a", "b"]
    assert (root / "a").read("x") == b"a"
    assert ((root / "a").name, str((root / "a").parent)) == ("a", str(root))
    before = (root / "a").stamp(["x", "missing"])
    assert (root / "a").stamp(["x", "missing"]) == before
    root.put("a", {"x": b"another", MANIFEST_FILE: b"{}"}, last=MANIFEST_FILE)
    assert (root / "a").read("x") == b"another"
    assert (root / "a").stamp(["x", "missing"]) != before


def test_only_one_of_several_creates_a_file(root: Place) -> None:
    book = root / "BOOK"
    assert book.files() == []
    assert book.create("2", b"mine")
    assert not book.create("2", b"yours")
    assert book.read("2") == b"mine"
    assert book.create("1", b"")
    book.replace("2", b"changed")
    assert book.files() == ["1", "2"]
    assert root.directories(holding=MANIFEST_FILE) == []


def test_a_directory_is_removed_beginning_with_the_file_that_completes_it(root: Place) -> None:
    for name in ("a", "b"):
        root.put(name, {"x": b"", MANIFEST_FILE: b"{}"}, last=MANIFEST_FILE)
    root.remove("a", first=MANIFEST_FILE)
    assert root.directories(holding=MANIFEST_FILE) == ["b"]
    assert (root / "a").files() == []
    assert (root / "b").files() == [MANIFEST_FILE, "x"]
    root.remove("a", first=MANIFEST_FILE)
    root.remove("nobody", first=MANIFEST_FILE)


class _Kept(MemoryFileSystem):  # type: ignore[misc]
    """A removal that is cut off after one object."""

    cachable = False

    def rm_file(self, path: str) -> None:
        super().rm_file(path)
        raise ConnectionResetError("cut off")


def test_removal_that_is_interrupted_leaves_nothing_that_looks_complete() -> None:
    root = ObjectPlace(_Kept(), f"/{uuid.uuid4().hex}")
    fill(root, NEW)
    with pytest.raises(ModelsUnavailable, match="cut off"):
        root.remove(NEW, first=MANIFEST_FILE)
    assert versions(root) == []
    assert SCORES_FILE in (root / NEW).files()


def test_artifacts_are_written_listed_promoted_and_followed(root: Place) -> None:
    shipped = shipped_version()
    source = load_artifact(default_artifact_path())
    write_artifact(root, source.manifest, source.files, make_current=True)
    assert current_version(root) == shipped
    store = ScorerStore(root, "USD")
    assert store.get("").champion_version == shipped
    assert store.refresh() is None

    fill(root, NEW, horizon_days=14)
    assert versions(root) == sorted([shipped, NEW])
    assert promote(root, NEW).horizon_days == 14
    assert store.refresh() == Switch(NEW)
    assert (store.get("").horizon_days, store.get(shipped).horizon_days) == (14, 28)
    assert ScorerStore(root, "USD").get(shipped).champion_version == shipped
    # The directory of one artifact stays in use, and finds the others beside it.
    pinned = ScorerStore(root / shipped, "USD")
    assert (pinned.followed, pinned.get(NEW).champion_version) == (False, NEW)


def test_altered_bytes_and_missing_versions_are_refused_until_they_are_right(root: Place) -> None:
    shipped = fill(root)
    promote(root, shipped)
    store = ScorerStore(root, "USD")
    fill(root, NEW)
    good = (root / NEW).read(SCORES_FILE)
    (root / NEW).replace(SCORES_FILE, good[:-10] + bytes([good[-10] ^ 1]) + good[-9:])
    with pytest.raises(ArtifactError, match="was altered"):
        promote(root, NEW)
    assert current_version(root) == shipped
    root.replace(CURRENT_FILE, NEW.encode())
    refused = store.refresh()
    assert refused is not None
    assert "was altered" in str(refused.refused)
    assert store.refresh() is None  # said once
    assert store.get("").champion_version == shipped
    (root / NEW).replace(SCORES_FILE, good)
    assert store.refresh() == Switch(NEW)

    root.replace(CURRENT_FILE, b"2026-03-03-gone")
    gone = store.refresh()
    assert gone is not None
    assert "Put that artifact back" in str(gone.refused)
    assert store.get("").champion_version == NEW


def test_the_same_artifact_twice_is_harmless(root: Place) -> None:
    shipped = fill(root)
    promote(root, shipped)
    store = ScorerStore(root, "USD")
    fill(root)
    assert store.refresh() is None
    assert load_artifact(root / shipped).version == shipped


class _Cut(MemoryFileSystem):  # type: ignore[misc]
    """An upload that is cut off after `left` objects."""

    cachable = False
    left = 0

    def pipe_file(self, path: str, value: bytes, *args: Any, **kwargs: Any) -> Any:
        self.left -= 1
        if self.left < 0:
            raise ConnectionResetError("cut off")
        return super().pipe_file(path, value, *args, **kwargs)


def test_upload_interrupted_at_any_file_is_never_used() -> None:
    filesystem = _Cut()
    root = ObjectPlace(filesystem, f"/{uuid.uuid4().hex}")
    filesystem.left = 100
    shipped = fill(root)
    promote(root, shipped)
    store = ScorerStore(root, "USD")
    for objects in range(len(shipped_files())):
        filesystem.left = objects
        with pytest.raises(ModelsUnavailable, match="cut off"):
            fill(root, NEW)
        assert versions(root) == [shipped]
        filesystem.left = 100
        with pytest.raises(ArtifactError, match="No complete artifact"):
            promote(root, NEW)
        assert store.refresh() is None
    fill(root, NEW)
    promote(root, NEW)
    assert store.refresh() == Switch(NEW)


def test_upload_that_a_store_shows_late_is_taken_up_later() -> None:
    root = place(f"memory://{uuid.uuid4().hex}")
    shipped = fill(root)
    promote(root, shipped)
    store = ScorerStore(root, "USD")
    root.replace(CURRENT_FILE, NEW.encode())  # seen before what it names
    early = store.refresh()
    assert early is not None
    assert early.refused is not None
    assert store.refresh() is None
    fill(root, NEW)
    assert store.refresh() == Switch(NEW)


@pytest.mark.parametrize(
    ("url", "remedy"),
    [
        ("nothing://bucket/models", "begins with s3://"),
        ("gs://bucket/models", "pip install gcsfs"),
        ("az://container/models", "pip install adlfs"),
        ("file://models/here", "Write three slashes"),
        ("s3://me:secret@bucket/models", "AWS_SECRET_ACCESS_KEY"),
    ],
)
def test_unusable_url_is_refused_with_its_remedy(url: str, remedy: str) -> None:
    with pytest.raises(SettingsError, match=remedy) as refused:
        place(url)
    assert "me:secret" not in str(refused.value)


def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("fsspec"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(SettingsError, match=r"pip install 'tideline\[objects\]'"):
        place("s3://bucket/models")


_KILLED = """
import os, sys
from pathlib import Path
from models import places

def die(*_):
    os._exit(9)

places.os.replace = Path.rename = die
place = places.LocalPlace(Path(sys.argv[1]))
if sys.argv[2] == "put":
    place.put("m", {"a": b"a"}, last="a")
else:
    place.replace("f", b"f")
"""


@pytest.mark.parametrize("write", ["put", "replace"])
def test_what_a_killed_writer_left_goes_with_the_first_write_an_hour_later(
    tmp_path: Path, write: str
) -> None:
    root, outside = tmp_path / "place", tmp_path / "outside"
    argv = [sys.executable, "-c", _KILLED, str(root), write]
    for _ in range(2):
        assert subprocess.run(argv, check=False).returncode == 9
    old, young = sorted(root.iterdir())
    outside.mkdir()
    (outside / "kept").touch()
    (root / ".new-link").symlink_to(outside)
    made = old.stat().st_mtime
    os.utime(old, (made - 3_700, made - 3_700))
    os.utime(root / ".new-link", (made - 3_700, made - 3_700), follow_symlinks=False)
    here = LocalPlace(root)
    assert here.files() == here.directories("a") == []
    if write == "put":
        here.replace("f", b"f")
    else:
        here.put("m", {"a": b"a"}, last="a")
    left = {path.name for path in root.iterdir()}
    assert left == {young.name, "f" if write == "put" else "m"}, "another may be writing that"
    assert (outside / "kept").exists()


def test_a_directory_needs_no_library_of_object_stores() -> None:
    code = (
        "import sys; from models.registry import ScorerStore, artifact_place; "
        "ScorerStore(artifact_place(''), 'USD'); "
        "sys.exit(any(m in sys.modules for m in ('fsspec', 's3fs', 'botocore')))"
    )
    assert subprocess.run([sys.executable, "-c", code], env=os.environ, check=False).returncode == 0
