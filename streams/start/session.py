"""Asks, checks, shows what Tideline reads, and asks again what is wrong. Keeps each answer."""

from __future__ import annotations

import hashlib
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from schemas.errors import SettingsError
from streams.ops.doctor import Finding
from streams.settings import Settings, allowed_of, as_given, load
from streams.settings.reader import env_name
from streams.start.files import secret_file, write_draft, write_whole
from streams.start.looking import Looked, World, files_named
from streams.start.questions import (
    ASKED,
    SECRETS,
    STAGES,
    Ask,
    Check,
    Known,
    Question,
    Stage,
    Value,
    next_step,
)
from streams.start.terminal import Missing, Voice

__all__ = ["Session", "answers_of", "as_text", "effective", "parsed"]

SEEN: Final = "start.seen"
"""A hash of what somebody has seen and found right: the answers, and the files."""
_SKIPPED: Final = ("history", "currency", "model", "look")


def effective(
    values: Mapping[str, Value], environ: Mapping[str, str], target: Path | None
) -> Settings:
    """The settings that these answers give, with environment and file. Raises SettingsError."""
    answers = {
        env_name(*key.split(".")): as_text(value)
        for key, value in values.items()
        if key in (*ASKED, *SECRETS) and key != "model.artifact"
    }
    taken = {name: value for name, value in answers.items() if f"{name}_FILE" not in environ}
    return load({**taken, **environ}, target)


def as_text(value: Value) -> str:
    """A value as the environment has it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def answers_of(settings: Settings) -> dict[str, Value]:
    """What a file or the environment have already answered."""
    found: dict[str, Value] = {}
    for key in (*ASKED, *SECRETS):
        table, _, name = key.partition(".")
        if settings.origins.get(env_name(table, name), "default") != "default":
            value = getattr(getattr(settings, table), name)
            found[key] = value.reveal() if key in SECRETS else value
    return found


@dataclass
class Session:
    """One run of `tideline start`, up to the file of settings.

    target: the file, which may be there. fixed: keys that the environment answers. history_options:
    name -> help of each option that says how files are read. keep: whether answers are kept.
    """

    target: Path
    environ: Mapping[str, str]
    fixed: frozenset[str]
    voice: Voice
    world: World
    history_options: Mapping[str, str]
    keep: bool
    missing: list[str] = field(default_factory=list)
    """Questions without an answer and checks that failed, when nobody is asked."""

    def run(self, known: Known) -> Known:
        """Until every stage has passed. Raises SettingsError if one can't; click.Abort."""
        known = self._going_on(known)
        stage = ""
        while (step := next_step(known)) is not None:
            if step.stage.name not in (stage, "look"):
                stage = step.stage.name
                if isinstance(step, Ask) or stage not in ("secrets", "currency", "model"):
                    self.voice.title(step.stage.title)
            known = self._ask(known, step) if isinstance(step, Ask) else self._check(known, step)
        if self.missing:
            listed = "\n".join(f"  {each}" for each in self.missing)
            raise SettingsError(f"This is missing or wrong:\n{listed}\nCorrect it and try again.")
        return known

    def _going_on(self, known: Known) -> Known:
        """Skip the stages that were found right in an earlier run, if nothing has changed since."""
        if SEEN not in known.values or known.values[SEEN] != _seen(known.values):
            return known
        return replace(known, passed=known.passed | set(_SKIPPED))

    def _keep(self, known: Known) -> None:
        if self.keep:
            kept = {
                key: value
                for key, value in known.values.items()
                if key not in self.fixed and not (key in SECRETS and value)
            }
            write_draft(self.target, kept)

    def _ask(self, known: Known, step: Ask) -> Known:
        question = step.question
        if question.only:
            self.voice.say(question.hint)
            assert question.default is not None  # noqa: S101  (an only answer is one)
            known = known.answered(question.key, question.default)
        else:
            try:
                value = self._answer(question)
            except Missing:
                self.missing.append(_how_to_give(question))
                return known.given_up(step.stage)
            known = known.answered(question.key, value)
            if question.secret:
                typed = known.facts.secrets - {question.key} | ({question.key} if value else set())
                known = replace(known, facts=replace(known.facts, secrets=typed))
        self._keep(known)
        return known

    def _answer(self, question: Question) -> Value:
        """A value that its rule allows; asked again until it is."""
        while True:
            text = self.voice.ask(question).strip()
            try:
                return parsed(question.key, text)
            except SettingsError as error:
                if not self.voice.again:
                    raise
                self.voice.say(str(error))

    def _check(self, known: Known, step: Check) -> Known:
        stage = step.stage
        if stage.name == "look":
            return self._look(known, stage)
        looked = self._looked(stage, known)
        for finding in looked.findings:
            self.voice.finding(finding)
        if stage.name == "history":
            for report in self.world.reports if looked.passed else ():
                self.voice.pairs(report.lines())
        if looked.passed:
            if stage.name == "secrets":
                self._keep_secrets(known)
            known = known.after(stage, looked.facts)
            self._keep(known)
            return known
        return self._failed(known, stage, looked)

    def _looked(self, stage: Stage, known: Known) -> Looked:
        try:
            settings = effective(known.values, self.environ, self._file)
        except SettingsError as error:
            # the missing answers are the reason, and they are listed already
            why = "not checked, because an answer above is missing" if self.missing else str(error)
            return Looked((Finding(stage.name, "fail", why),), known.facts)
        return self.world.look(stage.name, settings, known.values, known.facts)

    @property
    def _file(self) -> Path | None:
        return self.target if self.target.exists() else None

    def _failed(self, known: Known, stage: Stage, looked: Looked) -> Known:
        """What to do about a check that has failed."""
        if not self.voice.again:
            self.missing += [f"{f.check}: {f.detail}" for f in looked.findings if f.state == "fail"]
            return known.given_up(stage)
        if stage.name == "keys" and self.voice.agrees(
            "Continue all the same? A worker stops at such a record.", proposal=False, alone=False
        ):
            return known.after(stage, looked.facts)
        files = files_named(str(known.values.get("start.files", "")))
        readable = all(file.is_file() and os.access(file, os.R_OK) for file in files)
        if stage.name == "history" and readable:
            return self._other_history(known, stage)
        again = known.again(stage, looked.facts, self.fixed)
        if again.values == known.values and next_step(again) == next_step(known):
            raise SettingsError(
                f"{stage.title}: every answer comes from the environment. Correct it there, and "
                "run `tideline start` again."
            )
        self.voice.say("Please correct it; Enter keeps what is in brackets.")
        return again

    def _keep_secrets(self, known: Known) -> None:
        """Passwords into files of their own, if that was chosen."""
        if known.values.get("start.keep") != "file" or not self.keep:
            return
        for key in sorted(known.facts.secrets):
            file = secret_file(self.target, key)
            write_whole(file, str(known.values[key]) + "\n", private=True)
            self.voice.say(f"The password is in {file}, which only you can read.")

    def _look(self, known: Known, stage: Stage) -> Known:
        """Show some of what is read, and ask whether it is right."""
        settings = effective(known.values, self.environ, self._file)
        self.voice.title(stage.title)
        past = self.world.past(settings.stream.currency)
        if past:
            self.voice.say("From the files, the oldest:")
            self.voice.raw("\n".join(f"  {line}" for line in past))
        self.voice.say(
            "From the topics, read as a worker does (the first time on a machine this takes a "
            "minute):"
        )
        for found in self.world.live(settings):
            if not found.records:
                self.voice.say(f"Topic {found.topic}: no records yet.")
                continue
            refused = sum(found.refused.values())
            self.voice.say(
                f"Topic {found.topic}: of the newest {found.records:,} records, "
                f"{found.records - refused:,} are read"
                + (f" and {refused:,} refused. The newest:" if refused else ". The newest:")
            )
            self.voice.raw("\n".join(f"  {line}" for line in found.newest) or "  (none)")
            self.voice.pairs(
                (f"{n:,} refused", f"{reason}: {found.examples[reason]}")
                for reason, n in found.refused.items()
            )
            if found.refused:
                self.voice.say("docs/events.md says what each of these reasons means.")
        self.voice.say("Times are UTC.")
        if self.voice.agrees("Is that right?", proposal=True, alone=True):
            known = known.answered(SEEN, _seen(known.values)).after(stage, known.facts)
            self._keep(known)
            return known
        stages = {s.name: s for s in STAGES if s.name not in ("look", "secrets")}
        self.voice.say(f"Which part is wrong? One of: {', '.join(stages)}.")
        changed = stages[self.voice.choose("Change", list(stages))]
        if changed.name == "history":
            return self._other_history(known, changed)
        return known.again(changed, known.facts, self.fixed)

    def _other_history(self, known: Known, stage: Stage) -> Known:
        """Another way to read the files, other files, or none."""
        options = shlex.split(str(known.values.get("start.options", "")))
        self.voice.say("What should be different? One of:")
        ways = {"files": "Other files.", "none": "Continue without past orders."}
        ways |= self.history_options
        self.voice.pairs(ways.items())
        chosen = self.voice.choose("Change", list(ways))
        known = known.again(stage, known.facts, self.fixed | {"start.files"})
        if chosen == "none":
            return known.answered("start.files", "").answered("start.options", "")
        if chosen == "files":
            return known.again(stage, known.facts, self.fixed)
        now = [o.partition("=")[2] for o in options if o.startswith(f"--{chosen}=")]
        hint = f"Now: {', '.join(now)}. Enter: the default." if now else "Enter: the default."
        text = self.voice.ask(Question(f"start.{chosen}", f"--{chosen}", "", hint))
        options = [o for o in options if not o.startswith(f"--{chosen}=")]
        options += [f"--{chosen}={text}"] if text else []
        return known.answered("start.options", shlex.join(options))


def _seen(values: Mapping[str, Value]) -> str:
    """What was looked at: the answers, and the files with their sizes and times."""
    parts = [f"{key}={value}" for key, value in sorted(values.items())
             if key not in SECRETS and key != SEEN]  # fmt: skip
    for file in files_named(str(values.get("start.files", ""))):
        try:
            status = os.stat(file)
        except OSError:
            return ""
        parts.append(f"{file} {status.st_size} {status.st_mtime_ns}")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def parsed(key: str, text: str) -> Value:
    """An answer as a value. Raises SettingsError, which says what is allowed."""
    if key == "start.horizon_days":
        if not text.isdecimal() or not 1 <= int(text) <= 365:
            raise SettingsError(f"{text!r} is no number of days from 1 to 365.")
        return int(text)
    if key == "start.files":
        files = [] if text == "none" else files_named(text)
        return shlex.join(os.path.abspath(file) for file in files)
    if key.startswith("start."):
        return text
    table, _, name = key.partition(".")
    try:
        found = as_given({env_name(table, name): text})
    except SettingsError:
        shown = "" if key in SECRETS else f"{text!r} does not fit. "
        raise SettingsError(f"{shown}Expected: {allowed_of(table, name)}.") from None
    value = getattr(getattr(found, table), name)
    return text if key in SECRETS else value


def _how_to_give(question: Question) -> str:
    table, _, name = question.key.partition(".")
    env = env_name(table, name)
    if question.secret:
        return f"{question.text}: set {env}, or {env}_FILE to the name of a file"
    option = f"--{table}-{name}".replace("_", "-")
    hint = f" ({question.hint})" if question.hint else ""
    return f"{question.text}: {option}, or {env}{hint}"
