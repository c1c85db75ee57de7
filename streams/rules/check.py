"""Conditions in an expression: names, kinds and units are checked, and it becomes instructions.

Every fault of an expression is found: what is wrong yields nothing, and its neighbours are checked.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from streams.rules.amounts import Amounts, Scope, Typed, a_kind
from streams.rules.catalogue import CATALOGUE, Kind, Quantity
from streams.rules.problems import quoted, similar
from streams.rules.program import MIRRORED, Op
from streams.rules.tree import (
    Between,
    Call,
    Compare,
    In,
    Literal,
    Logic,
    Name,
    Node,
    Not,
    children,
)

__all__ = ["Checker", "Operand", "Shown", "names_in"]


@dataclass(frozen=True)
class Operand:
    """What a comparison looks at: its text, and the instruction of a number or a choice's name."""

    text: str
    kind: Kind
    of: int | str


@dataclass(frozen=True)
class Shown:
    """One comparison or flag of an expression, as `explain` tells it."""

    text: str
    number: int
    operands: tuple[Operand, ...] = ()


def names_in(tree: Node) -> Iterator[Name]:
    """Every name in a tree, those of `rank(...)` too, in no particular order."""
    todo = [tree]
    while todo:
        node = todo.pop()
        if isinstance(node, Name):
            yield node
        todo += children(node)


class Checker(Amounts):
    """Checks one expression; `faults` has what was found, `shown` what can be explained."""

    def __init__(self, scope: Scope, text: str) -> None:
        super().__init__(scope, text)
        self.shown: list[Shown] = []

    def condition(self, node: Node) -> int | None:
        """The instruction of something true or false; None if it has a fault, which is noted."""
        match node:
            case Logic(word=word, items=items):
                parts = [self.condition(item) for item in items]
                found = [part for part in parts if part is not None]
                op = Op.AND if word == "and" else Op.OR
                return self.builder.join(op, found) if len(found) == len(parts) else None
            case Not(of=of):
                return self._negated(self.condition(of), negated=True)
            case Compare():
                return self._compare(node)
            case In():
                return self._in(node)
            case Between():
                return self._between(node)
            case Call(function="known"):
                return self._known(node)
            case Literal(kind=Kind.FLAG, value=value):
                return self.builder.truth(bool(value))
            case Name():
                return self._flag(node)
            case _:
                self._no_condition(node)
                return None

    def _no_condition(self, node: Node) -> None:
        if isinstance(node, Literal) and node.kind is Kind.CHOICE:
            self.fail(node, f"{quoted(self.source(node))} is a text, where something true or false"
                      " should be", "compare a name with it, or delete it")  # fmt: skip
            return
        part = self.number(node)
        if part is not None:
            what = (
                f"{quoted(self.source(node))} is {a_kind(part.kind)}, where something true or false"
            )
            self.fail(node, f"{what} should be", f"compare it with {self.example(part.kind)}")

    def _negated(self, number: int | None, negated: bool) -> int | None:
        return self.builder.negate(number) if negated and number is not None else number

    def _show(self, node: Node, number: int | None, *operands: Operand | None) -> int | None:
        """The number, after noting what `explain` will tell of it."""
        if number is not None:
            seen = tuple(dict.fromkeys(operand for operand in operands if operand is not None))
            self.shown.append(Shown(self.source(node), number, seen))
        return number

    def _operand(self, part: Typed | None) -> Operand | None:
        if part is None or self.builder.constant_of(part.number) is not None:
            return None
        return Operand(self.source(part), part.kind, part.number)

    def _flag(self, node: Name) -> int | None:
        quantity = self.quantity(node)
        if quantity is None:
            return None
        if quantity.kind is Kind.CHOICE:
            self.fail(node, f"`{node.name}` is a choice, where something true or false should be",
                      f'write `{node.name} == "{quantity.values[-1]}"`')  # fmt: skip
            return None
        if quantity.kind is not Kind.FLAG:
            self._no_condition(node)
            return None
        return self._show(node, self.builder.flag(node.name))

    def _known(self, node: Call) -> int | None:
        part = self.number(node.arguments[0])
        if part is None:
            return None
        return self._show(node, self.builder.known(part.number), self._operand(part))

    # -- comparisons

    def _compare(self, node: Compare) -> int | None:
        sides = node.left, node.right
        for one, other in (sides, sides[::-1]):
            if isinstance(one, Literal) and one.kind is Kind.FLAG:
                return self._with_truth(node, one, other)
        for one, other in (sides, sides[::-1]):
            if (choice := self._choice(one)) is not None:
                return self._with_choice(node, choice, other)
        if any(isinstance(side, Literal) and side.kind is Kind.CHOICE for side in sides):
            return self._with_text(node)
        a, b = self.number(node.left), self.number(node.right)
        if a is None or b is None or not self._comparable(a, b):
            return None
        return self._show(node, self._signed(node.sign, a, b), self._operand(a), self._operand(b))

    def _signed(self, sign: str, a: Typed, b: Typed) -> int | None:
        if sign in ("==", "!="):
            return self._negated(self._equal(a, b), negated=sign == "!=")
        op, swapped = MIRRORED[sign]
        left, right = (b, a) if swapped else (a, b)
        return self.builder.compare(op, left.number, right.number)

    def _equal(self, a: Typed, b: Typed) -> int | None:
        if self.builder.moves(a.number, b.number):
            self.fail(Typed(a.number, a.kind, a.start, b.end),
                      "an elapsed time equals another for an instant only",
                      "compare with `<`, `>` or `between`")  # fmt: skip
            return None
        return self.builder.compare(Op.EQUAL, a.number, b.number)

    def _comparable(self, a: Typed, b: Typed) -> bool:
        for one, other in ((a, b), (b, a)):
            value = self.builder.constant_of(one.number)
            plain = one.kind in (Kind.NUMBER, Kind.SHARE)
            if other.share and plain and value is not None and not 0 <= value <= 1:
                written, percent = self.source(one), one.kind is Kind.SHARE
                self.fail(one, f"{quoted(self.source(other))} is a share from 0% to 100%, and"
                          f" {quoted(written)} is not", "write a share such as `40%`" if percent
                          else f"write `{written}%`, not `{written}`")  # fmt: skip
                return False
        return self.same_kind(a, b, "compare") is not None

    def _choice(self, node: Node) -> Quantity | None:
        """The choice that a node names, if it does."""
        found = CATALOGUE.get(node.name) if isinstance(node, Name) else None
        return found if found is not None and found.kind is Kind.CHOICE else None

    def _with_truth(self, node: Compare, truth: Literal, other: Node) -> int | None:
        number = self.condition(other)
        if node.sign not in ("==", "!="):
            self.fail(node, "true and false have no order", "compare with `==`, or with nothing")
            return None
        return self._negated(number, negated=bool(truth.value) == (node.sign == "!="))

    def _with_choice(self, node: Compare, choice: Quantity, other: Node) -> int | None:
        if node.sign not in ("==", "!="):
            listed = ", ".join(f'"{value}"' for value in choice.values[-2:])
            self.fail(node, f"`{choice.name}` has names and no order",
                      f"write `{choice.name} in ({listed})`")  # fmt: skip
            return None
        code = self._code(choice, other)
        if code is None:
            return None
        number = self._negated(self.builder.code_in(choice.name, [code]), node.sign == "!=")
        return self._show(node, number, Operand(choice.name, Kind.CHOICE, choice.name))

    def _code(self, choice: Quantity, node: Node) -> int | None:
        values = ", ".join(f'"{value}"' for value in choice.values)
        if not isinstance(node, Literal) or not isinstance(node.value, str):
            named = isinstance(node, Name) and node.name in choice.values
            self.fail(node, f"{quoted(self.source(node))} is none of the values of `{choice.name}`",
                      f'write it in double quotes: "{self.source(node)}"' if named
                      else f"write one of {values}")  # fmt: skip
            return None
        if node.value not in choice.values:
            near = similar(node.value, choice.values)
            self.fail(node, f"`{choice.name}` is never {quoted(self.source(node))}",
                      f"{near} its values are {values}".strip())  # fmt: skip
            return None
        return choice.values.index(node.value)

    def _with_text(self, node: Compare) -> int | None:
        text, other = (node.left, node.right)
        if not isinstance(text, Literal):
            text, other = other, text
        part = self.number(other)
        if part is not None:
            self.fail(text, f"{quoted(self.source(other))} is {a_kind(part.kind)}, and"
                      f" {quoted(self.source(text))} is a text",
                      f"compare it with {self.example(part.kind)}")  # fmt: skip
        return None

    def _in(self, node: In) -> int | None:
        choice = self._choice(node.of)
        if choice is not None:
            codes = [self._code(choice, item) for item in node.items]
            found = [code for code in codes if code is not None]
            if len(found) < len(codes):
                return None
            number = self._negated(self.builder.code_in(choice.name, found), node.negated)
            return self._show(node, number, Operand(choice.name, Kind.CHOICE, choice.name))
        of = self.number(node.of)
        items = [self.number(item) for item in node.items]
        if of is None:
            return None
        equal = [
            self._equal(of, item) if item is not None and self._comparable(of, item) else None
            for item in items
        ]
        if None in equal:
            return None
        number = self.builder.join(Op.OR, [part for part in equal if part is not None])
        return self._show(node, self._negated(number, node.negated), self._operand(of))

    def _between(self, node: Between) -> int | None:
        if (choice := self._choice(node.of)) is not None:
            self.fail(node, f"`{choice.name}` has names and no order", "list them with `in`")
            return None
        of, low, high = (self.number(part) for part in (node.of, node.low, node.high))
        if of is None or low is None or high is None:
            return None
        alike = [self._comparable(of, low), self._comparable(of, high)]
        if not all(alike):
            return None
        ends = self.builder.constant_of(low.number), self.builder.constant_of(high.number)
        if ends[0] is not None and ends[1] is not None and ends[0] > ends[1]:
            self.fail(node, "nothing is between a higher and a lower limit",
                      "write the lower limit first")  # fmt: skip
            return None
        above = self.builder.compare(Op.AT_MOST, low.number, of.number)
        below = self.builder.compare(Op.AT_MOST, of.number, high.number)
        number = self._negated(self.builder.join(Op.AND, [above, below]), node.negated)
        operands = map(self._operand, (of, low, high))
        return self._show(node, number, *operands)
