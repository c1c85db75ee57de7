"""Makes the shop up: the facts of three years, and the files and events that report each of them.

Everything follows from a size, a seed and the time at which the shop opens on Monday:

    three years ago ... 400 days ago    the old shop: `old` orders, returns as lines below 0
    400 days ago ... Monday, opening    the web shop (exported) and the app (logs its events)
    Friday ... Monday, opening          the same, and the topics have it, too: repeated in files
    Monday, opening ...                 live events alone, at times to come

Facts are only what a file can report. The web shop's export has no time of a refund (the reader
counts it at the order's time), and nothing of an order that was cancelled before the export.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from random import Random
from typing import Any

from tests.shop.facts import Cancelled, Click, Fact, Line, Placed, Returned
from tests.shop.recount import CLICKS

__all__ = ["Exported", "Files", "Saying", "Truth", "make"]

SECOND_MS = 1_000
MINUTE_MS = 60 * SECOND_MS
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS
HISTORY_DAYS = 3 * 365
WEB_DAYS = 400
"""Age of the web shop and the app."""
DOUBLE_DAYS = 30
"""How long the old shop's file continued after that, with the web shop's orders in it."""
CLICK_DAYS = 60
"""How many days of clicks are in the app's log."""
LIVE_DAYS = 3
"""How long producers have written to the topics when the shop opens."""
UNDONE_DAYS = 80
"""The greatest age of an order that is cancelled or returned: older orders are not known singly."""
_CATEGORIES = ("coffee", "tea", "cups", "books", "garden", "toys")
_COUPONS = ("WELCOME", "SPRING", "FRIENDS")


@dataclass(frozen=True)
class Exported:
    """An order as the web shop exports it; its user is empty if nobody knows who it was."""

    placed: Placed
    status: str
    email: str = ""
    named: bool = True
    """Whether the export has the customer's id, and not only the address."""
    refunded_cents: int = 0
    cancelled: bool = False

    def facts(self) -> list[Fact]:
        """The facts that the reader can know from this row."""
        order = self.placed
        if self.status == "pending" or not order.user:
            return []
        if self.cancelled:  # nothing is read of it but that it was there
            gone = Cancelled(f"gone-{order.order}", order.user, order.ts_ms, order.order, 0)
            return [replace(order, cents=0, lines=(), discount_cents=0), gone]
        if not self.refunded_cents:
            return [order]
        name = f"refund-{order.order}"
        return [order, Returned(name, order.user, order.ts_ms, order.order, self.refunded_cents)]


@dataclass(frozen=True)
class Files:
    """What each file says, in no order."""

    old: tuple[Placed | Returned, ...]
    web_before: tuple[Exported, ...]
    """The export of some months ago."""
    web_now: tuple[Exported, ...]
    """The export of this morning; its first month is in the one before as well."""
    app: tuple[Fact, ...]

    def facts(self) -> Iterator[Fact]:
        """All facts that count, some several times. Of an order in both exports, the later export
        counts."""
        latest = {each.placed.order: each for each in (*self.web_before, *self.web_now)}
        web = chain.from_iterable(each.facts() for each in latest.values())
        return chain(self.old, web, self.app)


@dataclass(frozen=True)
class Saying:
    """A live event: sent at `at_ms`, saying that `fact` happened, under an event id."""

    at_ms: int
    fact: Fact
    event_id: str


@dataclass(frozen=True)
class Truth:
    """The made-up shop. `weekend` and `monday` are in the order in which they are sent."""

    opening_ms: int
    files: Files
    weekend: tuple[Saying, ...]
    monday: tuple[Saying, ...]
    erased: tuple[str, str]
    """The users who are erased on Monday; the first one comes back and orders."""

    def back_again(self, at_ms: int) -> list[Saying]:
        """An erased person's visit and order, long after they were forgotten."""
        user = self.erased[0]
        click = Click("back-1", user, at_ms, "view", None, "sku-1", _CATEGORIES[0])
        line = Line("sku-1", 1, 1_234, _CATEGORIES[0])
        order = Placed("back-2", user, at_ms + 1, "A-back", 1_234, (line,))
        return [Saying(fact.ts_ms, fact, fact.event_id) for fact in (click, order)]


def make(customers: int, orders: int, seed: int, opening_ms: int, monday_seconds: int) -> Truth:
    """A shop with so many customers and about as many orders before Monday; at least 50 of them.

    `monday_seconds`: for how long there are live events after the opening.
    """
    return _Maker(customers, orders, seed, opening_ms).make(monday_seconds)


@dataclass(frozen=True)
class _Person:
    user: str
    email: str
    joined_ms: int
    weight: float
    web: float
    """The share of orders in the web shop; the others are in the app."""
    guest: bool = False


class _Maker:
    def __init__(self, customers: int, orders: int, seed: int, opening_ms: int) -> None:
        self.rng = Random(seed)
        self.opening_ms = opening_ms // SECOND_MS * SECOND_MS
        self.started_ms = self.opening_ms - HISTORY_DAYS * DAY_MS
        self.web_ms = self.opening_ms - WEB_DAYS * DAY_MS
        self.live_ms = self.opening_ms - LIVE_DAYS * DAY_MS
        self.orders = orders
        self.numbers = {"old": 50_000, "web": 1_000, "app": 7_000, "click": 0}
        self.people = [self._person(n) for n in range(customers)]
        self.visitors = [f"v-{n}" for n in range(max(10, customers // 5))]
        self.named = [p for p in self.people if not p.guest]
        # guests whose address is an account's would make an erased person's orders a guest's
        self.erased = tuple(p.user for p in self.named[:2])

    def make(self, monday_seconds: int) -> Truth:
        old: list[Placed | Returned] = []
        web: list[Exported] = []
        app: list[Fact] = []
        for person in self._buyers():
            ts_ms = self._time_of_order(person)
            if ts_ms < self.web_ms:
                old += self._old_order(person, ts_ms)
            elif person.guest or self.rng.random() < person.web:
                web.append(self._web_order(person, ts_ms))
            else:
                app += self._app_order(person, ts_ms)
        for person in self.named[:2]:  # the erased have something in files and in topics
            app += self._app_order(person, self.live_ms + self.rng.randrange(DAY_MS))
            old += self._old_order(person, self.started_ms + self.rng.randrange(100 * DAY_MS))
        old += [e.placed for e in web if self._in_double_days(e)]
        clicks_from_ms = self.opening_ms - CLICK_DAYS * DAY_MS
        app += self._clicks(clicks_from_ms, self.live_ms, self.orders)
        app += self._clicks(self.live_ms, self.opening_ms, self.orders // 8)
        app = [fact for fact in app if fact.ts_ms < self.opening_ms]
        app += self._weekend_returns(app)
        files = self._files(old, web, app)
        monday_end_ms = self.opening_ms + monday_seconds * SECOND_MS
        return Truth(
            self.opening_ms,
            files,
            self._weekend(files),
            self._monday(files, monday_end_ms),
            (self.erased[0], self.erased[1]),
        )

    # -- people and orders

    def _person(self, n: int) -> _Person:
        rng = self.rng
        guest = n >= 2 and rng.random() < 0.05
        email = f"person{n}@{rng.choice(('example.com', 'example.org'))}"
        return _Person(
            user=email if guest else str(7_300_000_000 + 17 * n),
            email=email,
            joined_ms=self.started_ms + int(rng.random() ** 1.3 * (HISTORY_DAYS - 5) * DAY_MS),
            weight=rng.lognormvariate(0.0, 1.0) * (0.3 if guest else 1.0),
            web=rng.choice((0.0, 0.5, 0.9, 1.0)),
            guest=guest,
        )

    def _buyers(self) -> list[_Person]:
        weights = [person.weight for person in self.people]
        more = self.rng.choices(self.people, weights, k=max(0, self.orders - len(self.people)))
        return [*self.people, *more]

    def _time_of_order(self, person: _Person) -> int:
        """Guests order in the web shop, and before live events name who orders."""
        begin_ms = max(person.joined_ms, self.web_ms) if person.guest else person.joined_ms
        end_ms = self.live_ms if person.guest else self.opening_ms - MINUTE_MS
        ts_ms = begin_ms + int(self.rng.random() ** 0.8 * (end_ms - begin_ms))
        return ts_ms // SECOND_MS * SECOND_MS

    def _number(self, kind: str) -> int:
        self.numbers[kind] += 1
        return self.numbers[kind]

    def _lines(self, *, categories: bool) -> tuple[Line, ...]:
        lines = []
        for _ in range(min(6, 1 + int(self.rng.expovariate(0.8)))):
            n = self.rng.randrange(300)
            quantity = self.rng.choice((1, 1, 1, 2, 3))
            category = _CATEGORIES[n % len(_CATEGORIES)] if categories else None
            price_cents = 150 + 37 * n
            lines.append(Line(f"sku-{n}", quantity, quantity * price_cents, category))
        return tuple(lines)

    def _old_order(self, person: _Person, ts_ms: int) -> list[Placed | Returned]:
        number = f"{self._number('old')}"
        lines = self._lines(categories=False)
        cents = sum(line.cents for line in lines)
        ts_ms = ts_ms // SECOND_MS * SECOND_MS
        placed = Placed(f"old-{number}", person.user, ts_ms, number, cents, lines)
        if self.rng.random() > 0.03:
            return [placed]
        line = lines[0]
        back_ms = ts_ms + self.rng.randrange(DAY_MS, UNDONE_DAYS * DAY_MS) // SECOND_MS * SECOND_MS
        cents = line.cents // line.quantity
        return [placed, Returned(f"old-{number}-back", person.user, back_ms, number, cents)]

    def _web_order(self, person: _Person, ts_ms: int) -> Exported:
        rng = self.rng
        number = f"#{self._number('web')}"
        lines = self._lines(categories=False)
        plain = ts_ms < self.web_ms + DOUBLE_DAYS * DAY_MS  # as the old shop's file has it, too
        goods = sum(line.cents for line in lines)
        discount = goods // 10 if not plain and rng.random() < 0.2 else 0
        cents = goods - discount + (0 if plain else rng.choice((0, 490)))
        # live events name the coupon, which the export does not
        coupon = _COUPONS[0] if discount and ts_ms >= self.live_ms else None
        placed = Placed(
            f"hook-{number}", person.user, ts_ms, number, cents, lines, discount, coupon
        )
        exported = Exported(placed, "paid", person.email, named=not person.guest)
        if plain or ts_ms >= self.live_ms:
            return exported
        nobody = replace(placed, user="")
        fates: tuple[tuple[float, dict[str, Any]], ...] = (
            (0.03, {"status": "voided", "cancelled": True}),
            (0.01, {"status": "pending"}),
            (0.02, {"placed": nobody, "email": "", "named": False}),
            (0.03, {"status": "refunded", "refunded_cents": cents}),
            (0.04, {"status": "partially_refunded", "refunded_cents": max(1, cents // 3)}),
            (0.87, {}),
        )
        (fate,) = rng.choices([fate for _, fate in fates], [share for share, _ in fates])
        return replace(exported, **fate)

    def _in_double_days(self, exported: Exported) -> bool:
        placed = exported.placed
        return exported.named and placed.ts_ms < self.web_ms + DOUBLE_DAYS * DAY_MS

    def _app_order(self, person: _Person, ts_ms: int) -> list[Fact]:
        rng = self.rng
        number = f"A-{self._number('app')}"
        ts_ms += rng.randrange(SECOND_MS)  # apps know milliseconds
        lines = self._lines(categories=True)
        goods = sum(line.cents for line in lines)
        coupon = rng.choice(_COUPONS) if rng.random() < 0.15 else None
        discount = goods // 5 if coupon else 0
        name = f"app-{number}"
        placed = Placed(
            f"{name}-1", person.user, ts_ms, number, goods - discount, lines, discount, coupon
        )
        facts: list[Fact] = [placed]
        if rng.random() < 0.05:  # the customer adds something within two hours
            more = Line("sku-extra", 1, 500, "gifts")
            later = ts_ms + rng.randrange(MINUTE_MS, 2 * HOUR_MS)
            facts.append(
                replace(placed, event_id=f"{name}-2", ts_ms=later, cents=placed.cents + 500,
                        lines=(*lines, more))
            )  # fmt: skip
        undone_ms = ts_ms + rng.randrange(3 * HOUR_MS, UNDONE_DAYS * DAY_MS)
        chance, user = rng.random(), person.user
        if chance < 0.04:
            facts.append(Cancelled(f"{name}-3", user, undone_ms, number, placed.cents))
        elif chance < 0.08:
            facts.append(Returned(f"{name}-3", user, undone_ms, number, placed.cents // 2))
            facts.append(Returned(f"{name}-4", user, undone_ms + DAY_MS, number, placed.cents // 4))
        return facts

    def _weekend_returns(self, app: list[Fact]) -> list[Fact]:
        """A part of some orders comes back at the weekend: files and topics will have that."""
        whole = _whole_orders(app, self.opening_ms - UNDONE_DAYS * DAY_MS)
        orders = [order for order in whole if order.user not in self.erased]
        orders = self.rng.sample(orders, min(len(orders), max(3, len(orders) // 50)))
        return [
            Returned(f"{order.event_id}-back", order.user,
                     self.rng.randrange(max(order.ts_ms, self.live_ms), self.opening_ms),
                     order.order, order.cents // 3)
            for order in orders
        ]  # fmt: skip

    def _clicks(self, from_ms: int, to_ms: int, count: int) -> list[Fact]:
        rng = self.rng
        clicks: list[Fact] = []
        people = [person.user for person in self.named] + self.visitors
        while len(clicks) < count:
            user, at_ms = rng.choice(people), rng.randrange(from_ms, to_ms)
            session = f"s-{self._number('click')}" if rng.random() < 0.6 else None
            for _ in range(rng.randrange(1, 5)):
                clicks.append(self._click(user, at_ms, session))
                at_ms += rng.randrange(SECOND_MS, 10 * MINUTE_MS)
                if at_ms >= to_ms:
                    break
        return clicks

    def _click(self, user: str, ts_ms: int, session: str | None) -> Click:
        rng = self.rng
        kind = rng.choices(CLICKS, (60, 10, 12, 3, 5, 4, 2, 2))[0]
        n = rng.randrange(300)
        touches = kind not in ("search", "support")
        return Click(
            f"k-{self._number('click')}", user, ts_ms, kind, session,
            f"sku-{n}" if touches else None,
            _CATEGORIES[n % len(_CATEGORIES)] if touches and rng.random() < 0.8 else None,
            rng.randrange(10, 51) if kind == "review" else 0,
        )  # fmt: skip

    # -- files and live events

    def _files(self, old: list[Placed | Returned], web: list[Exported], app: list[Fact]) -> Files:
        middle_ms = self.opening_ms - 200 * DAY_MS
        before = [e for e in web if e.placed.ts_ms < middle_ms]
        now = [e for e in web if e.placed.ts_ms >= self._both_from_ms()]
        before = [self._as_it_was(each) for each in self._some_by_address(before)]
        now = self._some_by_address(now)
        self.rng.shuffle(old)
        self.rng.shuffle(before)
        self.rng.shuffle(now)
        self.rng.shuffle(app)
        return Files(tuple(old), tuple(before), tuple(now), tuple(app))

    def _as_it_was(self, each: Exported) -> Exported:
        """When the older export was made, not all of its newest refunds had been paid, and some
        orders were cancelled later."""
        undone = each.refunded_cents or each.cancelled
        if not undone or each.placed.ts_ms < self._both_from_ms():
            return each
        if each.cancelled or self.rng.random() < 0.5:
            return replace(each, status="paid", refunded_cents=0, cancelled=False)
        part = max(1, each.refunded_cents // 2)
        return replace(each, status="partially_refunded", refunded_cents=part)

    def _both_from_ms(self) -> int:
        """Orders from then on are in both exports, as far as the older one goes."""
        return self.opening_ms - 230 * DAY_MS

    def _some_by_address(self, exported: list[Exported]) -> list[Exported]:
        """Some orders of customers who were not logged in: the export has their address alone,
        and their id with another order."""
        known: set[str] = set()
        found = []
        for each in exported:
            user = each.placed.user
            forgot = user in known and self.rng.random() < 0.05
            found.append(replace(each, named=False) if forgot else each)
            if each.named:
                known.add(user)
        return found

    def _weekend(self, files: Files) -> tuple[Saying, ...]:
        """What the topics have when the shop opens: nearly in order, some of it twice."""
        found = [
            Saying(self._sent_ms(fact.ts_ms), fact, fact.event_id)
            for fact in dict.fromkeys(files.facts())
            if fact.ts_ms >= self.live_ms
        ]
        found += self._repeats(found, self.opening_ms)
        return _in_order(found)

    def _sent_ms(self, ts_ms: int) -> int:
        """Most events are sent at once, some an hour later."""
        late = self.rng.random() < 0.05
        return min(self.opening_ms, ts_ms + (self.rng.randrange(HOUR_MS) if late else 0))

    def _repeats(self, sayings: list[Saying], latest_ms: int) -> list[Saying]:
        """Repeats of some: the same event again, or the same order under another event id."""
        again = []
        for saying in sayings:
            if self.rng.random() < (0.03 if isinstance(saying.fact, Click) else 0.25):
                at_ms = min(latest_ms, saying.at_ms + self.rng.randrange(SECOND_MS, 20 * SECOND_MS))
                other = isinstance(saying.fact, Placed | Cancelled) and self.rng.random() < 0.5
                name = f"{saying.event_id}-again" if other else saying.event_id
                again.append(Saying(at_ms, saying.fact, name))
        return again

    def _monday(self, files: Files, end_ms: int) -> tuple[Saying, ...]:
        """Events at times to come: clicks, orders, and what becomes of orders that are in files."""
        rng = self.rng
        people = [person for person in self.named if person.user not in self.erased]
        facts: list[Fact] = []
        seconds = max(1, (end_ms - self.opening_ms) // SECOND_MS)
        while len(facts) < 20 * seconds:
            at_ms = rng.randrange(self.opening_ms, end_ms)
            chance, person = rng.random(), rng.choice(people)
            if chance < 0.10:
                facts += self._app_order(person, at_ms)
            elif chance < 0.20:
                whole = at_ms // SECOND_MS * SECOND_MS
                facts.append(self._web_order(person, whole).placed)
            else:
                user = rng.choice(self.visitors) if rng.random() < 0.3 else person.user
                session = f"m-{user}" if rng.random() < 0.5 else None
                facts.append(self._click(user, at_ms, session))
        facts += self._undone(files, end_ms)
        # later events of these orders, hours or days after, are not part of Monday
        found = [Saying(f.ts_ms, f, f.event_id) for f in facts if f.ts_ms < end_ms]
        found += self._repeats(found, end_ms)
        return _in_order(found)

    def _undone(self, files: Files, end_ms: int) -> Iterator[Fact]:
        """Cancellations and returns of orders of the last weeks that are in the files."""
        rng = self.rng
        old_ms = self.opening_ms - UNDONE_DAYS * DAY_MS
        recent = [
            order for order in _whole_orders(files.facts(), old_ms)
            if order.user not in self.erased and "@" not in order.user
        ]  # fmt: skip
        for order in rng.sample(recent, max(4, len(recent) // 12)):
            at_ms = self._soon_ms(end_ms)
            name = f"undo-{order.order}"
            if rng.random() < 0.5:
                yield Cancelled(name, order.user, at_ms, order.order, order.cents)
            else:
                yield Returned(name, order.user, at_ms, order.order, order.cents // 2)
        for fact in files.app:  # another part of it comes back
            if isinstance(fact, Returned) and fact.ts_ms >= self.live_ms:
                name = f"more-{fact.event_id}"
                yield Returned(name, fact.user, self._soon_ms(end_ms), fact.order, fact.cents // 2)

    def _soon_ms(self, end_ms: int) -> int:
        """Half of them in the first eighth: the play may be over long before the day."""
        wait_ms = int(self.rng.random() ** 3 * (end_ms - self.opening_ms))
        return self.opening_ms + wait_ms


def _whole_orders(facts: Iterable[Fact], oldest_ms: int) -> list[Placed]:
    """Orders of which nothing was cancelled or returned, and not older; the latest version of each,
    in the order of their ids."""
    placed: dict[str, Placed] = {}
    undone = set()
    for fact in facts:
        if isinstance(fact, Cancelled | Returned):
            undone.add(fact.order)
        elif isinstance(fact, Placed) and fact.ts_ms >= oldest_ms:
            known = placed.get(fact.order)
            placed[fact.order] = fact if known is None else max(known, fact, key=_when)
    return [placed[order] for order in sorted(placed) if order not in undone]


def _when(fact: Fact) -> int:
    return fact.ts_ms


def _in_order(sayings: Iterable[Saying]) -> tuple[Saying, ...]:
    return tuple(sorted(sayings, key=lambda saying: saying.at_ms))
