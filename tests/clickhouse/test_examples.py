"""The table `examples`: written by the sink, read in a stream, erased by person."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest
from clickhouse_driver import Client
from numpy.typing import NDArray

from models.bands import band_of
from models.training.sample import WEEK_MS, StratifiedSample, band_week, sampled
from schemas.errors import SinkRefused
from schemas.features import FEATURE_NAMES, LISTED_FEATURE_NAMES
from schemas.messages import Erasure
from schemas.topics import TopicNames
from streams.clickhouse import examples as reading
from streams.clickhouse.client import ClickHouseTarget
from streams.clickhouse.examples import Answers, Examples, Matured, answers, horizons, keys, matured
from streams.clickhouse.sink import ClickHouseSink
from streams.core.hashing import hashes, mix
from streams.live import read_live
from streams.privacy import erase_clickhouse
from streams.privacy.erase_clickhouse import Person

pytestmark = pytest.mark.clickhouse

DAY_MS = 86_400_000
T0 = 1_700_000_000_000
HORIZON_DAYS = 28
WAIT_SECONDS = 100.0
Table = dict[str, Any]


def table(n: int, seed: int = 0, **given: Any) -> Table:
    """n examples of n / 4 users, over 12 weeks, with features of any bits; some are unknown."""
    rng = np.random.default_rng(seed)
    asked = T0 + rng.integers(0, 12 * WEEK_MS, n)
    bits = rng.integers(0, 2**32, (n, len(FEATURE_NAMES)), np.uint32)
    x = bits.view(np.float32).copy()
    x[np.isnan(x) | (rng.random(x.shape) < 0.1)] = np.nan
    churned = rng.random(n) < 0.1
    first = np.where(churned, 0, asked + rng.integers(1, HORIZON_DAYS * DAY_MS, n))
    return {
        "user_id": [f"u{i}" for i in rng.integers(0, max(n // 4, 1), n)],
        "asked_at": asked,
        "matured_at": asked + HORIZON_DAYS * DAY_MS,
        "horizon_days": np.full(n, HORIZON_DAYS, np.uint16),
        "shard": rng.integers(0, 4, n).astype(np.uint16),
        "ordinal": np.arange(1, n + 1).astype(np.uint64),
        "lifetime_orders": rng.integers(0, 4, n).astype(np.uint32),
        "p_churn": rng.random(n).astype(np.float32),
        "spend_predicted": rng.random(n).astype(np.float32),
        "churned": churned.astype(np.uint8),
        "spend": np.where(churned, 0, rng.gamma(2.0, 9.0, n)).astype(np.float32),
        "first_order_at": first,
        "feature_names": [LISTED_FEATURE_NAMES] * n,
        "features": x,
    } | given


def write(target: ClickHouseTarget, *tables: Table) -> None:
    sink = ClickHouseSink(target, linger_seconds=0.0).start()
    for each in tables:
        sink.submit({"examples": each}).result(WAIT_SECONDS)
    sink.close(WAIT_SECONDS)


def bits(x: NDArray[np.float32]) -> NDArray[np.uint32]:
    return np.where(np.isnan(x), 0, np.ascontiguousarray(x).view(np.uint32))


def by_key(table: Table) -> NDArray[np.int64]:
    """The places of a table's rows in the order of its key."""
    return np.lexsort((table["ordinal"], table["user_id"], table["asked_at"]))


def every(which: Examples, rows: int = 10**6) -> Matured:
    """The examples that are drawn, at once."""
    sample = StratifiedSample(rows)
    for part in keys(which):
        sample.add(part.drawn, part.week, part.churned)
    parts = list(matured(which, sample.bounds()))
    columns = ("user", "asked_ms", "churned", "spend", "first_order_ms", "x")
    return Matured(*(np.concatenate([getattr(p, c) for p in parts]) for c in columns))


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_ROWS_AT_ONCE", 97)
    monkeypatch.setattr(reading, "_KEYS_AT_ONCE", 89)


def test_what_the_sink_wrote_comes_back_bit_by_bit(target: ClickHouseTarget) -> None:
    rows = table(700)
    write(target, rows)
    found = every(Examples(target, HORIZON_DAYS))
    order = by_key(rows)
    assert (bits(found.x) == bits(rows["features"][order])).all()
    assert (found.user == hashes([rows["user_id"][i] for i in order])).all()
    for name, column in (
        ("asked_at", found.asked_ms), ("churned", found.churned), ("spend", found.spend),
        ("first_order_at", found.first_order_ms),
    ):  # fmt: skip
        assert (column == rows[name][order]).all(), name


def test_the_rows_that_are_drawn_are_those_of_the_pure_sample(target: ClickHouseTarget) -> None:
    """ClickHouse hashes as Python does, and the week is the same."""
    rows = table(900, seed=2)
    write(target, rows)
    found = every(Examples(target, HORIZON_DAYS), 250)
    drawn = mix(hashes(rows["user_id"]), rows["asked_at"].view(np.uint64))
    week, label = rows["asked_at"] // WEEK_MS, rows["churned"].astype(np.int64)
    week = band_week(week, band_of(rows["lifetime_orders"], 2))
    chosen = sampled(drawn, week, label, 250)
    order = by_key(rows)
    assert len(found.x) == 250 == chosen.sum()
    assert (found.asked_ms == rows["asked_at"][order][chosen[order]]).all()
    live = read_live(Examples(target, HORIZON_DAYS), 250)
    assert live is not None
    assert (live.found, len(live.data.x)) == (900, 250)
    assert (bits(live.data.x[:]) == bits(found.x)).all()


def test_a_row_that_is_written_again_counts_once(target: ClickHouseTarget, client: Client) -> None:
    """After a crash; and by a life that asks the same question again: the first one was served."""
    rows = table(300, seed=3)
    client.execute("SYSTEM STOP MERGES examples")
    half = {name: column[150:] for name, column in rows.items()}
    again = {**half, "ordinal": half["ordinal"] + np.uint64(1 << 40),
             "features": np.zeros_like(half["features"])}  # fmt: skip
    write(target, rows, half, again)
    assert client.execute("SELECT count() FROM examples") == [(600,)]
    assert horizons(target) == {HORIZON_DAYS: 450}
    which = Examples(target, HORIZON_DAYS)
    assert sum(len(part.drawn) for part in keys(which)) == 300
    found = every(which)
    assert (bits(found.x) == bits(rows["features"][by_key(rows)])).all()


def test_features_of_another_release_are_read_by_name(target: ClickHouseTarget) -> None:
    names = ["gone_1", *reversed(FEATURE_NAMES[:-1]), "gone_2"]
    rows = table(40, seed=4)
    rows["feature_names"] = [",".join(names)] * 20 + [LISTED_FEATURE_NAMES] * 20
    other = np.random.default_rng(1).random((20, len(names))).astype(np.float32)
    rows["features"] = [*other, *rows["features"][20:]]
    write(target, rows)
    found = every(Examples(target, HORIZON_DAYS))
    place = {int(ms): i for i, ms in enumerate(found.asked_ms)}
    for i in range(40):
        row = found.x[place[int(rows["asked_at"][i])]]
        if i < 20:
            assert (row[:-1] == other[i][1:-1][::-1]).all()
            assert np.isnan(row[-1])
        else:
            assert (bits(row) == bits(rows["features"][i])).all()


def test_only_what_was_known_by_then_and_since_is_read(target: ClickHouseTarget) -> None:
    rows = table(200, seed=5)
    rows["horizon_days"][:50] = 14
    write(target, rows)
    middle = int(np.median(rows["matured_at"]))
    known = rows["horizon_days"] == HORIZON_DAYS
    before = every(Examples(target, HORIZON_DAYS, until_ms=middle))
    after = every(Examples(target, HORIZON_DAYS, after_ms=middle))
    early = known & (rows["matured_at"] <= middle)
    assert len(before.x) == early.sum() > 0
    assert len(after.x) == (known & ~early).sum() > 0
    assert horizons(target) == {14: 50, HORIZON_DAYS: 150}


def test_answers_are_all_examples_of_the_users_that_were_drawn(target: ClickHouseTarget) -> None:
    rows = table(400, seed=6)
    since = np.random.default_rng(1).uniform(0, 90, 400).astype(np.float32)
    since[::7] = np.nan
    rows["features"][:, FEATURE_NAMES.index("days_since_order")] = since
    write(target, rows)
    which = Examples(target, HORIZON_DAYS)
    sample = StratifiedSample(30)
    for part in keys(which):
        sample.add(part.drawn, part.week, part.churned)
    bounds = sample.bounds()
    users = {int(u) for part in matured(which, bounds) for u in part.user}
    parts = list(answers(which, bounds))
    columns = ("user", "asked_ms", "churned", "first_order_ms", "last_order_ms")
    found = Answers(*(np.concatenate([getattr(p, c) for p in parts]) for c in columns))
    theirs = np.isin(hashes(rows["user_id"]), np.array(sorted(users), np.uint64))
    order = [i for i in by_key(rows) if theirs[i]]
    assert (found.asked_ms == rows["asked_at"][order]).all()
    last = np.where(np.isnan(since), 0, rows["asked_at"] - np.float64(since) * DAY_MS)[order]
    assert np.abs(found.last_order_ms - last).max() <= 1000


def test_an_erased_person_has_no_examples_from_before(
    target: ClickHouseTarget, client: Client
) -> None:
    rows = table(120, seed=7)
    write(target, rows)
    cutoff = int(np.quantile(rows["asked_at"], 0.8))
    salt = b"salt"
    digest = hashlib.sha256(salt + b"u3").hexdigest()[:32]
    reports = [
        Erasure("id", digest, salt, 0, shard, cutoff, (0, 0), 0) for shard in range(4)
    ]  # fmt: skip
    names = TopicNames("clicks", "orders", "app")
    found = erase_clickhouse.delete(target, Person(salt, (digest,)), names, reports)
    of_them = np.array(rows["user_id"]) == "u3"
    before = int((of_them & (rows["asked_at"] < cutoff)).sum())
    assert {d.table: d.rows for d in found}["examples"] == before > 0
    assert client.execute("SELECT count() FROM examples") == [(120 - before,)]
    left = client.execute("SELECT count() FROM examples WHERE user_id = 'u3'")
    assert left == [(int(of_them.sum()) - before,)]


def test_a_database_that_was_not_migrated_says_so(empty_target: ClickHouseTarget) -> None:
    with pytest.raises(SinkRefused, match="tideline migrate"):
        read_live(Examples(empty_target, HORIZON_DAYS), 10)


def test_none_are_none(target: ClickHouseTarget) -> None:
    assert read_live(Examples(target, HORIZON_DAYS), 10) is None
