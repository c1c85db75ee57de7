"""What is wrong with an expression, and where; rendered at the edge."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher, get_close_matches
from functools import lru_cache

from schemas.errors import DefinitionsError

__all__ = ["Fault", "Problem", "RulesError", "place", "quoted", "similar"]


@dataclass(eq=False)
class Fault(Exception):
    """One thing that is wrong, between two offsets of an expression's text."""

    start: int
    end: int
    what: str
    fix: str


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with one of several expressions."""

    rule: str
    """The name under which the expression was given; `value.NAME` for a value."""
    start: int
    """Offset in the expression of the first character that is meant, and of the end."""
    end: int
    line: int
    """Within the expression, from 1; `column` too."""
    column: int
    what: str
    fix: str
    """What to do."""

    def __str__(self) -> str:
        return f"{self.rule}, line {self.line}, column {self.column}: {self.what}; {self.fix}"


class RulesError(DefinitionsError):
    """Expressions are wrong; `problems` has every one that was found, in their order."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, problems)))


def place(text: str, offset: int) -> tuple[int, int]:
    """Line and column of an offset, both from 1.

    >>> place("a\\nbc", 3)
    (2, 2)
    """
    before = text[:offset]
    return before.count("\n") + 1, offset - (before.rfind("\n") + 1) + 1


def quoted(text: str, most: int = 40) -> str:
    """A piece of the input as it can stand in a message, whatever is in it.

    >>> quoted("a\\x1b[31m")
    '`a\\\\x1b[31m`'
    """
    cut = text if len(text) <= most else text[: most - 1] + "…"
    shown = (c if c.isprintable() else c.encode("unicode_escape").decode() for c in cut)
    return f"`{''.join(shown)}`"


def similar(name: str, known: Iterable[str]) -> str:
    """A question that names what may have been meant; empty if nothing is near.

    >>> similar("p_chrun", ["p_churn", "orders"])
    'did you mean `p_churn`?'
    """
    near = _nearest(name[:60], tuple(known))
    return f"did you mean {' or '.join(f'`{one}`' for one in near)}?" if near else ""


@lru_cache(maxsize=512)  # one slip is often made in many places
def _nearest(sought: str, known: tuple[str, ...]) -> list[str]:
    near = get_close_matches(sought, known, n=3, cutoff=0.6)
    closeness = [SequenceMatcher(None, one, sought).ratio() for one in near]
    return [one for one, ratio in zip(near, closeness, strict=True) if ratio > closeness[0] - 0.05]
