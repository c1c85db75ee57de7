"""`tideline evaluate`: how good the scores are, on an order history as it unfolded."""
# ruff: noqa: PLC0415  (heavy imports wait until the command runs)

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from streams.commands.feature_groups import print_groups
from streams.commands.replayed_history import Given, progress_bars, replay_options, replayed_history
from streams.commands.support import (
    Invocation,
    json_option,
    pass_invocation,
    print_json,
    print_table,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from models.manifest import GroupGain
    from streams.evaluation.sequence import SequenceChallenger

__all__ = ["evaluate"]


@click.command()
@replay_options
@click.option("--report", type=click.Path(dir_okay=False, path_type=Path),
              help="Also write an HTML report, one file that opens offline.")  # fmt: skip
@click.option(
    "--challenger",
    type=click.Choice(["sequence"]),
    help="Also train a model of another kind, and judge it by the rule of promotion.",
)
@click.option(
    "--challenger-out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where to write the last one.",
)
@json_option
@pass_invocation
def evaluate(
    invocation: Invocation, /, report: Path | None, challenger: str | None,
    challenger_out: Path | None, as_json: bool, **options: Any,
) -> None:  # fmt: skip
    """Measure the scores: replay orders, learn and score as live, compare with what came.

    Everybody with an order, the last one within three horizons, is scored at weekly cuts. Labels
    teach only once their horizon has passed; champions are trained, judged and promoted along the
    way. The last third of the history is the test. Beside it stand baselines on the same rows.
    Figures are of customers with two orders or more; those with one are measured apart.

    With --challenger sequence, a network over each user's last 64 events and the features is
    trained too, whenever champions are; its figures stand beside theirs, alone and pooled with
    the champion. It is never promoted, because workers can't serve it.

    Needs `pip install 'tideline[train]'`; a sequence challenger `'tideline[train,sequence]'`.
    """
    from streams.evaluation.alerted import alerts_of
    from streams.evaluation.groups import by_group
    from streams.evaluation.long import long_figures
    from streams.evaluation.measure import everybody, few_tasks, figures, tasks

    started = time.monotonic()
    given = Given.of(options)
    with progress_bars(quiet=as_json) as progress:
        settings = invocation.start_logging()
        rival = _challenger(challenger, given, challenger_out, progress)
        done = replayed_history(settings, given, progress, quiet=as_json, challenger=rival)
        history, protocol, replayed = done.history, done.protocol, done.replayed
        progress("measure", 0.0)
        found = tasks(replayed.cuts, protocol)
        measured = figures(found, given.seed)
        few = few_tasks(replayed.few, protocol)
        of_few = figures(few, given.seed)
        of_all = figures(everybody(replayed.cuts, replayed.few, protocol), given.seed)
        long = long_figures(history, protocol, replayed)
        progress("measure", 1.0)
    about = _about(given.name, history, protocol, replayed, time.monotonic() - started)
    about["history"] = done.source.summary()
    about["rhythm"] = done.fit.as_dict()
    about["groups"] = by_group(replayed.cuts, protocol, found)
    about["challenger"] = _challenger_about(rival)
    alerts = alerts_of(replayed, history, protocol, found["churn"], done.config)
    about["alerts"] = {name: judged.as_dict() for name, judged in alerts.items()}
    if report is not None:
        from streams.evaluation.report import render

        page = render(found, measured, about, alerts, of_few, long)
        report.write_text(page, encoding="utf-8")
        click.echo(f"Report: {report}", err=True)
    if as_json:
        print_json({**measured, "all": of_all, "one_order": of_few, "long": long, "about": about})
    else:
        _print(measured, of_few, long, about, replayed.feature_groups)


def _challenger(
    kind: str | None, given: Given, out: Path | None, progress: Callable[[str, float], None]
) -> SequenceChallenger | None:
    if kind is None:
        if out is not None:
            raise click.UsageError("--challenger-out is for --challenger sequence.")
        return None
    from streams.evaluation.sequence import SequenceChallenger

    return SequenceChallenger(given.horizon_days, given.seed, progress, out)


def _challenger_about(challenger: SequenceChallenger | None) -> dict[str, Any] | None:
    if challenger is None:
        return None
    from streams.evaluation.measure import day

    trainings = [{"date": day(t.at_ms), **t.as_dict()} for t in challenger.trainings]
    return {"kind": "sequence", "trainings": trainings, "trouble": challenger.trouble}


def _print_challenger(about: dict[str, Any]) -> None:
    rows = [
        (
            each["date"], f"{each['rows']:,}", str(each["epochs"]), method,
            "better" if each[method]["would_promote"] else "not better", each[method]["why"],
        )
        for each in about["trainings"]
        for method in ("sequence", "pooled")
    ]  # fmt: skip
    columns = ("date", "rows", "epochs", "challenger", "than the champion", "why")
    print_table(columns, rows, title="a challenger of another kind, by the rule of promotion")
    if about["trouble"]:
        click.echo(f"A training of it failed: {about['trouble']}")
    click.echo()


def _about(
    orders_from: str, history: Any, protocol: Any, replayed: Any, seconds: float
) -> dict[str, Any]:
    from msgspec.structs import asdict

    from streams.evaluation.measure import day, next_order_figures, one_order_about

    weights = list(replayed.blend_weights.values())
    return {
        "orders_from": orders_from,
        "orders": len(history.ts_ms),
        "users": len(history.users),
        "from": day(history.first_ms),
        "to": day(history.last_ms),
        "horizon_days": protocol.horizon_days,
        "eligible": {
            "min_orders": protocol.min_orders,
            "active_within_days": protocol.active_within_days,
        },
        "test_cuts": [day(c) for c in protocol.test_cuts],
        "one_order": one_order_about(replayed.few, protocol),
        "champions": [
            {
                "date": day(p.at_ms), "version": p.version, "rows": p.rows, "of_rows": p.of_rows,
                "promoted": p.promoted, "why": p.why,
            }
            for p in replayed.promotions
        ],
        "labels_learned": replayed.labels_learned,
        "learner_share_of_blend": round(sum(weights) / len(weights), 3) if weights else 0.0,
        "next_order_date": next_order_figures(replayed.cuts, protocol, history),
        "drifts": [
            {"detected": day(d.detected_at_ms), "since": day(d.since_ms), "stream": d.stream,
             "reason": d.reason}
            for d in replayed.drifts
        ],
        "feature_groups": [asdict(group) for group in replayed.feature_groups],
        "records_refused": dict(replayed.refused),
        "steps": replayed.steps,
        "seconds": round(seconds, 1),
    }  # fmt: skip


_COLUMNS = {
    "event": ("auc", "average_precision", "lift_10", "log_loss", "brier", "ece"),
    "value": ("normalized_gini", "spearman", "mae", "bias", "decile_mape", "coverage_80"),
}


_GROUPS = ("group", "rows", "churn rate", "predicted", "AUC", "spend", "predicted / spent")
_ALERTS = (
    "", "alerts", "per customer", "right", "vain", "left", "reached", "days ahead (p10, p50, p90)",
)  # fmt: skip


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _group_rows(groups: dict[str, Any]) -> list[tuple[str, ...]]:
    names = {"orders": "orders", "value_tier": "value"}
    return [
        (
            f"{names[dimension]}: {group}", f"{of['n']:,}", f"{of['rate']:.1%}",
            f"{of['predicted']:.1%}", _number(of["auc"], ".3f"), f"{of['spend']:,.2f}",
            _number(of["bias"], ".3f"),
        )
        for dimension, by_group in groups.items()
        for group, of in by_group.items()
    ]  # fmt: skip


def _alert_rows(alerts: dict[str, Any]) -> list[tuple[str, ...]]:
    names = {"raised": "alerts as live", "weekly_threshold": "a threshold each week"}
    return [
        (
            names[how], f"{of['alerts']:,}", _number(of["alerts_per_customer"], ".2f"),
            _number(of["precision"], ".1%"), _number(of["vain_share"], ".1%"), f"{of['left']:,}",
            _number(of["reached_share"], ".1%"),
            ", ".join(f"{days:g}" for days in of["lead_days"].values()) or "-",
        )
        for how, of in alerts.items()
    ]  # fmt: skip


def _print_figures(measured: dict[str, Any], of_whom: str = "") -> None:
    for key, by_method in measured.items():
        columns = _COLUMNS["value" if key.startswith("value") else "event"]
        first = next(iter(by_method.values()))
        known = first.get("rate") is not None  # without rows there is none
        rate = f", {first['rate']:.1%} of them yes" if known else ""
        rows = []
        for method, values in by_method.items():
            cells = ["-" if values[c] is None else f"{values[c]:.4f}" for c in columns]
            if "auc_low" in values and values["auc_low"] is not None:
                cells[0] += f"  ({values['auc_low']:.3f} to {values['auc_high']:.3f})"
            rows.append((method, *cells))
        print_table(("method", *columns), rows, title=f"{key}{of_whom}: {first['n']:,} rows{rate}")
        click.echo()


def _print_long(long: dict[str, Any]) -> None:
    if long["why"]:
        click.echo(f"The value within {long['days']} days: {long['why']}\n")
    for group, words in (("customers", ""), ("one_order", ", customers with one order")):
        if long[group] is not None:
            _print_figures(
                {f"value_{long['days']}d": long[group]}, f" as of {long['as_of']}{words}"
            )


def _print(
    measured: dict[str, Any], of_few: dict[str, Any], long: dict[str, Any],
    about: dict[str, Any], features: Sequence[GroupGain],
) -> None:  # fmt: skip
    _print_figures(measured)
    _print_figures(of_few, ", customers with one order")
    if not of_few:
        click.echo(f"Customers with one order: {about['one_order']['why']}\n")
    _print_long(long)
    print_table(_GROUPS, _group_rows(about["groups"]), title="the live scores by group")
    click.echo()
    print_table(_ALERTS, _alert_rows(about["alerts"]), title="what would have been alerted")
    click.echo()
    print_groups(features, title="what the last champion's features give, on rows held back")
    click.echo()
    if about["challenger"] is not None:
        _print_challenger(about["challenger"])
    promoted = sum(c["promoted"] for c in about["champions"])
    click.echo(
        f"{about['orders']:,} orders of {about['users']:,} users, {about['from']} to "
        f"{about['to']}; {len(about['test_cuts'])} weekly cuts tested. {promoted} of "
        f"{len(about['champions'])} champions promoted, {about['labels_learned']:,} labels learned "
        f"online, their share of the blend {about['learner_share_of_blend']:.0%}. "
        f"{about['seconds']:.0f} s."
    )
    sampled = [c for c in about["champions"] if c["rows"] < c["of_rows"]]
    if sampled:
        most = max(c["of_rows"] for c in sampled)
        click.echo(
            f"{len(sampled)} of the champions learned from a sample of {sampled[0]['rows']:,} "
            f"rows, one per customer and week, of at most {most:,}."
        )
