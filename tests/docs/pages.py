"""The documentation's pages, and what tests read in them: code, links, headings."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

from tests.docs.generated import ROOT, anchor

__all__ = ["PAGES", "Page"]

_FENCE: Final = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Page:
    """One Markdown file; `name` is its path in the repository."""

    name: str

    @property
    def path(self) -> Path:
        return ROOT / self.name

    @cached_property
    def text(self) -> str:
        return self.path.read_text()

    @cached_property
    def prose(self) -> str:
        """The text without its code blocks."""
        return _FENCE.sub("", self.text)

    @cached_property
    def spans(self) -> list[str]:
        """What stands in backticks in the prose, with single spaces for line breaks."""
        return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", self.prose)]

    def blocks(self, language: str) -> list[str]:
        """The code blocks of a language, without the indentation that they have in lists."""
        return [
            re.sub(rf"^{indent}", "", code, flags=re.MULTILINE)
            for indent, found, code in _FENCE.findall(self.text)
            if found == language
        ]

    @cached_property
    def command_lines(self) -> list[list[str]]:
        """The words of each line of shell code."""
        lines = [line for code in self.blocks("sh") for line in code.splitlines()]
        return [words for words in (shlex.split(line, comments=True) for line in lines) if words]

    @cached_property
    def links(self) -> list[str]:
        """Where links and pictures lead."""
        return re.findall(r"\]\(([^)\s]+)\)", self.prose)

    @cached_property
    def anchors(self) -> set[str]:
        """What a link may name behind a `#`."""
        headings = re.findall(r"^#+ (.+)$", self.prose, re.MULTILINE)
        return {anchor(re.sub(r"[`*]|\]\([^)]*\)", "", heading)) for heading in headings}


PAGES: Final = [
    Page(path.relative_to(ROOT).as_posix())
    for path in (
        *sorted(ROOT.glob("*.md")),
        *sorted((ROOT / "docs").glob("*.md")),
        *sorted((ROOT / "deploy").rglob("*.md")),
    )
]
