"""What becomes of each record, and which undelivered changes may be sent again. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from schemas.messages import AudienceChange, Undelivered
from schemas.topics import TopicNames
from streams.deliver.changes import FOR_DESTINATION, letter, pieces
from streams.deliver.destinations import Destination
from streams.deliver.exchange import Refusal
from streams.deliver.letters import chosen, origin
from streams.settings import Secret
from tests.deliver.test_formats import change

AUDIENCES = TopicNames("clicks", "orders", "app").audiences

CRM = Destination("crm", "webhook", "https://x", (Secret("s" * 16),), frozenset({"save_now"}))


@dataclass
class Record:
    offset: int
    value: bytes | None
    key: bytes | None = b"u"
    headers: list[tuple[str, bytes]] = field(default_factory=list)
    topic: str = AUDIENCES
    partition: int = 0
    timestamp: int = 1_000


def encoded(each: AudienceChange, **more: object) -> bytes:
    return msgspec.json.encode({**msgspec.to_builtins(each), **more})


def test_records_are_delivered_skipped_or_refused_with_the_reason() -> None:
    records = [
        Record(3, encoded(change("ann"))),
        Record(4, encoded(change("ann", audience="win_back"))),
        Record(5, b"{not json"), Record(6, None), Record(7, b"[]"),
        Record(8, encoded(change("bob", what="moved"))),
        Record(9, encoded(change("bob"), arm="holdout")),
        Record(10, encoded(change("bob"), arm="treat", new_in_a_later_release=1)),
        Record(11, encoded(change("cid")), headers=[(FOR_DESTINATION, b"other")]),
        Record(12, encoded(change("cid")), headers=[(FOR_DESTINATION, b"crm")]),
    ]  # fmt: skip
    (piece,) = pieces(records, CRM, 100)
    assert [r.offset for r, _ in piece.changes] == [3, 10, 12]
    assert [(r.offset, why.reason) for r, why in piece.refused] == [
        (5, "unreadable"), (6, "unreadable"), (7, "unreadable"), (8, "unknown_change"),
        (9, "held_out"),
    ]  # fmt: skip
    assert (piece.skipped, piece.next_offset) == (2, 13)


def test_who_was_erased_since_is_taken_out_and_put_in_nowhere() -> None:
    records = [Record(0, encoded(change("ann"))), Record(1, encoded(change("ann", 2, "left"))),
               Record(2, encoded(change("bob"))),
               Record(3, encoded(change("ann", 3)), timestamp=3_000)]  # fmt: skip
    (piece,) = pieces(records, CRM, 9, lambda user, at_ms: user == "ann" and at_ms < 2_000)
    assert [(c.user_id, c.number) for _, c in piece.changes] == [("ann", 2), ("bob", 1), ("ann", 3)]
    assert piece.skipped == 1


@given(st.lists(st.sampled_from(["good", "bad", "other"]), max_size=30), st.integers(1, 7))
def test_every_record_is_in_one_piece_and_offsets_go_on_without_gaps(
    kinds: list[str], most: int
) -> None:
    values = {"good": encoded(change("ann")), "bad": b"?",
              "other": encoded(change("ann", audience="x"))}  # fmt: skip
    records = [Record(n, values[kind]) for n, kind in enumerate(kinds)]
    at = 0
    for piece in pieces(records, CRM, most):
        inside = [r.offset for r, _ in piece.changes] + [r.offset for r, _ in piece.refused]
        assert all(at <= offset < piece.next_offset for offset in inside)
        assert len(piece.changes) + len(piece.refused) + piece.skipped == piece.next_offset - at
        assert len(piece.changes) <= most
        at = piece.next_offset
    assert at == len(records)


def test_a_letter_has_where_it_came_from_and_the_record_as_it_was() -> None:
    record = Record(7, encoded(change("ann")), key=b"ann")
    found = letter(CRM, record, Refusal("http_400", "no"), 5)
    assert origin(found) == f"crm/{AUDIENCES}/0/7"
    assert (found.key, found.payload, found.reason) == (b"ann", record.value, "http_400")
    assert len(letter(CRM, Record(1, b"x" * 100_000), Refusal("r"), 5).payload or b"") == 65_536


def undelivered(offset: int, value: bytes | None, partition: int = 0) -> Undelivered:
    return Undelivered("crm", "http_400", "", AUDIENCES, partition, offset, 5, b"u", value)


def test_only_a_person_s_newest_change_is_sent_again() -> None:
    old, newest = encoded(change("ann", 1)), encoded(change("ann", 2, "left"))
    elsewhere = encoded(change("ann", 9, audience="win_back"))
    topic = [Record(4, old), Record(5, newest), Record(6, elsewhere), Record(7, b"?")]
    letters = [undelivered(4, old), undelivered(5, newest), undelivered(7, b"?")]
    choice = chosen(letters, topic)
    assert choice.sendable == (letters[1],)
    assert [(x.offset, why) for x, why in choice.kept] == [(4, "superseded"), (7, "unreadable")]


def test_what_the_topic_has_forgotten_is_not_sent_again() -> None:
    """A later change may have been deleted with it."""
    value = encoded(change("ann"))
    letters = [undelivered(3, value), undelivered(4, value), undelivered(0, value, partition=1)]
    choice = chosen(letters, [Record(4, encoded(change("bob")))])
    assert choice.sendable == (letters[1],)
    assert [why for _, why in choice.kept] == ["expired", "expired"]
