"""The expressions of a shop's definitions, as one set of rules: each has its name here."""

from __future__ import annotations

from schemas.definitions import Definitions
from schemas.segments import DIMENSIONS
from streams.rules.compile import compile_rules
from streams.rules.ruleset import RuleSet

__all__ = ["rules_of", "texts_of"]


def texts_of(definitions: Definitions) -> dict[str, str]:
    """Every condition by its name: `vip`, `vip.leave`, `value_tier.0`, `lifecycle.3`, `policy.0`.

    The numbers are places in the definitions, as one name may have several cases. A segment without
    `leave` has no such rule.
    """
    texts = {}
    for segment in definitions.segments:
        texts[segment.name] = segment.when
        if segment.leave:
            texts[f"{segment.name}.leave"] = segment.leave
    for dimension in DIMENSIONS:
        cases = getattr(definitions, dimension)
        texts |= {f"{dimension}.{at}": case.when for at, case in enumerate(cases)}
    if definitions.suppress:
        texts["alerts.suppress"] = definitions.suppress
    return texts | {f"policy.{at}": row.when for at, row in enumerate(definitions.policy)}


def rules_of(definitions: Definitions, currency: str) -> RuleSet:
    """The rules of definitions, for a shop with this currency. Raises RulesError."""
    segments = [segment.name for segment in definitions.segments]
    return compile_rules(texts_of(definitions), dict(definitions.values), segments, currency)
