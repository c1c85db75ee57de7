"""How long a rule takes over a million users: `python -m tests.rules.bench [--costs]`."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from schemas.features import FEATURE_NAMES
from streams.rules import RuleSet, compile_rules

USERS: Final = 1_000_000
FIVE: Final = (
    "revenue_90d > 50 EUR and orders_30d >= 2 and days_since_order between 10d and 30d"
    " and cart_add_24h >= 1 or revenue_trend_30d < 50%"
)
COSTS: Final = {
    "a number compared": "p_churn > 40%",
    "elapsed time compared": "days_since_order > 30d",
    "two elapsed times, each with a timer": "days_since_order > 30d and days_since_view > 3d",
    "a choice": 'value_tier in ("high", "medium")',
    "a rank": "rank(expected_spend) > 90%",
    "arithmetic": "revenue_30d / orders_30d > 20 EUR",
    "if": "if(p_churn > 40%, revenue_30d, revenue_90d) > 50 EUR",
}


class Matrix:
    """Quantities of a feature matrix as a shard has it: float32 [users, features]."""

    def __init__(self, users: int) -> None:
        random = np.random.default_rng(7)
        self.size = users
        self.x = np.empty((users, len(FEATURE_NAMES)), np.float32)
        for name in ("revenue_90d", "revenue_30d", "days_since_order", "days_since_view"):
            self.x[:, FEATURE_NAMES.index(name)] = random.gamma(1.0, 40.0, users)
        for name in ("orders_30d", "cart_add_24h", "revenue_trend_30d"):
            self.x[:, FEATURE_NAMES.index(name)] = random.poisson(1.0, users)
        self.x[random.random(users) < 0.1] = np.nan
        self.share = random.random(users)
        self.codes = random.integers(0, 4, users).astype(np.int8)

    def number(self, name: str) -> NDArray[np.float64]:
        """A column of the matrix: one value in each of a million lines of memory."""
        if name in FEATURE_NAMES:
            return self.x[:, FEATURE_NAMES.index(name)].astype(np.float64)
        return self.share

    def code(self, name: str) -> NDArray[np.int8]:
        return self.codes

    def flag(self, name: str) -> NDArray[np.bool_]:
        return self.codes > 1

    def rank(self, name: str) -> NDArray[np.float64]:
        return self.share


def median_ms(run: Callable[[], object], runs: int) -> tuple[float, float, float]:
    """Medians of a call by the clock and of the processor, and the least by the clock."""
    run()
    took, worked = [], []
    for _ in range(runs):
        start, work = time.perf_counter(), time.process_time()
        run()
        took.append((time.perf_counter() - start) * 1_000)
        worked.append((time.process_time() - work) * 1_000)
    return statistics.median(took), statistics.median(worked), min(took)


def rule(text: str) -> RuleSet:
    return compile_rules({"it": text}, {}, [], "EUR")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--costs", action="store_true", help="beside what is estimated")
    parser.add_argument("--runs", type=int, default=15)
    arguments = parser.parse_args()
    matrix = Matrix(USERS)
    for words, text in {"five comparisons": FIVE, **(COSTS if arguments.costs else {})}.items():
        rules = rule(text)
        median, work, least = median_ms(lambda rules=rules: rules.evaluate(matrix), arguments.runs)  # type: ignore[misc]
        print(f"{words:38} {median:6.1f} ms ({work:.1f} of the processor, at least {least:.1f}),"
              f" estimated {rules.cost_ns('it') * USERS / 1e6:.0f}: {text}")  # fmt: skip
    took = median_ms(lambda: rule(FIVE), 200)[0]
    print(f"{'to compile it':38} {took:6.2f} ms")


if __name__ == "__main__":
    main()
