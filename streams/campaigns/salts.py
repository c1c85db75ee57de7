"""Which salt decides who is held out of an audience: one of its own, and never one used before."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

from schemas.definitions import Definitions
from streams.campaigns.nodes import Node

__all__ = ["Salts"]

_OF_ALL = "global"


class Salts:
    """The salts of everything that was ever applied, and of the file that is being read."""

    def __init__(self, earlier: Sequence[Definitions]) -> None:
        self._used = {audience.salt: audience.name for d in earlier for audience in d.audiences}
        self._used |= {d.global_salt: "global_holdout" for d in earlier if d.global_salt}
        latest = earlier[-1] if earlier else None
        self._kept = (
            {audience.name: audience.salt for audience in latest.audiences} if latest else {}
        )
        self._kept_of_all = latest.global_salt if latest else ""
        self._given: dict[str, Node] = {}
        self.problems: list[tuple[Node, str, str]] = []

    def given(self, salt: str, node: Node) -> None:
        """The file gives a salt."""
        if salt in self._given:
            what = f"the salt `{salt}` is there twice, so both would hold out the same people"
            self.problems.append((node, what, "delete this line: a salt is made"))
        self._given.setdefault(salt, node)

    def of(self, audience: str, given: str) -> str:
        """The salt of an audience, by its name and what the file gives (empty: nothing)."""
        return self._chosen(audience, given, self._kept.get(audience, ""))

    def of_all(self, wanted: bool, given: str) -> str:
        """The salt of the holdout from everything; empty if there is none."""
        return self._chosen(_OF_ALL, given, self._kept_of_all) if wanted else ""

    def _chosen(self, name: str, given: str, kept: str) -> str:
        if given and given != kept and given in self._used:
            what = f"the salt `{given}` was used before, by `{self._used[given]}`"
            self.problems.append((self._given[given], what, "delete this line: a new one is made"))
        if given or kept:
            return given or kept
        taken = self._used.keys() | self._given.keys()
        return next(salt for n in count(1) if (salt := f"{name}-{n}") not in taken)
