"""User ids to rows: as a dict would have it, whatever the ids and their hashes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.core.state.directory import UserDirectory
from streams.core.texts import Texts
from tests.core.driving import bounded

ODD = st.sampled_from(["a", "ab", "abcdefgh", "abcdefghi", "é", "x" * 128, "\0", "a\0"])
NAMES = ODD | st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


def add(directory: UserDirectory, users: list[str]) -> list[int]:
    rows: list[int] = directory.rows_of(Texts.of(users))[0].tolist()
    return rows


@bounded
@given(st.lists(st.lists(NAMES, max_size=30), max_size=8), st.booleans())
def test_rows_are_those_of_a_dict(batches: list[list[str]], collide: bool) -> None:
    """`collide`: every id has the same hash, so that only the bytes tell them apart."""
    directory, expected = UserDirectory(), dict[str, int]()
    for batch in batches:
        texts = Texts.of(batch)
        if collide:
            texts = replace(texts, hashed=np.full(len(batch), 7, np.uint64))
        want = [expected.setdefault(user, len(expected)) for user in batch]
        assert directory.rows_of(texts)[0].tolist() == want
    assert len(directory) == len(expected)
    assert list(directory) == list(expected)
    everyone = np.arange(len(expected))
    assert directory.names(everyone).tolist() == list(expected)
    assert directory.names(everyone[::-1]).tolist() == list(expected)[::-1]
    assert list(directory.strings(everyone[::-1])) == list(expected)[::-1]
    if not collide:
        assert {user: directory[user] for user in expected} == expected


def test_it_grows_and_finds_everyone_again() -> None:
    directory = UserDirectory()
    users = [f"user-{i}" for i in range(20_000)]
    for start in range(0, len(users), 700):
        add(directory, users[start : start + 700])
    assert add(directory, users) == list(range(20_000))
    assert directory.nbytes < 100 * len(users)
    few = np.array([5, 19_999, 0])
    assert directory.names(few).tolist() == ["user-5", "user-19999", "user-0"]


def test_the_unknown_are_not_found_and_not_added() -> None:
    directory = UserDirectory()
    add(directory, ["a"])
    assert directory.get("b") is None
    assert "b" not in directory
    assert 5 not in directory
    assert "" not in directory
    assert directory["a"] == 0
    with pytest.raises(KeyError):
        directory["b"]
    assert len(directory) == 1


def test_a_forgotten_user_leaves_nothing_but_an_empty_row() -> None:
    directory = UserDirectory()
    add(directory, ["ann", "bob", "eve"])
    directory.forget(1)
    assert "bob" not in directory
    assert directory.names(slice(0, len(directory))).tolist() == ["ann", "", "eve"]
    assert list(directory) == ["ann", "eve"]
    assert b"bob" not in directory._names.tobytes()
    assert directory.hashes[1] == 0
    assert add(directory, ["eve", "bob", "ann"]) == [2, 3, 0]


def test_those_who_were_pushed_past_a_forgotten_user_are_still_found() -> None:
    directory = UserDirectory()
    users = ["a", "b", "c"]
    same = replace(Texts.of(users), hashed=np.full(3, 9, np.uint64))
    directory.rows_of(same)
    directory.forget(0)
    assert directory.rows_of(same[np.array([2, 1])])[0].tolist() == [2, 1]
    assert directory.rows_of(same[np.array([0])])[0].tolist() == [3]


@bounded
@given(st.lists(NAMES, unique=True, max_size=40), st.data())
def test_it_is_the_same_after_loading(users: list[str], data: st.DataObject) -> None:
    directory = UserDirectory()
    add(directory, users)
    for row in data.draw(st.sets(st.integers(0, max(0, len(users) - 1)), max_size=len(users))):
        if users:
            directory.forget(row)
    again = UserDirectory()
    again.load(Texts.of(directory.names(slice(0, len(directory))).tolist()), directory.forgotten)
    assert (
        again.names(slice(0, len(again))).tolist()
        == directory.names(slice(0, len(directory))).tolist()
    )
    assert again.hashes.tolist() == directory.hashes.tolist()
    assert [again.get(u) for u in users] == [directory.get(u) for u in users]
    assert add(again, ["new"]) == add(directory, ["new"])


@bounded
@given(st.lists(st.tuples(st.booleans(), st.lists(NAMES, max_size=20)), max_size=12), st.booleans())
def test_rows_that_are_given_back_are_given_out_again(
    turns: list[tuple[bool, list[str]]], collide: bool
) -> None:
    """The lowest first, whatever was given back, forgotten and loaded before."""
    directory, expected, forgotten = UserDirectory(), dict[str, int](), set[int]()

    def texts(users: list[str]) -> Texts:
        found = Texts.of(users)
        return replace(found, hashed=np.full(len(users), 7, np.uint64)) if collide else found

    for number, (come, batch) in enumerate(turns):
        if come:
            ahead = directory.next_rows(texts(batch)).tolist()
            new = []
            for user in batch:
                if user not in expected:
                    taken = {*expected.values(), *forgotten}
                    expected[user] = next(r for r in range(10**6) if r not in taken)
                    new.append(expected[user])
            rows, added = directory.rows_of(texts(batch))
            assert rows.tolist() == [expected[user] for user in batch]
            assert added.tolist() == new == ahead[: len(new)]
        else:
            leaving = [user for user in dict.fromkeys(batch) if user in expected]
            if number % 3 == 0 and leaving:
                row = expected.pop(leaving[0])
                forgotten.add(row)
                directory.forget(row)
            else:
                rows = np.array([expected.pop(user) for user in leaving], np.int64)
                directory.release(rows)
            directory.trim(0)
            left = bytes(directory._names[: directory._used])
            assert len(left) - left.count(0) <= sum(len(u.encode()) for u in expected)
        assert len(directory) == max([*expected.values(), *forgotten], default=-1) + 1
        assert directory.known == len(expected)
        assert directory.forgotten.tolist() == sorted(forgotten)
        everyone = np.arange(len(directory))
        assert directory.named(everyone).tolist() == [r in expected.values() for r in everyone]
        if not collide:
            assert {user: directory.get(user) for user in expected} == expected
            again = UserDirectory()
            again.load(Texts.of(directory.names(everyone).tolist()), directory.forgotten)
            directory = again


def test_ids_of_those_who_left_leave_no_growing_heap() -> None:
    directory = UserDirectory()
    for start in range(0, 60_000, 300):
        users = [f"user-{i}" for i in range(start, start + 300)]
        assert add(directory, users) == list(range(300))
        directory.release(np.arange(300))
    assert directory.nbytes < 40_000
