"""Numbers in an expression: which kinds go together, what comes of them, and what has a slope."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from streams.rules.catalogue import CATALOGUE, LEFT_OUT, Kind, Quantity
from streams.rules.parse import parsed
from streams.rules.problems import Fault, quoted, similar
from streams.rules.program import Builder, Op
from streams.rules.tree import Call, Chain, Literal, Name, Negative, Node

__all__ = ["Amounts", "Scope", "Typed", "a_kind", "example_of"]

MAX_FAULTS: Final = 20
"""Of one expression, so that a file of nothing but mistakes is told soon."""
_NUMERIC: Final = (Kind.COUNT, Kind.NUMBER, Kind.MONEY, Kind.DURATION, Kind.SHARE)
_EXAMPLES: Final = {
    Kind.NUMBER: "a number such as `3`",
    Kind.COUNT: "a number such as `3`",
    Kind.MONEY: "an amount such as `50 {currency}`",
    Kind.DURATION: "a duration such as `30d`",
    Kind.SHARE: "a share such as `40%`",
}
_KINDS: Final = {
    Kind.NUMBER: "a plain number",
    Kind.COUNT: "a count",
    Kind.MONEY: "money",
    Kind.DURATION: "a duration",
    Kind.SHARE: "a share",
    Kind.FLAG: "a flag",
    Kind.CHOICE: "a choice",
}
_UNITS: Final = {Kind.MONEY: " {currency}", Kind.DURATION: "d", Kind.SHARE: "%"}
_OPS: Final = {"+": Op.ADD, "-": Op.SUBTRACT, "*": Op.MULTIPLY, "/": Op.DIVIDE}


def a_kind(kind: Kind) -> str:
    """A kind in words, with its article."""
    return _KINDS[kind]


def example_of(kind: Kind, currency: str) -> str:
    """Something of a kind, as it is written."""
    return _EXAMPLES[kind].format(currency=currency)


@dataclass(frozen=True)
class Typed:
    """A number that was checked: its instruction and kind, and its place in the text."""

    number: int
    kind: Kind
    start: int
    end: int
    share: bool = False
    """Can't be outside 0 to 1: a share of the catalogue, or a rank."""


@dataclass
class Scope:
    """What expressions may refer to besides the catalogue."""

    builder: Builder
    currency: str
    segments: Sequence[str]
    values: dict[str, tuple[int, Kind] | None] = field(default_factory=dict)
    """By name, without `value.`: instruction and kind; None: its own expression is wrong."""
    derived: dict[str, int] = field(default_factory=dict)
    """Instructions of names that have a formula."""
    ranked: dict[str, tuple[int, Kind]] = field(default_factory=dict)
    """What is ranked: name -> instruction and kind."""


def _plain(kind: Kind) -> Kind:
    return Kind.NUMBER if kind is Kind.COUNT else kind


class Amounts(ABC):
    """The checks of numbers in one expression; `faults` has what was found."""

    def __init__(self, scope: Scope, text: str) -> None:
        self.scope, self.text = scope, text
        self.builder = scope.builder
        self.faults: list[Fault] = []

    @abstractmethod
    def condition(self, node: Node) -> int | None:
        """The instruction of something true or false; None if it has a fault."""

    def fail(self, at: Node | Typed, what: str, fix: str) -> None:
        """Note a fault at a part of the text."""
        if len(self.faults) < MAX_FAULTS:
            self.faults.append(Fault(at.start, at.end, what, fix))

    def source(self, at: Node | Typed) -> str:
        """The text of a part, on one line and without comments."""
        return " ".join(re.sub(r"#[^\n]*", " ", self.text[at.start : at.end]).split())

    def example(self, kind: Kind) -> str:
        """Something of a kind, in the shop's currency."""
        return example_of(kind, self.scope.currency)

    # -- names

    def quantity(self, node: Name) -> Quantity | None:
        """What a name means, and None with a fault if nothing."""
        name = node.name
        if name in CATALOGUE:
            return CATALOGUE[name]
        stem, _, rest = name.partition(".")
        if stem == "segment" and rest in self.scope.segments:
            return Quantity(name, Kind.FLAG, f"member of {rest}")
        if stem == "value" and rest in self.scope.values:
            found = self.scope.values[rest]
            return None if found is None else Quantity(name, found[1], f"the value {rest}")
        self.fail(node, f"unknown name {quoted(name)}", self._meant(name))
        return None

    def _meant(self, name: str) -> str:
        stem, dot, rest = name.partition(".")
        if len(self.faults) == MAX_FAULTS:
            return ""  # it is not shown, and looking for what is similar takes time
        if name in LEFT_OUT:
            return f"it is left out, because {LEFT_OUT[name]}"
        if name in self.scope.segments:
            return f"write `segment.{name}`"
        if name in self.scope.values:
            return f"write `value.{name}`"
        if any(name in quantity.values for quantity in CATALOGUE.values()):
            return f'write texts in double quotes: "{name}"'
        if dot and stem not in ("segment", "value"):
            return "only `segment.NAME` and `value.NAME` have a dot"
        near = similar(rest, self.scope.segments if stem == "segment" else self.scope.values)
        if dot and near:
            return near.replace("`", f"`{stem}.", 1)
        if dot:
            return f"the file defines no such {stem}"
        return similar(name.lower(), CATALOGUE) or "docs/segments.md has all names"

    def _named(self, node: Name) -> Typed | None:
        quantity = self.quantity(node)
        if quantity is None:
            return None
        if quantity.kind not in _NUMERIC:
            only = quantity.kind is Kind.FLAG
            fix = (
                f"write `{node.name}` or `not {node.name}`, without a comparison"
                if only
                else f'compare it with `==` or `in`: `{node.name} == "{quantity.values[-1]}"`'
            )
            self.fail(
                node, f"`{node.name}` is {a_kind(quantity.kind)}, where a number should be", fix
            )
            return None
        share = quantity.kind is Kind.SHARE and node.name in CATALOGUE
        return Typed(self._instruction(quantity), quantity.kind, node.start, node.end, share)

    def _instruction(self, quantity: Quantity) -> int:
        stem, _, rest = quantity.name.partition(".")
        if stem == "value" and (found := self.scope.values.get(rest)):
            return found[0]
        if not quantity.formula:
            return self.builder.number(quantity.name, quantity.slope_per_day)
        if quantity.name not in self.scope.derived:
            formula = type(self)(self.scope, quantity.formula)
            part = formula.number(parsed(quantity.formula))
            assert part is not None, formula.faults  # noqa: S101  (a test reads all formulas)
            self.scope.derived[quantity.name] = part.number
        return self.scope.derived[quantity.name]

    # -- numbers

    def number(self, node: Node) -> Typed | None:
        """A checked number; None if it has a fault, which is noted then."""
        match node:
            case Literal():
                return self._literal(node)
            case Name():
                return self._named(node)
            case Negative(of=of):
                return self._negative(node, of)
            case Chain():
                return self._chain(node)
            case Call(function="rank"):
                return self._rank(node)
            case Call(function="if"):
                return self._if(node)
            case Call(function="min" | "max"):
                return self._least_or_most(node)
            case _:
                self.fail(node, "a condition, where a number should be",
                          "make a number of it with `if(condition, 1, 0)`")  # fmt: skip
                return None

    def _literal(self, node: Literal) -> Typed | None:
        if not isinstance(node.value, float):
            self.fail(node, f"{quoted(self.source(node))} is no number", "write a number there")
            return None
        if node.currency and node.currency != self.scope.currency:
            ours, amount = self.scope.currency, self.source(node)[:-3].rstrip()
            self.fail(node, f"the shop's amounts are in {ours}, not in {node.currency}",
                      f"write the amount in {ours}: `{amount} {ours}`")  # fmt: skip
            return None
        number = self.builder.constant(node.value, node.kind)
        return Typed(number, node.kind, node.start, node.end)

    def _negative(self, node: Negative, of: Node) -> Typed | None:
        part = self.number(of)
        if part is None:
            return None
        zero = self.builder.constant(0.0, part.kind)
        number = self.builder.arithmetic(Op.SUBTRACT, zero, part.number, part.kind)
        return Typed(number, part.kind, node.start, node.end)

    def _chain(self, node: Chain) -> Typed | None:
        left = self.number(node.first)
        for sign, right_node in node.rest:
            right = self.number(right_node)
            if left is not None and right is not None:
                left = self._operation(sign, left, right)
            else:
                left = None
        return left

    def _operation(self, sign: str, a: Typed, b: Typed) -> Typed | None:
        kind = self.same_kind(a, b, sign) if sign in "+-" else self._scaled(sign, a, b)
        if kind is None:
            return None
        if sign == "/" and self.builder.constant_of(b.number) == 0:
            self.fail(b, "a division by zero", "divide by something else")
            return None
        number = self.builder.arithmetic(_OPS[sign], a.number, b.number, kind)
        return Typed(number, kind, a.start, b.end)

    def _scaled(self, sign: str, a: Typed, b: Typed) -> Kind | None:
        """The kind of a product or quotient."""
        both = Typed(a.number, a.kind, a.start, b.end)
        if self.builder.moves(b.number) and (sign == "/" or self.builder.moves(a.number)):
            what = "a division by an elapsed time" if sign == "/" else "a product of elapsed times"
            self.fail(both, f"{what} reaches its limit at a time that is not computed",
                      "multiply the other side of the comparison instead")  # fmt: skip
            return None
        left, right = _plain(a.kind), _plain(b.kind)
        if sign == "/" and left is right:
            return Kind.NUMBER
        if right in (Kind.NUMBER, Kind.SHARE) and (sign == "*" or left is not Kind.NUMBER):
            return Kind.SHARE if left is Kind.NUMBER and right is Kind.SHARE else left
        if sign == "*" and left in (Kind.NUMBER, Kind.SHARE):
            return right
        if sign == "/" and right is Kind.SHARE:
            return left
        verb = "divided by" if sign == "/" else "times"
        fix = "multiply and divide by plain numbers or shares, or divide two of a kind"
        self.fail(both, f"{a_kind(left)} {verb} {a_kind(right)} has no unit here", fix)
        return None

    def _rank(self, node: Call) -> Typed | None:
        (of,) = node.arguments
        if not isinstance(of, Name):
            self.fail(of, "`rank` ranks one quantity by its name", "write `rank(NAME)`; give an"
                      " expression a name under `values`, then `rank(value.NAME)`")  # fmt: skip
            return None
        part = self._named(of)
        if part is None:
            return None
        self.scope.ranked[of.name] = part.number, part.kind
        return Typed(self.builder.rank(of.name), Kind.SHARE, node.start, node.end, share=True)

    def _if(self, node: Call) -> Typed | None:
        condition = self.condition(node.arguments[0])
        yes, no = (self.number(argument) for argument in node.arguments[1:])
        if condition is None or yes is None or no is None:
            return None
        kind = self.same_kind(yes, no, "if")
        if kind is None:
            return None
        number = self.builder.choose(condition, yes.number, no.number)
        return Typed(number, kind, node.start, node.end)

    def _least_or_most(self, node: Call) -> Typed | None:
        parts = [self.number(argument) for argument in node.arguments]
        found = [part for part in parts if part is not None]
        if len(found) < len(parts):
            return None
        left, op = found[0], Op.MIN if node.function == "min" else Op.MAX
        for right in found[1:]:
            kind = self.same_kind(left, right, node.function)
            if kind is None:
                return None
            number = self.builder.arithmetic(op, left.number, right.number, kind)
            left = Typed(number, kind, node.start, node.end)
        return left

    def same_kind(self, a: Typed, b: Typed, why: str) -> Kind | None:
        """The kind of two numbers that are added, compared or chosen from; None with a fault.

        A literal plain number from 0 to 1 may stand for a share, and a literal share for a plain
        number: 40 % is another way to write 0.4.
        """
        left, right = _plain(a.kind), _plain(b.kind)
        if left is right:
            return left
        for one, other in ((a, b), (b, a)):
            value = self.builder.constant_of(one.number)
            kinds = _plain(one.kind), _plain(other.kind)
            if value is not None and kinds == (Kind.SHARE, Kind.NUMBER):
                return Kind.NUMBER
            if value is not None and kinds == (Kind.NUMBER, Kind.SHARE) and 0 <= value <= 1:
                return Kind.SHARE
        self._unlike(a, b, why)
        return None

    def _unlike(self, a: Typed, b: Typed, why: str) -> None:
        for one, other in ((b, a), (a, b)):
            unit = _UNITS.get(other.kind, "").format(currency=self.scope.currency)
            literal = self.builder.constant_of(one.number) is not None
            if literal and _plain(one.kind) is Kind.NUMBER and unit:
                written = self.source(one)
                self.fail(one, f"{quoted(self.source(other))} is {a_kind(other.kind)}, and"
                          f" {quoted(written)} is a plain number",
                          f"write `{written}{unit}`, not `{written}`")  # fmt: skip
                return
        verb = {"+": "be added to", "-": "be subtracted from"}.get(why, "stand beside")
        first, second = (b, a) if why == "-" else (a, b)
        fix = f"{quoted(self.source(a))} needs {self.example(a.kind)} beside it"
        if {_plain(a.kind), _plain(b.kind)} == {Kind.SHARE, Kind.NUMBER}:
            fix = "divide the share by 100% to make a plain number of it"
        both = Typed(a.number, a.kind, a.start, b.end)
        self.fail(both, f"{a_kind(first.kind)} can't {verb} {a_kind(second.kind)}", fix)
