"""Definitions as a shard uses them: their expressions compiled, once."""

from __future__ import annotations

from functools import cached_property, lru_cache
from typing import Final

import msgspec
import numpy as np

from schemas.definitions import ALERTS, STANDARD, Definitions, SegmentDefinition
from schemas.segments import DIMENSIONS
from streams.core.quantities import VALUE_RANK
from streams.core.rfm import RFM_RANKS
from streams.rules import Evaluation, Outcome, Quantities, RuleSet, rules_of
from streams.rules.compile import defined_by

__all__ = ["NO_ACTION", "POLICY", "SUPPRESS", "Rulebook", "rulebook_of"]

POLICY: Final = "policy"
SUPPRESS: Final = f"{ALERTS}.suppress"
NO_ACTION: Final = "nothing"
_NOT_STANDING: Final = frozenset(map(defined_by, (POLICY, SUPPRESS)))


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
        self.order = tuple(r for r in self.rules.order if defined_by(r) not in _NOT_STANDING)
        """Rules of tiers, stages and segments, in the order in which they depend."""

    def actions(self, q: Quantities) -> list[str]:
        """What the policy says to do about each of k users.

        It is the first row that is true. But where a true row has an uplift, it is the one of these
        with the largest expected gain, uplift x value at stake - cost, the first of equals; or
        `nothing`, which gains what its first true row costs less than 0, if no other gains more.
        Value at stake is p_churn x expected_spend, 0 where either is unknown.
        """
        evaluation = self.rules.begin(q)
        true = [evaluation.outcome(f"{POLICY}.{i}").true for i in range(len(self.policy))]
        found = np.full(q.size, NO_ACTION, object)
        for row, holds in zip(reversed(self.policy), reversed(true), strict=True):
            found[holds] = row.action
        if all(row.uplift is None for row in self.policy):
            return [str(action) for action in found]
        at_stake = np.nan_to_num(q.number("p_churn") * q.number("expected_spend"))
        nothing, known = np.zeros(q.size), np.zeros(q.size, np.bool_)
        gain, best = np.full(q.size, -np.inf), np.full(q.size, NO_ACTION, object)
        for row, holds in zip(reversed(self.policy), reversed(true), strict=True):
            if row.action == NO_ACTION:
                nothing[holds] = -row.cost
            elif row.uplift is not None:
                gains = row.uplift * at_stake - row.cost
                better = holds & (gains >= gain)  # the first of equals comes last here
                gain[better], best[better] = gains[better], row.action
                known |= holds
        best[gain <= nothing] = NO_ACTION
        return [str(action) for action in np.where(known, best, found)]

    def suppressed(self, evaluation: Evaluation) -> Outcome | None:
        """Who is to be left alone; None: the definitions don't say."""
        return evaluation.outcome(SUPPRESS) if self.definitions.suppress else None

    @cached_property
    def ranks(self) -> tuple[str, ...]:
        """The quantities whose ranks a sweep counts."""
        asked = set(self.rules.ranks) | set(RFM_RANKS if self.definitions.rfm else ())
        return tuple(sorted(asked - {VALUE_RANK}))

    @cached_property
    def last_of(self) -> dict[str, str]:
        """What is defined -> the last of its rules in the order."""
        return {defined_by(rule): rule for rule in self.order}


@lru_cache(maxsize=4)
def rulebook_of(definitions: Definitions | None, currency: str) -> Rulebook:
    """The rulebook of these definitions; of those that ship for None."""
    return Rulebook(definitions or STANDARD, currency)
