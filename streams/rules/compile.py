"""Texts become a set of rules, or one error with everything that is wrong with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from graphlib import CycleError, TopologicalSorter

from schemas.segments import DIMENSIONS
from streams.rules.amounts import Scope
from streams.rules.check import Checker, Shown, names_in
from streams.rules.parse import parsed
from streams.rules.problems import Fault, Problem, RulesError, place
from streams.rules.program import Builder
from streams.rules.ruleset import RuleSet
from streams.rules.tree import Name, Node

__all__ = ["compile_rules", "defined_by"]


def defined_by(rule: str) -> str:
    """What a rule defines: `vip` and `vip.leave` the segment `vip`, `value_tier.high` the tier.

    >>> defined_by("vip.leave"), defined_by("value_tier.high")
    ('segment.vip', 'value_tier')
    """
    stem = rule.partition(".")[0]
    return stem if stem in DIMENSIONS else f"segment.{stem}"


def compile_rules(
    texts: Mapping[str, str],
    values: Mapping[str, str],
    segments: Sequence[str],
    currency: str,
) -> RuleSet:
    """Check expressions together, and make a program of them.

    `texts` has conditions by name. One called NAME, or NAME.anything, defines the segment NAME, or
    the dimension if NAME is `value_tier` or `lifecycle`; in `order` it comes before rules that
    refer to that. `values` has numbers by name, without `value.`; `segments` are the names that may
    follow `segment.`; `currency` is the shop's.

    Raises RulesError with every problem that was found.
    """
    return _Compilation(texts, values, segments, currency).result()


class _Compilation:
    """What one call of `compile_rules` finds out."""

    def __init__(
        self,
        texts: Mapping[str, str],
        values: Mapping[str, str],
        segments: Sequence[str],
        currency: str,
    ) -> None:
        self.texts = texts
        self.sources = {f"value.{name}": text for name, text in values.items()} | dict(texts)
        self.scope = Scope(Builder(), currency, tuple(segments), dict.fromkeys(values))
        self.problems: list[Problem] = []
        self.rules: dict[str, int] = {}
        self.shown: dict[str, tuple[Shown, ...]] = {}
        self.trees: dict[str, Node] = {}
        for name, text in self.sources.items():
            try:
                self.trees[name] = parsed(text)
            except Fault as fault:
                self._note(name, fault)

    def result(self) -> RuleSet:
        """The rules; raises RulesError."""
        order = self._order()
        for name in order:
            if name in self.trees:
                self._check(name)
        if self.problems:
            places = {name: at for at, name in enumerate(self.sources)}
            raise RulesError(sorted(self.problems, key=lambda p: (places[p.rule], p.start)))
        values = {f"value.{name}": found for name, found in self.scope.values.items() if found}
        return RuleSet(
            tuple(self.scope.builder.instructions),
            self.rules,
            values | self.scope.ranked,
            self.shown,
            tuple(name for name in order if name in self.texts),
            self.scope.currency,
        )

    def _note(self, name: str, fault: Fault) -> None:
        line, column = place(self.sources[name], fault.start)
        self.problems.append(
            Problem(name, fault.start, fault.end, line, column, fault.what, fault.fix)
        )

    def _check(self, name: str) -> None:
        checker = Checker(self.scope, self.sources[name])
        if name in self.texts:
            number = checker.condition(self.trees[name])
            if number is not None:
                self.rules[name], self.shown[name] = number, tuple(checker.shown)
        else:
            part = checker.number(self.trees[name])
            found = None if part is None else (part.number, part.kind)
            self.scope.values[name.removeprefix("value.")] = found
        for fault in checker.faults:
            self._note(name, fault)

    def _order(self) -> list[str]:
        """All sources, each after those that define what it refers to; notes circles."""
        defining: dict[str, list[str]] = {}
        for name in self.sources:
            thing = defined_by(name) if name in self.texts else name
            defining.setdefault(thing, []).append(name)
        references = {
            thing: {n.name: (rule, n) for rule in rules for n in self._names(rule, defining)}
            for thing, rules in defining.items()
        }
        while True:
            graph = TopologicalSorter({thing: list(to) for thing, to in references.items()})
            try:
                things = list(graph.static_order())
            except CycleError as circle:
                self._note_circle(circle.args[1], references)
            else:
                return [rule for thing in things for rule in defining[thing]]

    def _names(self, rule: str, defining: Mapping[str, list[str]]) -> list[Name]:
        tree = self.trees.get(rule)
        names = [] if tree is None else sorted(names_in(tree), key=lambda name: -name.start)
        return [name for name in names if name.name in defining]

    def _note_circle(
        self, circle: Sequence[str], references: dict[str, dict[str, tuple[str, Name]]]
    ) -> None:
        """Note a circle, and cut it at one place, so that others are found as well."""
        members = list(circle[:0:-1])  # each refers to the next, the last to the first
        first = members.index(next(thing for thing in references if thing in members))
        members = [*members[first:], *members[:first]]
        rule, name = references[members[0]].pop([*members, members[0]][1])
        path = ", which refers to ".join(f"`{thing}`" for thing in [*members[1:], members[0]])
        self._note(rule, Fault(name.start, name.end, f"`{members[0]}` refers to {path}: a circle",
                               "remove one of these references"))  # fmt: skip
