"""What an expression says, as a tree: each node with its place in the text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from streams.rules.catalogue import Kind

__all__ = [
    "Between", "Call", "Chain", "Compare", "In", "Literal", "Logic", "Name", "Negative", "Node",
    "Not", "children",
]  # fmt: skip


@dataclass(frozen=True)
class _Spanned:
    start: int
    end: int


@dataclass(frozen=True)
class Literal(_Spanned):
    """A number with its kind; a text has the kind CHOICE, true and false have FLAG."""

    kind: Kind
    value: float | str | bool
    currency: str = ""


@dataclass(frozen=True)
class Name(_Spanned):
    """A name, not yet looked up."""

    name: str


@dataclass(frozen=True)
class Call(_Spanned):
    """`rank(...)`, `known(...)`, `min(...)`, `max(...)` or `if(...)`."""

    function: str
    arguments: tuple[Node, ...]


@dataclass(frozen=True)
class Negative(_Spanned):
    """Unary minus."""

    of: Node


@dataclass(frozen=True)
class Not(_Spanned):
    """Logical not."""

    of: Node


@dataclass(frozen=True)
class Chain(_Spanned):
    """`first + b - c`, or `first * b / c`: however long, one level deep."""

    first: Node
    rest: tuple[tuple[str, Node], ...]


@dataclass(frozen=True)
class Logic(_Spanned):
    """`a and b and c`, or the same with `or`."""

    word: str
    items: tuple[Node, ...]


@dataclass(frozen=True)
class Compare(_Spanned):
    """`left sign right`."""

    sign: str
    left: Node
    right: Node


@dataclass(frozen=True)
class In(_Spanned):
    """`of in (items)`, or `of not in (items)`."""

    of: Node
    items: tuple[Node, ...]
    negated: bool


@dataclass(frozen=True)
class Between(_Spanned):
    """`of between low and high`, both included."""

    of: Node
    low: Node
    high: Node
    negated: bool


Node: TypeAlias = Literal | Name | Call | Negative | Not | Chain | Logic | Compare | In | Between


def children(node: Node) -> tuple[Node, ...]:
    """The nodes directly below, in the order of the text."""
    match node:
        case Call(arguments=items) | Logic(items=items):
            return items
        case Negative(of=of) | Not(of=of):
            return (of,)
        case Chain(first=first, rest=rest):
            return (first, *(item for _, item in rest))
        case Compare(left=left, right=right):
            return left, right
        case In(of=of, items=items):
            return (of, *items)
        case Between(of=of, low=low, high=high):
            return of, low, high
        case _:
            return ()
