"""The steps after the questions. Whether one is done is seen from what it would have made."""
# ruff: noqa: PLC0415  (drivers are imported by the step that needs them)

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from schemas.errors import ArtifactError, SettingsError
from streams.settings import Settings
from streams.start.looking import files_named
from streams.start.questions import Value
from streams.start.terminal import Voice

__all__ = ["CommandName", "Run", "Steps", "trained"]

CommandName = Literal["backfill", "train"]
Run = Callable[[CommandName, Sequence[str], Settings], int]
"""Runs a command of `tideline` with these arguments and settings; returns its exit status."""


@dataclass(frozen=True)
class Steps:
    """What is done once the settings are written."""

    voice: Voice
    run: Run
    values: Mapping[str, Value]

    def carry_out(self, settings: Settings, backfilled: bool) -> bool:
        """Topics, tables, history. Returns whether the history is in the state now."""
        self.voice.title("Setting up")
        self._topics(settings)
        self._tables(settings)
        return self._backfill(settings, backfilled)

    def plan(self, settings: Settings) -> list[str]:
        """What `carry_out` and `train` would do, in words."""
        files = str(self.values.get("start.files", ""))
        steps = ["create the topics that are missing", "create or update ClickHouse's tables"]
        if files:
            steps.append(shlex.join(["tideline", "backfill", *self._backfill_arguments]))
            if "start.horizon_days" in self.values:
                steps.append(shlex.join(["tideline", "train", *self._train_arguments]))
        return steps

    def _topics(self, settings: Settings) -> None:
        from streams.kafka.topics import create_missing

        made = create_missing(settings)
        said = f"created: {', '.join(t.name for t in made)}" if made else "all there already"
        self.voice.pairs([("topics", said)])

    def _tables(self, settings: Settings) -> None:
        from streams.clickhouse.client import clickhouse_target
        from streams.clickhouse.migrations import migrate

        applied = migrate(clickhouse_target(settings))
        said = f"{len(applied)} migrations applied" if applied else "up to date already"
        self.voice.pairs([("tables", said)])

    @property
    def _history_arguments(self) -> list[str]:
        return shlex.split(str(self.values.get("start.options", "")))

    @property
    def _files(self) -> list[str]:
        return [str(file) for file in files_named(str(self.values.get("start.files", "")))]

    @property
    def _backfill_arguments(self) -> list[str]:
        return [*self._files, *self._history_arguments]

    @property
    def _train_arguments(self) -> list[str]:
        orders = [word for file in self._files for word in ("--orders", file)]
        return [
            *orders, *self._history_arguments, "--horizon-days",
            str(self.values.get("start.horizon_days")), "--out", str(self.values["model.artifact"]),
        ]  # fmt: skip

    def _backfill(self, settings: Settings, backfilled: bool) -> bool:
        if not self._files:
            self.voice.pairs([("history", "none to read")])
            return False
        if backfilled:
            self.voice.pairs([("history", "counted already")])
            return True
        self._command("backfill", self._backfill_arguments, settings)
        return True

    def train(self, settings: Settings) -> None:
        """Train a model, unless there is one or the history does not suffice."""
        if not self._files or "start.horizon_days" not in self.values:
            return
        if trained(self.values):
            self.voice.pairs([("model", f"there already, in {self.values['model.artifact']}")])
            return
        try:
            self._command("train", self._train_arguments, settings)
        except (SettingsError, ArtifactError) as error:  # what `train` says of too little history
            self.voice.say(f"{error}\nUntil you train one, the model that ships is used.")

    def _command(self, name: CommandName, arguments: Sequence[str], settings: Settings) -> None:
        """Run it as a person could. Raises SettingsError if it reports a failure by its status."""
        self.voice.raw(f"\n$ {shlex.join(['tideline', name, *arguments])}")
        status = self.run(name, arguments, settings)
        if status:
            raise SettingsError(
                f"`tideline {name}` ended with status {status}, and said why. Correct that, and "
                "run `tideline start` again."
            )


HORIZON: Final = "start.horizon_days"


def trained(values: Mapping[str, Value]) -> bool:
    """Whether the directory for models has a current one, for the horizon that was asked for."""
    from models.artifact import CURRENT_FILE, load_artifact
    from models.registry import artifact_directory, artifact_place

    place = str(values.get("model.artifact", ""))
    if not place or not artifact_place(place).holds(CURRENT_FILE):
        return False
    try:
        champion = load_artifact(artifact_directory(place))
    except ArtifactError:
        return False
    return champion.horizon_days == values.get(HORIZON, champion.horizon_days)
