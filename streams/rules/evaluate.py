"""Instructions are computed over columns: values, three-valued truth, and until when it holds.

Time is a dual number: a number has a value and a slope per day, and both are computed side by side
(forward mode; Wengert, 1964). What jumps or bends with time (`if`, `min`) also has a time until
which its value and slope hold.

Truth is Kleene's (Introduction to Metamathematics, 64): a comparison with an unknown number is
neither true nor false. Two columns say so: known to be true, known to be false. Truth has a time
too, before which it can't change by time alone. An `and` that has a false side stays false for as
long as one of its false sides does, so what another side does meanwhile needs no timer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from streams.rules.catalogue import CATALOGUE
from streams.rules.program import Instruction, Op

__all__ = ["Flags", "Floats", "Machine", "Numbers", "Quantities", "Truth"]

Floats: TypeAlias = NDArray[np.float64]
Flags: TypeAlias = NDArray[np.bool_]
Until: TypeAlias = "Floats | None"
"""float64 [k], days from now; None: for ever."""


class Quantities(Protocol):
    """The columns that rules ask for, of k users; NaN is unknown. Each is asked for once.

    Durations are in days, money is in the shop's currency, shares are from 0 to 1.
    """

    @property
    def size(self) -> int:
        """k."""

    def number(self, name: str) -> Floats:
        """float64 [k] of a quantity of the catalogue. Elapsed times need milliseconds: in float32,
        90 days are exact to a second only."""

    def code(self, name: str) -> NDArray[np.integer[Any]]:
        """Integers [k] of a choice: places in the catalogue's values; negative is unknown."""

    def flag(self, name: str) -> Flags:
        """bool [k] of `alert_open` or of `segment.NAME`."""

    def rank(self, name: str) -> Floats:
        """float64 [k]: the share of the shop's live customers who have less of it."""


@dataclass(frozen=True)
class Numbers:
    """A number of each user; a scalar is the same for all."""

    value: Floats | float
    slope: Floats | float | None = None
    """Per day; None: 0."""
    until: Until = None
    """Before then, value and slope hold."""


@dataclass(frozen=True)
class Truth:
    """Kleene's truth of each user, bool [k]; neither: unknown."""

    true: Flags
    false: Flags
    until: Until = None


def _sooner(*untils: Until) -> Until:
    found = [until for until in untils if until is not None]
    if not found:
        return None
    first, *others = found
    for other in others:
        first = np.minimum(first, other)
    return first


def _or_zero(slope: Floats | float | None) -> Floats | float:
    return 0.0 if slope is None else slope


def _slope(op: np.ufunc, a: Numbers, b: Numbers) -> Floats | float | None:
    if a.slope is None and b.slope is None:
        return None
    return cast(Floats, op(_or_zero(a.slope), _or_zero(b.slope)))


def _add(a: Numbers, b: Numbers) -> Numbers:
    return Numbers(a.value + b.value, _slope(np.add, a, b), _sooner(a.until, b.until))


def _subtract(a: Numbers, b: Numbers) -> Numbers:
    return Numbers(a.value - b.value, _slope(np.subtract, a, b), _sooner(a.until, b.until))


def _multiply(a: Numbers, b: Numbers) -> Numbers:
    """At most one of them has a slope (the check saw to it)."""
    moving, still = (a, b) if a.slope is not None else (b, a)
    slope = None if moving.slope is None else moving.slope * still.value
    return Numbers(a.value * b.value, slope, _sooner(a.until, b.until))


def _divide(a: Numbers, b: Numbers) -> Numbers:
    """What is divided by zero is unknown. The divisor has no slope."""
    divisor = np.asarray(b.value, np.float64)
    divisor = np.where(divisor == 0, np.nan, divisor)
    slope = None if a.slope is None else a.slope / divisor
    return Numbers(a.value / divisor, slope, _sooner(a.until, b.until))


def _chosen(a: Numbers, b: Numbers, first: Flags) -> Floats | float | None:
    """The slopes of `a` where `first`, those of `b` elsewhere."""
    if a.slope is None and b.slope is None:
        return None
    return np.where(first, _or_zero(a.slope), _or_zero(b.slope))


def _extreme(pick: np.ufunc, sign: int) -> Callable[[Numbers, Numbers], Numbers]:
    """min (sign 1) or max (-1): which is the smaller may change where their lines cross."""

    def of(a: Numbers, b: Numbers) -> Numbers:
        value = cast(Floats, pick(a.value, b.value))
        until = _sooner(a.until, b.until)
        slope = _slope(np.subtract, a, b)
        if slope is None:
            return Numbers(value, None, until)
        gap = np.asarray(a.value - b.value, np.float64) * sign
        rise = slope * sign
        first = (gap < 0) | ((gap == 0) & (rise < 0))  # of two that are equal, the next smaller
        crossing = _after(gap, rise, np.False_)
        return Numbers(value, _chosen(a, b, first), _sooner(until, crossing))

    return of


def _after(gap: Floats, rise: Floats | float, now: Flags | np.bool_) -> Floats:
    """Days until gap + rise * t passes 0; inf: never. At 0 already: at once where `now`."""
    days = -gap if np.ndim(rise) == 0 and rise == 1 else -gap / rise
    if np.ndim(now) == 0:
        passes = days >= 0 if now else days > 0
    else:
        passes = (days > 0) | ((days == 0) & now)
    return np.where(passes, days, np.inf)


def _choose(condition: Truth, yes: Numbers, no: Numbers) -> Numbers:
    value = np.where(condition.true, yes.value, no.value)
    value[~(condition.true | condition.false)] = np.nan
    slope = _chosen(yes, no, condition.true)
    return Numbers(value, slope, _sooner(condition.until, yes.until, no.until))


def _compared(
    true: np.ufunc, false: np.ufunc, strict: bool
) -> Callable[[Numbers, Numbers, int], Truth]:
    """`a < b` or `a <= b`, and when it flips: at once if they meet now and are about to part."""

    def of(a: Numbers, b: Numbers, size: int) -> Truth:
        until = _sooner(a.until, b.until)
        rise = _slope(np.subtract, a, b)
        if rise is not None:
            gap = np.asarray(a.value - b.value, np.float64)
            # a < b is about to become true where a falls, a <= b false where a rises
            parts = np.less(rise, 0) if strict else np.greater(rise, 0)
            until = _sooner(until, _after(gap, rise, parts))
        shape = (size,)
        return Truth(
            np.broadcast_to(true(a.value, b.value), shape),
            np.broadcast_to(false(a.value, b.value), shape),
            until,
        )

    return of


_less: Final = _compared(np.less, np.greater_equal, strict=True)
_at_most: Final = _compared(np.less_equal, np.greater, strict=False)


def _equal(a: Numbers, b: Numbers, size: int) -> Truth:
    known = ~(np.isnan(a.value) | np.isnan(b.value))
    same = np.equal(a.value, b.value)
    return Truth(np.broadcast_to(same, (size,)), np.broadcast_to(known & ~same, (size,)),
                 _sooner(a.until, b.until))  # fmt: skip


def _decided(a: Until, b: Until, decides_a: Flags, decides_b: Flags) -> Until:
    """Until when `and` holds, where `decides_` says which sides are false; for `or`, true.

    It stays false as long as the longest of its false sides. Without one, it may change with the
    first that changes.
    """
    if a is None and b is None:
        return None
    if a is None or b is None:
        moving, still = (b, decides_a) if a is None else (a, decides_b)
        return np.where(still, np.inf, cast(Floats, moving))
    only_a, only_b = decides_a & ~decides_b, decides_b & ~decides_a
    either = np.where(decides_a & decides_b, np.maximum(a, b), np.minimum(a, b))
    return np.where(only_a, a, np.where(only_b, b, either))


def _and(a: Truth, b: Truth) -> Truth:
    until = _decided(a.until, b.until, a.false, b.false)
    return Truth(a.true & b.true, a.false | b.false, until)


def _or(a: Truth, b: Truth) -> Truth:
    until = _decided(a.until, b.until, a.true, b.true)
    return Truth(a.true | b.true, a.false & b.false, until)


_ARITHMETIC: Final[dict[Op, Callable[..., Numbers]]] = {
    Op.ADD: _add,
    Op.SUBTRACT: _subtract,
    Op.MULTIPLY: _multiply,
    Op.DIVIDE: _divide,
    Op.MIN: _extreme(np.minimum, 1),
    Op.MAX: _extreme(np.maximum, -1),
}
_COMPARISONS: Final[dict[Op, Callable[..., Truth]]] = {
    Op.LESS: _less,
    Op.AT_MOST: _at_most,
    Op.EQUAL: _equal,
}
_LOGIC: Final = {Op.AND: _and, Op.OR: _or}


class Machine:
    """Computes instructions over the columns of some users, each once."""

    def __init__(self, instructions: Sequence[Instruction], quantities: Quantities) -> None:
        self.instructions = instructions
        self.quantities = quantities
        self._done: dict[int, Numbers | Truth] = {}

    def compute(self, closure: Sequence[int]) -> None:
        """Compute instructions, in an order in which arguments come first."""
        with np.errstate(all="ignore"):  # NaN and infinity are answers here
            for number in closure:
                if number not in self._done:
                    self._done[number] = self._computed(self.instructions[number])

    def truth(self, number: int) -> Truth:
        """A condition that was computed."""
        return cast(Truth, self._done[number])

    def numbers(self, number: int) -> Numbers:
        """A number that was computed."""
        return cast(Numbers, self._done[number])

    def forget(self, numbers: Iterable[int]) -> None:
        """Drop what was computed and nothing needs any more."""
        for number in numbers:
            del self._done[number]

    def _computed(self, instruction: Instruction) -> Numbers | Truth:
        op, size = instruction.op, self.quantities.size
        arguments: list[Any] = [self._done[argument] for argument in instruction.arguments]
        if op in _ARITHMETIC:
            return _ARITHMETIC[op](*arguments)
        if op in _COMPARISONS:
            return _COMPARISONS[op](*arguments, size)
        if op in _LOGIC:
            return _LOGIC[op](*arguments)
        if op is Op.IF:
            return _choose(*arguments)
        if op is Op.NOT:
            (of,) = arguments
            return Truth(of.false, of.true, of.until)
        if op is Op.KNOWN:
            (of,) = arguments
            unknown = np.broadcast_to(np.isnan(of.value), (size,))
            return Truth(~unknown, unknown, of.until)
        return self._fetched(instruction)

    def _fetched(self, instruction: Instruction) -> Numbers | Truth:
        op, payload, quantities = instruction.op, instruction.payload, self.quantities
        if op in (Op.TRUE, Op.FALSE):
            yes = np.broadcast_to(np.bool_(op is Op.TRUE), (quantities.size,))
            return Truth(yes, ~yes)
        if isinstance(payload, float):
            return Numbers(payload)
        if isinstance(payload, tuple):
            return self._code_in(*payload)
        name = str(payload)
        if op is Op.FLAG:
            flag = quantities.flag(name)
            return Truth(flag, ~flag)
        if op is Op.RANK:
            return Numbers(np.asarray(quantities.rank(name), np.float64))
        slope = CATALOGUE[name].slope_per_day
        # in float32 a limit would be rounded too, and be reached at another time than is told
        value = np.asarray(quantities.number(name), np.float64)
        return Numbers(value, float(slope) if slope else None)

    def _code_in(self, name: str, wanted: tuple[int, ...]) -> Truth:
        codes = self.quantities.code(name)
        found = codes == wanted[0]
        for code in wanted[1:]:
            found |= codes == code
        return Truth(found, ~found & (codes >= 0))
