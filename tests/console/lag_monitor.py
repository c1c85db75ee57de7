"""The lag monitor's JSON and rows, from its own code, over looks at a made-up Kafka.

Four groups: Tideline's worker, which keeps up, and its learner; a warehouse's loader that stands
still although it has members; and one that falls behind while it reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from schemas.topics import TopicNames
from streams.kafka.committed import Committed
from streams.kafka.end_offsets import Partition
from streams.kafka.groups import Membership
from streams.lag.canary import CanaryRow, CanaryWatch
from streams.lag.latest import Latest
from streams.lag.report import LagReport
from streams.lag.status import Role
from streams.lag.tracker import GroupWindow, LogWindow, Rules
from streams.telemetry.endpoint import serve
from streams.telemetry.metrics import Metrics

__all__ = ["looks", "running"]

NAMES: Final = TopicNames("clickstream", "orders", "tideline")
_INTERVAL_SECONDS: Final = 5.0
_INPUTS: Final[tuple[Partition, ...]] = tuple(
    (topic, partition) for topic in ("clickstream", "orders") for partition in (0, 1)
)
_EXAMPLES: Final[Partition] = (NAMES.examples, 0)
_PER_LOOK: Final = 50
"""Records that each partition gets between two looks."""


def looks(end_ms: int, count: int = 60) -> list[LagReport]:
    """So many looks, the last one at `end_ms`."""
    log, found = LogWindow(10), []
    roles: dict[str, Role] = {"tideline": "worker", NAMES.learner_group: "learner"}
    groups = {
        name: GroupWindow(name, Rules(), role=roles.get(name, ""))
        for name in ("tideline", NAMES.learner_group, "warehouse-loader", "crm-export")
    }
    for number in range(count):
        now_ms = end_ms - int((count - 1 - number) * _INTERVAL_SECONDS * 1000)
        ends: dict[Partition, int] = dict.fromkeys(_INPUTS, 10_000 + number * _PER_LOOK)
        ends["clickstream", 1] += number * _PER_LOOK * 4  # a hot partition
        ends[_EXAMPLES] = 400 + number
        starts = {place: 2_000 if place in _INPUTS else 0 for place in ends}
        log.saw(ends, starts, now_ms)
        committed = _committed(ends, number, now_ms)
        found.append(
            LagReport(
                now_ms,
                tuple(
                    window.look(now_ms, committed[name], log, _members(name, committed[name]))
                    for name, window in groups.items()
                ),
                poll_seconds=0.04,
            )
        )
    return found


def _committed(
    ends: dict[Partition, int], number: int, now_ms: int
) -> dict[str, dict[Partition, Committed]]:
    def behind(records: int, seconds: float) -> dict[Partition, Committed]:
        return {
            place: Committed(ends[place] - records, now_ms - int(seconds * 1000))
            for place in _INPUTS
        }

    return {
        "tideline": behind(3 * (number % 3), 0.4),
        NAMES.learner_group: {_EXAMPLES: Committed(ends[_EXAMPLES], now_ms)},
        "warehouse-loader": {
            place: Committed(10_000 + min(number, 12) * _PER_LOOK) for place in _INPUTS
        },
        "crm-export": {("orders", 0): Committed(10_000 + number * _PER_LOOK * 2 // 3)},
    }


def _members(name: str, committed: dict[Partition, Committed]) -> Membership:
    topics = frozenset(topic for topic, _ in committed)
    return Membership(1, topics, dict.fromkeys(committed, f"{name}-1 at 10.0.0.7"))


def _canaries(now_ms: Callable[[], int]) -> CanaryWatch:
    watch, sent_ms = CanaryWatch(now_ms), now_ms() - 2_000
    for partition in (0, 1):
        watch.sent(partition, 7, sent_ms, sent_ms)
    watch.read([CanaryRow(0, 7, sent_ms), CanaryRow(1, 7, sent_ms)])
    return watch


@contextmanager
def running(end_ms: int, reports: list[LagReport]) -> Iterator[str]:
    """Serve the newest of these reports as `tideline lag --serve` does; gives the address.

    The monitor's clock stands at `end_ms`, so that it does not go blind while tests run.
    """
    latest = Latest(_INTERVAL_SECONDS, lambda: end_ms)
    latest.publish(reports[-1])
    canaries = _canaries(lambda: end_ms)
    server = serve(Metrics(), "127.0.0.1", 0, lambda path: canaries.page(path) or latest.page(path))
    with server:
        yield f"http://127.0.0.1:{server.port}"
