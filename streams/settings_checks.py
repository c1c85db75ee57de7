"""The rules between settings: what no rule on a single one can see."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streams import settings_rules as rules
from streams.settings_reader import DEFAULT, env_name

if TYPE_CHECKING:
    from streams.settings import Settings

__all__ = ["across"]


def across(settings: Settings) -> list[str]:
    """The problems, each with the origin of both sides, as one side is usually the surprise."""
    problems: list[str] = []

    def wrong(name: str, other: str, expected: str) -> None:
        where = " and ".join(f"{n} from {settings.origins.get(n, DEFAULT)}" for n in (name, other))
        problems.append(f"{env_name(name)}: expected {expected} ({where})")

    kafka, stream, alerts, web = settings.kafka, settings.stream, settings.alerts, settings.web
    if alerts.alert_leave >= alerts.alert_enter:
        wrong(
            "alert_leave",
            "alert_enter",
            f"less than alert_enter ({alerts.alert_leave} against {alerts.alert_enter})",
        )
    if kafka.clickstream_topic == kafka.orders_topic:
        wrong("orders_topic", "clickstream_topic", "another topic than clickstream_topic")
    names = settings.topic_names
    own = {names.journal, names.checkpoints, names.alerts, names.dead_letters}
    own |= {names.examples, names.learner}
    for name, topic in (
        ("clickstream_topic", names.clickstream),
        ("orders_topic", names.orders),
    ):
        if topic in own:
            wrong(name, "app_id", f"a topic that is not Tideline's own ({topic})")
    if rules.rates(stream.currency_rates).get(stream.currency, 1.0) != 1.0:
        wrong("currency_rates", "currency", f"no rate for {stream.currency} itself: it is 1")
    if web.metrics_port and web.metrics_port == web.web_port:
        wrong("metrics_port", "web_port", f"another port than web_port ({web.web_port})")
    return problems
