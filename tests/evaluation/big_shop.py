"""A made-up shop of any size, as monthly CSV files.

    python -m tests.evaluation.big_shop 1000000 big-shop

Customers order at a pace of their own, some of them once; they come throughout, stay for a while,
and each has a usual amount. Drawn column by column: 20 million orders take half a minute.
"""

from __future__ import annotations

import argparse
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv

from tests.evaluation.shops import DAY_MS, START_MS

__all__ = ["write_months"]

MONTH_DAYS = 30
PACE_SHAPE = 0.9
LIFE_DAYS = 500.0


def write_months(
    directory: Path, customers: int, orders: float = 20.0, days: int = 720, seed: int = 1
) -> list[Path]:
    """`orders` per customer in the mean, over `days` days; returns the files, oldest first."""
    rng = np.random.default_rng(seed)
    came = np.maximum(rng.uniform(-0.5 * days, 0.95 * days, customers), 0.0)
    stays = np.minimum(came + rng.exponential(LIFE_DAYS, customers), days) - came
    pace = rng.gamma(PACE_SHAPE, 1.0, customers) + 0.02
    pace *= (orders - 1.0) * customers / (pace * stays).sum()  # orders a day
    more = rng.poisson(pace * stays)
    user = np.repeat(np.arange(customers, dtype=np.int32), more + 1)
    at = rng.random(len(user)) * stays[user]
    first = np.cumsum(more + 1) - more - 1
    at[first] = 0.0
    worth = rng.lognormal(3.3, 0.7, customers)
    amount = np.round(worth[user] * rng.lognormal(0.0, 0.5, len(user)), 2)
    ts_ms = START_MS + ((came[user] + at) * DAY_MS).astype(np.int64)
    order = np.argsort(ts_ms)
    user, ts_ms, amount = user[order], ts_ms[order], amount[order]
    directory.mkdir(parents=True, exist_ok=True)
    paths = []
    months = np.searchsorted(ts_ms, START_MS + np.arange(0, days + 1, MONTH_DAYS) * DAY_MS)
    for month, (start, stop) in enumerate(pairwise(months.tolist())):
        part = slice(start, stop)
        table = pa.table(
            {
                "customer_id": [f"c{u}" for u in user[part].tolist()],
                "order_id": np.arange(start, stop),
                "timestamp": ts_ms[part],
                "amount": amount[part],
            }
        )
        paths.append(directory / f"orders-{month + 1:02}.csv")
        pyarrow.csv.write_csv(table, paths[-1])
    return paths


def main() -> None:
    """Write them."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("customers", type=int)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--orders", type=float, default=20.0, help="per customer, in the mean")
    parser.add_argument("--days", type=int, default=720)
    asked = parser.parse_args()
    paths = write_months(asked.directory, asked.customers, asked.orders, asked.days)
    size = sum(path.stat().st_size for path in paths)
    print(f"{len(paths)} files, {size / 1e6:,.0f} MB, in {asked.directory}")


if __name__ == "__main__":
    main()
