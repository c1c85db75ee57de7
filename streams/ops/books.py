"""Whether the ledger is in order, and agrees with the topics: what was read is what the log holds.

Of a partition three things are known, read in this order so that a worker that goes on meanwhile
can't make them disagree: the committed offset, the ledger's next offset, and the log's first and
end. A worker commits only what ClickHouse has, so committed <= next <= end, and first <= next
unless retention takes records before they are read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from streams.core.health import Figures, Limits, Verdict, judge

__all__ = ["LEDGER_QUERY", "Books", "Place", "against_log", "balance", "shares"]

LEDGER_QUERY = (
    "SELECT shard, balanced, first_batch, unbalanced_batches, missing_batches, offset_gaps, "
    "offset_overlaps, clickstream_next, orders_next, accepted - canaries, late, dead_letters, "
    "accepted_recently - canaries_recently, late_recently, dead_recently FROM ledger ORDER BY shard"
)


@dataclass(frozen=True)
class Books:
    """One row of the view `ledger`: a shard's newest life."""

    shard: int
    balanced: bool
    first_batch: int
    """The number in its life of the first batch that the database has."""
    unbalanced_batches: int
    missing_batches: int
    offset_gaps: int
    offset_overlaps: int
    next_offsets: tuple[int, int]
    """The offsets of clickstream and orders that come after the newest batch."""
    life: Figures
    recent: Figures
    """Of the last hour."""

    @staticmethod
    def of(row: Iterable[int]) -> Books:
        """A row that `LEDGER_QUERY` gave."""
        shard, balanced, first, unbalanced, missing, gaps, overlaps, clicks, orders, *counts = row
        return Books(
            shard, bool(balanced), first, unbalanced, missing, gaps, overlaps, (clicks, orders),
            Figures(*counts[:3]), Figures(*counts[3:]),
        )  # fmt: skip


@dataclass(frozen=True)
class Place:
    """One input partition: its topic, what is committed (None: nothing), what the log has."""

    topic: str
    partition: int
    committed: int | None
    first: int
    end: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}"


def balance(books: Iterable[Books]) -> Iterator[Verdict]:
    """Whether every record is accounted for once, shard by shard; one verdict if all are."""
    found = list(books)
    for each in found:
        if not each.balanced:
            problems = [
                f"{count:,} {what}"
                for count, what in (
                    (each.unbalanced_batches, "batches that don't add up"),
                    (each.missing_batches, "batches missing"),
                    (each.offset_gaps, "gaps between batches"),
                    (each.offset_overlaps, "overlaps of batches"),
                )
                if count
            ]
            yield Verdict(
                "ledger",
                "fail",
                f"shard {each.shard} does not balance: {', '.join(problems)}",
                "Batches are missing if the database lost rows or was restored: restore it, or "
                "accept that its results are not whole. Anything else is a bug in Tideline: report "
                "it, with the shard's rows of the table batches",
            )
        elif each.first_batch > 1:
            yield Verdict(
                "ledger",
                "warn",
                f"shard {each.shard}: the ledger begins at batch {each.first_batch:,} of its life",
                "Nothing, if this database was made while the shard went on, as for a new "
                "pseudonym key; else rows were lost: restore them",
            )
    if all(each.balanced for each in found):
        records = sum(each.life.accepted for each in found)
        words = f"{len(found)} shards balance, {records:,} records" if found else "no batch yet"
        yield Verdict("ledger", "ok", words)


def shares(books: Iterable[Books], limits: Limits) -> Iterator[Verdict]:
    """Whether the shares of `streams.core.health` are in order; one verdict if all are."""
    found = [
        Verdict("shares", v.state, f"shard {each.shard}: {v.detail}", v.remedy)
        for each in books
        for v in judge(each.recent, each.life, limits)
    ]
    wrong = [verdict for verdict in found if verdict.state != "ok"]
    yield from wrong or [Verdict("shares", "ok", "late records and dead letters are few")]


def against_log(
    books: Mapping[int, Books], places: Iterable[tuple[int, Place]], start_over: str
) -> Iterator[Verdict]:
    """Whether the ledger ends where the committed offsets and the log say; one verdict if so.

    `places` are (source, partition), source 0 for clickstream and 1 for orders. `start_over` says
    how to start the state over.
    """
    wrong, waiting = 0, 0
    for source, place in places:
        shard = books.get(place.partition)
        at = place.first if shard is None else shard.next_offsets[source]
        waiting += max(0, place.end - max(at, place.first))
        verdict = _disagreement(place, at, shard is not None, start_over)
        if verdict is not None:
            wrong += 1
            yield verdict
    if not wrong:
        yield Verdict("offsets", "ok", f"the ledger agrees with the topics; {waiting:,} wait")


def _disagreement(place: Place, at: int, known: bool, start_over: str) -> Verdict | None:
    ledger = f"the ledger goes on at {at:,}" if known else "the ledger has no batch of this shard"
    if place.committed is not None and place.committed > at:
        return Verdict(
            "offsets",
            "fail",
            f"{place} is committed up to {place.committed:,}, but {ledger}: the results of "
            f"{place.committed - at:,} offsets are not in this database",
            "Set TIDELINE_CLICKHOUSE_DATABASE to the workers' database. If that is it, rows were "
            f"lost: restore them, or {start_over}",
        )
    if known and at > place.end:
        return Verdict(
            "offsets",
            "fail",
            f"{place} ends at {place.end:,}, but {ledger}: the topic was created again, or this "
            "database belongs to another cluster",
            f"Restore the topic, or {start_over}",
        )
    if known and at < place.first:
        return Verdict(
            "offsets",
            "fail",
            f"{place} begins at {place.first:,}, but {ledger}: retention took "
            f"{place.first - at:,} offsets before they were read",
            f"Restore the topic, or {start_over}",
        )
    return None
