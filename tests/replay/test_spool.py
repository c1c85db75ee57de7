"""The spool gives every record back once, in its shard and in time order, whatever was cut off."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from schemas.errors import SettingsError
from streams.core.backfill import FIRST_OFFSET
from streams.core.partitioning import partitions_of_keys
from streams.replay import spool as module
from streams.replay.records import CLICKSTREAM, ORDERS, Block, InputRecord
from streams.replay.spool import Spool, file_id, history_id

SHARDS = 3


@pytest.fixture
def small_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RUN_RECORDS", 100)
    monkeypatch.setattr(module, "BATCH_RECORDS", 7)


def blocks(seed: int, records: int, at_once: int = 30) -> list[Block]:
    rng = random.Random(seed)
    every = [
        InputRecord(
            rng.choice([CLICKSTREAM, ORDERS]),
            f"u{rng.randrange(40)}".encode(),
            f"{seed}-{number}".encode() * rng.randrange(1, 4),
            rng.randrange(50) * 1_000,
        )
        for number in range(records)
    ]
    every.sort(key=lambda record: record.timestamp_ms)
    return [every[i : i + at_once] for i in range(0, records, at_once)]


def add(spool: Spool, name: str, given: list[Block]) -> None:
    assert list(spool.add(name, given, {"source": name}, export=True))[-1] == sum(map(len, given))


def read(spool: Spool, files: list[str]) -> list[tuple[int, InputRecord]]:
    found = []
    for shard in range(SHARDS):
        before_ms = -1
        for source, _, records in spool.read(files, (shard,)):
            assert (records.offsets >= FIRST_OFFSET).all()
            assert (np.diff(records.timestamps_ms) >= 0).all()
            assert int(records.timestamps_ms[0]) >= before_ms or source == 1
            for key, value, ts_ms in zip(
                records.keys, records.values, records.timestamps_ms.tolist(), strict=True
            ):
                assert key is not None
                assert value is not None
                found.append((shard, InputRecord((CLICKSTREAM, ORDERS)[source], key, value, ts_ms)))
            before_ms = int(records.timestamps_ms[0])
    return found


@pytest.mark.usefixtures("small_runs")
@pytest.mark.parametrize("sizes", [[1], [250], [99, 340, 7], [400, 400]])
def test_every_record_comes_back_once_in_its_shard_and_by_time(
    tmp_path: Path, sizes: list[int]
) -> None:
    spool = Spool(tmp_path, "murmur2", SHARDS)
    given = {f"f{i}": blocks(i, size) for i, size in enumerate(sizes)}
    for name, some in given.items():
        add(spool, name, some)
    files = list(given)
    expected = [record for some in given.values() for block in some for record in block]
    found = read(spool, files)
    assert sorted(r for _, r in found) == sorted(expected)
    keys = [record.key or b"" for _, record in found]
    assert [s for s, _ in found] == partitions_of_keys(keys, "murmur2", SHARDS).tolist()
    summary = spool.summary(files)
    assert sum(summary.records) == len(expected)
    assert summary.newest_ms == max(record.timestamp_ms for record in expected)


@pytest.mark.usefixtures("small_runs")
def test_records_of_one_time_come_together_and_in_the_order_of_the_files(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "murmur2", SHARDS)
    for name in ("b", "a", "c"):
        same = [InputRecord(ORDERS, b"u", f"{name}{i}".encode(), i // 50) for i in range(240)]
        add(spool, name, [same])
    for shard in range(SHARDS):
        seen: set[int] = set()
        for _, _, records in spool.read(["b", "a", "c"], (shard,)):
            times = set(records.timestamps_ms.tolist())
            assert not seen & times
            seen |= times
            for ts_ms in times:
                values = [v for v, t in zip(records.values, records.timestamps_ms, strict=True)
                          if t == ts_ms]  # fmt: skip
                files = [(value or b"")[:1] for value in values]
                assert files == sorted(files, key=b"bac".index)


@pytest.mark.usefixtures("small_runs")
def test_a_file_that_was_cut_off_is_not_there_and_is_written_anew(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "murmur2", SHARDS)
    given = blocks(1, 350)
    cut_off = spool.add("f", given, {}, export=False)
    for _ in range(8):  # two runs are written, and then the process is killed
        next(cut_off)
    assert list((tmp_path / "f").glob("*.arrow"))
    assert spool.report_of("f") is None
    add(spool, "f", given[:5])
    assert spool.report_of("f") == {"source": "f"}
    assert len(read(spool, ["f"])) == 150


def test_a_full_disk_is_told_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> Iterator[None]:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pa, "OSFile", full)
    with pytest.raises(SettingsError, match=r"No space left on device.*--work-dir"):
        list(Spool(tmp_path, "murmur2", SHARDS).add("f", blocks(1, 5), {}, export=True))


def test_a_file_is_known_by_what_it_holds_and_how_it_is_read(tmp_path: Path) -> None:
    one, copy, other = (tmp_path / name for name in ("a.csv", "b.csv", "c.csv"))
    one.write_text("x")
    copy.write_text("x")
    other.write_text("y")
    assert file_id(one, ["murmur2", 4]) == file_id(copy, ["murmur2", 4])
    assert (
        len({file_id(one, ["murmur2", n]) for n in (4, 8)} | {file_id(other, ["murmur2", 4])}) == 3
    )
    assert history_id(["a", "b"]) == history_id(["b", "a"]) != history_id(["a"])


def test_files_that_wait_stay_until_they_are_counted(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "work", "murmur2", SHARDS)
    assert spool.staged == []
    add(spool, "f", blocks(1, 5))
    spool.stage(["f"])
    spool.stage(["f", "g"])
    assert Spool(tmp_path / "work", "murmur2", SHARDS).staged == ["f", "g"]
    spool.remove()
    assert spool.staged == []
    assert not (tmp_path / "work").exists()
