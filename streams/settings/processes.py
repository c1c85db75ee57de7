"""Settings of the processes beside the workers: trainer, lag monitor, delivery, console."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from streams.settings import rules
from streams.settings.reader import Secret, setting

__all__ = ["ConsoleSettings", "DeliverSettings", "LagSettings", "TrainerSettings"]


@dataclass(frozen=True)
class TrainerSettings:
    """When `tideline trainer` trains, judges and tidies. Days are days of matured labels."""

    retrain_days: int = setting(
        28, "days of new labels after which the next challenger is trained", rules.between(1, 365)
    )
    judge_days: int = setting(
        14,  # D-026
        "days of labels that neither has learned by which challenger and champion are compared",
        rules.between(1, 365),
    )
    min_labels: int = setting(
        1_000, "new labels without which nothing is trained", rules.between(1, 1_000_000_000)
    )
    on_drift: bool = setting(
        True, "whether a drift of the champion's loss or of the churn rate starts a training, too"
    )
    rows: int = setting(
        200_000,
        "maximum examples that a training, and a comparison, draws; memory grows with it",
        rules.between(1_000, 100_000_000),
    )
    threads: int = setting(2, "threads of a training", rules.between(1, 1_024))
    keep_models: int = setting(
        8,
        "judged challengers that are kept, besides those that are still needed",
        rules.between(1, 1_000),
    )
    poll_seconds: float = setting(60.0, "seconds between two looks for new labels", rules.POSITIVE)


@dataclass(frozen=True)
class LagSettings:
    """How `tideline lag` watches consumer groups, and whom it tells."""

    groups: str = setting(
        ".*",
        "regular expression of the consumer groups to watch besides Tideline's own",
        rules.REGEX,
    )
    window_commits: int = setting(
        10, "commits by which a partition's status is judged", rules.between(2, 100)
    )
    min_distance_seconds: float = setting(
        0.0,
        "seconds between two commits of that window; one that is nearer replaces the one before",
        rules.NOT_NEGATIVE,
    )
    allowed_records: int = setting(
        0, "lag in records up to which a partition is ok", rules.NOT_NEGATIVE
    )
    webhook_url: Secret = setting(  # noqa: RUF009 (immutable)
        Secret(""),
        "URL that gets a POST when a group gets worse and when it is well again; empty: none",
        rules.WEBHOOK,
    )
    webhook_status: Literal["warn", "error"] = setting(
        "error", "from which status of a group on the webhook is called: warn or error"
    )
    ledger_interval_seconds: float = setting(
        300.0,
        "seconds between two looks of the lag monitor at the ledger of the last hour; 0: off",
        rules.NOT_NEGATIVE,
    )
    canary_interval_seconds: float = setting(
        0.0,
        "seconds between two canaries that the lag monitor sends to each partition of the "
        "clickstream, and looks for in ClickHouse; 0: none",
        rules.between(0, 30),
    )


@dataclass(frozen=True)
class DeliverSettings:
    """Where `tideline deliver` sends changes of audiences."""

    destinations_file: str = setting(
        "",
        "TOML file of the systems that get changes of audiences, without their secrets "
        "(docs/audiences.md); empty: none",
    )


@dataclass(frozen=True)
class ConsoleSettings:
    """Where `tideline console` listens, and whom it lets in (SECURITY.md)."""

    host: str = setting("127.0.0.1", "address on which the console is served", rules.HOST)
    port: int = setting(8380, "port of the console", rules.PORT)
    public_url: str = setting(
        "",
        "URL under which people open the console, if it is another than its address and port",
        rules.PUBLIC_URL,
    )
    tokens_file: str = setting(
        "",
        "TOML file of those who may come in with a token, by its hash (`tideline console token`); "
        "empty: nobody is asked",
    )
    user_header: str = setting(
        "",
        "header in which the reverse proxy names the user; empty: there is no such proxy",
        rules.HEADER,
    )
    roles_header: str = setting(
        "",
        "header in which the reverse proxy names the user's roles: marketing, campaigns, sre, "
        "admin, separated by commas",
        rules.HEADER,
    )
    trusted_proxies: str = setting(
        "",
        "addresses or networks of the reverse proxy, separated by commas; from others these "
        "headers are refused",
        rules.NETWORKS,
    )
    seal_key: Secret = setting(  # noqa: RUF009 (immutable)
        Secret(""),
        "key of the pseudonyms that visitors see who may not see user ids; empty: a new one at "
        "each start, which ends their links",
        rules.KEY,
    )
    lag_url: str = setting(
        "",
        "URL of the lag monitor, such as http://127.0.0.1:9466; empty: the one of [web]",
        rules.COLLECTOR,
    )
    zone: str = setting(
        "",
        "time zone in which times are shown, such as Europe/Berlin; empty: UTC",
        rules.ZONE,
    )
    query_seconds: float = setting(
        10.0, "seconds after which a query of a page is given up", rules.between(1.0, 60.0)
    )
