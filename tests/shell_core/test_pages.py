"""Pages: any arrays come back bit for bit, and only what changed is written."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays as np_arrays
from numpy.typing import NDArray

from streams.core import pages
from streams.core.pages import ArrayPages, Manifest, assemble, changed_pages, page_key
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


def manifest(tables: dict[str, ArrayPages]) -> Manifest:
    return Manifest(WRITER, "o", 0, 1, b"", tables)


@bounded
@given(st.lists(_STATE, min_size=1, max_size=6))
def test_any_history_of_states_comes_back_and_cut_writes_harm_nothing(
    history: list[dict[str, NDArray[Any]]],
) -> None:
    stored: dict[bytes, bytes] = {}
    before: dict[str, ArrayPages] = {}
    last: dict[str, NDArray[Any]] = {}
    for state in history:
        tables, written = changed_pages(state, before)
        for name, index, slot, page in written:
            stored[page_key(WRITER, name, index, slot)] = page
            # A checkpoint cut short here has left the one before as it was.
            if before or not last:
                check(assemble(manifest(before), stored), last)
        check(assemble(manifest(tables), stored), state)
        assert len(written) <= sum(len(t.slots) for t in tables.values())
        before, last = tables, state
        assert changed_pages(state, before)[1] == []


def check(ours: dict[str, NDArray[Any]], wanted: dict[str, NDArray[Any]]) -> None:
    assert ours.keys() == wanted.keys()
    for name, array in wanted.items():
        assert ours[name].dtype == array.dtype
        assert ours[name].tobytes() == array.tobytes()
        assert ours[name].flags.writeable


@bounded
@given(st.data())
def test_any_flipped_bit_is_noticed(data: st.DataObject) -> None:
    state = {"a": np.arange(30), "b": np.arange(5, dtype=np.float32)}
    tables, written = changed_pages(state, {})
    stored = {page_key(WRITER, n, i, s): page for n, i, s, page in written}
    key = data.draw(st.sampled_from(sorted(stored)))
    bit = data.draw(st.integers(0, 8 * len(stored[key]) - 1))
    page = bytearray(stored[key])
    page[bit // 8] ^= 1 << bit % 8
    with pytest.raises(ValueError, match="altered"):
        assemble(manifest(tables), stored | {key: bytes(page)})
    with pytest.raises(ValueError, match="missing"):
        assemble(manifest(tables), {k: v for k, v in stored.items() if k != key})


def test_a_length_that_does_not_fit_the_pages_is_noticed() -> None:
    tables, written = changed_pages({"a": np.arange(9)}, {})
    stored = {page_key(WRITER, n, i, s): page for n, i, s, page in written}
    table = tables["a"]
    wrong = ArrayPages(table.dtype, 8, table.slots, table.hashes)
    with pytest.raises(ValueError, match="9 items, not 8"):
        assemble(manifest({"a": wrong}), stored)
