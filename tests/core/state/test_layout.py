"""A state written in another layout is read by name: what both have is there to the bit."""

from __future__ import annotations

import random
from functools import cache
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from schemas.features import (
    COUNT_MEASURES,
    FEATURE_NAMES,
    MONEY_MEASURES,
    WINDOW_FEATURES,
    WINDOWS,
)
from streams.core.features import features
from streams.core.state.columns import NEW_ROW, ROW
from streams.core.state.layout import LAYOUT, OWN, Layout, Record, in_own_layout, translate
from streams.core.state.shard_state import Meta, ShardState
from streams.core.state.snapshot import comparable, exported, load
from tests.core.driving import T0, Driver, bounded, click, order
from tests.core.oracle import DAY_MS
from tests.core.state.test_state import drive, fresh

Arrays = dict[str, NDArray[Any]]
HOUR_MS = 3_600_000
WIDER = {"<i4": "<i8", "<i2": "<i4", "|i1": "<i2", "<f4": "<f8"}


@cache
def written() -> tuple[Meta, Arrays]:
    """A state with questions, alerts, known orders, parked users and one of them come back.

    It is made by the first test: every process that only collects tests would make it too.
    """
    driver = fresh()
    for arguments in drive(9, 12, 40):
        driver.feed(**arguments)
    later = driver.state.meta.clock_ms + 200 * DAY_MS
    driver.feed([click("late", later - DAY_MS, item_id="x")], clock_ms=later)
    for day in range(3):
        driver.feed(clock_ms=later + day * DAY_MS, sweep_rows=10_000)
    for hour in range(12):
        at_ms = later + 3 * DAY_MS + hour * HOUR_MS
        driver.feed(
            [click(f"u{hour}", at_ms, item_id="y")], [order(f"u{hour}", at_ms, 9.5)], clock_ms=at_ms
        )
    for day in range(4, 8):
        driver.feed(clock_ms=later + day * DAY_MS, sweep_rows=10_000)
    assert len(driver.state.questions)
    meta, arrays = exported(driver.state)
    assert any(name.startswith("parked/") for name in arrays)
    return msgspec.msgpack.decode(meta, type=Meta), arrays


def record(rng: random.Random, own: Record, drop: float) -> Record:
    """Some of its numbers, some of them wider, and a stranger, in another order, with holes."""
    numbers = {
        name: WIDER.get(dtype, dtype) if rng.random() < 0.2 else dtype
        for name, (dtype, _) in own.numbers.items()
        if name in ("user_hash", "owner") or rng.random() > drop
    }
    numbers["stranger"] = "<i8"
    names = rng.sample(sorted(numbers), len(numbers))
    places, at = {}, 0
    for name in names:
        places[name] = numbers[name], at
        at += np.dtype(numbers[name]).itemsize + rng.choice([0, 0, 8])
    nbytes = -(-at // 8) * 8
    new = np.zeros(nbytes, np.uint8)
    for name, (dtype, offset) in places.items():
        if name in own.numbers:
            own_dtype, own_at = own.numbers[name]
            value = np.frombuffer(own.new, own_dtype, 1, own_at).astype(dtype)
            new[offset : offset + value.nbytes] = value.view(np.uint8)
    return Record(nbytes, places, new.tobytes())


def some(rng: random.Random, names: list[str], drop: float) -> list[str]:
    kept = [name for name in names if rng.random() > drop]
    return rng.sample([*kept, "stranger"], len(kept) + 1)


def another(seed: int) -> Layout:
    """The layout of a build that lacks some of what this one has, and has other things."""
    rng = random.Random(seed)
    drop = rng.choice([0.0, 0.1, 0.5])
    windows = {name: OWN.windows[name] for name in OWN.windows if rng.random() > drop}
    windows["180d"] = (180 * 86_400, 86_400)
    stems = some(rng, list(WINDOW_FEATURES), drop)
    of_windows = [f"{stem}_{window}" for window in windows for stem in stems]
    rest = [name for name in FEATURE_NAMES if name.rsplit("_", 1)[-1] not in OWN.windows]
    return Layout(
        row=record(rng, OWN.row, drop),
        order=record(rng, OWN.order, drop),
        counts=some(rng, OWN.counts, drop),
        money=some(rng, OWN.money, drop),
        windows=windows,
        features=of_windows + some(rng, rest, drop),
        per_window=len(stems),
        value_bins=rng.choice([OWN.value_bins, 64]),
    )


def column(rows: NDArray[np.uint8], of: Record, name: str) -> NDArray[Any]:
    dtype, at = of.numbers[name]
    structured = np.dtype(
        {"names": ["it"], "formats": [dtype], "offsets": [at], "itemsize": of.nbytes}
    )
    values: NDArray[Any] = rows.reshape(-1).view(structured)["it"]
    return values


def state_of(meta: Meta, arrays: Arrays, layout: NDArray[np.uint8] = LAYOUT) -> ShardState:
    return load(msgspec.msgpack.encode(meta), {**arrays, "layout": layout}, len(FEATURE_NAMES))


def copied(meta: Meta) -> Meta:
    return msgspec.msgpack.decode(msgspec.msgpack.encode(meta), type=Meta)


def test_own_layout_is_loaded_unchanged() -> None:
    meta, arrays = written()
    assert in_own_layout(arrays, meta) is arrays
    assert msgspec.msgpack.decode(LAYOUT.tobytes(), type=Layout) == OWN


@settings(bounded, max_examples=40)
@given(seed=st.integers(0, 2**32))
def test_translation_there_and_back_keeps_what_both_builds_have(seed: int) -> None:
    its, arrays = written()
    other = another(seed)
    there = translate(arrays, OWN, other, copied(its))
    for of, own, name in ((other.row, OWN.row, "rows"), (other.order, OWN.order, "orders/words")):
        for number in set(of.numbers) & set(own.numbers):
            mine = column(arrays[name].view(np.uint8), own, number)
            theirs = column(there[name].view(np.uint8), of, number)
            if number != "value_bin" or other.value_bins == OWN.value_bins:
                np.testing.assert_array_equal(theirs, mine)
    meta = copied(its)
    encoded = np.frombuffer(msgspec.msgpack.encode(other), np.uint8)
    back, before = state_of(meta, dict(there), encoded), state_of(its, arrays)
    (_, found), (_, wanted) = comparable(back), comparable(before)
    for name in ("users", "parked/users", "forgotten", "ids/keys", "orders/keys", "pairs/values"):
        np.testing.assert_array_equal(found[name], wanted[name])
    _assert_columns(found, wanted, other)
    _assert_sums(back, before, other)
    _assert_questions(found, wanted, other)


def _assert_columns(found: Arrays, wanted: Arrays, other: Layout) -> None:
    new = NEW_ROW.view(ROW)
    for name in ROW.names or ():
        places = [n for n in OWN.row.numbers if n.split("/")[0] == name]
        if name == "value_bin" and other.value_bins != OWN.value_bins:
            places = ["gone"]
        for kind in ("columns", "parked"):
            mine, theirs = wanted[f"{kind}/{name}"], found[f"{kind}/{name}"]
            start = np.broadcast_to(new[name], mine.shape)
            kept = np.array([place in other.row.numbers for place in places])
            kept = kept if mine.ndim > 1 else kept[0]
            if name == "pair_owner" and kind == "columns" and not kept:
                # such a build's keys of pairs have the row
                assert sorted(theirs) == sorted({*theirs.tolist()} - {-1})
                continue
            np.testing.assert_array_equal(theirs, np.where(kept, mine, start), err_msg=name)


def _assert_sums(back: ShardState, before: ShardState, other: Layout) -> None:
    for kind, measures in (("counts", COUNT_MEASURES), ("money", MONEY_MEASURES)):
        mine, theirs = getattr(before, kind), getattr(back, kind)
        none = np.zeros((len(measures), len(WINDOWS)), np.bool_)
        short = none if theirs.short is None else theirs.short
        for m, measure in enumerate(measures):
            for w, window in enumerate(WINDOWS):
                same_hop = [v for v in other.windows.values() if v[1] == window.hop_seconds]
                reach = max((v[0] for v in same_hop), default=0)
                n = back.n
                if measure not in getattr(other, kind) or not same_hop:
                    assert not theirs.table[:n, m, w].any()
                    assert short[m, w]
                elif window.length_seconds <= reach:
                    np.testing.assert_array_equal(theirs.table[:n, m, w], mine.table[:n, m, w])
                    assert not short[m, w]
                else:
                    assert short[m, w]
        assert mine.short is None


def _assert_questions(found: Arrays, wanted: Arrays, other: Layout) -> None:
    asked = [name for name in wanted if name.startswith("questions/") and name.endswith("/x")]
    assert asked
    for name in asked:
        known = np.array([feature in other.features for feature in FEATURE_NAMES])
        x = np.where(known, wanted[name], np.float32(np.nan))
        assert found[name].tobytes() == x.astype(np.float32).tobytes()
        for part in ("asked_ms", "champion", "learner", "scores", "users"):
            same = name.replace("/x", f"/{part}")
            np.testing.assert_array_equal(found[same], wanted[same])


def test_state_of_an_earlier_layout_continues_counting() -> None:
    """A measure that was not counted is unknown until a window has only what came since."""
    other = msgspec.structs.replace(
        OWN,
        counts=[m for m in OWN.counts if m != "view"],
        windows={n: w for n, w in OWN.windows.items() if n in ("1h", "24h", "7d")},
    )
    driver = Driver()
    for day in range(40):
        driver.feed([click("ann", T0 + day * DAY_MS, item_id="x")])
    meta, arrays = exported(driver.state)
    old = dict(translate(arrays, OWN, other, driver.state.meta))
    layout = np.frombuffer(msgspec.msgpack.encode(other), np.uint8)
    driver.state = load(meta, {**old, "layout": layout}, len(FEATURE_NAMES))
    whole = Driver(state=load(meta, arrays, len(FEATURE_NAMES)))
    known: dict[str, int] = {}
    for hour in range(40 * 24, 140 * 24, 6):
        at_ms = T0 + hour * HOUR_MS
        for each in (driver, whole):
            each.feed([click("ann", at_ms, item_id="x")])
        mine, truth = (
            dict(zip(FEATURE_NAMES, features(d.state, np.array([0]), at_ms)[0], strict=True))
            for d in (driver, whole)
        )
        for name, value in mine.items():
            if not np.isnan(value):
                known.setdefault(name, hour - 39 * 24)
                assert value == truth[name], (name, hour)
            else:
                assert name not in known or np.isnan(truth[name]), name
    assert driver.state.counts.short is None
    assert known["view_1h"] <= 24 + 6
    assert known["orders_7d"] == 24  # a window of theirs
    assert 6 * 24 <= known["view_7d"] <= 7 * 24 + 6
    assert 22 * 24 <= known["orders_30d"] <= 24 * 24 + 6  # their logs reached back a week
    assert 82 * 24 <= known["orders_90d"] <= 84 * 24 + 6
    assert 89 * 24 <= known["view_90d"] <= 90 * 24 + 6


def test_measure_that_a_backfill_did_not_count_is_unknown_before_the_first_step() -> None:
    driver = Driver()
    driver.feed([click("ann", T0, item_id="x")])
    driver.state.meta.seq = 0
    meta, arrays = exported(driver.state)
    other = msgspec.structs.replace(
        OWN,
        counts=[m for m in OWN.counts if m != "view"],
        windows={n: w for n, w in OWN.windows.items() if n != "90d"},
    )
    old = dict(translate(arrays, OWN, other, driver.state.meta))
    layout = np.frombuffer(msgspec.msgpack.encode(other), np.uint8)
    state = load(meta, {**old, "layout": layout}, len(FEATURE_NAMES))
    x = dict(zip(FEATURE_NAMES, features(state, np.array([0]), T0)[0], strict=True))
    assert np.isnan(x["view_30d"])
    assert np.isnan(x["distinct_items_90d"])
    assert x["distinct_items_30d"] == 1


def test_windows_in_another_order_are_found_by_name() -> None:
    other = msgspec.structs.replace(OWN, windows=dict(reversed(OWN.windows.items())))
    driver = Driver()
    driver.feed([click("ann", T0, item_id="x")])
    _, arrays = exported(driver.state)
    from_ms = np.arange(len(OWN.counts) * len(OWN.windows), dtype=np.int64)
    arrays["counted_from/counts"] = from_ms
    old = dict(translate(arrays, OWN, other, driver.state.meta))
    assert old["counted_from/counts"].reshape(-1, len(OWN.windows)).tolist() == (
        from_ms.reshape(-1, len(OWN.windows))[:, ::-1].tolist()
    )


def test_unknown_sums_stay_unknown_over_further_loads() -> None:
    other = msgspec.structs.replace(OWN, counts=[m for m in OWN.counts if m != "view"])
    driver = Driver()
    driver.feed([click("ann", T0, item_id="x")])
    meta, arrays = exported(driver.state)
    old = {**translate(arrays, OWN, other, driver.state.meta)}
    old["layout"] = np.frombuffer(msgspec.msgpack.encode(other), np.uint8)
    once = load(meta, old, len(FEATURE_NAMES))
    twice = load(*exported(once), len(FEATURE_NAMES))
    for state in (once, twice):
        x = features(state, np.array([0]), T0)[0]
        assert np.isnan(x[FEATURE_NAMES.index("view_90d")])
        assert x[FEATURE_NAMES.index("distinct_items_90d")] == 1
    assert twice.counts.counted_from_ms.tobytes() == once.counts.counted_from_ms.tobytes()


@pytest.mark.parametrize("changed", [(7 * 86_400, 3_600), (8 * 86_400, 86_400)])
def test_changed_window_under_an_old_name_is_refused(changed: tuple[int, int]) -> None:
    other = msgspec.structs.replace(OWN, windows={**OWN.windows, "7d": changed})
    meta, arrays = written()
    with pytest.raises(ValueError, match=r"window 7d has .* needs another name"):
        translate(arrays, other, OWN, copied(meta))


def test_number_too_large_for_the_new_dtype_is_refused() -> None:
    meta, arrays = written()
    dtype, at = OWN.row.numbers["revenue_cents"]
    assert dtype == "<i8"
    narrow = {**OWN.row.numbers, "revenue_cents": ("<i2", at)}
    other = msgspec.structs.replace(OWN, row=msgspec.structs.replace(OWN.row, numbers=narrow))
    with pytest.raises(ValueError, match="revenue_cents holds numbers that don't fit into int16"):
        translate(arrays, OWN, other, copied(meta))


@pytest.mark.parametrize("name", ["rows", "orders/words"])
def test_damaged_state_of_another_layout_is_refused(name: str) -> None:
    meta, arrays = written()
    other = another(3)
    there = dict(translate(arrays, OWN, other, copied(meta)))
    there["layout"] = np.frombuffer(msgspec.msgpack.encode(other), np.uint8)
    for damaged in (
        there | {name: there[name][:-1]},
        {k: v for k, v in there.items() if k != name},
        there | {"layout": there["layout"][:-1]},
    ):
        with pytest.raises((ValueError, KeyError, msgspec.DecodeError)):
            load(msgspec.msgpack.encode(meta), damaged, len(FEATURE_NAMES))
