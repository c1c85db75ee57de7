"""What the transport does where Faust would end the worker."""

from __future__ import annotations

import asyncio

from faust.types import TP

from streams.transport import ConsumerThread


class Dispossessed(ConsumerThread):
    """After a rebalance that left it nothing; its consumer would raise ValueError for a commit."""

    def __init__(self) -> None:
        pass

    def assignment(self) -> set[TP]:
        return set()


def test_a_commit_for_partitions_that_are_gone_is_no_error() -> None:
    offsets = {TP("clickstream", 1): 5, TP("orders", 1): 7}
    assert asyncio.run(Dispossessed()._commit(offsets)) is False
