"""Where in a file something is, and how an error shows it: the line, and carets below it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from schemas.errors import DefinitionsError
from streams.campaigns.nodes import Scalar
from streams.rules.problems import Fault, place

__all__ = ["DocumentError", "FileProblem", "offset_in_file"]

_WIDTH: Final = 96
_MOST: Final = 50


@dataclass(frozen=True)
class FileProblem:
    """One thing that is wrong with a file."""

    file: str
    line: int
    """From 1; 0: the file as a whole."""
    column: int
    what: str
    fix: str
    shown: str = ""
    """The line itself, and carets below what is meant."""

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return "\n".join(filter(None, (f"{where}: {self.what}; {self.fix}", self.shown)))


class DocumentError(DefinitionsError):
    """A file of definitions is wrong; `problems` has what was found, by place, the first 50."""

    def __init__(self, file: str, text: str, faults: Sequence[Fault]) -> None:
        found = sorted(faults, key=lambda fault: (fault.start, fault.end))
        self.problems = tuple(_problem(file, text, fault) for fault in found[:_MOST])
        more = len(found) - len(self.problems)
        head = f"{file} has {len(found)} problem{'s' if len(found) > 1 else ''}"
        parts = [f"{head}. Nothing of it is in force:", *map(str, self.problems)]
        super().__init__("\n\n".join(parts + ([f"And {more} more."] if more else [])))


def _problem(file: str, text: str, fault: Fault) -> FileProblem:
    if not text:
        return FileProblem(file, 0, 0, fault.what, fault.fix)
    start = min(fault.start, len(text))
    line, column = place(text, start)
    return FileProblem(file, line, column, fault.what, fault.fix, _shown(text, line, column, fault))


def _shown(text: str, line: int, column: int, fault: Fault) -> str:
    whole = text.split("\n")[line - 1].rstrip("\r")
    cut = max(0, column - 1 - _WIDTH // 2) if len(whole) > _WIDTH else 0
    part = whole[cut : cut + _WIDTH]
    safe = "".join(c if c.isprintable() else " " for c in part)  # tabs too: carets stay below
    here = column - 1 - cut
    length = max(1, min(fault.end - fault.start, len(safe.rstrip()) - here))
    return f"{line:6} | {safe.rstrip()}\n       | {' ' * here}{'^' * length}"


def offset_in_file(text: str, scalar: Scalar, offset: int) -> int:
    """Where in a file an offset of a scalar's value is.

    What is left out of the value (quotes, indentation, line breaks that were folded) is skipped.
    After an escape such as `\\u00e9` in double quotes, places are those of the escape.
    """
    at, end = scalar.start, scalar.end
    if scalar.style in ("|", ">"):
        at = text.find("\n", at, end) + 1 or end
    elif scalar.style:
        at += 1
    for count, wanted in enumerate(scalar.value):
        if not wanted.isspace():
            skipped = at
            while skipped < end and (text[skipped].isspace() or text[skipped] == "\\"):
                skipped += 1
            if skipped < end and text[skipped] == wanted:
                at = skipped
        if count == offset:
            return at
        if not wanted.isspace() or (at < end and text[at].isspace()):
            at += 1
    return min(at, end)
