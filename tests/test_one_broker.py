"""One broker is started for all processes, when the first one asks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.errors import LocalStackError
from tests import one_broker
from tests.one_broker import BrokerLender, borrowed, numbers


class Broker:
    """What the lender does with one."""

    starts = 0
    stops = 0
    broken = ""

    def __init__(self, directory: Path, port: int = 0) -> None:
        self.port = port

    def start(self) -> Broker:
        Broker.starts += 1
        if Broker.broken:
            raise LocalStackError(Broker.broken)
        self.port = 1000 + Broker.starts
        return self

    def stop(self) -> None:
        Broker.stops += 1


@pytest.fixture
def lender(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[BrokerLender]:
    monkeypatch.setattr(one_broker, "ApacheKafka", Broker)
    monkeypatch.setattr(Broker, "starts", 0)
    monkeypatch.setattr(Broker, "stops", 0)
    lender = BrokerLender(tmp_path)
    yield lender
    lender.stop()
    assert Broker.stops == 1
    with pytest.raises(OSError, match="refused"):
        borrowed(lender.port, tmp_path)


def test_nobody_asks_and_nothing_is_started(lender: BrokerLender) -> None:
    assert Broker.starts == 0


def test_everybody_has_the_same_one(lender: BrokerLender, tmp_path: Path) -> None:
    assert {borrowed(lender.port, tmp_path).port for _ in range(3)} == {1001}
    assert Broker.starts == 1


def test_everybody_hears_why_there_is_none(
    lender: BrokerLender, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Broker, "broken", "Java is broken")
    for _ in range(2):
        with pytest.raises(LocalStackError, match="Java is broken"):
            borrowed(lender.port, tmp_path)
    assert Broker.starts == 1


def test_two_processes_have_no_number_in_common(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for process in ("gw0", "gw1", "gw12"):
        monkeypatch.setenv("PYTEST_XDIST_WORKER", process)
        found += [number for number, _ in zip(numbers(), range(3), strict=False)]
    assert len(set(found)) == 9
    monkeypatch.delenv("PYTEST_XDIST_WORKER")
    assert next(iter(numbers())) == 1
