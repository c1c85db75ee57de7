"""Records of files on disk, by shard and in time order, however many there are.

The reader gives records by time, file by file. So many at a time are sorted by shard and time and
written as one run; a shard is read back by merging its part of all runs, one stretch of time after
the other. In memory are the records of one run, or the next few thousand of each.

A file whose runs are complete is not read again: after a kill the same command goes on with the
next file. Runs are Arrow files, compressed, and go with the spool.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import xxhash
from numpy.typing import NDArray

from schemas.errors import SettingsError
from streams.core.backfill import FIRST_OFFSET
from streams.core.events.records import CLICKSTREAM as CLICKS
from streams.core.events.records import ORDERS, SOURCES, Records
from streams.core.partitioning import PartitionerName, partitions_of_keys
from streams.replay.records import CLICKSTREAM, Block

__all__ = ["Spool", "Summary", "file_id", "history_id"]

RUN_RECORDS: Final = 500_000  # with their objects 300 MB
BATCH_RECORDS: Final = 16_384  # read back of a run at a time
_EXPORT: Final = len(SOURCES)  # orders of a shop's export, not events as producers send them
_SCHEMA: Final = pa.schema(
    [("ts_ms", pa.int64()), ("source", pa.int8()), ("key", pa.binary()), ("value", pa.binary())]
)
_DONE: Final = "done.json"
_STAGED: Final = "staged.json"
_HASHED_BYTES: Final = 1 << 20


@dataclass(frozen=True)
class Summary:
    """What the spool holds: records by shard, and the time of the newest, 0 if there are none."""

    records: tuple[int, ...]
    newest_ms: int


@dataclass(frozen=True)
class _Part:
    """Records of one shard in one Arrow batch, of the how many'th file."""

    file: int
    run: Path
    batch: int
    first_ms: int
    last_ms: int
    records: int


class Spool:
    """The records of several files in `directory`, for shards that keys belong to by `partitioner`
    among `partitions`. In memory are `run_records` before they are written, RUN_RECORDS without.
    Raises SettingsError if the disk is full."""

    def __init__(
        self, directory: Path, partitioner: PartitionerName, partitions: int,
        run_records: int | None = None,
    ) -> None:  # fmt: skip
        self._directory = directory
        self._run_records = run_records or RUN_RECORDS
        self._partitioner: PartitionerName = partitioner
        self._partitions = partitions

    def report_of(self, file: str) -> dict[str, Any] | None:
        """What was read of a file, as it was given to `add`; None if it is not here whole."""
        done = self._directory / file / _DONE
        if not done.exists():
            return None
        found: dict[str, Any] = json.loads(done.read_text(encoding="utf-8"))["report"]
        return found

    def add(
        self, file: str, blocks: Iterable[Block], report: dict[str, Any], *, export: bool
    ) -> Iterator[int]:
        """Write a file's records, under a name without slashes; yields how many so far. `export`:
        it is a shop's export, not events as producers send them."""
        place = self._directory / file
        shutil.rmtree(place, ignore_errors=True)  # what a kill left of it
        place.mkdir(parents=True)
        waiting: Block = []
        parts: list[list[Any]] = []
        written = runs = 0
        try:
            for block in blocks:
                waiting += block
                if len(waiting) >= self._run_records:
                    parts += self._write(place, runs, waiting, export)
                    written, runs, waiting = written + len(waiting), runs + 1, []
                yield written + len(waiting)
            if waiting:
                parts += self._write(place, runs, waiting, export)
            unfinished = place / f"{_DONE}.part"
            unfinished.write_text(json.dumps({"report": report, "parts": parts}), encoding="utf-8")
            os.replace(unfinished, place / _DONE)
        except OSError as error:
            raise SettingsError(
                f"The records of {file} can't be written to {self._directory}: {error.strerror}. "
                "They take about 60 bytes each; choose another disk with --work-dir."
            ) from error

    def _write(self, place: Path, number: int, records: Block, export: bool) -> list[list[Any]]:
        """One run; returns its parts, for `done.json`."""
        ts_ms = np.array([record.timestamp_ms for record in records], np.int64)
        shard = partitions_of_keys(
            [record.key or b"" for record in records], self._partitioner, self._partitions
        )
        order = np.lexsort((np.arange(len(records)), ts_ms, shard))
        clicks = np.array([record.topic_kind == CLICKSTREAM for record in records])
        source = np.where(clicks, CLICKS, _EXPORT if export else ORDERS).astype(np.int8)
        table = pa.table(
            [
                pa.array(ts_ms), pa.array(source),
                pa.array([record.key for record in records], pa.binary()),
                pa.array([record.value for record in records], pa.binary()),
            ],
            schema=_SCHEMA,
        ).take(pa.array(order))  # fmt: skip
        ts_ms, shard = ts_ms[order], shard[order]
        run = place / f"{number:05}.arrow"
        parts: list[list[Any]] = []
        options = pa.ipc.IpcWriteOptions(compression="lz4")
        with (
            pa.OSFile(str(run), "wb") as sink,
            pa.ipc.new_file(sink, _SCHEMA, options=options) as to,
        ):
            for each in range(self._partitions):
                first, last = np.searchsorted(shard, [each, each + 1]).tolist()
                for start in range(first, last, BATCH_RECORDS):
                    stop = min(start + BATCH_RECORDS, last)
                    batch = table.slice(start, stop - start).combine_chunks()
                    to.write_batch(batch.to_batches()[0])
                    span = [int(ts_ms[start]), int(ts_ms[stop - 1])]
                    parts.append([each, run.name, len(parts), *span, stop - start])
        return parts

    def summary(self, files: Sequence[str]) -> Summary:
        """Of these files, which must be here whole."""
        records, newest_ms = [0] * self._partitions, 0
        for shard in range(self._partitions):
            for part in self._parts(files, (shard,)):
                records[shard] += part.records
                newest_ms = max(newest_ms, part.last_ms)
        return Summary(tuple(records), newest_ms)

    def _parts(self, files: Sequence[str], shards: Collection[int]) -> list[_Part]:
        found = []
        for number, file in enumerate(files):
            place = self._directory / file
            done = json.loads((place / _DONE).read_text(encoding="utf-8"))
            for each, run, *rest in done["parts"]:
                if each in shards:
                    found.append(_Part(number, place / run, *rest))
        return found

    def read(
        self, files: Sequence[str], shards: Collection[int]
    ) -> Iterator[tuple[int, bool, Records]]:
        """Some shards' records in time order, as (source, whether of an export, records), some
        thousands at a time. All of one time, source and kind come at once, in the order of the
        files."""
        waiting = sorted(self._parts(files, shards), key=lambda part: part.first_ms)
        opened: list[tuple[int, pa.RecordBatch]] = []
        readers: dict[Path, Any] = {}
        while waiting or opened:
            while waiting and (not opened or waiting[0].first_ms <= _last_ms(opened[0][1])):
                part = waiting.pop(0)
                if part.run not in readers:
                    readers[part.run] = pa.ipc.open_file(pa.memory_map(str(part.run)))
                opened.append((part.file, readers[part.run].get_batch(part.batch)))
                opened.sort(key=lambda of_file: _last_ms(of_file[1]))
            # All records up to the end of the batch that ends first are in memory now.
            until_ms = _last_ms(opened[0][1])
            taken, left = [], []
            for file, batch in opened:
                stop = int(np.searchsorted(batch.column(0).to_numpy(), until_ms, side="right"))
                taken.append((file, batch.slice(0, stop)))
                if stop < batch.num_rows:
                    left.append((file, batch.slice(stop)))
            opened = left
            taken.sort(key=lambda of_file: of_file[0])
            yield from _records(pa.Table.from_batches([batch for _, batch in taken]))

    @property
    def staged(self) -> list[str]:
        """Files that wait to be counted together with those of a later run."""
        staged = self._directory / _STAGED
        return json.loads(staged.read_text(encoding="utf-8")) if staged.exists() else []

    def stage(self, files: Sequence[str]) -> None:
        """Let these files wait, too."""
        part = self._directory / f"{_STAGED}.part"
        part.write_text(json.dumps(list(dict.fromkeys([*self.staged, *files]))), encoding="utf-8")
        os.replace(part, self._directory / _STAGED)

    def remove(self) -> None:
        """Give the disk back."""
        shutil.rmtree(self._directory, ignore_errors=True)


def _last_ms(batch: pa.RecordBatch) -> int:
    last: int = batch.column(0)[-1].as_py()
    return last


def _records(table: pa.Table) -> Iterator[tuple[int, bool, Records]]:
    ts_ms = table.column("ts_ms").to_numpy()
    source = table.column("source").to_numpy()
    for each in (*SOURCES, _EXPORT):
        rows = np.flatnonzero(source == each)
        if len(rows):
            rows = rows[np.argsort(ts_ms[rows], kind="stable")]
            part = table.take(pa.array(rows)).combine_chunks()
            yield min(each, ORDERS), each == _EXPORT, _columns(part, ts_ms[rows])


def _columns(table: pa.Table, ts_ms: NDArray[np.int64]) -> Records:
    """Without an object per record: keys and values are pieces of one buffer."""
    data: list[NDArray[np.uint8]] = []
    at: list[NDArray[np.int64]] = []
    size: list[NDArray[np.int32]] = []
    begin = 0
    for name in ("key", "value"):
        column = table.column(name).chunk(0)
        ends = np.frombuffer(column.buffers()[1], np.int32)[column.offset :][: len(column) + 1]
        used = np.frombuffer(column.buffers()[2], np.uint8)[ends[0] : ends[-1]]
        data.append(used)
        at.append(ends[:-1].astype(np.int64) - ends[0] + begin)
        size.append(np.diff(ends))
        begin += len(used)
    return Records(
        FIRST_OFFSET + np.arange(len(ts_ms)), ts_ms, np.concatenate(data),
        at[0], size[0], at[1], size[1],
    )  # fmt: skip


def file_id(path: Path, how: Sequence[Any]) -> str:
    """A name for what a file holds, read as `how` (JSON) says: the same for a copy of the file."""
    digest = xxhash.xxh3_128(json.dumps(how, default=sorted).encode())
    with path.open("rb") as file:
        while piece := file.read(_HASHED_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def history_id(files: Sequence[str]) -> str:
    """The name of the history that these files are, in any order."""
    return xxhash.xxh3_128("".join(sorted(files)).encode()).hexdigest()
