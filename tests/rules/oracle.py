"""Expressions for one user, the slow and plain way: a walk over the tree with None for unknown.

It shares the parser with `streams/rules`, and nothing else: no instructions, no columns, no slopes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from streams.rules.tree import (
    Between,
    Call,
    Chain,
    Compare,
    In,
    Literal,
    Logic,
    Name,
    Negative,
    Node,
    Not,
)

__all__ = ["number", "truth"]

User = Mapping[str, Any]


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def number(node: Node, user: User) -> float | None:
    """A number of one user."""
    match node:
        case Literal(value=value):
            return float(value)
        case Name(name=name):
            return _number(float(user[name]))
        case Negative(of=of):
            inner = number(of, user)
            return None if inner is None else 0.0 - inner
        case Call(function="rank", arguments=(Name(name=name),)):
            return _number(float(user[f"rank {name}"]))
        case Call(function="if", arguments=(condition, yes, no)):
            holds = truth(condition, user)
            return None if holds is None else number(yes if holds else no, user)
        case Call(function=function, arguments=arguments):
            found = [number(argument, user) for argument in arguments]
            return None if None in found else (min if function == "min" else max)(found)  # type: ignore[type-var]
        case Chain(first=first, rest=rest):
            total = number(first, user)
            for sign, item in rest:
                other = number(item, user)
                if total is None or other is None:
                    return None
                total = _operation(sign, total, other)
            return total
    raise AssertionError(node)


def _operation(sign: str, a: float, b: float) -> float | None:
    if sign == "/":
        return None if b == 0 else _number(a / b)
    return _number({"+": a + b, "-": a - b, "*": a * b}[sign])


def _compared(sign: str, a: Any, b: Any) -> bool | None:
    if a is None or b is None:
        return None
    return bool({"<": a < b, ">": a > b, "<=": a <= b, ">=": a >= b, "==": a == b, "!=": a != b}
                [sign] if not isinstance(a, str) else (a == b) == (sign == "=="))  # fmt: skip


def _side(node: Node, user: User) -> Any:
    if isinstance(node, Literal) and isinstance(node.value, str):
        return node.value
    if isinstance(node, Name) and isinstance(user[node.name], str | None):
        return user[node.name]
    return number(node, user)


def _any(found: list[bool | None]) -> bool | None:
    return True if True in found else None if None in found else False


def _not(found: bool | None) -> bool | None:
    return None if found is None else not found


def truth(node: Node, user: User) -> bool | None:
    """True, false or None (unknown), of one user."""
    match node:
        case Logic(word="or", items=items):
            return _any([truth(item, user) for item in items])
        case Logic(items=items):
            return _not(_any([_not(truth(item, user)) for item in items]))
        case Not(of=of):
            return _not(truth(of, user))
        case Literal(value=value):
            return bool(value)
        case Name(name=name):
            return bool(user[name])
        case Call(function="known", arguments=(of,)):
            return number(of, user) is not None
        case Compare(sign=sign, left=left, right=right):
            return _compared(sign, _side(left, user), _side(right, user))
        case In(of=of, items=items, negated=negated):
            side = _side(of, user)
            found = _any([_compared("==", side, _side(item, user)) for item in items])
            return _not(found) if negated else found
        case Between(of=of, low=low, high=high, negated=negated):
            side = _side(of, user)
            outside = _any([_compared("<", side, _side(low, user)),
                            _compared(">", side, _side(high, user))])  # fmt: skip
            return outside if negated else _not(outside)
    raise AssertionError(node)
