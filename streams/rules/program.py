"""Instructions over columns: what equal subexpressions share, and what constants already decide.

An instruction is named by its number, and its arguments have smaller ones. The same instruction is
never there twice (hash-consing), so rules share what they have in common.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from functools import reduce
from typing import Final, TypeAlias

from streams.rules.catalogue import Kind

__all__ = ["COST_NS", "MIRRORED", "Builder", "Instruction", "Op", "Payload", "closure_of"]

Payload: TypeAlias = float | str | tuple[str, tuple[int, ...]] | None


class Op(Enum):
    """What an instruction does; the first seven make numbers from nothing or from a name."""

    CONSTANT = auto()
    NUMBER = auto()
    RANK = auto()
    ADD = auto()
    SUBTRACT = auto()
    MULTIPLY = auto()
    DIVIDE = auto()
    MIN = auto()
    MAX = auto()
    IF = auto()
    TRUE = auto()
    FALSE = auto()
    FLAG = auto()
    CODE_IN = auto()
    """Whether a choice has one of some codes; the payload has its name and the codes."""
    LESS = auto()
    AT_MOST = auto()
    EQUAL = auto()
    KNOWN = auto()
    AND = auto()
    OR = auto()
    NOT = auto()


COST_NS: Final[dict[Op, float]] = {
    **dict.fromkeys(Op, 1.0),
    Op.CONSTANT: 0.0,
    Op.TRUE: 0.0,
    Op.FALSE: 0.0,
    Op.NOT: 0.0,
    Op.NUMBER: 8.0,
    Op.RANK: 8.0,
    Op.CODE_IN: 2.0,
    Op.LESS: 2.0,
    Op.AT_MOST: 2.0,
    Op.EQUAL: 2.0,
    Op.IF: 5.0,
    Op.DIVIDE: 3.0,
}
"""Nanoseconds per user, roughly (`python -m tests.rules.bench --costs`)."""
MOVING_COST_NS: Final = 6.0
"""Of a comparison whose sides move: when it flips."""
_FOLDED: Final[dict[Op, Callable[[float, float], float]]] = {
    Op.ADD: lambda a, b: a + b,
    Op.SUBTRACT: lambda a, b: a - b,
    Op.MULTIPLY: lambda a, b: a * b,
    Op.DIVIDE: lambda a, b: a / b,
    Op.MIN: min,
    Op.MAX: max,
}
_DECIDED: Final[dict[Op, Callable[[float, float], bool]]] = {
    Op.LESS: lambda a, b: a < b,
    Op.AT_MOST: lambda a, b: a <= b,
    Op.EQUAL: lambda a, b: a == b,
}
MIRRORED: Final = {"<": (Op.LESS, False), ">": (Op.LESS, True),
                   "<=": (Op.AT_MOST, False), ">=": (Op.AT_MOST, True)}  # fmt: skip
"""Sign -> its instruction, and whether its sides change places."""


@dataclass(frozen=True)
class Instruction:
    """One step of a program."""

    op: Op
    arguments: tuple[int, ...] = ()
    payload: Payload = None
    moves: bool = False
    """Numbers: may have a slope. Comparisons: the difference of their sides may have one."""
    days: bool = False
    """A constant that is a duration."""

    @property
    def cost_ns(self) -> float:
        """Roughly, per user."""
        timed = self.moves and self.op in _DECIDED
        return COST_NS[self.op] + (MOVING_COST_NS if timed else 0.0)


class Builder:
    """Adds instructions, each once."""

    def __init__(self) -> None:
        self.instructions: list[Instruction] = []
        self._numbers: dict[Instruction, int] = {}

    def add(self, instruction: Instruction) -> int:
        """The number of an instruction; a new one only if it is not there yet."""
        number = self._numbers.setdefault(instruction, len(self.instructions))
        if number == len(self.instructions):
            self.instructions.append(instruction)
        return number

    def constant(self, value: float, kind: Kind) -> int:
        """A number that is the same for everybody."""
        return self.add(Instruction(Op.CONSTANT, payload=value + 0.0, days=kind is Kind.DURATION))

    def constant_of(self, number: int) -> float | None:
        """The value of a constant; None for everything else."""
        found = self.instructions[number]
        return float(found.payload) if isinstance(found.payload, float) else None

    def moves(self, *numbers: int) -> bool:
        """Whether one of them may have a slope."""
        return any(self.instructions[number].moves for number in numbers)

    def number(self, name: str, slope_per_day: int) -> int:
        """A quantity by its name."""
        return self.add(Instruction(Op.NUMBER, payload=name, moves=slope_per_day != 0))

    def rank(self, name: str) -> int:
        """Where a user is among the live customers by a quantity."""
        return self.add(Instruction(Op.RANK, payload=name))

    def flag(self, name: str) -> int:
        """A flag by its name."""
        return self.add(Instruction(Op.FLAG, payload=name))

    def code_in(self, name: str, codes: Iterable[int]) -> int:
        """Whether a choice is one of these."""
        return self.add(Instruction(Op.CODE_IN, payload=(name, tuple(sorted(set(codes))))))

    def known(self, number: int) -> int:
        """Whether a number is known."""
        if self.constant_of(number) is not None:
            return self.truth(True)
        return self.add(Instruction(Op.KNOWN, (number,)))

    def arithmetic(self, op: Op, left: int, right: int, kind: Kind) -> int:
        """One operation on two numbers."""
        a, b = self.constant_of(left), self.constant_of(right)
        if a is not None and b is not None:
            return self.constant(_FOLDED[op](a, b), kind)
        return self.add(Instruction(op, (left, right), moves=self.moves(left, right)))

    def choose(self, condition: int, yes: int, no: int) -> int:
        """One of two numbers."""
        return self.add(Instruction(Op.IF, (condition, yes, no), moves=self.moves(yes, no)))

    def compare(self, op: Op, left: int, right: int) -> int:
        """A comparison of two numbers."""
        a, b = self.constant_of(left), self.constant_of(right)
        if a is not None and b is not None:
            return self.truth(_DECIDED[op](a, b))
        return self.add(Instruction(op, (left, right), moves=self.moves(left, right)))

    def truth(self, value: bool) -> int:
        """True or false for everybody."""
        return self.add(Instruction(Op.TRUE if value else Op.FALSE))

    def negate(self, number: int) -> int:
        """Logical not."""
        found = self.instructions[number]
        if found.op in (Op.TRUE, Op.FALSE):
            return self.truth(found.op is Op.FALSE)
        return (
            found.arguments[0] if found.op is Op.NOT else self.add(Instruction(Op.NOT, (number,)))
        )

    def join(self, op: Op, numbers: Iterable[int]) -> int:
        """All of them by `and` (Op.AND) or `or` (Op.OR)."""
        return reduce(lambda a, b: self._join(op, a, b), numbers)

    def _join(self, op: Op, left: int, right: int) -> int:
        decides, neutral = (Op.FALSE, Op.TRUE) if op is Op.AND else (Op.TRUE, Op.FALSE)
        ops = self.instructions[left].op, self.instructions[right].op
        if decides in ops:
            return self.add(Instruction(decides))
        if ops[0] is neutral or left == right:
            return right
        return left if ops[1] is neutral else self.add(Instruction(op, (left, right)))


def closure_of(instructions: Sequence[Instruction], roots: Iterable[int]) -> tuple[int, ...]:
    """What some instructions need, and themselves, in the order in which they can be computed."""
    needed, todo = set(), list(roots)
    while todo:
        number = todo.pop()
        if number not in needed:
            needed.add(number)
            todo += instructions[number].arguments
    return tuple(sorted(needed))
