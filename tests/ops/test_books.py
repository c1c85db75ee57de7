"""The ledger against itself, its limits, and the topics."""

from __future__ import annotations

from dataclasses import replace

import pytest

from streams.core.health import Figures, Limits
from streams.ops.books import Books, Place, against_log, balance, shares

GOOD = Books(3, True, 1, 0, 0, 0, 0, (500, 40), Figures(540), Figures(540))
CLICKS = Place("clickstream", 3, committed=450, first=100, end=520)
ORDERS = Place("orders", 3, committed=40, first=0, end=40)
REMEDY = "start it over"


def test_books_are_read_in_the_order_of_the_query() -> None:
    row = (3, 1, 1, 0, 0, 0, 0, 500, 40, 540, 5, 6, 54, 1, 2)
    assert Books.of(row) == replace(GOOD, life=Figures(540, 5, 6), recent=Figures(54, 1, 2))


def test_shards_that_balance_are_one_finding() -> None:
    (found,) = balance([GOOD, replace(GOOD, shard=4)])
    assert (found.state, found.detail) == ("ok", "2 shards balance, 1,080 records")
    (found,) = balance([])
    assert (found.state, found.detail) == ("ok", "no batch yet")


def test_a_shard_that_does_not_balance_says_why() -> None:
    wrong = replace(GOOD, balanced=False, missing_batches=1_000, offset_gaps=2)
    (found,) = balance([GOOD, wrong])
    assert found.state == "fail"
    assert found.detail == (
        "shard 3 does not balance: 1,000 batches missing, 2 gaps between batches"
    )
    assert "restore it" in found.remedy


def test_a_ledger_that_begins_later_is_a_warning_that_says_when_that_is_right() -> None:
    (found,) = [v for v in balance([replace(GOOD, first_batch=70)]) if v.state != "ok"]
    assert (found.state, "begins at batch 70" in found.detail) == ("warn", True)
    assert "pseudonym key" in found.remedy


def test_shares_name_the_shard() -> None:
    assert [v.state for v in shares([GOOD], Limits())] == ["ok"]
    late = replace(GOOD, shard=7, recent=Figures(1000, 500))
    (found,) = shares([GOOD, late], Limits())
    assert (found.state, found.detail[:9]) == ("fail", "shard 7: ")


@pytest.mark.parametrize(
    ("clicks", "problem"),
    [
        (CLICKS, ""),
        (replace(CLICKS, committed=None), ""),  # before the first checkpoint
        (replace(CLICKS, committed=500, end=500), ""),
        (replace(CLICKS, first=500), ""),  # all that was read is gone, and nothing else
        (replace(CLICKS, committed=501), "committed up to 501"),
        (replace(CLICKS, end=499), "created again"),
        (replace(CLICKS, first=501), "retention took 1 offsets"),
    ],
)
def test_the_ledger_ends_between_what_is_committed_and_the_logs_end(
    clicks: Place, problem: str
) -> None:
    (found,) = against_log({3: GOOD}, [(0, clicks), (1, ORDERS)], REMEDY)
    assert found.state == ("fail" if problem else "ok")
    assert problem in found.detail
    assert (REMEDY in found.remedy) == bool(problem)
    if clicks is CLICKS:
        assert "20 wait" in found.detail


@pytest.mark.parametrize(("committed", "state"), [(None, "ok"), (100, "ok"), (101, "fail")])
def test_what_is_committed_of_a_shard_without_books_is_missing(
    committed: int | None, state: str
) -> None:
    """A worker that found nothing to read commits where the log begins."""
    (found,) = against_log({}, [(0, replace(CLICKS, committed=committed))], REMEDY)
    assert found.state == state
