"""Training rows are those of a plain replay, however customers are grouped; a sample is of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from models.training.columns import FeatureColumns
from models.training.long_fit import is_long, long_label, seen_days
from schemas.events import ClickEvent, OrderEvent
from schemas.features import FEATURE_NAMES
from streams.core.apply import admit, apply
from streams.core.events.decode import decode
from streams.core.events.events import DecodeRules
from streams.core.events.records import CLICKSTREAM, ORDERS, Records
from streams.core.features import features
from streams.core.hashing import hashes
from streams.core.state.shard_state import ShardState
from streams.evaluation import spooled as module
from streams.evaluation.rows import CLICK_ONLY
from streams.evaluation.sampled import SampledRows
from streams.evaluation.spooled import SpooledHistory
from streams.evaluation.training import Sample, TrainingHistory
from streams.replay.records import Block, InputRecord, order_records
from tests.evaluation import shops

DAY_MS = shops.DAY_MS
RULES = DecodeRules(10**9, "EUR", {"EUR": 1.0, "USD": 0.9})
HORIZON = 28


def shop() -> Block:
    """Regulars; some orders are sent twice, cancelled or returned."""
    user, ts_ms, amount = shops.weekly(60)
    sent = []
    columns = (user.tolist(), ts_ms.tolist(), amount.tolist())
    for i, (u, ts, worth) in enumerate(zip(*columns, strict=True)):
        kinds: list[tuple[Literal["placed", "cancelled", "returned"], float]] = [("placed", 0.0)]
        if i % 11 == 0:
            kinds.append(("placed", 0.5))
        if i % 17 == 0:
            kinds.append(("cancelled" if i % 2 else "returned", 3.0))
        for kind, days in kinds:
            sent.append(
                OrderEvent(
                    event_id=f"{i}-{kind}-{days}",
                    user_id=f"c{u}",
                    type=kind,
                    ts=ts + round(days * DAY_MS),
                    order_id=f"o{i}",
                    amount=worth,
                    currency="USD" if i % 5 == 0 else None,
                )
            )
    return order_records(sorted(sent, key=lambda event: event.ts))


def clicks(block: Block) -> Block:
    """A view an hour before each order."""
    found = []
    for i, order in enumerate(block):
        ts = order.timestamp_ms - 3_600_000
        user = (order.key or b"").decode()
        click = ClickEvent(event_id=f"k{i}", user_id=user, type="view", ts=ts, item_id=f"i{i % 9}")
        found.append(InputRecord("clickstream", order.key, msgspec.json.encode(click), ts))
    return sorted([*block, *found], key=lambda record: record.timestamp_ms)


Made = Callable[..., TrainingHistory]


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    def make(block: Block, group_records: int = 10**9) -> TrainingHistory:
        monkeypatch.setattr(module, "GROUP_RECORDS", group_records)
        spooled = SpooledHistory(tmp_path / str(group_records), RULES)
        half = len(block) // 2
        for part in (block[:half], block[half:]):  # two files
            for _ in spooled.add([part]):
                pass
        survey = spooled.survey(lambda _what, _done: None)
        return TrainingHistory(spooled, survey, HORIZON, 2, 84, RULES)

    return make


def rows(sample: Sample | None) -> dict[str, NDArray[Any]]:
    """By week and customer; floats as their bits."""
    assert sample is not None
    data = sample.data
    order = np.lexsort((data.user, data.as_of_ms))
    columns = {"x": data.x[:], "churned": data.churned, "spend": data.spend, "as_of": data.as_of_ms,
               "user": data.user, **data.more}  # fmt: skip
    return {
        name: (c.view(np.uint32) if c.dtype == np.float32 else c)[order]
        for name, c in columns.items()
    }


def plain(block: Block, cuts: list[int], sources: tuple[int, ...]) -> dict[str, NDArray[Any]]:
    """Features and users of everybody who is due, by one state that takes in week after week."""
    state = ShardState(0, len(FEATURE_NAMES))
    x, user, as_of, done = [], [], [], -(10**15)
    first = min(record.timestamp_ms for record in block)
    early = list(range(cuts[0], first, -7 * DAY_MS))[:0:-1]
    for cut in [*early, *cuts]:
        for source in sources:
            kind = ("clickstream", "orders")[source]
            part = [r for r in block if done <= r.timestamp_ms < cut and r.topic_kind == kind]
            if not part:
                continue
            events = decode(
                Records.of(
                    np.arange(len(part)), np.array([r.timestamp_ms for r in part]),
                    [r.key for r in part], [r.value for r in part],
                ),
                source, RULES,
            )  # fmt: skip
            state.meta.clock_ms = max(state.meta.clock_ms, int(events.ts_ms.max()))
            state.counts.advance(state.meta.clock_ms)
            state.money.advance(state.meta.clock_ms)
            apply(state, events, admit(state, events, 7 * DAY_MS))
        done = cut
        state.meta.clock_ms = cut
        state.counts.advance(cut)
        state.money.advance(cut)
        if cut in early:
            continue
        c, n = state.columns, state.n
        due = (c.orders[:n] >= 2) & (cut - c.recent_orders_ms[:n, 0] <= 84 * DAY_MS)
        at = np.flatnonzero(due)
        x.append(features(state, at, cut))
        user.append(hashes(state.users[at].tolist()).view(np.int64))
        as_of.append(np.full(len(at), cut))
    found: dict[str, NDArray[Any]] = {
        "x": np.concatenate(x), "user": np.concatenate(user), "as_of": np.concatenate(as_of)
    }  # fmt: skip
    order = np.lexsort((found["user"], found["as_of"]))
    return {name: column[order] for name, column in found.items()}


def test_features_that_only_clicks_fill_take_no_memory_without_clicks(made: Made) -> None:
    found = made(shop()).rows(10**6)
    assert found is not None
    n, known = len(found.data.x), np.count_nonzero(~CLICK_ONLY)
    assert isinstance(found.data.x, FeatureColumns)
    assert found.data.x.nbytes <= 4 * n * known
    assert found.data.x.nbytes < 2 * n * len(FEATURE_NAMES)  # many of the others are counts


@pytest.mark.parametrize("with_clicks", [False, True])
def test_rows_are_those_of_a_plain_replay(made: Made, with_clicks: bool) -> None:
    block = clicks(shop()) if with_clicks else shop()
    history = made(block)
    found = rows(history.rows(10**6))
    sources = (CLICKSTREAM, ORDERS) if with_clicks else (ORDERS,)
    expected = plain(block, sorted(set(found["as_of"].tolist())), sources)
    if not with_clicks:
        expected["x"][:, CLICK_ONLY] = np.nan
    np.testing.assert_array_equal(found["user"], expected["user"])
    np.testing.assert_array_equal(found["as_of"], expected["as_of"])
    np.testing.assert_array_equal(found["x"], expected["x"].view(np.uint32))


def test_no_order_is_late_because_clicks_are_there(made: Made) -> None:
    found = rows(made(clicks(shop())).rows(10**6))
    without = rows(made(shop(), 10**8).rows(10**6))
    orders = FEATURE_NAMES.index("lifetime_orders")
    assert np.array_equal(found["user"], without["user"])
    assert np.array_equal(found["x"][:, orders], without["x"][:, orders])


def test_groups_of_customers_change_no_row(made: Made) -> None:
    one, many = made(shop()), made(shop(), 200)
    assert len(one.spooled) == 1
    assert len(many.spooled) > 5
    of_many = rows(many.rows(10**6))
    for name, column in rows(one.rows(10**6)).items():
        np.testing.assert_array_equal(column, of_many[name], name)
    assert one.survey.gap_days.tolist() == many.survey.gap_days.tolist()
    assert (one.survey.orders, one.survey.customers) == (many.survey.orders, many.survey.customers)


def test_baselines_score_the_rows_that_judge_whatever_the_groups(made: Made) -> None:
    scores = []
    for size in (10**9, 200):
        history = made(shop(), size)
        sample = history.rows(10**6)
        assert sample is not None
        order = np.lexsort((sample.data.user, sample.data.as_of_ms))
        scores.append({k: v[order] for k, v in history.baselines(sample).items()})
    one, many = scores
    judged = ~np.isnan(one["churn/bgnbd"])
    assert 0.2 < judged.mean() < 0.35
    for name in ("churn/recency", "churn/gap", "churn/bgnbd", "value/past_spend"):
        np.testing.assert_allclose(one[name], many[name], rtol=1e-3)


def test_a_sample_has_rows_of_the_whole_and_the_same_ones_every_time(made: Made) -> None:
    every = made(shop()).rows(10**6)
    history = made(shop(), 200)
    sample = history.rows(400)
    assert every is not None
    assert sample is not None
    assert 400 - 5 <= len(sample.data.x) <= 400  # cancelled orders were counted
    assert abs(sample.of_rows - len(every.data.x)) < 0.03 * len(every.data.x)
    known = {key: x.tobytes() for key, x in zip(_keys(every), every.data.x[:], strict=True)}
    assert all(
        known[k] == x.tobytes() for k, x in zip(_keys(sample), sample.data.x[:], strict=True)
    )
    assert _keys(history.rows(400)) == _keys(sample)
    larger = history.rows(800)
    assert len(set(_keys(sample)) - set(_keys(larger))) < 0.05 * 400  # but for rounding
    _, of_weeks = np.unique(sample.data.as_of_ms, return_counts=True)
    assert of_weeks.max() <= of_weeks[of_weeks > 1].min() + 5
    assert sample.data.churned.mean() == pytest.approx(every.data.churned.mean(), abs=0.05)


def test_rows_come_beside_others_and_name_customers_as_these_do(made: Made) -> None:
    history = made(shop(), 200)
    by_pseudonym = replace(history, name_of=lambda user: f"secret {user}")
    frame, alone = SampledRows(0), by_pseudonym.rows(300)
    first = history.rows(300, into=frame)
    assert first is not None
    assert alone is not None
    kept, n = first.data.take(np.arange(len(frame))), len(frame)
    both = by_pseudonym.rows(300, into=frame)
    assert both is not None
    assert len(both.data.x) == n + len(alone.data.x)
    np.testing.assert_array_equal(both.data.x[:n], kept.x)
    np.testing.assert_array_equal(both.data.x[n:], alone.data.x)
    names = hashes([f"secret {user}" for user in {(r.key or b"").decode() for r in shop()}])
    assert np.isin(alone.data.user, names.view(np.int64)).all()


def test_the_long_labels_are_what_was_spent_and_was_known_in_time(made: Made) -> None:
    history = made(shop())
    until_ms = history.survey.last_ms + 1
    found = history.rows(10_000)
    assert found is not None
    days = seen_days(history.survey.first_ms, until_ms)
    assert {long_label(d) for d in days} == {name for name in found.data.more if is_long(name)}
    assert days
    data = found.data
    group = history.spooled.group(0)
    number = {int(h): i for i, h in enumerate(group.user_hash.view(np.int64))}
    for within in days:
        label = data.more[long_label(within)]
        known = data.as_of_ms + within * DAY_MS <= until_ms
        assert (np.isnan(label) == ~known).all()
        for row in np.flatnonzero(known)[::97]:
            if int(data.user[row]) in number:
                cut = int(data.as_of_ms[row])
                spent = group.history.spend(cut, cut + within * DAY_MS)
                assert label[row] == np.float32(spent[number[int(data.user[row])]])


def test_only_what_was_known_in_time_is_a_label(made: Made) -> None:
    history = made(shop(), 200)
    until = history.survey.first_ms + 99 * DAY_MS
    found = history.rows(10**6, until_ms=until)
    assert found is not None
    assert int(found.data.as_of_ms.max()) + HORIZON * DAY_MS <= until
    last = found.data.as_of_ms + 30 * DAY_MS > until
    assert last.any()
    assert np.isnan(found.data.more["p_buy_30d"][last]).all()
    later = history.rows(10**6, after_ms=until)
    assert later is not None
    assert int(later.data.as_of_ms.min()) + HORIZON * DAY_MS > until
    every = rows(history.rows(10**6))
    part = every["as_of"] + HORIZON * DAY_MS > until
    np.testing.assert_array_equal(every["x"][part], rows(later)["x"])
    assert history.rows(10**6, until_ms=history.survey.first_ms) is None


def _keys(sample: Sample | None) -> list[tuple[int, int]]:
    assert sample is not None
    return list(zip(sample.data.as_of_ms.tolist(), sample.data.user.tolist(), strict=True))
