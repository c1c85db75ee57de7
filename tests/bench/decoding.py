"""What it costs to decode events with the compiled reader, and with msgspec (decision D-015).

    python -m tests.bench.decoding

Three ways over the same bytes: msgspec into one struct per event and no further; msgspec into the
columns that a step works on (`parse`, the reference); and the compiled reader into the same columns
(`decode`). CPU time of one thread per event, the median of the rounds, each way in turn.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence, Sized
from typing import Final

import msgspec

from schemas.events import ClickEvent, OrderEvent
from streams.core.events.decode import decode
from streams.core.events.events import DecodeRules
from streams.core.events.parse import parse
from streams.core.events.records import SOURCES, Records
from tests.bench.load import ZIPF, columns

__all__ = ["WAYS", "blocks", "microseconds_per_event"]

_EVENTS: Final = 400_000
_ROUNDS: Final = 7
_NOW_MS: Final = 1_795_600_000_000
_RULES: Final = DecodeRules(max_future_ms=300_000, currency="USD", rates={"USD": 1.0})
_DECODERS: Final = (msgspec.json.Decoder(ClickEvent), msgspec.json.Decoder(OrderEvent))


def _structs(records: Records, source: int) -> Sized:
    return list(map(_DECODERS[source].decode, records.values))  # type: ignore[arg-type]


WAYS: Final[dict[str, Callable[[Records, int], Sized]]] = {
    "msgspec, one struct per event": _structs,
    "msgspec, into columns": lambda records, source: parse(records, source, _RULES),
    "compiled reader, into columns": lambda records, source: decode(records, source, _RULES),
}


def blocks(events: int) -> list[list[Records]]:
    """Batches of clickstream and orders records, as a step gets them."""
    return [columns(block, (0, 0)) for block in ZIPF.source(events, _NOW_MS)]


def _fresh(batch: Sequence[Records]) -> list[Records]:
    """The same records without the objects that an earlier way has made of them."""
    return [records[:] for records in batch]


def microseconds_per_event(
    batches: Sequence[Sequence[Records]], rounds: int
) -> dict[str, list[tuple[float, float]]]:
    """Way -> for each round, µs per click event and µs per order event."""
    counts = [sum(len(batch[source]) for batch in batches) for source in SOURCES]
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in WAYS}
    for _ in range(rounds):
        for name, read in WAYS.items():
            spent = [0.0, 0.0]
            for batch in map(_fresh, batches):
                for source in SOURCES:
                    began = time.thread_time()
                    read(batch[source], source)
                    spent[source] += time.thread_time() - began
            clicks, orders = (s / n * 1e6 for s, n in zip(spent, counts, strict=True))
            found[name].append((clicks, orders))
    return found


def main() -> None:
    """Measure and print a table."""
    batches = blocks(_EVENTS)
    microseconds_per_event(batches[:1], 1)  # compiles, and fills caches
    print(f"{'µs of CPU per event':<32} clickstream   orders")
    for name, rounds in microseconds_per_event(batches, _ROUNDS).items():
        clicks, orders = (statistics.median(each) for each in zip(*rounds, strict=True))
        print(f"{name:<32} {clicks:11.2f} {orders:8.2f}")


if __name__ == "__main__":
    main()
