"""An expression's text as tokens: names, numbers with their units, texts and signs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto
from itertools import pairwise
from typing import Final

from streams.rules.problems import Fault, quoted

__all__ = ["MAX_CHARACTERS", "Token", "Type", "duration_days", "tokens"]

MAX_CHARACTERS: Final = 4_000
_MAX_NUMBER: Final = 1e15
"""Beyond it a float64 no longer tells neighbours apart, and nobody means such a number."""
_UNIT_DAYS: Final = {"w": 7.0, "d": 1.0, "h": 1 / 24, "m": 1 / 1_440, "s": 1 / 86_400}
_UNIT_ORDER: Final = "wdhms"


class Type(Enum):
    """What a token is."""

    NAME = auto()
    NUMBER = auto()
    SHARE = auto()
    DURATION = auto()
    MONEY = auto()
    TEXT = auto()
    SIGN = auto()
    END = auto()


@dataclass(frozen=True)
class Token:
    """One token, at `text[start:end]`."""

    type: Type
    text: str
    """As it is written; of a text, what is between the quotes; of money, its currency."""
    start: int
    end: int
    value: float = 0.0
    """Of a number; a share from 0 to 1, a duration in days."""


_NUMBER: Final = r"[0-9]+(?:_[0-9]+)*(?:\.[0-9]+)?"
_TOKEN: Final = re.compile(
    rf"""(?P<space>[ \t\r\n]+|\#[^\n]*)
    |(?P<DURATION>(?:{_NUMBER}[smhdw])+)(?![A-Za-z0-9_.])
    |(?P<MONEY>{_NUMBER}[ ]?(?!AND|NOT)[A-Z]{{3}})(?![A-Za-z0-9_.])
    |(?P<SHARE>{_NUMBER}[ ]?%)
    |(?P<NUMBER>{_NUMBER})(?![0-9A-Za-z_.])
    |(?P<NAME>[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z0-9_]+)*)
    |"(?P<TEXT>[^"\n]*)"
    |(?P<SIGN><=|>=|==|!=(?!=)|<(?!>)|>|\+|-|\*(?!\*)|/(?!/)|\(|\)|,)
    """,
    re.VERBOSE,
)
_PART: Final = re.compile(rf"({_NUMBER})([smhdw])")
_ODD_NUMBER: Final = re.compile(r"[0-9][0-9A-Za-z_.]*")
_WRITE: Final = {
    "=": "write `==`",
    "&&": "write `and`",
    "&": "write `and`",
    "||": "write `or`",
    "|": "write `or`",
    "!": "write `not`",
    "<>": "write `!=`",
    "'": 'write texts in double quotes: "high"',
    "“": 'write texts in plain double quotes: "high"',
    "”": 'write texts in plain double quotes: "high"',
    '"': "close the text with a second double quote, on the same line",
    "≥": "write `>=`",
    "≤": "write `<=`",
    "≠": "write `!=`",
    "×": "write `*`",
    "÷": "write `/`",
    "−": "write `-`",
    "–": "write `-`",
    "€": "write an amount with the code of its currency, such as `50 EUR`",
    "$": "write an amount with the code of its currency, such as `50 USD`",
    "£": "write an amount with the code of its currency, such as `50 GBP`",
    ".": "begin a number with a digit, such as `0.5`; nothing has attributes",
    "%": "write a share as a number and `%`, such as `40%`",
    "**": "multiply with `*`",
    "//": "divide with `/`",
    "[": 'write a list in parentheses: ("high", "medium")',
    "{": 'write a list in parentheses: ("high", "medium")',
}
_NO_CODE: Final = "use only names of the catalogue, comparisons, `and`, `or`, `not`, + - * /"


def _number(text: str, start: int, end: int) -> float:
    value = float(text.replace("_", "")) if len(text) <= 30 else float("inf")
    if value > _MAX_NUMBER:
        raise Fault(start, end, f"the number {quoted(text, 20)} is too large",
                    f"write one below {_MAX_NUMBER:.0e}")  # fmt: skip
    return value


def duration_days(text: str, start: int = 0) -> float:
    """Days of a duration such as `1h30m`; units fall from w to s. Raises Fault.

    >>> duration_days("1d12h")
    1.5
    """
    end = start + len(text)
    parts = _PART.findall(text)
    if not parts or "".join(n + u for n, u in parts) != text:
        raise Fault(
            start, end, f"{quoted(text)} is no duration", "write one such as `10m` or `30d`"
        )
    places = [_UNIT_ORDER.index(unit) for _, unit in parts]
    if any(a >= b for a, b in pairwise(places)):
        raise Fault(start, end, f"the units of the duration {quoted(text)} are out of order",
                    "write the larger unit first, and each once: `1h30m`")  # fmt: skip
    # Seconds are whole numbers for all that people write, so that 1d12h is exactly 1.5 d.
    seconds = sum(_number(n, start, end) * round(_UNIT_DAYS[u] * 86_400) for n, u in parts)
    return _number(repr(seconds), start, end) / 86_400


def tokens(text: str) -> list[Token]:
    """All tokens of a text, and an END. Raises Fault at the first that is none."""
    if len(text) > MAX_CHARACTERS:
        what = f"the expression has {len(text):,} characters, and {MAX_CHARACTERS:,} are allowed"
        fix = "give parts of it names of their own under `values` or `segments`"
        raise Fault(MAX_CHARACTERS, len(text), what, fix)
    found: list[Token] = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise _no_token(text, at)
        if match.lastgroup not in (None, "space"):
            found.append(_token(match))
        at = match.end()
    return [*found, Token(Type.END, "", len(text), len(text))]


def _token(match: re.Match[str]) -> Token:
    kind, written = Type[str(match.lastgroup)], match[str(match.lastgroup)]
    start, end = match.span()
    value = 0.0
    if kind is Type.NUMBER:
        value = _number(written, start, end)
    elif kind is Type.SHARE:
        value = _number(written[:-1].rstrip(), start, end) / 100
    elif kind is Type.DURATION:
        value = duration_days(written, start)
    elif kind is Type.MONEY:
        value, written = _number(written[:-3].rstrip(), start, end), written[-3:]
    return Token(kind, written, start, end, value)


def _no_token(text: str, at: int) -> Fault:
    odd = _ODD_NUMBER.match(text, at)
    if odd:
        what = f"{quoted(odd[0], 20)} is neither a number nor an amount with a unit"
        return Fault(at, odd.end(), what,
                     "write a number such as `2` or `0.5`, a duration such as `30d` or `1h30m`, a"
                     " share such as `40%`, an amount such as `50 EUR`")  # fmt: skip
    sign = next((text[at : at + n] for n in (2, 1) if text[at : at + n] in _WRITE), text[at])
    return Fault(at, at + len(sign), f"unexpected {quoted(sign)}", _WRITE.get(sign, _NO_CODE))
