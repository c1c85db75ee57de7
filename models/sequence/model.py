"""A sequence model that scores: an ONNX file, what it is, and rows by which it is checked.

    DIRECTORY/sequence.onnx    `x`, `events` -> one output float32 [N] for each head
              sequence.json    heads, features, channels, hash, golden rows

No worker can serve it, so it is no artifact of `models.artifact`, and nothing promotes it (D-090).
Scoring needs neither jax nor onnx.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.champion import INPUT, OUTPUTS, open_session
from schemas.errors import ArtifactError
from schemas.features import FEATURE_NAMES, FEATURES_HASH
from schemas.tails import EVENT_KINDS, TAIL_CHANNELS, TAIL_EVENTS

__all__ = ["DESCRIPTION_FILE", "EVENTS_INPUT", "ONNX_FILE", "Description", "SequenceModel"]

EVENTS_INPUT: Final = "events"
ONNX_FILE: Final = "sequence.onnx"
DESCRIPTION_FILE: Final = "sequence.json"
FORMAT: Final = 1
GOLDEN_TOLERANCE: Final = 1e-5
_AT_ONCE: Final = 4_096
"""Rows that ONNX Runtime is given at a time: it holds the hidden states of all of them."""

Floats32 = NDArray[np.float32]


class Description(msgspec.Struct, frozen=True, kw_only=True):
    """What `sequence.json` says. Golden rows are the bytes of float32 arrays, little endian, with
    what the training library computed of them."""

    format: int = FORMAT
    sha256: str
    heads: list[str]
    features_hash: str = FEATURES_HASH
    kinds: list[str] = msgspec.field(default_factory=lambda: [*EVENT_KINDS])
    channels: list[str] = msgspec.field(default_factory=lambda: [*TAIL_CHANNELS])
    horizon_days: int
    epochs: int
    rows: int
    """That it learned from."""
    golden_x: bytes
    golden_events: bytes
    golden_outputs: dict[str, list[float]]


class SequenceModel:
    """A loaded model, checked. Raises `ArtifactError` for one that is not what it says."""

    def __init__(self, description: Description, onnx: bytes) -> None:
        where = "The sequence model"
        if hashlib.sha256(onnx).hexdigest() != description.sha256:
            raise ArtifactError(f"{where} was altered: its hash is another. Train it again.")
        if b"location" in onnx:
            raise ArtifactError(f"{where} refers to data in other files. Train it again.")
        of = description
        made_for = of.format, of.features_hash, of.kinds, of.channels
        if made_for != (FORMAT, FEATURES_HASH, list(EVENT_KINDS), list(TAIL_CHANNELS)):
            raise ArtifactError(
                f"{where} was made for other features or events than this version has. Train it "
                "again with `tideline evaluate --challenger sequence`."
            )
        self.description: Final = description
        self.onnx: Final = onnx
        self._session = open_session(onnx, where)
        takes = [node.name for node in self._session.get_inputs()]
        gives = [node.name for node in self._session.get_outputs()]
        if takes != [INPUT, EVENTS_INPUT] or gives != description.heads:
            raise ArtifactError(f"{where} takes {takes} and gives {gives}. Train it again.")
        self._check_golden(where)

    def outputs(self, x: Floats32, events: Floats32) -> Mapping[str, Floats32]:
        """What each head says of rows `x` float32 [n, F] and `events` float32 [n, TAIL_EVENTS,
        channels]: float32 [n]. Raises `ValueError` for other shapes."""
        n, shape = len(x), (TAIL_EVENTS, len(TAIL_CHANNELS))
        if x.shape != (n, len(FEATURE_NAMES)) or events.shape != (n, *shape):
            raise ValueError(f"x has the shape {x.shape}, events {events.shape}")
        heads = self.description.heads
        parts: list[list[Floats32]] = [[np.empty(0, np.float32) for _ in heads]]
        for first in range(0, n, _AT_ONCE):
            rows = slice(first, first + _AT_ONCE)
            parts.append(self._session.run(heads, {INPUT: x[rows], EVENTS_INPUT: events[rows]}))
        return {
            head: np.concatenate(column) for head, column in zip(heads, zip(*parts, strict=True),
                                                                 strict=True)
        }  # fmt: skip

    def score(self, x: Floats32, events: Floats32) -> tuple[Floats32, Floats32]:
        """`p_churn` and `spend`, float32 [n] each, as a champion gives them. Raises `ArtifactError`
        for what is not a number."""
        found = self.outputs(x, events)
        p_churn, spend = (found[name] for name in OUTPUTS)
        if not np.isfinite(p_churn.sum(dtype=np.float64) + spend.sum(dtype=np.float64)):
            raise ArtifactError("The sequence model gave scores that are not numbers. Retrain.")
        return p_churn, spend

    def write(self, directory: Path) -> None:
        """Write both files into a directory, which is made."""
        directory.mkdir(parents=True, exist_ok=True)
        (directory / ONNX_FILE).write_bytes(self.onnx)
        text = msgspec.json.format(msgspec.json.encode(self.description), indent=1)
        (directory / DESCRIPTION_FILE).write_bytes(text + b"\n")

    @staticmethod
    def load(directory: Path) -> SequenceModel:
        """What `write` wrote. Raises `ArtifactError`."""
        try:
            text = (directory / DESCRIPTION_FILE).read_bytes()
            description = msgspec.json.decode(text, type=Description)
            return SequenceModel(description, (directory / ONNX_FILE).read_bytes())
        except (OSError, msgspec.DecodeError) as error:
            raise ArtifactError(
                f"No complete sequence model in {directory}: {error}. Train one with `tideline "
                "evaluate --challenger sequence --challenger-out DIRECTORY`."
            ) from error

    def _check_golden(self, where: str) -> None:
        of = self.description
        x = np.frombuffer(of.golden_x, "<f4").reshape(-1, len(FEATURE_NAMES))
        events = np.frombuffer(of.golden_events, "<f4").reshape(-1, TAIL_EVENTS, len(TAIL_CHANNELS))
        for head, got in self.outputs(x, events).items():
            want = np.array(of.golden_outputs[head])
            off = np.abs(got - want) / np.maximum(1.0, np.abs(want))
            if not len(want) or not np.all(off <= GOLDEN_TOLERANCE):
                raise ArtifactError(
                    f"{where} computes another {head} than the training library (off by "
                    f"{off.max(initial=0.0):.2g}). Use the ONNX Runtime that it was made with, or "
                    "train it again."
                )
