"""Talks to a person on a terminal of any width; in scripts, takes every proposal."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from typing import Final, Protocol

import click

from streams.ops.doctor import Finding
from streams.start.questions import Question

__all__ = ["Missing", "Nobody", "Person", "Voice"]

_WIDEST: Final = 96
_LABEL: Final = 12
_COLOURS: Final = {"ok": "green", "warn": "yellow", "fail": "red"}


class Missing(Exception):
    """A question has no proposal, and nobody to answer it."""

    def __init__(self, question: Question) -> None:
        super().__init__(question.key)
        self.question = question


class Voice(Protocol):
    """Says things and asks them."""

    def title(self, text: str) -> None: ...
    def say(self, text: str) -> None:
        """Sentences, wrapped."""

    def raw(self, text: str) -> None:
        """Lines to copy, as they are."""

    def pairs(self, rows: Iterable[tuple[str, str]]) -> None: ...
    def finding(self, finding: Finding) -> None: ...
    def ask(self, question: Question) -> str:
        """The answer as typed, the proposal for an empty one. Raises Missing, click.Abort."""

    def agrees(self, text: str, *, proposal: bool, alone: bool) -> bool:
        """Yes or no: `proposal` for an empty answer, `alone` where nobody is asked."""

    def choose(self, text: str, choices: Sequence[str]) -> str:
        """One of `choices`, which were said before; the first where nobody is asked."""

    @property
    def again(self) -> bool:
        """Whether a question may be asked again."""


class Person:
    """Somebody at a terminal."""

    again = True

    def title(self, text: str) -> None:
        click.echo()
        click.secho(text, bold=True)

    def say(self, text: str) -> None:
        for line in text.splitlines():
            click.echo(click.wrap_text(line, _width()) if line else "")

    def raw(self, text: str) -> None:
        click.echo(text)

    def pairs(self, rows: Iterable[tuple[str, str]]) -> None:
        rows = list(rows)
        widest = max((len(label) for label, _ in rows), default=0)
        for label, text in rows:
            click.echo(_hanging(f"  {label:<{max(_LABEL, widest + 2)}}", text))

    def finding(self, finding: Finding) -> None:
        state = f"{finding.state:<4}"
        line = _hanging(f"{state}  {finding.check:<{_LABEL}}", finding.detail)
        click.echo(click.style(state, fg=_COLOURS[finding.state]) + line[len(state) :])
        if finding.fix:
            click.echo(_hanging(f"{'':{_LABEL + 6}}", f"fix: {finding.fix}"))

    def ask(self, question: Question) -> str:
        if question.hint:
            self.say(question.hint)
        proposal = question.default
        if isinstance(proposal, bool):
            proposal = "yes" if proposal else "no"
        found: object = click.prompt(
            question.text,
            default=proposal,
            show_default=proposal not in (None, ""),
            hide_input=question.secret,
            type=click.Choice(question.choices) if question.choices else str,
        )
        return str(found)

    def agrees(self, text: str, *, proposal: bool, alone: bool) -> bool:
        return click.confirm(text, default=proposal)

    def choose(self, text: str, choices: Sequence[str]) -> str:
        found: str = click.prompt(text, type=click.Choice(choices), show_choices=False)
        return found


class Nobody(Person):
    """For scripts: takes every proposal."""

    again = False

    def ask(self, question: Question) -> str:
        if question.default is None:
            raise Missing(question)
        if not question.secret:
            self.say(f"{question.text}: {question.default}")
        return str(question.default)

    def agrees(self, text: str, *, proposal: bool, alone: bool) -> bool:
        return alone

    def choose(self, text: str, choices: Sequence[str]) -> str:
        return choices[0]


def _width() -> int:
    return min(_WIDEST, shutil.get_terminal_size().columns - 1)


def _hanging(label: str, text: str) -> str:
    """`text` beside its label, which is `len(label)` columns wide."""
    indent = " " * len(label)
    width = max(_width(), len(label) + 20)
    return label + click.wrap_text(text, width, indent, indent)[len(label) :]
