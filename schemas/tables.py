"""The ClickHouse tables Tideline writes: columns in insert order, with their types.

`clickhouse/*.sql` creates them; a test compares the two. Every table is a ReplacingMergeTree over
a deterministic key, so that a row written twice (after a crash) is read once through the views.
Times are event or clock time in UTC, in milliseconds; money is in units of the shop's currency.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["PERSONAL", "TABLES", "Table"]


@dataclass(frozen=True)
class Table:
    """A table's name and its inserted columns, name -> ClickHouse type."""

    name: str
    columns: dict[str, str]


_TIME = "DateTime64(3, 'UTC')"
_LOW = "LowCardinality(String)"

_SCORE_COLUMNS = {
    "user_id": "String",
    "shard": "UInt16",
    "seq": "UInt64",  # life and batch (`schemas.lives`): a user's newest row has the highest
    "scored_at": _TIME,
    "p_churn": "Float32",
    "p_champion": "Float32",
    "p_learner": "Float32",
    "expected_spend": "Float32",
    "spend_low": "Float32",
    "spend_high": "Float32",
    "p_buy_7d": "Float32",
    "p_buy_30d": "Float32",
    "next_order_at": _TIME,  # 1970-01-01 when it is unknown or over a year away
    "value_365d": "Float32",
    "value_365d_low": "Float32",
    "value_365d_high": "Float32",
    "value_365d_seen_days": "UInt16",  # 0: the model does not know it
    "horizon_days": "UInt16",
    "champion_version": _LOW,
    "learner_version": "UInt32",
    "value_tier": _LOW,
    "lifecycle": _LOW,
    "at_risk": "UInt8",
    "lifetime_orders": "UInt32",
    "last_order_at": _TIME,  # 1970-01-01 when there was none
    "segments": _LOW,  # names of the shop's own segments that the user is in, with commas between
}

TABLES: Final[dict[str, Table]] = {
    table.name: table
    for table in (
        Table("score_history", _SCORE_COLUMNS),
        Table(
            "alerts",
            {
                "alert_id": "String",
                "user_id": "String",
                "shard": "UInt16",
                "rule": _LOW,
                "episode": "UInt32",
                "state": _LOW,  # open | closed
                "version": "UInt8",  # 1: the opening row, 2: the closing row
                "raised_at": _TIME,
                "closed_at": _TIME,  # 1970-01-01 while open
                "closed_why": _LOW,  # '' when opening; ordered, score_fell, lapsed, suppressed
                "p_churn": "Float32",
                "p_champion": "Float32",
                "p_learner": "Float32",
                "expected_spend": "Float32",
                "priority": "Float32",
                "horizon_days": "UInt16",
                "reasons": "Array(String)",
                "action": _LOW,
                "arm": _LOW,  # treat | holdout
                "value_tier": _LOW,
                "lifecycle": _LOW,
                "champion_version": _LOW,
                "learner_version": "UInt32",
                "event_produced_at": _TIME,  # of the newest record in the batch that raised it
                "life": "UInt32",  # of the shard (`schemas.lives`)
            },
        ),
        Table(
            "alert_budget",
            {
                "shard": "UInt16",
                "day": _TIME,  # the shop's date, as 00:00 UTC
                "per_day": "UInt32",
                "share": "UInt32",
                "candidates": "UInt32",
                "opened": "UInt32",
                "over_budget": "UInt32",
                "floor": "Float32",  # NaN while it is not known
                "life": "UInt32",
            },
        ),
        Table(
            "contacts",
            {
                "event_id": "String",
                "user_id": "String",
                "shard": "UInt16",
                "seq": "UInt64",
                "contacted_at": _TIME,
                "campaign": _LOW,
                "channel": _LOW,
                "alert_id": "String",  # the user's open alert then; '' without one
                "named_alert_id": "String",  # as the shop had it from results; '' if it named none
                "arm": _LOW,  # treat | holdout, of alerts
            },
        ),
        Table(
            "segment_changes",
            {
                "change_id": "String",
                "user_id": "String",
                "shard": "UInt16",
                "dimension": _LOW,  # value_tier | lifecycle | name of a segment of the shop's own
                "from_segment": _LOW,  # '' for a new user
                "to_segment": _LOW,
                "changed_at": _TIME,
                "why": _LOW,
                "life": "UInt32",  # of the shard (`schemas.lives`)
                "number": "UInt32",  # counts the user's moves in it
            },
        ),
        Table(
            "segment_totals",
            {
                "dimension": _LOW,
                "segment": _LOW,
                "shard": "UInt16",
                "seq": "UInt64",
                "as_of": _TIME,
                "users": "Int64",
                "spend_cents": "Int64",
                "life": "UInt32",
            },
        ),
        Table(
            "segment_moves",
            {
                "hour": _TIME,  # its beginning
                "dimension": _LOW,
                "from_segment": _LOW,
                "to_segment": _LOW,
                "shard": "UInt16",
                "seq": "UInt64",
                "moves": "UInt32",  # in this hour up to then
                "life": "UInt32",
            },
        ),
        Table(
            "definitions_taken",
            {
                "number": "UInt32",
                "version": "String",
                "shard": "UInt16",
                "seq": "UInt64",
                "taken_at": _TIME,
                "applied_at": _TIME,
                "applied_by": "String",
                "note": "String",
                "document": "String",  # JSON of schemas.definitions.Definitions
                "life": "UInt32",
            },
        ),
        Table(
            "campaign_sums",
            {
                "audience": _LOW,
                "salt": _LOW,
                "arm": _LOW,  # treat | holdout | global_holdout
                "shard": "UInt16",
                "seq": "UInt64",
                "as_of": _TIME,
                "horizon_days": "Float64",
                **dict.fromkeys(
                    ("exposed", "answered", "buyers", "orders", "y_cents", "x_cents"), "Int64"
                ),
                **dict.fromkeys(("y_squared", "x_squared", "x_times_y"), "Float64"),
                "life": "UInt32",
            },
        ),
        Table(
            "audience_changes",
            {
                "change_id": "String",
                "user_id": "String",
                "shard": "UInt16",
                "audience": _LOW,
                "segment": _LOW,
                "change": _LOW,  # entered | left
                "number": "UInt32",  # counts the user's changes of this audience, from 1
                "arm": _LOW,  # treat | holdout | global_holdout
                "fed": "UInt8",  # whether the feed has the user after this change
                "salt": "String",
                "changed_at": _TIME,
                "definitions": "String",
                "p_churn": "Float32",  # NaN when unknown, as the next one
                "expected_spend": "Float32",
                "value_tier": _LOW,
                "lifecycle": _LOW,
                "life": "UInt32",  # of the shard (`schemas.lives`)
            },
        ),
        Table(
            "matured_predictions",
            {
                "shard": "UInt16",
                "ordinal": "UInt64",
                "user_id": "String",
                "asked_at": _TIME,
                "matured_at": _TIME,
                "horizon_days": "UInt16",
                "p_churn": "Float32",
                "p_champion": "Float32",
                "p_learner": "Float32",
                "churned": "UInt8",
                "spend_predicted": "Float32",
                "spend": "Float32",
                "champion_version": _LOW,
                "learner_version": "UInt32",
            },
        ),
        Table(
            "examples",
            {
                "user_id": "String",
                "asked_at": _TIME,
                "matured_at": _TIME,
                "horizon_days": "UInt16",
                "shard": "UInt16",
                "ordinal": "UInt64",
                "lifetime_orders": "UInt32",
                "p_churn": "Float32",
                "spend_predicted": "Float32",
                "churned": "UInt8",
                "spend": "Float32",
                "first_order_at": _TIME,  # 1970-01-01 when none came, or when it is not known
                "feature_names": _LOW,  # with commas between (`schemas.features.listed_names`)
                "features": "Array(Float32)",
            },
        ),
        Table(
            "model_drift",
            {
                "drift_id": "String",
                "detected_at": _TIME,
                "since": _TIME,
                "kind": _LOW,  # loss | rate | feature
                "stream": _LOW,
                "direction": _LOW,  # up | down
                "mean_before": "Float32",
                "mean_since": "Float32",
                "labels_since": "UInt32",
                "reason": "String",
                "champion_version": _LOW,
            },
        ),
        Table(
            "trainer_log",
            {
                "version": _LOW,  # '' for a training that was not possible
                "event": _LOW,  # trained | too_few | promoted | rejected
                "labels_until": _TIME,
                "happened_at": _TIME,
                "why": "String",
                "champion_version": _LOW,
                "row_count": "UInt32",
                "judged_after": _TIME,  # 1970-01-01 when not compared
                "judged_until": _TIME,
                "log_loss_champion": "Float32",
                "log_loss_challenger": "Float32",
                "deviance_champion": "Float32",
                "deviance_challenger": "Float32",
            },
        ),
        Table(
            "score_samples",
            {
                "shard": "UInt16",
                "seq": "UInt64",
                "user_id": "String",
                "scored_at": _TIME,
                "p_churn": "Float32",
                "p_champion": "Float32",
                "p_learner": "Float32",
                "expected_spend": "Float32",
                "champion_version": _LOW,
                "learner_version": "UInt32",
                "features": "Array(Float32)",  # in the order of schemas.features.FEATURES
                "features_hash": _LOW,
            },
        ),
        Table(
            "events",
            {
                "user_id": "String",
                "ts": _TIME,
                "event_hash": "UInt32",  # half of the xxh64 of the event's id; of orders inverted
                "type": _LOW,  # of schemas.events: CLICK_TYPES or ORDER_TYPES
                "session_hash": "UInt32",  # half of its hash; 0 for orders
                "order_hash": "UInt64",  # 0 for clicks
                "item_id": "String",  # of clicks, as the category
                "category": "String",
                "amount": "Float64",  # of orders, in the shop's currency
                "lines": "UInt16",  # of orders
                "rating": "Float32",  # of reviews; 0: none was given
                "simulated": "UInt8",
                "lifecycle": _LOW,  # of the user as the batch left them, as the next three
                "value_tier": _LOW,
                "segments": _LOW,  # with commas between
                "first_event_at": _TIME,  # of the user
                "first_order_at": _TIME,  # 1970-01-01 when there was none
                "shard": "UInt16",
                "taken_at": _TIME,  # the clock of the batch
                "keep_days": "UInt16",
            },
        ),
        Table(
            "user_features",
            {
                "user_id": "String",
                "shard": "UInt16",
                "seq": "UInt64",
                "scored_at": _TIME,
                "feature_names": _LOW,  # with commas between (`schemas.features.listed_names`)
                "features": "Array(Float32)",
                "keep_days": "UInt16",
            },
        ),
        Table(
            "dead_letters",
            {
                "topic": _LOW,
                "partition": "UInt16",
                "offset": "UInt64",
                "reason": _LOW,
                "detail": "String",
                "recorded_at": _TIME,
                "record_key": "String",
                "payload": "String",
                "payload_bytes": "UInt32",
            },
        ),
        Table(
            "canaries",
            {
                "shard": "UInt16",
                "offset": "UInt64",
                "recorded_at": _TIME,  # the record's time in Kafka
                "seq": "UInt64",
                "champion_version": _LOW,
                "p_churn": "Float32",  # of the champion's typical customer
            },
        ),
        Table(
            "batches",
            {
                "shard": "UInt16",
                "seq": "UInt64",
                "clock": _TIME,
                "clickstream_from": "UInt64",
                "clickstream_to": "UInt64",
                "orders_from": "UInt64",
                "orders_to": "UInt64",
                "accepted": "UInt32",
                "scored": "UInt32",  # events that entered the windows, and contacts
                "duplicates": "UInt32",
                "late": "UInt32",
                "dead_letters": "UInt32",
                "erased": "UInt32",  # sent before their person was erased
                "users_scored": "UInt32",
                "skipped_offsets": "UInt32",  # of transaction markers and aborted transactions
                "inputs_since": "UInt64",  # the last batch on earlier input topics
                "canaries": "UInt32",  # records of the lag monitor (`schemas.canary`)
            },
        ),
        Table(
            "console_actions",
            {
                "action_id": "String",
                "happened_at": _TIME,
                "who": "String",
                "role": _LOW,
                "action": _LOW,
                "user_id": "String",  # '' when it was about no customer
                "what": "String",
                "result": _LOW,  # asked | done | refused | failed
                "detail": "String",
            },
        ),
        Table(
            "consumer_lag",
            {
                "observed_at": _TIME,
                "consumer_group": _LOW,
                "topic": _LOW,
                "partition": "UInt16",
                "committed": "Int64",  # -1 when the group has not committed yet
                "log_end": "Int64",
                "lag_records": "Int64",  # -1 when unknown
                "lag_seconds": "Float32",  # NaN when unknown, as the next two
                "records_per_second": "Float32",  # by which the lag grew
                "retention_ratio": "Float32",  # share of the retained log that was not committed
                "status": _LOW,
                "subscribed": "UInt8",
            },
        ),
    )
}

PERSONAL: Final[dict[str, tuple[str, ...]]] = {
    "score_history": ("user_id",),
    "latest_scores": ("user_id",),
    "users_now": ("user_id",),
    "user_points": ("user_id",),
    "alerts": ("user_id",),
    "user_alerts": ("user_id",),
    "contacts": ("user_id",),
    "segment_changes": ("user_id",),
    "segment_entries": ("user_id",),
    "audience_changes": ("user_id",),
    "audience_entries": ("user_id",),
    "matured_predictions": ("user_id",),
    "examples": ("user_id",),
    "score_samples": ("user_id",),
    "events": ("user_id",),
    "user_features": ("user_id",),
    "console_actions": ("user_id",),
    "dead_letters": ("record_key", "payload"),
}
"""Every table that can name a user, and the columns by which `tideline erase` finds the rows. A
record that could not be read may name its user in its text only."""
