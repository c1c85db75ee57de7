"""A shop's ClickHouse of any size, generated inside ClickHouse from numbers; the same each time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

__all__ = ["SHARDS", "Shop", "fill", "score_rows"]

SHARDS: Final = 8
_LIFE: Final = 1_790_000_000
_SEQ: Final = f"bitShiftLeft(toUInt64({_LIFE}), 32)"
_USER: Final = "concat('c-', lower(hex(cityHash64(u))))"
_TIER: Final = "['none', 'low', 'low', 'low', 'medium', 'medium', 'high'][1 + cityHash64(u, d) % 7]"
_STAGES: Final = "['visitor', 'visitor', 'new', 'active', 'active', 'at_risk', 'lapsed']"
_STAGE: Final = f"{_STAGES}[1 + cityHash64(u, 1) % 7]"
_SEGMENTS: Final = "['', '', 'leaving', 'vip', 'leaving,vip', 'quiet'][1 + cityHash64(u, 2) % 6]"
_CHANGES: Final = "['lifecycle', 'value_tier', 'leaving', 'vip', 'quiet'][1 + i % 5]"


@dataclass(frozen=True)
class Shop:
    """How much there is. Days end now."""

    users: int = 1_000_000
    days: int = 50
    """A score row per user and day."""
    moves: int = 5_000_000
    episodes: int = 300_000
    """Of alerts; one of six is open."""
    contacts: int = 100_000
    audience_moves: int = 600_000
    matured: int = 1_500_000
    batches: int = 400_000
    """In the last 24 hours and before, one per shard every two seconds."""
    looks: int = 1_500_000
    """Of the lag monitor, at 24 partitions every 10 seconds."""
    dead_letters: int = 100_000
    canaries: int = 400_000

    def scaled(self, share: float) -> Shop:
        """The same days, and so much of everything else."""
        return Shop(**{
            name: value if name == "days" else max(1_000, int(value * share))
            for name, value in self.__dict__.items()
        })  # fmt: skip


def score_rows(user: str, day: str, seq: str, rows: str) -> str:
    """SELECT of `score_history` rows. `user` and `day` (days ago, from -1 for later than now) are
    expressions over what `rows` gives; seq too."""
    return f"""
        SELECT {_USER} AS user_id, u % {SHARDS} AS shard, {_SEQ} + {seq} AS seq,
            now64(3) - toIntervalSecond(86400 * d + cityHash64(u, 7) % 86400) AS scored_at,
            (cityHash64(u, d, 3) % 1000) / 1000 AS p_churn, p_churn AS p_champion,
            p_churn AS p_learner,
            if(u % 9 = 0, nan, pow(cityHash64(u, d, 4) % 1000, 2) / 500) AS expected_spend,
            expected_spend / 2 AS spend_low, expected_spend * 2 AS spend_high,
            p_churn / 2 AS p_buy_7d, p_churn AS p_buy_30d,
            now64(3) + toIntervalDay(cityHash64(u, d, 5) % 60) AS next_order_at,
            28 AS horizon_days, 'bench-1' AS champion_version, 7 AS learner_version,
            {_TIER} AS value_tier, {_STAGE} AS lifecycle, lifecycle = 'at_risk' AS at_risk,
            cityHash64(u, 6) % 30 AS lifetime_orders,
            now64(3) - toIntervalDay(cityHash64(u, 8) % 200) AS last_order_at,
            {_SEGMENTS} AS segments
        FROM (SELECT {user} AS u, {day} AS d, number FROM {rows})"""


_SCORE_COLUMNS: Final = (
    "user_id, shard, seq, scored_at, p_churn, p_champion, p_learner, expected_spend, spend_low, "
    "spend_high, p_buy_7d, p_buy_30d, next_order_at, horizon_days, champion_version, "
    "learner_version, value_tier, lifecycle, at_risk, lifetime_orders, last_order_at"
)


def insert_scores(rows: str, *, segments: bool = True) -> str:
    """INSERT of what `score_rows` gives; without segments, as before they were in the rows."""
    columns = _SCORE_COLUMNS + (", segments" if segments else "")
    return f"INSERT INTO score_history ({columns}) SELECT {columns} FROM ({rows})"


def _moves(first: int, count: int, moves: int, users: int, days: int) -> str:
    """Times go from `days` ago until now with the number."""
    return f"""
    INSERT INTO segment_changes (change_id, user_id, shard, dimension, from_segment, to_segment,
        changed_at, why, life, number)
    SELECT hex(sipHash128(i)), {_USER}, u % {SHARDS}, {_CHANGES} AS dimension,
        multiIf(dimension = 'lifecycle', 'active', dimension = 'value_tier', 'low', 'out'),
        multiIf(dimension = 'lifecycle', {_STAGE}, dimension = 'value_tier', 'high', 'in'),
        now64(3) - toIntervalSecond(toUInt32(86400 * {days} * (1 - i / {moves}))),
        'expected spend moved', {_LIFE}, intDiv(i, {users}) + 1
    FROM (SELECT {first} + number AS i, cityHash64(i, 9) % {users} AS u, 0 AS d
          FROM numbers({count}))"""


def _others(shop: Shop) -> Iterator[tuple[str, str]]:
    user = f"(SELECT number AS i, cityHash64(i, 11) % {shop.users} AS u FROM numbers("
    places = (
        "[('value_tier','none'),('value_tier','low'),('value_tier','medium'),('value_tier','high'),"
        "('lifecycle','visitor'),('lifecycle','new'),('lifecycle','active'),('lifecycle','at_risk'),"
        "('lifecycle','lapsed'),('leaving','in'),('vip','in'),('quiet','in')]"
    )
    hours = shop.days * 24
    yield (
        "segment_totals",
        f"""
    INSERT INTO segment_totals (dimension, segment, shard, seq, as_of, users, spend_cents, life)
    SELECT p.1, p.2, s, {_SEQ} + number, now64(3) - toIntervalHour({hours} - number),
        {shop.users} / 12 / {SHARDS} + number, 1000 * number, {_LIFE}
    FROM numbers({hours + 1}) ARRAY JOIN range({SHARDS}) AS s ARRAY JOIN {places} AS p""",
    )
    yield (
        "segment_moves",
        f"""
    INSERT INTO segment_moves (hour, dimension, from_segment, to_segment, shard, seq, moves, life)
    SELECT toStartOfHour(now64(3) - toIntervalHour({hours} - number)), 'lifecycle',
        concat('s', toString(a)), concat('s', toString(b)), s, {_SEQ} + number, a + b, {_LIFE}
    FROM numbers({hours + 1}) ARRAY JOIN range({SHARDS}) AS s ARRAY JOIN range(5) AS a
    ARRAY JOIN range(5) AS b""",
    )
    alert = "hex(sipHash128(i, 1))"
    for version, where in ((1, "1"), (2, "i % 6 != 0")):
        yield (
            "alerts",
            f"""
        INSERT INTO alerts (alert_id, user_id, shard, rule, episode, state, version, raised_at,
            closed_at, closed_why, p_churn, expected_spend, priority, horizon_days, reasons, action,
            arm, value_tier, lifecycle, champion_version, event_produced_at, life)
        SELECT {alert}, {_USER}, u % {SHARDS}, 'churn', 1 + intDiv(i, {shop.users}),
            ['open', 'closed'][{version}], {version},
            now64(3) - toIntervalSecond(86400 * if(i % 6 = 0, i % 20, i % 90)) AS raised,
            if({version} = 1, toDateTime64(0, 3, 'UTC'), raised + toIntervalDay(9)),
            ['', ['ordered', 'score_fell', 'lapsed'][1 + i % 3]][{version}], 0.7,
            cityHash64(u, 4) % 900, cityHash64(u, 4) % 900 * 0.7, 28,
            if({version} = 1, [concat(toString(i % 60), ' days without an order'),
                'fewer visits than before', 'last order was returned'], []),
            ['call or personal offer', 'win-back coupon', 'reminder e-mail'][1 + i % 3],
            if(i % 10 = 0, 'holdout', 'treat'), ['low', 'medium', 'high'][1 + u % 3], 'active',
            'bench-1', raised, {_LIFE}
        FROM {user}{shop.episodes})) WHERE {where}""",
        )
    yield (
        "contacts",
        f"""
    INSERT INTO contacts (event_id, user_id, shard, seq, contacted_at, campaign, channel, alert_id,
        named_alert_id, arm)
    SELECT toString(i), {_USER}, u % {SHARDS}, {_SEQ}, now64(3) - toIntervalDay(i % 60), 'save',
        'phone', {alert}, '', 'treat' FROM {user}{shop.contacts}))""",
    )
    yield (
        "audience_changes",
        f"""
    INSERT INTO audience_changes (change_id, user_id, shard, audience, segment, change, number, arm,
        fed, salt, changed_at, definitions, p_churn, expected_spend, value_tier, lifecycle, life)
    SELECT hex(sipHash128(i, 2)), {_USER}, u % {SHARDS},
        ['save_now', 'thank_you', 'win_back'][1 + u % 3], 'leaving',
        if(cityHash64(i) % 4, 'entered', 'left'), 1 + intDiv(i, {shop.users}),
        ['treat', 'treat', 'treat', 'holdout', 'global_holdout'][1 + u % 5], u % 5 < 3, 's/1',
        now64(3) - toIntervalSecond(i), 'v1', 0.5, u % 500, 'high', 'active', {_LIFE}
    FROM {user}{shop.audience_moves}))""",
    )
    yield (
        "matured_predictions",
        f"""
    INSERT INTO matured_predictions (shard, ordinal, user_id, asked_at, matured_at, horizon_days,
        p_churn, p_champion, p_learner, churned, spend_predicted, spend, champion_version,
        learner_version)
    SELECT i % {SHARDS}, {_SEQ} + intDiv(i, {SHARDS}), {_USER}, matured - toIntervalDay(28),
        now64(3) - toIntervalSecond(toUInt32(7776000 * (1 - i / {shop.matured}))) AS matured, 28,
        cityHash64(i, 1) % 1000 / 1000 AS p, p, p, cityHash64(i, 2) % 1000 / 1000 < p, 10, 9,
        'bench-1', 7 FROM {user}{shop.matured}))""",
    )
    yield (
        "examples",
        f"""
    INSERT INTO examples (user_id, asked_at, matured_at, horizon_days, shard, ordinal,
        lifetime_orders, p_churn, spend_predicted, churned, spend, first_order_at, feature_names,
        features)
    SELECT {_USER}, matured - toIntervalDay(28),
        now64(3) - toIntervalSecond(toUInt32(7776000 * (1 - i / {shop.matured}))) AS matured, 28,
        i % {SHARDS}, {_SEQ} + intDiv(i, {SHARDS}), i % 9, cityHash64(i, 1) % 1000 / 1000 AS p, 10,
        cityHash64(i, 2) % 1000 / 1000 < p, 9, matured, 'a', [p] FROM {user}{shop.matured}))""",
    )
    yield (
        "batches",
        f"""
    INSERT INTO batches (shard, seq, clock, clickstream_from, clickstream_to, orders_from,
        orders_to, accepted, scored, users_scored, inserted_at)
    SELECT i % {SHARDS}, {_SEQ} + intDiv(i, {SHARDS}) + 1 AS seq,
        now64(3) - toIntervalSecond(2 * intDiv({shop.batches} - i, {SHARDS})) AS clock,
        100 * intDiv(i, {SHARDS}), 100 * intDiv(i, {SHARDS}) + 100, 0, 0, 100, 100, 90,
        clock + toIntervalMillisecond(700) FROM {user}{shop.batches}))""",
    )
    yield (
        "consumer_lag",
        f"""
    INSERT INTO consumer_lag (observed_at, consumer_group, topic, partition, committed, log_end,
        lag_records, lag_seconds, records_per_second, retention_ratio, status, subscribed)
    SELECT now64(3) - toIntervalSecond(10 * intDiv({shop.looks} - i, 24)), 'tideline',
        concat('topic-', toString(i % 3)), i % 8, i, i + 5, 5, 0.5, 0, 0.01, 'ok', 1
    FROM {user}{shop.looks}))""",
    )
    yield (
        "dead_letters",
        f"""
    INSERT INTO dead_letters (topic, partition, offset, reason, detail, recorded_at, record_key,
        payload, payload_bytes)
    SELECT 'clickstream', i % {SHARDS}, i, ['late', 'invalid_json', 'missing_field'][1 + i % 3],
        'what was wrong', now64(3) - toIntervalSecond(20 * i), {_USER},
        concat('{{"user_id":"', {_USER}, '","type":"view","item":"', hex(sipHash128(i)), '"'), 120
    FROM {user}{shop.dead_letters}))""",
    )
    yield (
        "canaries",
        f"""
    INSERT INTO canaries (shard, offset, recorded_at, seq, champion_version, p_churn)
    SELECT i % {SHARDS}, i, now64(3) - toIntervalSecond(10 * intDiv(i, {SHARDS})), {_SEQ},
        'bench-1', 0.4 FROM {user}{shop.canaries}))""",
    )
    yield (
        "definitions_taken",
        f"""
    INSERT INTO definitions_taken (number, version, shard, seq, taken_at, applied_by, document,
        life)
    SELECT 1 + intDiv(number, {SHARDS}), toString(number), number % {SHARDS}, {_SEQ} + number,
        now64(3) - toIntervalHour(200 - number), 'ann', repeat('x', 4000), {_LIFE}
    FROM numbers({20 * SHARDS})""",
    )
    yield (
        "console_actions",
        """
    INSERT INTO console_actions (action_id, happened_at, who, role, action, user_id, what, result)
    SELECT toString(number), now64(3) - toIntervalMinute(number), 'ann', 'marketing', 'contacted',
        toString(number), 'save', 'done' FROM numbers(10000)""",
    )


def fill(ask: Callable[[str], object], shop: Shop, on_table: Callable[[str], None]) -> None:
    """Everything, the oldest first, so that tables have the parts and the order that they get."""
    at_once = 1_000_000
    on_table("score_history")
    for day in range(shop.days - 1, -1, -1):
        for first in range(0, shop.users, at_once):
            count = min(at_once, shop.users - first)
            rows = score_rows(
                f"{first} + number", str(day), str(shop.days - day), f"numbers({count})"
            )
            ask(insert_scores(rows))
    on_table("segment_changes")
    for first in range(0, shop.moves, at_once):
        count = min(at_once, shop.moves - first)
        ask(_moves(first, count, shop.moves, shop.users, shop.days))
    for table, statement in _others(shop):
        on_table(table)
        ask(statement)
    on_table("score_history, as it comes")
    for block in range(60):  # the last half minute
        rows = score_rows(
            f"cityHash64(number, {block}) % {shop.users}", "0", str(1_000 + block), "numbers(4000)"
        )
        ask(insert_scores(rows))
