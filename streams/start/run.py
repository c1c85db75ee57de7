"""Runs a start from the first question to the last line, or from where an earlier one stopped."""
# ruff: noqa: PLC0415  (drivers are imported by the step that needs them)

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from schemas.errors import SettingsError
from streams.ops.doctor import examine
from streams.settings import Settings, as_given
from streams.settings.reader import env_name
from streams.start.document import HEAD, document, written
from streams.start.ending import what_to_start
from streams.start.files import draft_of, read_draft, secret_file, write_draft, write_whole
from streams.start.looking import Read, World, files_named
from streams.start.questions import ASKED, SECRETS, Facts, Known, Value
from streams.start.session import Session, answers_of, effective
from streams.start.steps import Run, Steps, trained
from streams.start.terminal import Voice

__all__ = ["Start"]

COUNTED: Final = "start.counted"
"""The history that was counted into the state."""


@dataclass(frozen=True)
class Start:
    """One `tideline start`.

    target: the file of settings to write. environ: the environment. given: answers by options.
    keep: whether answers are kept in a draft, because somebody types them. overwrite: whether a
    file with other settings may be replaced when nobody is asked. program: the path of `tideline`,
    for the commands that are shown at the end.
    """

    target: Path
    environ: Mapping[str, str]
    given: Mapping[str, Value]
    voice: Voice
    read: Read
    run_command: Run
    history_options: Mapping[str, str]
    now_ms: Callable[[], int]
    keep: bool
    dry_run: bool
    overwrite: bool
    program: str

    def run(self) -> int:
        """Exit status: 1 if the doctor finds a failure at the end. Raises TidelineError, OSError,
        click.Abort."""
        fixed = self._fixed()
        if self._draft:
            self.voice.say(f"Continuing with the answers in {draft_of(self.target)}.")
        session = Session(
            self.target, self.environ, fixed, self.voice, World(self.read, self.now_ms),
            self.history_options, keep=self.keep and not self.dry_run,
        )  # fmt: skip
        facts = Facts(models=str(self.target.parent / "models"))
        values = dict(session.run(Known(self._answers(fixed), facts)).values)
        steps = Steps(self.voice, self.run_command, values)
        settings = effective(values, self.environ, self._file)
        if self.dry_run:
            self._show(values, fixed)
            self.voice.title("And then")
            self.voice.raw("\n".join(f"  {step}" for step in steps.plan(settings)))
            return 0
        self._write(values, fixed)
        counted = _history(values)
        backfilled = steps.carry_out(
            settings, values.get(COUNTED) == counted and _has_checkpoints(settings)
        )
        if backfilled:
            values[COUNTED] = counted
            if self.keep:
                write_draft(self.target, _without_secrets(values))
        steps.train(settings)
        if trained(values):
            write_whole(self.target, self._text(values, fixed), private=_private(self.target))
        failed = self._doctor(values, fixed)
        draft_of(self.target).unlink(missing_ok=True)
        self.voice.title("Ready once the failures above are fixed" if failed else "Ready")
        self._end(values, fixed)
        return 1 if failed else 0

    @property
    def _file(self) -> Path | None:
        return self.target if self.target.exists() else None

    @property
    def _draft(self) -> dict[str, Value]:
        return read_draft(self.target)

    def _fixed(self) -> frozenset[str]:
        """The keys that the environment answers."""
        names = {key: env_name(*key.split(".")) for key in (*ASKED, *SECRETS)}
        return frozenset(
            key
            for key, name in names.items()
            if name in self.environ or f"{name}_FILE" in self.environ
        )

    def _answers(self, fixed: frozenset[str]) -> dict[str, Value]:
        """What is answered already: by the file, its draft, options and the environment; each takes
        precedence over those before it. Raises SettingsError."""
        found = answers_of(as_given({}, self._file)) | self._draft | dict(self.given)
        for key in SECRETS:
            file = secret_file(self.target, key)
            if key not in fixed and file.exists():
                found[key] = file.read_text(encoding="utf-8").rstrip("\r\n")
        return found | {
            key: value
            for key, value in answers_of(as_given(self.environ, self._file)).items()
            if key in fixed
        }

    def _text(self, values: Mapping[str, Value], fixed: frozenset[str]) -> str:
        before = as_given({}, self._file)
        return document(written(before, values, fixed=fixed, model=trained(values)), HEAD)

    def _show(self, values: Mapping[str, Value], fixed: frozenset[str]) -> str:
        """The text of the file, with passwords masked, on the terminal."""
        self.voice.title(str(self.target))
        text = self._text(values, fixed)
        shown = text
        for key in SECRETS:
            if values.get(key) and f"password = {_quoted(values[key])}" in text:
                shown = shown.replace(_quoted(values[key]), '"********"')
        self.voice.raw(shown)
        return text

    def _write(self, values: Mapping[str, Value], fixed: frozenset[str]) -> None:
        """Raises SettingsError if the file is there and may not be replaced."""
        text = self._text(values, fixed)
        there = self.target.read_text(encoding="utf-8") if self.target.exists() else None
        if there is not None and as_given({}, self.target) == _reread(text):
            return  # it has these settings already, perhaps written in another way
        self._show(values, fixed)
        asked = (
            "Write this file?"
            if there is None
            else f"{self.target} has other settings. Replace it? Its comments are lost."
        )
        if not self.voice.agrees(
            asked, proposal=there is None, alone=there is None or self.overwrite
        ):
            raise SettingsError(
                f"{self.target} was not changed. Replace it with --overwrite, or name another file "
                "with --config."
            )
        write_whole(self.target, text, private="password = " in text or _private(self.target))
        self.voice.say(f"Written to {self.target}.")

    def _variables(self, values: Mapping[str, Value], fixed: frozenset[str]) -> dict[str, str]:
        """The variables that name the files of passwords."""
        return {
            f"{env_name(*key.split('.'))}_FILE": str(secret_file(self.target, key))
            for key in SECRETS
            if key not in fixed and secret_file(self.target, key).exists()
        }

    def _doctor(self, values: Mapping[str, Value], fixed: frozenset[str]) -> bool:
        """Whether it finds a failure."""
        self.voice.title("Doctor")
        passwords = {
            env_name(*key.split(".")): str(values[key])
            for key in SECRETS
            if values.get(key) and key not in fixed
        }
        failed = False
        for finding in examine({**self.environ, **passwords}, self.target):
            self.voice.finding(finding)
            failed |= finding.state == "fail"
        return failed

    def _end(self, values: Mapping[str, Value], fixed: frozenset[str]) -> None:
        variables = self._variables(values, fixed)
        needed = {name for name in self.environ if name in _setting_names()}
        if values.get("start.keep") == "environment":
            needed |= {env_name(*key.split(".")) for key in SECRETS
                       if values.get(key) and key not in fixed}  # fmt: skip
        self.voice.raw(
            what_to_start(
                self.target, variables, frozenset(needed), self.program, model=trained(values)
            )
        )


def _setting_names() -> frozenset[str]:
    from streams.settings import describe, secret_files

    return frozenset(row.env for row in describe(Settings())) | frozenset(secret_files())


def _reread(text: str) -> Settings:
    import tomllib

    tables = tomllib.loads(text)
    return as_given(
        {
            env_name(table, name): str(value).lower() if isinstance(value, bool) else str(value)
            for table, entries in tables.items()
            for name, value in entries.items()
        }
    )


def _quoted(value: Value) -> str:
    import json

    return json.dumps(value, ensure_ascii=False)


def _private(path: Path) -> bool:
    return path.exists() and path.stat().st_mode & 0o077 == 0


def _without_secrets(values: Mapping[str, Value]) -> dict[str, Value]:
    return {key: value for key, value in values.items() if not (key in SECRETS and value)}


def _history(values: Mapping[str, Value]) -> str:
    """The files, their sizes and times, and how they are read."""
    parts = shlex.split(str(values.get("start.options", "")))
    for file in files_named(str(values.get("start.files", ""))):
        status = file.stat()
        parts.append(f"{file} {status.st_size} {status.st_mtime_ns}")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _has_checkpoints(settings: Settings) -> bool:
    """Whether there is state: it may have been reset since."""
    from streams.kafka.access import kafka_access
    from streams.kafka.end_offsets import EndOffsets

    topic = settings.topic_names.checkpoints
    with EndOffsets(kafka_access(settings)) as ends:
        found = ends.of([(topic, n) for n in range(settings.kafka.partitions)])
    return all(end > 0 for end in found.values())
