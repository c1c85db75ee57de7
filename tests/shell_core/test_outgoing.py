"""What `streams.outgoing` tells of alerts that became readable."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from streams.outgoing import Outgoing


class _Heard:
    def __init__(self, clock: str) -> None:
        self.seconds: list[float] = []
        monitor = SimpleNamespace(alert_readable=self.seconds.append)
        self.services: Any = SimpleNamespace(clock=clock, monitor=monitor, wall_ms=lambda: 61_500)


def _outputs(*produced_ms: int) -> Any:
    column = np.array(produced_ms, np.int64)
    return SimpleNamespace(
        alerts=list(produced_ms), tables={"alerts": {"event_produced_at": column}}
    )


def test_readable_counts_from_the_newest_record_to_the_alerts_own_insert() -> None:
    heard = _Heard("wall")
    tell = Outgoing(0, heard.services)._on_alerts(_outputs(60_000, 61_000))
    assert heard.seconds == []  # nothing is readable yet
    assert tell is not None
    tell()
    assert heard.seconds == [0.5]


@pytest.mark.parametrize(("clock", "produced_ms"), [("wall", []), ("event", [60_000])])
def test_without_alerts_or_by_another_clock_there_is_nothing_to_tell(
    clock: str, produced_ms: list[int]
) -> None:
    assert Outgoing(0, _Heard(clock).services)._on_alerts(_outputs(*produced_ms)) is None
