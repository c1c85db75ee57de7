"""Why a rule holds or not for one user, in words: each comparison, and what it saw."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from streams.rules.catalogue import CATALOGUE, Kind
from streams.rules.check import Operand, Shown
from streams.rules.evaluate import Machine
from streams.rules.program import closure_of

__all__ = ["explained", "in_words"]

_STEPS: Final = (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000))


def in_words(value: float, kind: Kind, currency: str) -> str:
    """A number as it would be written in an expression, rounded for people.

    >>> in_words(1.5, Kind.DURATION, "EUR"), in_words(0.4217, Kind.SHARE, "EUR")
    ('1d 12h', '42.17%')
    >>> in_words(1234.5, Kind.MONEY, "EUR"), in_words(float("nan"), Kind.COUNT, "EUR")
    ('1234.50 EUR', 'unknown')
    """
    if np.isnan(value):
        return "unknown"
    if np.isinf(value):
        return "endless"
    if kind is Kind.MONEY:
        return f"{value:.2f} {currency}"
    if kind is Kind.SHARE:
        return f"{value:.2%}"
    return _duration(value) if kind is Kind.DURATION else f"{value:.6g}"


def _duration(days: float) -> str:
    rest, parts = round(abs(days) * 86_400_000), []
    for unit, length in _STEPS:
        count, rest = divmod(rest, length)
        if count:
            parts.append(f"{count}{unit}")
    return ("-" if days < 0 and parts else "") + (" ".join(parts[:2]) or "0s")


def explained(
    rule: str, number: int, shown: Sequence[Shown], machine: Machine, currency: str
) -> list[str]:
    """The lines of one rule for the one user of a machine."""
    roots = [number, *(one.number for one in shown)]
    roots += [o.of for one in shown for o in one.operands if isinstance(o.of, int)]
    machine.compute(closure_of(machine.instructions, roots))
    lines = []
    for one in shown:
        seen = ", ".join(_seen(operand, machine, currency) for operand in one.operands)
        lines.append(f"{_verdict(machine, one.number):8} {one.text}{f'  ({seen})' if seen else ''}")
    return [*lines, f"{_verdict(machine, number):8} {rule}{_when(machine, number)}"]


def _verdict(machine: Machine, number: int) -> str:
    truth = machine.truth(number)
    return "yes" if truth.true[0] else "no" if truth.false[0] else "unknown"


def _when(machine: Machine, number: int) -> str:
    until = machine.truth(number).until
    if until is None or np.isinf(until[0]):
        return ""
    return f"  (stays so for {_duration(float(until[0]))} if nothing happens)"


def _seen(operand: Operand, machine: Machine, currency: str) -> str:
    if isinstance(operand.of, str):
        code = int(machine.quantities.code(operand.of)[0])
        value = f'"{CATALOGUE[operand.of].values[code]}"' if code >= 0 else "unknown"
        return f"{operand.text} is {value}"
    found = np.asarray(machine.numbers(operand.of).value, np.float64).reshape(-1)[0]
    return f"{operand.text} is {in_words(float(found), operand.kind, currency)}"
