"""`tideline alerts`: what alerts are worth on a history, and everything about one alert."""
# ruff: noqa: PLC0415  (heavy imports wait until the command runs)

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from streams.commands.alert import explain
from streams.commands.replayed_history import Given, progress_bars, replay_options, replayed_history
from streams.commands.support import (
    Invocation,
    json_option,
    pass_invocation,
    print_json,
    print_table,
)

if TYPE_CHECKING:
    from schemas.definitions import Definitions
    from streams.evaluation.alerted import Alerted

__all__ = ["alert_table", "alerts"]


@click.group()
def alerts() -> None:
    """Measure alerts on a history, or explain one."""


alerts.add_command(explain)


@alerts.command()
@replay_options
@click.option("--per-day", type=click.IntRange(min=1), metavar="N",
              help="With a budget: a day's N alerts with the most at stake.")  # fmt: skip
@json_option
@pass_invocation
def report(invocation: Invocation, /, per_day: int | None, as_json: bool, **options: Any) -> None:
    """Replay orders, and say what the alerts would have been worth.

    Beside the alerts as a worker raises them, with these settings, stands a list without a memory:
    everybody whose score is at the threshold at a weekly cut. Both go by the same scores, of
    champions and a learner that knew no more than was known then. The last third of the history is
    the test.

    \b
    per customer  alerts per customer who was alerted at all
    precision     share of alerts whose customer did not order within the horizon after it
    vain          share whose customer was back as always: within 1.25 times their usual gap
    left          times that somebody ordered nothing for two horizons and twice their usual gap
    reached       share of those with an alert in that time
    days ahead    of those, from their first alert to the end of that time
    foreseen      share of those who left with an alert in the two horizons before their last
                  purchase
    before last   days from the first alert since then to the last purchase; negative: after it

    Needs `pip install 'tideline[train]'`.
    """
    from streams.evaluation.alerted import alerts_of
    from streams.evaluation.measure import day, tasks

    given = Given.of(options)
    with progress_bars(quiet=as_json) as progress:
        done = replayed_history(
            invocation.start_logging(), given, progress, quiet=as_json,
            definitions=_with_budget(per_day),
        )  # fmt: skip
    churn = tasks(done.replayed.cuts, done.protocol)["churn"]
    judged = alerts_of(done.replayed, done.history, done.protocol, churn, done.config)
    cuts, config = done.protocol.test_cuts, done.config
    if as_json:
        print_json(
            {
                "orders_from": given.name,
                "horizon_days": done.protocol.horizon_days,
                "tested_from": day(done.protocol.test_from),
                "tested_cuts": len(cuts),
                "enter": config.alert_enter,
                "leave": config.alert_leave,
                "per_day": per_day,
                "alerts": {name: each.as_dict() for name, each in judged.items()},
            }
        )
        return
    budget = f", {per_day} a day at most" if per_day else ""
    print_table(
        _HEADINGS, alert_table(judged),
        title=f"alerts since {day(done.protocol.test_from)}{budget}",
    )  # fmt: skip
    click.echo(
        f"\nHorizon {done.protocol.horizon_days} days; alerts open at {config.alert_enter:.0%} and "
        f"close below {config.alert_leave:.0%}; {len(cuts)} weekly cuts from {day(cuts[0])} to "
        f"{day(cuts[-1])}. `tideline alerts report --help` says what each column is."
    )


def _with_budget(per_day: int | None) -> Definitions | None:
    if per_day is None:
        return None
    from schemas.definitions import AlertRules, Definitions

    return Definitions(1, f"{per_day} a day", alerts=AlertRules(per_day=per_day))


_NAMES = {"raised": "as live", "weekly_threshold": "a threshold each week"}
_HEADINGS = (
    "alerts", "raised", "customers", "per customer", "precision", "vain", "left", "reached",
    "days ahead", "foreseen", "before last",
)  # fmt: skip


def alert_table(judged: dict[str, Alerted]) -> list[tuple[str, ...]]:
    """A row of texts for each way of raising alerts."""
    rows: list[tuple[str, ...]] = []
    for name, each in judged.items():
        of = each.as_dict()
        shares = ("precision", "vain_share", "reached_share", "foreseen_share")
        precision, vain, reached, foreseen = (
            "-" if of[share] is None else f"{of[share]:.1%}" for share in shares
        )
        per_customer = of["alerts_per_customer"]
        rows.append(
            (
                _NAMES[name], f"{of['alerts']:,}", f"{of['customers']:,}",
                "-" if per_customer is None else f"{per_customer:.2f}", precision, vain,
                f"{of['left']:,}", reached, _days(of["lead_days"]), foreseen,
                _days(of["before_last_purchase_days"]),
            )
        )  # fmt: skip
    return rows


def _days(quantiles: dict[str, float]) -> str:
    """The median, and between which values 80 % lie."""
    if not quantiles:
        return "-"
    return f"{quantiles['p50']:g} ({quantiles['p10']:g} to {quantiles['p90']:g})"
