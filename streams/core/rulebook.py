"""Definitions as a shard uses them: their expressions compiled, once."""

from __future__ import annotations

from functools import cached_property, lru_cache
from typing import Final

import numpy as np

from schemas.definitions import STANDARD, Case, Definitions, SegmentDefinition
from schemas.segments import DIMENSIONS
from streams.core.quantities import VALUE_RANK
from streams.rules import Quantities, RuleSet, compile_rules
from streams.rules.compile import defined_by

__all__ = ["POLICY", "Rulebook", "rulebook_of", "rules_of"]

POLICY: Final = "policy"
NO_ACTION: Final = "nothing"
_POLICY: Final = defined_by(POLICY)


def cases_of(definitions: Definitions, dimension: str) -> tuple[Case, ...]:
    """The cases of `value_tier` or `lifecycle`; what ships where there are none."""
    cases: tuple[Case, ...] = getattr(definitions, dimension) or getattr(STANDARD, dimension)
    return cases


def rules_of(definitions: Definitions) -> dict[str, str]:
    """Every condition by the name of its rule: `NAME` and `NAME.leave` of a segment,
    `value_tier.NAME` and `lifecycle.NAME` of a case, `policy.N` of the N-th row, from 0."""
    rules: dict[str, str] = {}
    for dimension in DIMENSIONS:
        cases = cases_of(definitions, dimension)
        rules |= {f"{dimension}.{case.name}": case.when for case in cases}
    for each in definitions.segments:
        rules[each.name] = each.when
        if each.leave:
            rules[f"{each.name}.leave"] = each.leave
    for i, row in enumerate(definitions.policy or STANDARD.policy):
        rules[f"{POLICY}.{i}"] = row.when
    return rules


class Rulebook:
    """Compiled definitions. Raises RulesError for what does not compile."""

    def __init__(self, definitions: Definitions, currency: str) -> None:
        self.definitions = definitions
        self.rules: RuleSet = compile_rules(
            rules_of(definitions),
            dict(definitions.values),
            [each.name for each in definitions.segments],
            currency,
        )
        self.segments: dict[str, SegmentDefinition] = {s.name: s for s in definitions.segments}
        self.cases = {
            dimension: [case.name for case in cases_of(definitions, dimension)]
            for dimension in DIMENSIONS
        }
        """The names of a dimension, in the order in which they are tried."""
        self.policy = definitions.policy or STANDARD.policy
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
