"""Pages: any arrays come back bit for bit, and only what changed is written."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays as np_arrays
from numpy.typing import NDArray

from streams.core.state import pages
from streams.core.state.pages import (
    ArrayPages,
    Contents,
    Manifest,
    Source,
    Writing,
    assemble,
    contents_of,
    page_key,
)
from tests.core.driving import bounded

WRITER = "w"
_DTYPES = st.sampled_from(["u1", "i4", "i8", "u8", "f4", "f8", "?"])
_ARRAY = _DTYPES.flatmap(lambda dtype: np_arrays(dtype, st.integers(0, 40)))
_STATE = st.dictionaries(st.sampled_from(["a", "b/c", "d"]), _ARRAY)


@pytest.fixture(scope="module", autouse=True)
def small_pages() -> Any:
    """So that a few numbers fill several pages; not a multiple of every item size."""
    patch = pytest.MonkeyPatch()
    patch.setattr(pages, "PAGE_BYTES", 36)
    yield
    patch.undo()


def sources(state: dict[str, NDArray[Any]]) -> dict[str, Source]:
    return {name: Source.constant(array, changed=True) for name, array in state.items()}


@bounded
@given(st.lists(_STATE, min_size=1, max_size=6))
def test_any_history_of_states_comes_back_and_cut_writes_harm_nothing(
    history: list[dict[str, NDArray[Any]]],
) -> None:
    stored: dict[bytes, bytes] = {}
    before: dict[str, ArrayPages] = {}
    last: dict[str, NDArray[Any]] = {}
    for state in history:
        writing = Writing(b"", sources(state), before)
        while writing.left:
            for name, index, slot, page in writing.take(1):
                stored[page_key(WRITER, name, index, slot)] = page
            # A checkpoint cut short here has left the one before as it was.
            if before or not last:
                check(assemble(WRITER, before, stored), last)
        check(assemble(WRITER, writing.arrays, stored), state)
        before, last = writing.arrays, state
        assert Writing(b"", sources(state), before).take(10**9) == []
        unchanged = {name: Source.constant(array) for name, array in state.items()}
        assert Writing(b"", unchanged, before).left == 0


@pytest.mark.parametrize("length", [0, 30])
def test_an_array_of_another_dtype_is_written_again(length: int) -> None:
    """Also if nobody says that it changed, and if there is nothing in it to tell them apart."""
    narrow, wide = np.arange(length, dtype=np.int16), np.arange(length, dtype=np.int32)
    first = Writing(b"", sources({"a": narrow}), {})
    stored = {page_key(WRITER, n, i, s): page for n, i, s, page in first.take(10**9)}
    second = Writing(b"", {"a": Source.constant(wide)}, first.arrays)
    stored |= {page_key(WRITER, n, i, s): page for n, i, s, page in second.take(10**9)}
    check(assemble(WRITER, second.arrays, stored), {"a": wide})
    check(assemble(WRITER, first.arrays, stored), {"a": narrow})


@bounded
@given(_STATE, st.booleans())
def test_the_table_comes_back_from_its_pages(state: dict[str, NDArray[Any]], again: bool) -> None:
    stored: dict[bytes, bytes] = {}
    table = None
    for _ in range(1 + again):
        writing = Writing(b"meta", sources(state), {})
        writing.take(10**9)
        table, written = writing.table(table)
        stored |= {page_key(WRITER, n, i, s): page for n, i, s, page in written}
        manifest = Manifest(WRITER, "o", 0, 1, table)
        assert contents_of(manifest, stored) == Contents(b"meta", writing.arrays)
    with pytest.raises(ValueError, match="missing"):
        contents_of(manifest, {})


def check(ours: dict[str, NDArray[Any]], wanted: dict[str, NDArray[Any]]) -> None:
    assert ours.keys() == wanted.keys()
    for name, array in wanted.items():
        assert ours[name].dtype == array.dtype
        assert ours[name].tobytes() == array.tobytes()
        assert ours[name].flags.writeable


@bounded
@given(st.data())
def test_any_flipped_bit_is_noticed(data: st.DataObject) -> None:
    state: dict[str, NDArray[Any]] = {"a": np.arange(30), "b": np.arange(5, dtype=np.float32)}
    writing = Writing(b"", sources(state), {})
    stored = {page_key(WRITER, n, i, s): page for n, i, s, page in writing.take(10**9)}
    key = data.draw(st.sampled_from(sorted(stored)))
    bit = data.draw(st.integers(0, 8 * len(stored[key]) - 1))
    page = bytearray(stored[key])
    page[bit // 8] ^= 1 << bit % 8
    with pytest.raises(ValueError, match="altered"):
        assemble(WRITER, writing.arrays, stored | {key: bytes(page)})
    with pytest.raises(ValueError, match="missing"):
        assemble(WRITER, writing.arrays, {k: v for k, v in stored.items() if k != key})


def test_a_length_that_does_not_fit_the_pages_is_noticed() -> None:
    writing = Writing(b"", sources({"a": np.arange(9)}), {})
    stored = {page_key(WRITER, n, i, s): page for n, i, s, page in writing.take(10**9)}
    table = writing.arrays["a"]
    wrong = ArrayPages(table.dtype, 8, table.page_bytes, table.slots, table.hashes)
    with pytest.raises(ValueError, match="9 items, not 8"):
        assemble(WRITER, {"a": wrong}, stored)
