"""Counts who would be in the segments of an edited document: `tideline segments plan` as a child.

It reads every customer's state from the shards' checkpoints, which takes seconds of a core and as
much memory as a shard: nothing for the process that serves pages.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from schemas.errors import TidelineError
from streams.console.access import Refused
from streams.settings import Settings, as_environ

__all__ = ["PLAN_COMMAND", "CountFailed", "SegmentSize", "Sizes", "Sizing"]

PLAN_COMMAND: Final = (sys.executable, "-m", "streams", "segments", "plan", "--json")
MOST_SECONDS: Final = 300.0
_KEPT_ERROR: Final = 2_000  # characters of what the child said


class CountFailed(TidelineError):
    """The child ended without an answer; the message says why, and what to do."""


class SegmentSize(msgspec.Struct, frozen=True):
    """One segment of the document, in customers."""

    size_in_force: int
    size: int
    """Members if the document were in force."""
    enters: int
    leaves: int
    overlap: dict[str, int]
    """How many of them are members of another segment as well, by its name."""


class Sizes(msgspec.Struct, frozen=True):
    """What the command says; its examples, who are customers by name, are left out."""

    users: int
    as_of: str
    segments: dict[str, SegmentSize]


class Sizing:
    """One count at a time."""

    def __init__(
        self, settings: Settings, environ: Mapping[str, str],
        command: Sequence[str] = PLAN_COMMAND, most_seconds: float = MOST_SECONDS,
    ) -> None:  # fmt: skip
        """`environ`: what the child gets besides the settings, such as PATH."""
        own = {name: value for name, value in environ.items() if not name.startswith("TIDELINE_")}
        self._environ = {**own, **as_environ(settings)}
        self._command, self._most_seconds = command, most_seconds
        self._busy = False

    async def count(self, document: str) -> Sizes:
        """Raises Refused (503) while another is counted, and CountFailed."""
        if self._busy:
            raise Refused(503, "Another document is being counted. Try again in a minute.")
        self._busy = True
        try:
            with tempfile.TemporaryDirectory(prefix="tideline-plan-") as directory:
                file = Path(directory) / "segments.yaml"
                file.write_text(document, encoding="utf-8", errors="replace")
                return await self._ask(file)
        finally:
            self._busy = False

    async def _ask(self, file: Path) -> Sizes:
        child = await asyncio.create_subprocess_exec(
            *self._command, str(file), env=self._environ, stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            async with asyncio.timeout(self._most_seconds):
                out, said = await child.communicate()
        except TimeoutError:
            raise CountFailed(
                f"Counting took more than {self._most_seconds:.0f} s and was ended. Run "
                "`tideline segments plan` in a terminal, which waits as long as it takes."
            ) from None
        finally:
            if child.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    child.kill()
                await asyncio.shield(child.wait())
        if child.returncode != 0:
            lines = said.decode(errors="replace")[-_KEPT_ERROR:].strip().splitlines()
            raise CountFailed(f"Nobody was counted: {lines[-1] if lines else 'no reason given'}")
        try:
            return msgspec.json.decode(out, type=Sizes)
        except msgspec.MsgspecError as error:
            raise CountFailed(f"Nobody was counted: the answer can't be read ({error}).") from error
