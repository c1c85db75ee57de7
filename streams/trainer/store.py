"""What trainers keep in the store of models, so that each of them finds what another has left.

    <models>/
      CURRENT                   the champion
      <version>/manifest.json   a model; one that a trainer made has `cut_ms` among its `training`
      TRAINER/000001.json       the first decision on a challenger (`streams.trainer.plan.Decision`)
      TRAINER/000001.done       its promotion is completed

Every write is one file that appears whole, or the directory of a model that does. A challenger
without a decision waits for one. Decisions are numbered, and only one process can create a number:
who decides has seen all decisions before, so two trainers never promote side by side.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Final

import msgspec

from models.artifact import MANIFEST_FILE, current_version, promote, read_manifest, versions
from models.champion import CURVE
from models.manifest import Manifest
from models.places import Place
from schemas.errors import ArtifactError
from streams.trainer.plan import Challenger, Current, Decision, Why

__all__ = ["ABOUT_CUT", "ModelStore", "Superseded", "about"]

_log = logging.getLogger(__name__)

DIRECTORY: Final = "TRAINER"
ABOUT_CUT: Final = "cut_ms"
_NUMBERED: Final = re.compile(r"(\d{6,})\.(json|done)")


class Superseded(Exception):
    """Another trainer has decided meanwhile: look again."""


def about(cut_ms: int, why: Why, now_ms: int, rows: int) -> dict[str, str | int | float]:
    """What the manifest of a trainer's model says besides, by which it is known as one."""
    return {ABOUT_CUT: cut_ms, "why": why, "trained_at_ms": now_ms, "rows": rows}


class ModelStore:
    """The models in `root`, and the decisions on them. Every method may raise ModelsUnavailable."""

    def __init__(self, root: Place) -> None:
        self.root = root
        self._book = root / DIRECTORY
        self._manifests: dict[str, Manifest | None] = {}
        self._decisions: dict[int, Decision] = {}
        self._completed: set[int] = set()

    def look(self) -> None:
        """Read what is new. Raises ArtifactError if a decision can't be read."""
        found = versions(self.root)
        self._manifests = {version: self._manifest(version) for version in found}
        for name in self._book.files():
            if not (match := _NUMBERED.fullmatch(name)):
                continue
            number = int(match[1])
            if match[2] == "done":
                self._completed.add(number)
            elif number not in self._decisions:
                self._decisions[number] = self._read(name)

    @property
    def current(self) -> Current:
        """The champion. Raises ArtifactError."""
        version = current_version(self.root)
        manifest = self._manifests.get(version) or read_manifest(self.root / version)
        until = manifest.training.get("labels_until_ms", 0)
        return Current(
            version, manifest.horizon_days, until if isinstance(until, int) else 0,
            _outputs(manifest),
        )  # fmt: skip

    @property
    def made(self) -> list[Challenger]:
        """The models that trainers made."""
        return [
            challenger
            for version, manifest in self._manifests.items()
            if manifest and (challenger := _challenger(version, manifest))
        ]

    @property
    def decisions(self) -> list[Decision]:
        """In their order."""
        return [self._decisions[number] for number in sorted(self._decisions)]

    @property
    def completed(self) -> frozenset[int]:
        """The numbers of the promotions that are done."""
        return frozenset(self._completed)

    def decide(self, decision: Callable[[int], Decision]) -> Decision:
        """Write a decision under the next number. Raises Superseded if another came before it."""
        number = max(self._decisions, default=0) + 1
        found = decision(number)
        if not self._book.create(_name(number, "json"), msgspec.json.encode(found)):
            raise Superseded
        self._decisions[number] = found
        return found

    def complete(self, decision: Decision) -> bool:
        """Put the winner into use, unless somebody has put another model into use since; returns
        whether it is in use now. Raises ArtifactError if it can't be used: it never will be then.
        """
        refused: ArtifactError | None = None
        if current_version(self.root) == decision.champion:
            try:
                promote(self.root, decision.version)
            except ArtifactError as error:
                refused = error
        self._book.create(_name(decision.number, "done"), b"")
        self._completed.add(decision.number)
        if refused is not None:
            raise refused
        self._settle(decision)
        return current_version(self.root) == decision.version

    def _settle(self, decision: Decision) -> None:
        """Let the last promotion count. A trainer that is halted right before it writes `CURRENT`
        may write when the next promotion is done; both look here afterwards."""
        self.look()
        last = max((d for d in self.decisions if d.promote), key=lambda d: d.number)
        if last.number in self._completed and current_version(self.root) in {
            decision.champion, decision.version, last.champion
        } - {last.version}:  # fmt: skip
            promote(self.root, last.version)

    def remove(self, challenger: Challenger) -> None:
        """Remove a model."""
        self.root.remove(challenger.version, first=MANIFEST_FILE)
        self._manifests.pop(challenger.version, None)

    def _manifest(self, version: str) -> Manifest | None:
        """None if it can't be read: said once."""
        if version not in self._manifests:
            try:
                return read_manifest(self.root / version)
            except ArtifactError as error:
                _log.warning("the trainer leaves a model aside: %s", error)
                return None
        return self._manifests[version]

    def _read(self, name: str) -> Decision:
        try:
            return msgspec.json.decode(self._book.read(name), type=Decision)
        except msgspec.DecodeError as error:
            raise ArtifactError(
                f"{self._book}/{name} can't be read: {error}. Restore it from a backup, or remove "
                f"the directory {self._book}: then every waiting challenger is judged again."
            ) from error


def _name(number: int, kind: str) -> str:
    return f"{number:06d}.{kind}"


def _outputs(manifest: Manifest) -> frozenset[str]:
    named = {output.name for file in manifest.files.values() for output in file.outputs}
    return frozenset(named - {CURVE})  # a part of p_churn that explanations use; trees may do alone


def _challenger(version: str, manifest: Manifest) -> Challenger | None:
    """None if no trainer made it."""
    training = manifest.training

    def number(name: str) -> int:
        found = training.get(name)
        return found if isinstance(found, int) else 0

    if ABOUT_CUT not in training:
        return None
    return Challenger(
        version=version,
        horizon_days=manifest.horizon_days,
        cut_ms=number(ABOUT_CUT),
        outputs=_outputs(manifest),
        why="drift" if training.get("why") == "drift" else "schedule",
        trained_at_ms=number("trained_at_ms"),
        rows=number("rows"),
    )
