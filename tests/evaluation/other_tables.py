"""What the other tables of Complete Journey add to its orders: departments, campaigns, people.

    python -m tests.evaluation.other_tables

Tideline scores by orders and clicks alone. The package also tells departments and stores, what
campaigns a household got, which coupons it redeemed, and of 801 households who lives there. Here
the trees of a champion are trained with and without them, as evaluated: every four weeks on what
had matured by then. Each line is the mean of three seeds' trees. Six minutes.

All that was dated before a cut may be known at it. The demographics bear no date: `answered` says
only that a household is among them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import lightgbm
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from models.baselines.metrics import auc, average_precision, log_loss, normalised_gini
from models.training.head import _BINARY, _LEAF_WEEKLY_ROWS, _SHAPE, _SPEND, CHURN_TREES, HIDDEN
from models.training.head import SPEND_TREES as VALUE_TREES
from streams.core.features import DAY_MS
from streams.evaluation.protocol import Protocol
from streams.evaluation.rows import CLICK_ONLY, CutRows
from streams.evaluation.run import RETRAIN_DAYS
from streams.replay import completejourney
from tests.evaluation.rivals import replayed

Floats = NDArray[np.float64]

HORIZON_DAYS: Final = 28
WINDOW_DAYS: Final = 84
DEPARTMENTS: Final = 18  # the largest
SEEDS: Final = (7, 8, 9)
GROUPS: Final = (
    ("departments",), ("stores",), ("campaigns",), ("people",), ("answered",),
    ("departments", "stores", "campaigns"),
)  # fmt: skip


class Tables:
    """The package's tables, by the users' numbers; times in ms since 1970 UTC."""

    def __init__(self, users: list[str]) -> None:
        self._number = pd.Series(range(len(users)), index=[int(user) for user in users])
        self.users = len(users)
        products = self._read("products")[["product_id", "department", "product_category"]]
        self.lines = self._known(self._read("transactions").merge(products, "left", "product_id"))
        self.lines["ms"] = _ms(self.lines.transaction_timestamp)
        self.lines = self.lines.sort_values("ms", kind="stable")
        self.got = self._known(
            self._read("campaigns").merge(self._read("campaign_descriptions"), on="campaign_id")
        )
        self.got = self.got.assign(begin=_ms(self.got.start_date), end=_ms(self.got.end_date))
        self.redeemed = self._known(self._read("coupon_redemptions"))
        self.redeemed["ms"] = _ms(self.redeemed.redemption_date)
        self.people = self._known(self._read("demographics")).set_index("user")
        largest = self.lines.groupby("department").sales_value.sum().nlargest(DEPARTMENTS)
        self.departments = list(largest.index)

    def _read(self, name: str) -> pd.DataFrame:
        return pd.read_parquet(completejourney.data_directory() / f"{name}.parquet")

    def _known(self, table: pd.DataFrame) -> pd.DataFrame:
        """Of users with orders, and by their numbers."""
        table = table[table.household_id.isin(self._number.index)]
        return table.assign(user=self._number[table.household_id].to_numpy())

    def columns(self, cut_ms: int) -> dict[str, Floats]:
        """What each group knows of every user at a cut, float64 [users, columns of the group]."""
        low, high = np.searchsorted(self.lines.ms, [cut_ms - WINDOW_DAYS * DAY_MS, cut_ms])
        recent = self.lines.iloc[low:high]
        return {
            "departments": self._departments(recent, self.lines.iloc[:high], cut_ms),
            "stores": self._stores(recent),
            "campaigns": self._campaigns(cut_ms),
            "people": self._by_user(
                *(pd.Series(pd.factorize(c, sort=True)[0], c.index)
                  for _, c in self.people.drop(columns="household_id").items())
            ),
            "answered": np.isin(np.arange(self.users), self.people.index)[:, None].astype(float),
        }  # fmt: skip

    def _by_user(self, *columns: pd.Series) -> Floats:
        return np.stack([c.reindex(range(self.users)).to_numpy(float) for c in columns], axis=1)

    def _departments(self, recent: pd.DataFrame, before: pd.DataFrame, cut_ms: int) -> Floats:
        """Share of the spend and days since the last purchase, for each; how many, and of how many
        categories."""
        by = recent.groupby("user")
        each = ["user", "department"]
        share = recent.groupby(each).sales_value.sum().unstack().reindex(columns=self.departments)
        last = before.groupby(each).ms.max().unstack().reindex(columns=self.departments)
        return self._by_user(
            *(share[d] / by.sales_value.sum() for d in self.departments),
            *((cut_ms - last[d]) / DAY_MS for d in self.departments),
            by.department.nunique(), by.product_category.nunique(),
        )  # fmt: skip

    def _stores(self, recent: pd.DataFrame) -> Floats:
        """How many stores, the share of the most used one, how busy that is, and discounts."""
        by = recent.groupby("user")
        visits = recent.groupby(["user", "store_id"]).basket_id.nunique()
        most = visits.groupby("user").max()
        main = visits.groupby("user").idxmax().map(lambda place: place[1])
        discounts = [
            by[name].sum() / by.sales_value.sum() for name in ("retail_disc", "coupon_disc")
        ]
        return self._by_user(
            by.store_id.nunique(), most / visits.groupby("user").sum(),
            main.map(recent.groupby("store_id").basket_id.nunique()), *discounts,
        )  # fmt: skip

    def _campaigns(self, cut_ms: int) -> Floats:
        """Of each type how many came and how many run; days since the last began, and until one
        ends; coupons redeemed, lately, and days since."""
        got = self.got[self.got.begin <= cut_ms]
        runs = got[got.end >= cut_ms]
        used = self.redeemed[self.redeemed.ms < cut_ms]
        lately = used[used.ms >= cut_ms - WINDOW_DAYS * DAY_MS]
        of_type = [
            part[part.campaign_type == kind]
            .groupby("user")
            .size()
            .reindex(range(self.users))
            .fillna(0)
            for kind in ("Type A", "Type B", "Type C")
            for part in (got, runs)
        ]
        return self._by_user(
            *of_type,
            (cut_ms - got.groupby("user").begin.max()) / DAY_MS,
            (runs.groupby("user").end.min() - cut_ms) / DAY_MS,
            used.groupby("user").size(), lately.groupby("user").size(),
            (cut_ms - used.groupby("user").ms.max()) / DAY_MS,
        )  # fmt: skip


def _ms(times: pd.Series) -> NDArray[np.int64]:
    ms: NDArray[np.int64] = times.to_numpy("datetime64[ms]").astype(np.int64)
    return ms


@dataclass(frozen=True)
class Rows:
    """All cuts' rows, [n]: what the orders tell and each group, and what came."""

    as_of_ms: NDArray[np.int64]
    orders: Floats
    groups: dict[str, Floats]
    churned: NDArray[np.bool_]
    partial: NDArray[np.bool_]
    spend: Floats

    @classmethod
    def of(cls, cuts: list[CutRows], tables: Tables) -> Rows:
        x = np.concatenate([cut.x for cut in cuts])
        x[:, CLICK_ONLY] = np.nan
        x[:, HIDDEN] = np.nan
        known = [
            {name: value[cut.user] for name, value in tables.columns(cut.cut_ms).items()}
            for cut in cuts
        ]
        truth = {
            name: np.concatenate([getattr(cut.truth, name) for cut in cuts])
            for name in ("churned", "partial", "spend")
        }
        return cls(
            np.concatenate([np.full(len(cut.user), cut.cut_ms) for cut in cuts]), x,
            {name: np.concatenate([k[name] for k in known]) for name in known[0]}, **truth,
        )  # fmt: skip

    def predicted(self, what: str, groups: tuple[str, ...], protocol: Protocol) -> Floats:
        """A head's predictions of the test rows, in their order; the other rows stay NaN."""
        x = np.concatenate([self.orders, *(self.groups[name] for name in groups)], axis=1)
        label = getattr(self, what).astype(np.float32)
        own, trees = (_SPEND, VALUE_TREES) if what == "spend" else (_BINARY, CHURN_TREES)
        parameters: dict[str, Any] = {
            **_SHAPE, **own, "min_data_in_leaf": _LEAF_WEEKLY_ROWS * HORIZON_DAYS // 7,
            "num_threads": 2, "verbosity": -1,
        }  # fmt: skip
        found = np.full(len(x), np.nan)
        for start in _retrainings(protocol):
            teach = self.as_of_ms + HORIZON_DAYS * DAY_MS <= start
            ask = (self.as_of_ms >= start) & (self.as_of_ms < start + RETRAIN_DAYS * DAY_MS)
            ask &= np.isin(self.as_of_ms, protocol.test_cuts)
            found[ask] = np.mean(
                [
                    lightgbm.train(
                        {**parameters, "seed": seed},
                        lightgbm.Dataset(x[teach], label=label[teach]),
                        trees,
                    ).predict(x[ask])
                    for seed in SEEDS
                ],
                axis=0,
            )
        return found


def _retrainings(protocol: Protocol) -> Iterator[int]:
    yield from range(protocol.test_cuts[0], protocol.test_cuts[-1] + 1, RETRAIN_DAYS * DAY_MS)


def _line(rows: Rows, groups: tuple[str, ...], protocol: Protocol) -> str:
    test = np.isin(rows.as_of_ms, protocol.test_cuts)
    churn, partial, spend = (
        rows.predicted(what, groups, protocol)[test] for what in ("churned", "partial", "spend")
    )
    churned, answered = rows.churned[test], rows.groups["answered"][test, 0] > 0
    figures = (
        auc(churned, churn), average_precision(churned, churn), log_loss(churned, churn),
        auc(churned[answered], churn[answered]), auc(churned[~answered], churn[~answered]),
        auc(rows.partial[test], partial), normalised_gini(rows.spend[test], spend),
    )  # fmt: skip
    name = " + ".join(groups) or "orders alone"
    return f"{name:34}" + "".join(f"{figure:10.4f}" for figure in figures)


def main() -> None:
    print("Replaying the orders: 3 minutes.", flush=True)
    history, protocol, cuts = replayed(completejourney.orders(), HORIZON_DAYS)
    rows = Rows.of([cut for cut in cuts if len(cut.user)], Tables(history.users))
    test = np.isin(rows.as_of_ms, protocol.test_cuts)
    answered = rows.groups["answered"][test, 0] > 0
    churned = rows.churned[test]
    print(
        f"{answered.mean():.0%} of the rows are of households in the demographics; of these "
        f"{churned[answered].mean():.1%} leave, of the others {churned[~answered].mean():.1%}."
    )
    heads = ("AUC", "AP", "log loss", "answered", "others", "partial", "nGini")
    print(" " * 34 + "".join(f"{head:>10}" for head in heads))
    for groups in ((), *GROUPS):
        print(_line(rows, groups, protocol), flush=True)


if __name__ == "__main__":
    main()
