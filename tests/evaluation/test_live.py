"""Live examples as training data: labels are true, users are one with the orders' users, and a
champion trained on them uses clicks."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from models.artifact import CARD_FILE, load_artifact
from models.champion import OUTLOOK, PARTIAL
from models.training.dataset import Dataset
from schemas.features import FEATURE_NAMES
from streams.cli import tideline
from streams.clickhouse.client import ClickHouseTarget
from streams.clickhouse.examples import Examples
from streams.clickhouse.sink import ClickHouseSink
from streams.core.hashing import hashes
from streams.evaluation.live import Asked, learnable, ordered_within, partial
from streams.evaluation.rows import CLICK_ONLY
from streams.evaluation.sampled import SampledRows
from streams.live import read_live
from tests.core.driving import Driver
from tests.databases import Databases
from tests.evaluation.clicking import HORIZON_DAYS, run

DAY_MS = 86_400_000
NAN = float("nan")


# -- labels


@dataclass
class Shop:
    """Users with orders at random times, asked a horizon apart or somewhat later."""

    asked: Asked
    orders: dict[int, np.ndarray[Any, Any]]
    newest_ms: int

    def truth(self, days: int) -> np.ndarray[Any, Any]:
        a = self.asked
        return np.array(
            [
                bool(((self.orders[u] >= ms) & (self.orders[u] < ms + days * DAY_MS)).any())
                for u, ms in zip(a.user.tolist(), a.asked_ms.tolist(), strict=True)
            ]
        )


def shop(horizon_days: int, seed: int, gone_after_days: int = 84) -> Shop:
    rng = np.random.default_rng(seed)
    horizon, end = horizon_days * DAY_MS, 400 * DAY_MS
    found: list[tuple[int, int, bool, int, int]] = []
    orders = {}
    for user in range(300):
        gap = rng.uniform(2, 80) * DAY_MS
        times = np.cumsum(rng.exponential(gap, 400)).astype(np.int64)
        orders[user] = times = times[times < end + horizon]
        asked = int(rng.integers(30, 30 + horizon_days) * DAY_MS)
        while asked + horizon <= end:
            last = int(times[times < asked].max(initial=0))
            if last and asked - last <= gone_after_days * DAY_MS:
                within = times[(times >= asked) & (times < asked + horizon)]
                found.append((user, asked, not len(within), int(within.min(initial=end * 2)), last))
            # now and then the worker is away for some days
            asked += horizon + int(rng.choice([0, 0, 0, 1, 4])) * DAY_MS
    rng.shuffle(found)
    users, asked_ms, churned, first, before = (np.array(c) for c in zip(*found, strict=True))
    columns = Asked(
        users.astype(np.uint64), asked_ms, churned.astype(np.bool_),
        np.where(churned, 0, first), before,
    )  # fmt: skip
    return Shop(columns, orders, int(asked_ms.max()) + horizon)


def labelled(made: Shop, days: int, horizon_days: int) -> np.ndarray[Any, Any]:
    a = made.asked
    return ordered_within(
        days, horizon_days, a.user, a.asked_ms, a.churned, a.first_order_ms, a, made.newest_ms
    )


@pytest.mark.parametrize(("horizon_days", "days"), [(28, 7), (30, 30), (91, 30), (91, 7)])
def test_what_lies_within_the_horizon_is_known_at_once(horizon_days: int, days: int) -> None:
    made = shop(horizon_days, seed=1)
    assert (labelled(made, days, horizon_days) == made.truth(days)).all()


@pytest.mark.parametrize(("horizon_days", "days"), [(28, 30), (21, 30), (15, 30), (5, 7)])
def test_what_lies_behind_it_is_known_by_the_next_example(horizon_days: int, days: int) -> None:
    made = shop(horizon_days, seed=2)
    label, truth = labelled(made, days, horizon_days), made.truth(days)
    known = ~np.isnan(label)
    settled = made.asked.asked_ms + (2 * horizon_days + 2) * DAY_MS <= made.newest_ms
    assert not known[~settled].any()
    assert known[settled].mean() > 0.9
    wrong = known & (label != truth)
    # Who is not asked in their turn counts as not having ordered: nearly always true.
    place, horizon = made.asked.next_of(made.asked.user, made.asked.asked_ms), horizon_days * DAY_MS
    in_turn = (place >= 0) & (made.asked.asked_ms[place] < made.asked.asked_ms + 2 * horizon)
    assert not wrong[in_turn].any()
    assert wrong.sum() < 0.02 * known.sum()
    assert label[known].mean() == pytest.approx(truth[settled].mean(), abs=0.015)


def test_a_horizon_of_less_than_half_the_days_knows_nothing() -> None:
    made = shop(14, seed=3)
    assert np.isnan(labelled(made, 30, 14)).all()


def test_many_orders_whose_first_is_forgotten_have_no_label_of_the_first_days() -> None:
    user, asked = np.array([1, 2, 3], np.uint64), np.full(3, 100 * DAY_MS)
    churned = np.array([False, False, True])
    first = np.array([0, 101 * DAY_MS, 0])
    none = Asked(user[:0], asked[:0], churned[:0], first[:0], first[:0])
    label = ordered_within(7, 28, user, asked, churned, first, none, 500 * DAY_MS)
    assert np.array_equal(label, np.array([NAN, 1.0, 0.0]), equal_nan=True)
    # In a longer time they have ordered, whenever that was.
    label = ordered_within(30, 28, user, asked, churned, first, none, 500 * DAY_MS)
    assert label.tolist() == [1.0, 1.0, 0.0]


def test_partial_defection_compares_with_the_90_days_before() -> None:
    x = np.full((4, len(FEATURE_NAMES)), np.nan, np.float32)
    x[:, FEATURE_NAMES.index("revenue_90d")] = [90.0, 90.0, 90.0, NAN]
    x[:, FEATURE_NAMES.index("refunds_90d")] = [0.0, 0.0, 60.0, 0.0]
    spend = np.array([14.0, 16.0, 14.0, 14.0], np.float32)
    label = partial(x, spend, 30)
    assert np.array_equal(label, np.array([1.0, 0.0, 0.0, NAN]), equal_nan=True)
    assert np.isnan(partial(x, spend, 14)).all()
    assert np.isnan(partial(x, spend, 60)).all()


# -- beside a history


def rows(user: np.ndarray[Any, Any], start_ms: int) -> Dataset:
    n = len(user)
    x = np.full((n, len(FEATURE_NAMES)), 1.0, np.float32)
    more = {head: np.full(n, 1.0, np.float32) for head in (*OUTLOOK, PARTIAL)}
    as_of = start_ms + np.arange(n) * DAY_MS
    return Dataset(x, np.arange(n) % 3 == 0, np.ones(n, np.float32), as_of, user, more)


def test_rows_of_both_kinds_come_into_the_same_columns() -> None:
    frame, live, other = SampledRows(0), rows(np.arange(900), 0), rows(np.arange(2_000), DAY_MS)
    for part in (live, other):
        user = part.user.view(np.uint64)
        more = part.more if part is other else None
        frame.add(part.x[:], part.churned, part.spend, part.as_of_ms, user, more)
    frame.label(0, live.more)
    found = frame.dataset()
    assert found is not None
    for name in ("x", "churned", "spend", "as_of_ms", "user"):
        both = np.concatenate([getattr(live, name), getattr(other, name)])
        np.testing.assert_array_equal(getattr(found, name), both)
    for head, label in found.more.items():
        assert label.tolist() == [*live.more[head].tolist(), *other.more[head].tolist()]


def test_labels_that_are_not_given_are_unknown() -> None:
    frame, one = SampledRows(9), rows(np.arange(3), 0)
    user = one.user.view(np.uint64)
    frame.add(
        one.x[:], one.churned, one.spend, one.as_of_ms, user, {PARTIAL: np.ones(3, np.float32)}
    )
    frame.add(one.x[:], one.churned, one.spend, one.as_of_ms, user)
    found = frame.dataset()
    assert found is not None
    assert np.isnan(found.more[PARTIAL]).tolist() == [False] * 3 + [True] * 3


def test_heads_without_a_label_are_left_out_and_named() -> None:
    data = rows(np.arange(9), 0)
    assert learnable(data) == (data, [])
    data.more["p_buy_30d"][:] = np.nan
    left, without = learnable(data)
    assert without == ["p_buy_30d", "p_buy_7d"]
    assert set(left.more) == {PARTIAL}


# -- the command


@dataclass
class Live:
    """A shop whose law depends on clicks, with its examples in ClickHouse."""

    driver: Driver
    target: ClickHouseTarget

    def train(self, root: Path, *args: str) -> Result:
        environ = {
            "TIDELINE_CLICKHOUSE_HOST": self.target.host,
            "TIDELINE_CLICKHOUSE_PORT": str(self.target.port),
            "TIDELINE_CLICKHOUSE_DATABASE": self.target.database,
            "TIDELINE_KAFKA_BROKER_URL": "127.0.0.1:1",
        }
        words = ["train", "--live", "--out", str(root), *args]
        return CliRunner().invoke(tideline, words, env=environ, prog_name="tideline")

    def trained(self, root: Path, *args: str) -> dict[str, Any]:
        result = self.train(root, "--json", *args)
        assert result.exit_code == 0, result.output
        found: dict[str, Any] = json.loads(result.stdout)
        return found

    def orders(self, path: Path, until_ms: int) -> Path:
        """The shop's orders before a time, as an order file."""
        placed = [
            json.loads(value)
            for _, records in self.driver.log
            for value in records[1].values
            if value is not None
        ]
        with path.open("w", newline="") as file:
            out = csv.writer(file)
            out.writerow(["user_id", "timestamp", "amount", "order_id"])
            for o in placed:
                if o["ts"] < until_ms:
                    out.writerow([o["user_id"], o["ts"], o["amount"], o["order_id"]])
        return path


@pytest.fixture(scope="module")
def live(databases: Databases) -> Iterator[Live]:
    driver, steps = run(users=500, days=260)
    with databases.lent() as target:
        sink = ClickHouseSink(target, linger_seconds=0.0).start()
        for tables in steps:
            if "examples" in tables:
                sink.submit({"examples": tables["examples"]})
        sink.close(100.0)
        yield Live(driver, target)


slow = [pytest.mark.clickhouse, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def champion(live: Live, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    root = tmp_path_factory.mktemp("models")
    return root, live.trained(root)


class TestTraining:
    pytestmark = slow

    def test_clicks_are_among_what_matters_most(
        self, champion: tuple[Path, dict[str, Any]]
    ) -> None:
        root, found = champion
        manifest = load_artifact(root / found["version"]).manifest
        clicks = {name for name, click in zip(FEATURE_NAMES, CLICK_ONLY, strict=True) if click}
        assert len(clicks & set(list(found["top_features"])[:5])) >= 3
        share = sum(v for v, click in zip(manifest.importances, CLICK_ONLY, strict=True) if click)
        assert share > 0.3
        varies = dict(zip(FEATURE_NAMES, manifest.typical.varies, strict=True))
        assert varies["view_7d"]  # so the online learner follows clicks, too
        assert found["metrics"]["auc"] > 0.7

    def test_it_has_every_head_and_says_what_it_learned_from(
        self, live: Live, champion: tuple[Path, dict[str, Any]]
    ) -> None:
        root, found = champion
        examples = len(live.driver.rows("examples"))
        assert examples > live.driver.state.meta.examples  # some are not about customers
        assert found["live"] == {
            "examples": examples, "rows": examples, "weeks": found["live"]["weeks"],
            "rows_of_orders": 0, "without": [],
        }  # fmt: skip
        loaded = load_artifact(root / found["version"])
        assert loaded.has_outlook
        assert set(found["trees"]) == {"p_churn", "spend", *OUTLOOK, PARTIAL}
        card = (root / found["version"] / CARD_FILE).read_text()
        assert f"{examples:,} live examples" in card

    def test_every_example_is_read_with_the_bits_that_were_served(self, live: Live) -> None:
        found = read_live(Examples(live.target, HORIZON_DAYS), 10**6)
        assert found is not None
        served = {
            (int(hashes([row["user_id"]]).view(np.int64)[0]), row["asked_at"]): row["features"]
            for row in live.driver.rows("examples")
        }
        data = found.data
        x = data.x[:]
        assert len(x) == len(served)
        for i, key in enumerate(zip(data.user.tolist(), data.as_of_ms.tolist(), strict=True)):
            mine, theirs = x[i], served[key]
            known = ~np.isnan(theirs)
            assert (np.isnan(mine) == ~known).all()
            assert (mine.view(np.uint32) == theirs.view(np.uint32))[known].all()

    def test_few_live_rows_are_joined_with_orders(self, live: Live, tmp_path: Path) -> None:
        first_ms = min(row["asked_at"] for row in live.driver.rows("examples"))
        orders = live.orders(tmp_path / "orders.csv", first_ms + 170 * DAY_MS)
        found = live.trained(
            tmp_path, "--orders", str(orders), "--max-rows", "4000", "--horizon-anyway"
        )
        said = found["live"]
        assert said["rows"] == len(live.driver.rows("examples"))
        assert said["rows"] + said["rows_of_orders"] == 4000
        manifest = load_artifact(tmp_path / found["version"]).manifest
        assert manifest.training["source"] == "live examples and orders.csv"

    def test_a_challenger_is_judged_by_what_was_served_later(
        self, live: Live, tmp_path: Path
    ) -> None:
        first = live.trained(tmp_path, "--as-of", "2021-02-20", "--max-rows", "600")
        assert first["promoted"]
        assert first["live"]["rows"] == 600
        second = live.trained(tmp_path, "--as-of", "2021-04-10")
        assert "log loss" in second["why"]
        labels_until = load_artifact(tmp_path / second["version"]).manifest.training[
            "labels_until_ms"
        ]
        assert isinstance(labels_until, int)
        assert labels_until <= 1_618_012_800_000  # 2021-04-10

    def test_too_few_examples_name_the_fix(self, live: Live, tmp_path: Path) -> None:
        result = live.train(tmp_path, "--horizon-days", "14")
        assert result.exit_code == 2
        assert "--horizon-days 28" in result.stderr
        assert "--orders FILE" in result.stderr
        early = live.train(tmp_path, "--as-of", "2020-11-30")
        assert early.exit_code != 0
        assert "--orders FILE" in early.stderr
        days = live.train(tmp_path, "--days", "0-100")
        assert days.exit_code == 2
        assert "Complete Journey" in days.stderr
