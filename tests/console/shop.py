"""A made-up shop for the console's tests: what its customers do, and what Tideline made of it.

Everything that the real core decides is decided by it: scores, segments, alerts, audiences, what
followed, matured predictions, the learner, dead letters, ledger. Time ends at `end_ms`, so that
ages on a page are those of a shop that is live.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.artifact import default_artifact_path, load_artifact
from models.learner import OnlineLearner
from models.registry import ExplainingScorer
from schemas.canary import Canary
from schemas.definitions import Definitions
from schemas.features import FEATURE_NAMES
from schemas.lives import first_of, life_beginning
from schemas.messages import JournalledSnapshot
from streams.campaigns import read_definitions
from streams.core.state.shard_state import ShardState
from streams.core.step import Outputs
from streams.settings import Settings
from streams.shard.config import core_config
from tests.core.driving import Driver

__all__ = ["HOSTILE", "SHARDS", "Shop", "hostile_ids", "play"]

SHARDS: Final = 2
DAY_MS: Final = 86_400_000
_MINUTE_MS: Final = 60_000
_HERE: Final = Path(__file__).parent

HOSTILE: Final = (
    "<script>window.tideline_xss=1</script>",
    '"><img src=x onerror=window.tideline_xss=1>',
    "'; DROP TABLE alerts; --",
    "javascript:window.tideline_xss=1",
    "{{ 7 * 7 }}",
    "../../etc/passwd",
    "\u202eевил Ω 漢字",
)
"""What a producer may send as a user's id, and as anything else that a page shows."""

Row = tuple[bytes | None, bytes | None, int]


@dataclass
class Shop:
    """What came out of it. `tables` are the rows for ClickHouse, in pieces, by table."""

    end_ms: int
    definitions: list[Definitions]
    documents: list[str]
    """The files that the definitions were applied from, in their order."""
    shards: list[Driver]
    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    records: int = 0

    def take(self, outputs: Outputs, clock_ms: int) -> None:
        """Rows arrive in ClickHouse within half a second of their step's clock."""
        for name, rows in outputs.tables.items():
            count = len(next(iter(rows.values())))
            if count:
                arrived_ms = clock_ms + 300 + (self.records * 37) % 200
                part = dict(rows) | {"inserted_at": np.full(count, arrived_ms)}
                if name == "canaries":  # a step here takes those of five minutes
                    part["inserted_at"] = np.asarray(rows["recorded_at"]) + 700 + arrived_ms % 400
                self.tables.setdefault(name, []).append(part)


def hostile_ids() -> list[str]:
    """Users of the shop whose ids are hostile; they order and leave like everybody."""
    return list(HOSTILE)


def play(end_ms: int, *, customers: int = 420, days: int = 120, seed: int = 5) -> Shop:
    """Let the shop be open for so many days, until `end_ms`. The same arguments give the same rows,
    but for what depends on the time of the day."""
    shop = _Playing(end_ms, days, customers, seed)
    for day in range(days):
        shop.day(day)
    shop.last_hour()
    return shop.shop


class _Playing:
    """The shop while it is open."""

    def __init__(self, end_ms: int, days: int, customers: int, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._days, self._start_ms = days, end_ms - days * DAY_MS
        settings = Settings()
        config = replace(
            core_config(settings), partitioner=None, keep_events_days=90, keep_features_days=90
        )
        champion = load_artifact(default_artifact_path())
        scorer = ExplainingScorer(champion, settings.stream.currency)
        shards = [
            Driver(config, scorer, ShardState(number, len(FEATURE_NAMES)))
            for number in range(SHARDS)
        ]
        first = first_of(life_beginning(self._start_ms))
        for shard in shards:
            shard.state.meta.seq = shard.state.meta.examples = first - 1
        self._learner = OnlineLearner(champion.manifest)
        self._learned: JournalledSnapshot | None = None
        self._waiting: list[list[Row]] = [[] for _ in range(SHARDS)]
        """Clickstream records of the next day that followed from alerts, by shard."""
        documents = [
            (_HERE / name).read_text() for name in ("segments_before.yaml", "segments.yaml")
        ]
        self.shop = Shop(end_ms, [], documents, shards)
        self._numbers = 0
        self._people = _people(customers, days, self._rng)
        self._clicks, self._orders = self._behaviour()

    # -- what people do

    def _behaviour(self) -> tuple[list[list[list[Row]]], list[list[list[Row]]]]:
        """Records by shard and day, in the order of time."""

        def nothing() -> list[list[list[Row]]]:
            return [[[] for _ in range(self._days + 1)] for _ in range(SHARDS)]

        clicks, orders = nothing(), nothing()
        for at, person in enumerate(self._people):
            for day in person.orders:
                for row in self._visit(person, day, buys=True):
                    clicks[at % SHARDS][int(day)].append(row)
                orders[at % SHARDS][int(day)].append(self._order(person, day))
            for day in person.visits:
                for row in self._visit(person, day, buys=False):
                    clicks[at % SHARDS][int(day)].append(row)
        for shard in range(SHARDS):
            for day in range(self._days):
                clicks[shard][day] += self._broken(shard, day)
                clicks[shard][day].sort(key=lambda row: row[2])
                orders[shard][day].sort(key=lambda row: row[2])
        return clicks, orders

    def _visit(self, person: _Person, day: float, *, buys: bool) -> Iterator[Row]:
        at_ms = self._at_ms(day) - 20 * _MINUTE_MS
        for _ in range(int(self._rng.integers(1, 5))):
            at_ms += int(self._rng.integers(5_000, 120_000))
            yield self._click(person.name, "view", at_ms, item_id=f"sku-{self._rng.integers(90)}")
        if buys or self._rng.random() < 0.3:
            yield self._click(person.name, "cart_add", at_ms + 9_000, item_id="sku-1", price=4.5)
        if person.unhappy and self._rng.random() < 0.6:
            yield self._click(person.name, "support", at_ms + 30_000, text="Where is my parcel?")

    def _at_ms(self, day: float) -> int:
        return min(self._start_ms + int(day * DAY_MS), self.shop.end_ms - 1_000)

    def _number(self) -> int:
        self._numbers += 1
        return self._numbers

    def _click(self, user: str, type_: str, at_ms: int, **more: Any) -> Row:
        event = {"event_id": f"c-{self._number()}", "user_id": user, "type": type_, "ts": at_ms}
        return user.encode(), msgspec.json.encode(event | more), at_ms

    def _order(self, person: _Person, day: float) -> Row:
        at_ms, number = self._at_ms(day), self._number()
        amount = round(float(person.worth * self._rng.lognormal(0.0, 0.4)), 2)
        line = {"item_id": f"sku-{number % 90}", "quantity": 1, "amount": amount}
        order = {
            "event_id": f"o-{number}", "user_id": person.name, "type": "placed", "ts": at_ms,
            "order_id": f"{number}", "amount": amount, "currency": "USD", "lines": [line],
        }  # fmt: skip
        return person.name.encode(), msgspec.json.encode(order), at_ms

    def _broken(self, shard: int, day: int) -> Iterator[Row]:
        """What a producer with a fault sends on the last days."""
        if day < self._days - 3:
            return
        at_ms, user = self._at_ms(day + 0.4 + shard / 100), HOSTILE[shard]
        yield user.encode(), b'{"event_id": "c-broken", "user_id": ', at_ms
        yield self._click(user, "teleport", at_ms + 1)
        yield (*self._click(user, "view", at_ms + 400 * DAY_MS)[:2], at_ms + 2)
        text = f"{HOSTILE[0]} {HOSTILE[1]}"
        yield self._click(user, "review", at_ms + 3, item_id="sku-2", rating=99, text=text)
        twice = self._click(user, "view", at_ms + 4, item_id="sku-3")
        yield from (twice, twice)

    # -- what Tideline does

    def day(self, day: int) -> None:
        """A day's records in every shard, a sweep, and what was learned."""
        if day in (self._days // 2, self._days * 3 // 4):
            self._apply(day)
        end_ms = self._start_ms + (day + 1) * DAY_MS
        if day == self._days - 1:
            end_ms -= 3_600_000  # the last hour comes in small steps
        swept = day % 4 == 0 or 2 * day >= self._days
        for number, shard in enumerate(self.shop.shards):
            clicks = sorted(self._clicks[number][day] + self._due(number), key=lambda row: row[2])
            orders = self._orders[number][day]
            if day == self._days - 1:
                clicks = [row for row in clicks if row[2] < end_ms]
                orders = [row for row in orders if row[2] < end_ms]
            self._step(number, shard, clicks, orders, end_ms, sweep=swept)
        self._learned = JournalledSnapshot.of(self._learner.snapshot())

    def last_hour(self) -> None:
        """The records of the last hour in steps of five minutes, with canaries every half."""
        start_ms, day = self.shop.end_ms - 3_600_000, self._days - 1
        for step in range(12):
            from_ms = start_ms + step * 5 * _MINUTE_MS
            to_ms = from_ms + 5 * _MINUTE_MS
            for number, shard in enumerate(self.shop.shards):
                clicks, orders = (
                    [row for row in rows[number][day] if from_ms <= row[2] < to_ms]
                    for rows in (self._clicks, self._orders)
                )
                clicks += [_canary(number, at) for at in range(from_ms, to_ms, 30_000)]
                clicks.sort(key=lambda row: row[2])
                self._step(number, shard, clicks, orders, to_ms, sweep=False)

    def _apply(self, day: int) -> None:
        document = self.shop.documents[len(self.shop.definitions)]
        found = read_definitions(
            document.encode(), file="segments.yaml", currency="USD",
            earlier=self.shop.definitions, now_ms=self._start_ms + day * DAY_MS,
        )  # fmt: skip
        self.shop.definitions.append(
            msgspec.structs.replace(
                found,
                applied_at_ms=self._start_ms + day * DAY_MS,
                applied_by="ada",
                note="as reviewed <i>in #7</i>",
            )
        )

    def _due(self, shard: int) -> list[Row]:
        found, self._waiting[shard] = self._waiting[shard], []
        return found

    def _step(
        self,
        number: int,
        shard: Driver,
        clicks: Sequence[Row],
        orders: Sequence[Row],
        clock_ms: int,
        *,
        sweep: bool,
    ) -> None:
        meta, definitions = shard.state.meta, None
        if self.shop.definitions and meta.rules_taken < self.shop.definitions[-1].number:
            definitions = self.shop.definitions[-1]
        outputs = shard.feed_rows(
            clicks, orders, clock_ms=clock_ms, learner=self._learned, definitions=definitions,
            sweep_rows=max(1, shard.state.sweep_places) if sweep else 0, wake_rows=4_000,
        )  # fmt: skip
        self.shop.records += len(clicks) + len(orders)
        self.shop.take(outputs, clock_ms)
        for example in outputs.examples:
            self._learner.learn(example)
        for alert in outputs.alerts:
            if alert.state == "open" and alert.arm == "treat" and self._rng.random() < 0.6:
                self._contact(number, alert, clock_ms)

    def _contact(self, shard: int, alert: Any, clock_ms: int) -> None:
        """Somebody writes or calls on the next day, and says so."""
        at_ms = clock_ms + int(self._rng.uniform(0.2, 0.8) * DAY_MS)
        if at_ms < self.shop.end_ms - 3_600_000:
            channel = str(self._rng.choice(["email", "call"]))
            self._waiting[shard].append(
                self._click(
                    alert.user_id,
                    "contacted",
                    at_ms,
                    campaign="win <b>back</b>",
                    channel=channel,
                    alert_id=alert.alert_id,
                )
            )


@dataclass(frozen=True)
class _Person:
    name: str
    worth: float
    unhappy: bool
    orders: NDArray[np.float64]
    """Days since the shop's first, ascending; `visits` without an order too."""
    visits: NDArray[np.float64]


def _people(customers: int, days: int, rng: np.random.Generator) -> list[_Person]:
    found = []
    names = [*HOSTILE, *(f"u-{number:04d}" for number in range(customers - len(HOSTILE)))]
    for at, name in enumerate(names):
        gap, first = 2.0 + rng.gamma(2.0, 4.0), rng.uniform(0, 25)
        if at % 10 == 7:  # somebody new
            first = rng.uniform(days - 20, days - 1)
        until = rng.uniform(30, days + 10) if rng.random() < 0.4 else days
        gaps = rng.gamma(6.0, gap / 6.0, size=int(days / gap) * 2 + 3) + 0.05
        orders = first + np.cumsum(gaps) - gaps[0]
        visits = np.sort(rng.uniform(first, max(until, first + 1), size=int(days / gap / 2) + 1))
        if at % 9 == 8:  # looks, and never buys
            orders = orders[:0]
        found.append(
            _Person(
                name,
                float(rng.lognormal(3.2, 0.7)),
                at % 31 == 0,
                orders[orders < min(until, days - 0.001)],
                visits[visits < days - 0.001],
            )
        )
    return found


def _canary(partition: int, at_ms: int) -> Row:
    key = f"tideline-canary-{partition}"
    return key.encode(), msgspec.json.encode(Canary("canary", key, at_ms)), at_ms
