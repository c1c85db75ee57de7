"""A set of rules that was checked: evaluated over columns, in the order in which they depend."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np

from streams.rules.catalogue import Kind
from streams.rules.check import Shown
from streams.rules.evaluate import Flags, Floats, Machine, Quantities
from streams.rules.explain import explained
from streams.rules.parts import Columns, Part
from streams.rules.program import Instruction, Op, closure_of

__all__ = ["Evaluation", "Outcome", "RuleSet"]

BLOCK_ROWS: Final = 65_536
"""So many users are computed at once, in memory that is used again for the next ones. Five
comparisons over a million users took 30 ms so, 58 ms at once, and 37 ms in blocks of a quarter."""
_TIMED: Final = (Op.LESS, Op.AT_MOST)


@dataclass(frozen=True)
class Outcome:
    """What one rule says of k users."""

    true: Flags
    """bool [k]: known to be true."""
    known: Flags
    """bool [k]; false: something that decides it is unknown."""
    flips_in_days: Floats
    """float64 [k], at least 0; inf: never. By time alone the rule says the same before then, and
    may say something else then or right after. Evaluated again at the next millisecond after it, a
    rule is late by a millisecond at the most."""


@dataclass(frozen=True)
class RuleSet:
    """Rules that were checked. Evaluate them in `order`, and update flags between them."""

    instructions: tuple[Instruction, ...]
    rules: Mapping[str, int]
    """Name -> the instruction of its truth."""
    numbers: Mapping[str, tuple[int, Kind]]
    """`value.NAME` of the file, and each name in `rank(...)` -> its instruction and kind."""
    shown: Mapping[str, tuple[Shown, ...]]
    """Name of a rule -> its comparisons, in the order of its text."""
    order: tuple[str, ...]
    """All rules; those that define a segment or dimension come before those that refer to it."""
    currency: str

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Every quantity, choice and flag that rules, values and ranks need, sorted."""
        return self._asked(Op.NUMBER, Op.FLAG, Op.CODE_IN)

    @cached_property
    def ranks(self) -> tuple[str, ...]:
        """Every name in `rank(...)`, sorted. `Evaluation.number` computes what is ranked."""
        return self._asked(Op.RANK)

    @cached_property
    def longest_days(self) -> float:
        """The longest literal duration in a comparison with elapsed time; 0.0 without one.

        A limit that is no literal (`days_since_order > 2 * gap_mean_days`) is not in it.
        """
        timed = [n for n in self._used() if self._is_timed(n)]
        within = [self.instructions[n] for n in closure_of(self.instructions, timed)]
        return max((abs(float(str(i.payload))) for i in within if i.days), default=0.0)

    @cached_property
    def closures(self) -> Mapping[int, tuple[int, ...]]:
        """What each rule, value and rank needs, itself last, by its instruction."""
        roots = [*self.rules.values(), *(number for number, _ in self.numbers.values())]
        return {root: closure_of(self.instructions, [root]) for root in roots}

    @cached_property
    def shared(self) -> frozenset[int]:
        """The instructions that more than one of them needs."""
        needed = Counter(number for closure in self.closures.values() for number in closure)
        return frozenset(number for number, times in needed.items() if times > 1)

    def names_of(self, name: str) -> frozenset[str]:
        """Every quantity, choice, flag and `rank(NAME)` that one rule needs."""
        asked = (Op.NUMBER, Op.FLAG, Op.CODE_IN, Op.RANK)
        found = [self.instructions[n] for n in self.closures[self.rules[name]]]
        return frozenset(
            f"rank({i.payload})" if i.op is Op.RANK
            else str(i.payload[0] if isinstance(i.payload, tuple) else i.payload)
            for i in found if i.op in asked
        )  # fmt: skip

    def cost_ns(self, name: str) -> float:
        """Roughly, nanoseconds per user of one rule alone."""
        return sum(self.instructions[n].cost_ns for n in self.closures[self.rules[name]])

    def begin(self, quantities: Quantities) -> Evaluation:
        """An evaluation whose rules share what they have in common."""
        return Evaluation(self, quantities)

    def evaluate(self, quantities: Quantities) -> dict[str, Outcome]:
        """All rules, with the flags and choices that `quantities` has at the start."""
        evaluation = self.begin(quantities)
        return {name: evaluation.outcome(name) for name in self.order}

    def evaluate_one(self, name: str, quantities: Quantities) -> Outcome:
        """One rule by itself. Of several, `begin` asks for each column once."""
        return self.begin(quantities).outcome(name)

    def explain(self, name: str, quantities: Quantities, row: int) -> list[str]:
        """Lines: each comparison of a rule, whether it held for one user, and what it saw."""
        machine = Machine(self.instructions, Part(Columns(quantities), row, row + 1))
        return explained(name, self.rules[name], self.shown[name], machine, self.currency)

    def _used(self) -> tuple[int, ...]:
        return closure_of(self.instructions, self.closures)

    def _asked(self, *ops: Op) -> tuple[str, ...]:
        found = [self.instructions[n].payload for n in self._used()
                 if self.instructions[n].op in ops]  # fmt: skip
        return tuple(sorted({p[0] if isinstance(p, tuple) else str(p) for p in found}))

    def _is_timed(self, number: int) -> bool:
        return self.instructions[number].op in _TIMED and self.instructions[number].moves


class Evaluation:
    """Rules over the columns of some users.

    A column is asked for when the first rule needs it: keep to `RuleSet.order`, and the flags of a
    segment are asked for after the rules that define it. What several rules need is kept.
    """

    def __init__(self, rules: RuleSet, quantities: Quantities) -> None:
        self._rules = rules
        self._size = quantities.size
        columns = Columns(quantities)
        self._blocks = [
            slice(start, min(start + BLOCK_ROWS, self._size))
            for start in range(0, max(self._size, 1), BLOCK_ROWS)
        ]
        parts = [Part(columns, block.start, block.stop) for block in self._blocks]
        self._machines = [Machine(rules.instructions, part) for part in parts]

    def outcome(self, name: str) -> Outcome:
        """One rule by its name."""
        number = self._rules.rules[name]
        true, known = (np.empty(self._size, np.bool_) for _ in range(2))
        flips = np.full(self._size, np.inf)
        for block, machine in self._computed(number):
            truth = machine.truth(number)
            true[block] = truth.true
            np.logical_or(truth.true, truth.false, out=known[block])
            if truth.until is not None:
                flips[block] = truth.until
        return Outcome(true, known, flips)

    def number(self, name: str) -> Floats:
        """float64 [k] of `value.NAME`, or of a name in `RuleSet.ranks`; NaN is unknown."""
        number, _ = self._rules.numbers[name]
        found = np.empty(self._size, np.float64)
        for block, machine in self._computed(number):
            found[block] = machine.numbers(number).value
        return found

    def _computed(self, number: int) -> Iterator[tuple[slice, Machine]]:
        """Each block's machine, which has computed an instruction; it forgets afterwards."""
        closure = self._rules.closures[number]
        once = [n for n in closure if n not in self._rules.shared]
        for block, machine in zip(self._blocks, self._machines, strict=True):
            machine.compute(closure)
            yield block, machine
            machine.forget(once)
