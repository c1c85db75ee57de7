"""The language of segments, tiers, values and policies: conditions over the catalogue's quantities.

An expression is read (`tokens`, `parse`), checked (`amounts`, `check`), becomes instructions that a
whole set of rules shares (`program`, `compile`), and is computed over columns (`evaluate`). It can
only compare, compute and combine what `catalogue` names. `docs/segments.md` is for its users.
"""

from streams.rules.catalogue import CATALOGUE, Kind, Quantity
from streams.rules.compile import compile_rules
from streams.rules.definitions import rules_of, texts_of
from streams.rules.evaluate import Quantities
from streams.rules.problems import Problem, RulesError
from streams.rules.ruleset import Evaluation, Outcome, RuleSet

__all__ = [
    "CATALOGUE",
    "Evaluation",
    "Kind",
    "Outcome",
    "Problem",
    "Quantities",
    "Quantity",
    "RuleSet",
    "RulesError",
    "compile_rules",
    "rules_of",
    "texts_of",
]
