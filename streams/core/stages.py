"""The parts of a step, by name. They have no code, so whoever names them needs none of a step's."""

from __future__ import annotations

from typing import Final, Literal

__all__ = ["STAGES", "Stage"]

Stage = Literal["decode", "apply", "score", "decide"]
STAGES: Final[tuple[Stage, ...]] = ("decode", "apply", "score", "decide")
"""In their order."""
