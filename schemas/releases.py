"""Decides whether this release may continue with a journal or checkpoint of another release.

A later release reads what an earlier one has written by name, with defaults for what is new. The
other way round, a release would silently drop the names that it does not know. So takeovers and
checkpoints carry the level of their writer, and a release of a lower level refuses them.
"""

from __future__ import annotations

from typing import Final

from schemas.errors import StateError

__all__ = ["LEVEL", "RELEASE", "refuse_later"]

RELEASE: Final = "0.1.0"
LEVEL: Final = 2
"""Higher than the last release's if this one keeps more or other things in journals and checkpoints
(`tests/upgrades` notices). Releases of the same level can replace each other in both directions."""


def refuse_later(what: str, release: str, level: int) -> None:
    """Raise StateError if `what` was written by a release of a higher level.

    >>> refuse_later("the journal", "9.9.0", LEVEL + 1)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    schemas.errors.StateError: the journal was written by Tideline 9.9.0, which keeps more than ...
    """
    if level > LEVEL:
        raise StateError(
            f"{what} was written by Tideline {release}, which keeps more than this version "
            f"({RELEASE}) knows of. Run {release} or later; to go back, restore the topics and the "
            "database from before the upgrade."
        )
