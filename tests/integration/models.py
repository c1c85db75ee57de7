"""A store of models for processes that want one."""

from __future__ import annotations

from pathlib import Path

from models.places import LocalPlace
from tests.integration.world import World
from tests.trainer.shop import begin

__all__ = ["models"]


def models(world: World) -> Path:
    """A directory in which the trainer may write, with a model to begin with."""
    place = world.directory / "models"
    if not place.exists():
        place.mkdir()
        begin(LocalPlace(place))
    return place
