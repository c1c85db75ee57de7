"""Compares the recount of each customer with Tideline's state, and names every difference."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from tests.shop.recount import WINDOWS, Customer

__all__ = ["Check", "compare", "compare_numbers", "lost_and_doubled", "show"]

EXAMPLES = 3
_TIMES = ("first_seen_ms", "last_activity_ms", "first_order_ms", "last_order_ms")
_MONEY = ("revenue_cents", "discount_cents", "refund_cents")


@dataclass(frozen=True)
class Check:
    """One line of the table. It holds if nothing differs."""

    what: str
    expected: int
    got: int
    differs: tuple[str, ...] = ()
    """What differs, by name."""
    money: bool = False
    """Whether the numbers are cents."""

    @property
    def holds(self) -> bool:
        return self.expected == self.got and not self.differs


def compare(expected: Mapping[str, Customer], got: Mapping[str, Customer]) -> list[Check]:
    """Users, orders, net revenue, times, and the counts and money of every window."""
    checks = [
        _users("users", expected, got),
        _column("orders", expected, got, lambda c: c.orders),
        _column("net revenue", expected, got, lambda c: c.revenue_cents, money=True),
    ]
    known = [user for user in expected if user in got]
    wrong = [
        f"{user}: {name.removesuffix('_ms').replace('_', ' ')} {a} and not {b}"
        for user in known
        for name in _TIMES
        if not (name == "first_order_ms" and expected[user].first_order_is_vague)
        if (a := getattr(got[user], name)) != (b := getattr(expected[user], name))
    ]
    times = len(expected) * len(_TIMES)
    checks.append(Check("first and last times", times, times - len(wrong), tuple(wrong)))
    for window in WINDOWS:
        checks.append(_window(f"{window} window, counts", window, expected, got, money=False))
        checks.append(_window(f"{window} window, money", window, expected, got, money=True))
    return checks


def compare_numbers(what: str, expected: Mapping[str, int], got: Mapping[str, int]) -> list[Check]:
    """One number of each customer, as a view of ClickHouse has it."""
    users = _users(f"{what}: users", expected, got)
    wrong = _different(expected, got)
    return [users, Check(f"{what}: orders", sum(expected.values()), sum(got.values()), wrong)]


def lost_and_doubled(
    expected: Mapping[str, Customer], got: Mapping[str, Customer]
) -> tuple[int, int]:
    """How many orders are missing, and how many are there that should not be."""
    nobody = Customer()
    both = [(expected.get(u, nobody).orders, got.get(u, nobody).orders)
            for u in expected.keys() | got.keys()]  # fmt: skip
    return sum(max(0, a - b) for a, b in both), sum(max(0, b - a) for a, b in both)


def _users(what: str, expected: Collection[str], got: Collection[str]) -> Check:
    missing = [f"{user} is missing" for user in expected if user not in got]
    surplus = [f"{user} should not be there" for user in got if user not in expected]
    return Check(what, len(expected), len(got), (*missing, *surplus))


def _column(
    what: str,
    expected: Mapping[str, Customer],
    got: Mapping[str, Customer],
    value: Callable[[Customer], int],
    *,
    money: bool = False,
) -> Check:
    mine = {user: value(customer) for user, customer in expected.items()}
    theirs = {user: value(customer) for user, customer in got.items()}
    wrong = _different(mine, theirs)
    return Check(what, sum(mine.values()), sum(theirs.values()), wrong, money)


def _different(expected: Mapping[str, int], got: Mapping[str, int]) -> tuple[str, ...]:
    return tuple(
        f"{user}: {got[user]} and not {number}"
        for user, number in expected.items()
        if user in got and got[user] != number
    )


def _window(
    what: str,
    window: str,
    expected: Mapping[str, Customer],
    got: Mapping[str, Customer],
    *,
    money: bool,
) -> Check:
    """All measures of one window; those of a kind are added up to be shown."""
    mine, theirs = (_cells(window, customers, money=money) for customers in (expected, got))
    wrong = [
        f"{user}: {measure} {theirs.get((user, measure), 0)} and not {mine.get((user, measure), 0)}"
        for user, measure in sorted(mine.keys() | theirs.keys())
        if theirs.get((user, measure), 0) != mine.get((user, measure), 0)
    ]
    return Check(what, sum(mine.values()), sum(theirs.values()), tuple(wrong), money)


def _cells(
    window: str, customers: Mapping[str, Customer], *, money: bool
) -> dict[tuple[str, str], int]:
    return {
        (user, measure): total
        for user, customer in customers.items()
        for (measure, of_window), total in customer.windows.items()
        if of_window == window and (measure in _MONEY) == money
    }


def show(checks: Iterable[Check], console: Console) -> None:
    """The table: what, expected, got, and what differs by name."""
    table = Table("what", title="What the shop knows, and what Tideline has", title_justify="left")
    table.add_column("expected", justify="right")
    table.add_column("got", justify="right")
    table.add_column("differs", overflow="fold")
    for check in checks:
        shown = list(check.differs[:EXAMPLES])
        if len(check.differs) > EXAMPLES:
            shown.append(f"... {len(check.differs) - EXAMPLES:,} more")
        numbers = [_text(number, money=check.money) for number in (check.expected, check.got)]
        table.add_row(check.what, *numbers, "\n".join(shown), style=None if check.holds else "red")
    console.print(table)


def _text(number: int, *, money: bool) -> str:
    return f"{number / 100:,.2f}" if money else f"{number:,}"
