"""Definitions as a shard uses them: their expressions compiled, once."""

from __future__ import annotations

from functools import cached_property, lru_cache
from typing import Final

import msgspec
import numpy as np

from schemas.definitions import STANDARD, Definitions, SegmentDefinition
from schemas.segments import DIMENSIONS
from streams.core.quantities import VALUE_RANK
from streams.rules import Quantities, RuleSet, rules_of
from streams.rules.compile import defined_by

__all__ = ["POLICY", "Rulebook", "rulebook_of"]

POLICY: Final = "policy"
NO_ACTION: Final = "nothing"
_POLICY: Final = defined_by(POLICY)


def _whole(definitions: Definitions) -> Definitions:
    """The same with what ships for tiers, stages and policy that are not defined."""
    shipped = {
        name: getattr(STANDARD, name)
        for name in (*DIMENSIONS, "policy")
        if not getattr(definitions, name)
    }
    return msgspec.structs.replace(definitions, **shipped)


class Rulebook:
    """Compiled definitions. Raises RulesError for what does not compile."""

    def __init__(self, definitions: Definitions, currency: str) -> None:
        self.definitions = definitions
        whole = _whole(definitions)
        self.rules: RuleSet = rules_of(whole, currency)
        self.segments: dict[str, SegmentDefinition] = {s.name: s for s in definitions.segments}
        self.cases = {
            dimension: [
                (case.name, f"{dimension}.{at}")
                for at, case in enumerate(getattr(whole, dimension))
            ]
            for dimension in DIMENSIONS
        }
        """Name and rule of each case of a dimension, in the order in which they are tried."""
        self.policy = whole.policy
        self.order = tuple(rule for rule in self.rules.order if defined_by(rule) != _POLICY)
        """Rules of tiers, stages and segments, in the order in which they depend."""

    def actions(self, q: Quantities) -> list[str]:
        """What the policy says to do about each of k users: the first row that is true."""
        evaluation, free = self.rules.begin(q), np.ones(q.size, np.bool_)
        found = np.full(q.size, NO_ACTION, object)
        for i, row in enumerate(self.policy):
            true = evaluation.outcome(f"{POLICY}.{i}").true & free
            found[true] = row.action
            free &= ~true
        return [str(action) for action in found]

    @cached_property
    def ranks(self) -> tuple[str, ...]:
        """The quantities whose ranks a sweep counts."""
        return tuple(name for name in self.rules.ranks if name != VALUE_RANK)

    @cached_property
    def last_of(self) -> dict[str, str]:
        """What is defined -> the last of its rules in the order."""
        return {defined_by(rule): rule for rule in self.order}


@lru_cache(maxsize=4)
def rulebook_of(definitions: Definitions | None, currency: str) -> Rulebook:
    """The rulebook of these definitions; of those that ship for None."""
    return Rulebook(definitions or STANDARD, currency)
