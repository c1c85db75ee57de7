"""A checkpoint is the state as it was when it began, whatever steps come while it is written."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from schemas.features import FEATURE_NAMES, FEATURES
from streams.core.state import open_questions as asked_module
from streams.core.state import pages as pages_module
from streams.core.state import shard_state as state_module
from streams.core.state import u64map
from streams.core.state.open_questions import OpenQuestions, QuestionQueue, Questions, pack, unpack
from streams.core.state.pages import ArrayPages, Writing, assemble, page_key
from streams.core.state.snapshot import comparable, digest, freeze, load, thaw
from tests.core.driving import T0, Driver, bounded, click, drawn, order
from tests.core.oracle import DAY_MS
from tests.core.state.test_state import drive, fresh


@pytest.fixture(scope="module", autouse=True)
def small_pages() -> Any:
    """So that a few users fill several pages, and forgetting happens."""
    patch = pytest.MonkeyPatch()
    patch.setattr(pages_module, "PAGE_BYTES", 200)
    patch.setattr(state_module, "ROWS_PAGE_BITS", 2)
    patch.setattr(state_module, "USERS_PAGE_BITS", 3)
    patch.setattr(u64map, "_KEYS_PAGE_BITS", 4)
    patch.setattr(u64map, "_VALUES_PAGE_BITS", 5)
    patch.setattr(u64map, "_WORDS_PAGE_BITS", 2)
    patch.setattr(asked_module, "_BLOCK", 7)
    patch.setattr("streams.core.apply._FORGET_AT", 20)
    patch.setattr("streams.core.apply._FORGET_PER_STEP", 40)
    yield
    patch.undo()


class Store:
    """Checkpoints in a dict, as the topic holds them."""

    def __init__(self) -> None:
        self.pages: dict[bytes, bytes] = {}
        self.complete: dict[str, ArrayPages] = {}
        self.first = True
        self.written = 0

    def begin(self, driver: Driver) -> tuple[bytes, Writing]:
        meta, sources = freeze(driver.state, everything=self.first)
        return meta, Writing(meta, sources, self.complete)

    def put(self, writing: Writing, nbytes: int) -> None:
        for name, index, slot, page in writing.take(nbytes):
            self.pages[page_key("w", name, index, slot)] = page
            self.written += len(page)

    def finish(self, writing: Writing) -> dict[str, NDArray[Any]]:
        self.complete, self.first = writing.arrays, False
        return assemble("w", self.complete, self.pages)


def assert_comparable(a: Any, b: Any) -> None:
    assert a[0] == b[0]
    assert a[1].keys() == b[1].keys()
    for name, array in a[1].items():
        assert array.dtype == b[1][name].dtype, name
        assert array.tobytes() == b[1][name].tobytes(), name


def check_checkpoints(rng: random.Random, driver: Driver, fed: Iterable[dict[str, Any]]) -> None:
    """Checkpoints begun at random, written a bit with each step: each holds what was there when it
    began, and the last one, taken at once, what is there now."""
    store, writing, wanted, meta, done = Store(), None, None, b"", 0
    for arguments in fed:
        if writing is None and rng.random() < 0.5:
            wanted = comparable(driver.state)
            meta, writing = store.begin(driver)
        driver.feed(**arguments)
        if writing is not None:
            store.put(writing, rng.choice([1, 400, 3_000, 10**6]))
            if not writing.left:
                thaw(driver.state)
                assert_comparable(
                    comparable(load(meta, store.finish(writing), len(FEATURE_NAMES))), wanted
                )
                writing, done = None, done + 1
    if writing is not None:
        store.put(writing, 10**9)
        thaw(driver.state)
        store.finish(writing)
        done += 1
    assert done
    # and in between, nothing that changed has gone unnoticed
    meta, writing = store.begin(driver)
    store.put(writing, 10**9)
    thaw(driver.state)
    again = load(meta, store.finish(writing), len(FEATURE_NAMES))
    assert_comparable(comparable(again), comparable(driver.state))


@drawn(8, 25, seed=st.integers(0, 2**32), users=st.sampled_from([3, 40, 300]))
def test_pages_taken_between_steps_make_the_state_of_the_beginning(seed: int, users: int) -> None:
    check_checkpoints(random.Random(seed), fresh(), drive(seed, 20, users))


def test_only_what_changed_is_written() -> None:
    driver, store = fresh(), Store()
    driver.feed([click(f"u{i}", T0 + i, item_id=f"i{i}") for i in range(200)])
    _, writing = store.begin(driver)
    store.put(writing, 10**9)
    thaw(driver.state)
    store.finish(writing)
    everything, store.written = store.written, 0
    driver.feed([click("u7", T0 + 999)])
    _, writing = store.begin(driver)
    store.put(writing, 10**9)
    assert 0 < store.written < everything / 10


def test_the_digest_knows_no_order_of_rows_and_every_number() -> None:
    """Other cuts give other rows; a state of whole numbers is the same all the same."""
    one, two = Driver(), Driver()
    clicks = [click(f"u{i % 9}", T0 + i, item_id=f"i{i % 5}") for i in range(40)]
    one.feed(clicks, clock_ms=T0 + 1_000)
    two.feed(list(reversed(clicks)), clock_ms=T0 + 1_000)
    assert list(one.state.rows_by_user) != list(two.state.rows_by_user)
    for driver in (one, two):  # the one thing that depends on the order: sums of fractions
        driver.state.columns.decayed[:] = 0
    assert digest(one.state) == digest(two.state)
    for name in ("revenue_cents", "alert_p", "asked_ms"):
        before = digest(two.state)
        getattr(two.state.columns, name)[3] += 1
        assert digest(two.state) != before, name
    two.feed([], [order("u1", T0 + 2_000)], clock_ms=T0 + 2_000)
    one.feed(clock_ms=T0 + 2_000)
    assert digest(one.state) != digest(two.state)


# -- the questions


@settings(bounded, max_examples=40)
@given(seed=st.integers(0, 2**32))
def test_a_queue_of_questions_is_a_list(seed: int) -> None:
    rng = np.random.default_rng(seed)
    queue, want, now = QuestionQueue(len(FEATURES)), [], 0
    for _ in range(rng.integers(1, 30)):
        now += int(rng.integers(0, 3))
        k = int(rng.integers(0, 12))
        if k:
            x = rng.choice(
                np.array([0, 1, -0.0, np.nan, np.inf, 2.5], np.float32), (k, len(FEATURES))
            )
            champion, learner, rows = rng.integers(0, 9, (3, k), np.int32)
            asked = OpenQuestions(
                np.full(k, now), champion, learner, rows, rng.random((k, 4), np.float32), x
            )
            queue.append(asked)
            want += [(now, asked.rows[i], asked.x[i].tobytes()) for i in range(k)]
        if rng.random() < 0.2:
            again = QuestionQueue(len(FEATURES))
            again.load({n: a.copy() for n, a in queue.export().items()})
            queue = again
        if rng.random() < 0.1:
            row = int(rng.integers(0, 9))
            queue.drop(row)
            want = [w for w in want if w[1] != row]
        due = now - int(rng.integers(0, 8))
        got = queue.take_until(due)
        first = [w for w in want if w[0] <= due]
        want = want[len(first) :]
        assert list(zip(got.asked_ms, got.rows, map(bytes, got.x), strict=True)) == first
        assert len(queue) == len(want)
    assert queue.everything().rows.tolist() == [w[1] for w in want]


def test_queues_of_two_horizons_are_due_by_their_own() -> None:
    """And a block's name is never used again for another content, since it is written once."""
    asked = Questions(3)

    def some(at_ms: int, k: int) -> OpenQuestions:
        no = np.zeros(k, np.int32)
        rows = np.arange(k, dtype=np.int32)
        x = np.ones((k, 3), np.float32)
        return OpenQuestions(np.full(k, at_ms), no, no, rows, np.zeros((k, 4), np.float32), x)

    asked.append(28, some(0, 600))
    asked.append(7, some(10 * DAY_MS, 600))
    names = set(asked.export())
    assert [h for h, _ in asked.take_due(16 * DAY_MS)] == []
    assert [(h, len(q)) for h, q in asked.take_due(17 * DAY_MS)] == [(7, 600)]
    asked.append(7, some(20 * DAY_MS, 600))
    written = {name for name in asked.export() if name.startswith("7/") and "/open/" not in name}
    assert written
    assert not written & names
    assert len(asked) == 1_200
    again = Questions(3)
    again.load(asked.export())
    assert [(h, len(q)) for h, q in again.take_due(28 * DAY_MS)] == [(7, 600), (28, 600)]
    assert not again


def test_features_come_back_bit_for_bit_and_take_few_bytes() -> None:
    driver = fresh()
    for arguments in drive(7, 14, 40):
        driver.feed(**arguments)
    (asked,) = driver.open_questions()
    x = asked.x
    assert len(x)
    kept, words = pack(x)
    assert unpack(kept, words, x.shape[1]).tobytes() == x.tobytes()
    assert kept.nbytes + words.nbytes < 0.6 * x.nbytes
