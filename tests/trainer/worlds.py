"""A trainer without ClickHouse and LightGBM: labels are numbers, and models copies of the one that
ships. What is done with them in the store is real."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from fsspec.implementations.memory import MemoryFileSystem

from models.artifact import MANIFEST_FILE, promote
from models.objects import ObjectPlace
from models.places import Place
from models.training.promotion import Verdict
from streams.clickhouse.label_counts import LabelCounts
from streams.core.features import DAY_MS
from streams.telemetry.metrics import Metrics
from streams.trainer.plan import Action, Challenger, Current, Rules, Wait, Why
from streams.trainer.rows import Row
from streams.trainer.service import Trainer
from streams.trainer.store import ModelStore, about
from streams.trainer.training import TooFew
from tests.models.s3 import shipped_files, shipped_version

__all__ = ["D0", "RULES", "Halting", "Killed", "Numbers", "World", "copy", "day"]

D0 = 20_000
RULES = Rules(
    retrain_days=28, judge_days=14, min_labels=1_000, judge_labels=200, on_drift=True, keep=2
)


def day(number: float) -> int:
    return int((D0 + number) * DAY_MS)


class Killed(BaseException):
    """The process ends here: nothing that follows is done."""


class Halting(MemoryFileSystem):  # type: ignore[misc]
    """Calls `before` ahead of each write, with its number and path."""

    cachable = False

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[str] = []
        self.before: Callable[[int, str], None] = lambda _number, _path: None

    def _halt(self, path: str) -> None:
        self.writes.append(path)
        self.before(len(self.writes), path)

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **options: Any) -> None:
        self._halt(path)
        super().pipe_file(path, value, mode=mode, **options)

    def rm_file(self, path: str) -> None:
        self._halt(f"remove {path}")
        super().rm_file(path)


def copy(root: Place, version: str, *, labels_until_ms: int, **training: Any) -> str:
    """The model that ships, under another name."""
    files = shipped_files()
    manifest = msgspec.json.decode(files[MANIFEST_FILE])
    manifest["version"] = version
    manifest["training"] |= {"labels_until_ms": labels_until_ms, **training}
    files[MANIFEST_FILE] = msgspec.json.encode(manifest)
    root.put(version, files, last=MANIFEST_FILE)
    return version


@dataclass
class Numbers:
    """`streams.trainer.service.Labels`: a hundred labels a day from day 0 on, up to `known_day`."""

    known_day: float = 0.0
    drift_ms: int = 0
    wins: Callable[[str], bool] = lambda _version: True
    too_few: str = ""
    trained: list[int] = field(default_factory=list)
    judged: list[tuple[str, str]] = field(default_factory=list)

    def counts(self, horizon_days: int) -> LabelCounts:
        assert horizon_days == 28
        matured = {D0 + n: 100 for n in range(int(self.known_day))}
        newest = {shard: day(self.known_day) for shard in range(2)} if matured else {}
        return LabelCounts(matured, newest, self.drift_ms)

    def train(self, root: Place, current: Current, cut_ms: int, why: Why) -> str:
        self.trained.append(cut_ms)
        if self.too_few:
            raise TooFew(self.too_few)
        version = f"cut-{cut_ms // DAY_MS - D0}"
        return copy(
            root, version, labels_until_ms=cut_ms, **about(cut_ms, why, cut_ms + 1000, 4321)
        )

    def judge(
        self, root: Place, current: Current, challenger: Challenger, after_ms: int, until_ms: int
    ) -> Verdict:
        self.judged.append((current.version, challenger.version))
        wins = self.wins(challenger.version)
        return Verdict(wins, "by the numbers", 500, (0.5, 0.4 if wins else 0.6), (2.0, 1.5))


@dataclass
class World:
    """A store with a champion, and whoever trains on it."""

    labels: Numbers = field(default_factory=Numbers)
    disk: Halting = field(default_factory=Halting)
    rows: list[Row] = field(default_factory=list)
    rules: Rules = RULES
    now_day: float = 300.0
    root: Place = field(init=False)
    champion: str = field(default_factory=shipped_version)

    def __post_init__(self) -> None:
        self.root = ObjectPlace(self.disk, f"/{uuid.uuid4().hex}")
        copy(self.root, self.champion, labels_until_ms=day(0))
        promote(self.root, self.champion)
        self.disk.writes.clear()

    def write(self, rows: Sequence[Row]) -> bool:
        self.rows += rows
        return True

    def trainer(self, labels: Numbers | None = None) -> Trainer:
        """A new process: it knows nothing but what is in the store."""
        return Trainer(
            ModelStore(self.root), labels or self.labels, self.rules, self.write, Metrics(),
            lambda: day(self.now_day),
        )  # fmt: skip

    def run(self, trainer: Trainer, most: int = 20) -> list[Action]:
        """All that is due."""
        done: list[Action] = []
        while not isinstance(action := trainer.turn(), Wait):
            done.append(action)
            assert len(done) < most, done
        return done
