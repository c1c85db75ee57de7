"""Turns SIGINT, SIGTERM and SIGHUP into one exception in the main thread, once.

The first signal raises `Interrupted` wherever the main thread is, so that a slow start can be
stopped too. Later ones raise nothing: what they would interrupt is the clean-up. Python drops an
exception that is raised inside a finalizer, so loops check `raise_if_interrupted` as well.
"""

from __future__ import annotations

import signal
from types import FrameType, TracebackType
from typing import Any, Final

__all__ = ["Interrupted", "Interrupts"]

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """A signal asked us to stop; not an Exception, so that nothing swallows it on the way."""

    def __init__(self, number: int) -> None:
        super().__init__(f"signal {number}")
        self.number = number

    @property
    def exit_status(self) -> int:
        """As shells report it: 130 after Ctrl-C."""
        return 128 + self.number


class Interrupts:
    """A `with` block in which these signals raise Interrupted."""

    def __init__(self) -> None:
        self._first: int | None = None
        self._before: dict[int, Any] = {}

    def raise_if_interrupted(self) -> None:
        """For loops, should the exception have been lost."""
        if self._first is not None:
            raise Interrupted(self._first)

    def __enter__(self) -> Interrupts:
        self._before = {number: signal.signal(number, self._received) for number in _SIGNALS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _received(self, number: int, frame: FrameType | None) -> None:
        if self._first is None:
            self._first = number
            raise Interrupted(number)
