"""The report's sections about customers: the scores by group, and what would have been alerted."""

from __future__ import annotations

import html
from typing import Any, Final

import numpy as np

from streams.core.features import DAY_MS
from streams.evaluation.alerted import Alerted
from streams.evaluation.measure import day
from streams.evaluation.plots import Series, chart

__all__ = ["alert_section", "by_group_section"]

_DIMENSIONS: Final = {
    "orders": "By orders so far",
    "value_tier": "By value tier (the top 10 % of expected spend are high, the next 30 % medium)",
}
_SHORT: Final = {"orders": "orders so far", "value_tier": "value tier"}
_METHODS: Final = {
    "raised": "alerts, as live",
    "weekly_threshold": "everybody over the threshold, each week",
}
_WEEK_MS: Final = 7 * DAY_MS


def by_group_section(groups: dict[str, Any]) -> str:
    """Churn and spend of each group: predicted beside what came. `groups` as in `--json`."""
    parts = [
        f"<figure><figcaption>{html.escape(_DIMENSIONS[name])}</figcaption>"
        f"{_group_chart(by_group)}</figure>"
        for name, by_group in groups.items()
    ]
    tables = "".join(_group_table(name, by_group) for name, by_group in groups.items())
    return (
        "<section><h2>For whom do the scores hold?</h2><p>The live scores on the rows of the test, "
        "by group of customers. A good average may hide a group that is judged wrongly.</p>"
        f'{tables}<div class="plots">{"".join(parts)}</div></section>'
    )


def _group_chart(by_group: dict[str, Any]) -> str:
    predicted = [(float(i), of["predicted"]) for i, of in enumerate(by_group.values())]
    seen = [(float(i), of["rate"]) for i, of in enumerate(by_group.values())]
    return chart(
        [Series("predicted", predicted, "m-blend", "bars"),
         Series("observed", seen, "m-seen", "bars")],
        title="Churn by group", x_label="group", y_label="churn",
        x_range=(-0.5, len(by_group) - 0.5),
        y_range=(0.0, 1.1 * max([y for _, y in predicted + seen], default=1.0) or 1.0),
        x_names=[(i, name) for i, name in enumerate(by_group)],
    )  # fmt: skip


def _group_table(name: str, by_group: dict[str, Any]) -> str:
    head = "".join(
        f"<th>{text}</th>"
        for text in ("rows", "customers", "churn", "predicted", "AUC", "log loss", "ECE",
                     "mean spend", "predicted", "predicted / spent")
    )  # fmt: skip
    rows = "".join(
        f"<tr><th>{html.escape(group)}</th><td>{of['n']:,}</td><td>{of['customers']:,}</td>"
        f"<td>{of['rate']:.1%}</td><td>{of['predicted']:.1%}</td>"
        f"<td>{_number(of['auc'], '.3f')}</td><td>{_number(of['log_loss'], '.4f')}</td>"
        f"<td>{_number(of['ece'], '.4f')}</td><td>{of['spend']:,.2f}</td>"
        f"<td>{of['expected_spend']:,.2f}</td><td>{_number(of['bias'], '.3f')}</td></tr>"
        for group, of in by_group.items()
    )
    return f'<div class="wide"><table><tr><th>{_SHORT[name]}</th>{head}</tr>{rows}</table></div>'


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def alert_section(alerts: dict[str, Alerted], horizon_days: int) -> str:
    """Alerts of the test: how many, right and vain, whom they reached and how early."""
    head = "".join(
        f"<th>{text}</th>"
        for text in ("alerts", "customers", "per customer", "right", "vain", "left",
                     "of them alerted", "days ahead: p10", "p50", "p90")
    )  # fmt: skip
    rows = ""
    for method, judged in alerts.items():
        of = judged.as_dict()
        leads = [_number(of["lead_days"].get(share), "g") for share in ("p10", "p50", "p90")]
        cells = (
            f"{of['alerts']:,}", f"{of['customers']:,}", _number(of["alerts_per_customer"], ".2f"),
            _number(of["precision"], ".1%"), _number(of["vain_share"], ".1%"), f"{of['left']:,}",
            _number(of["reached_share"], ".1%"), *leads,
        )  # fmt: skip
        rows += f"<tr><th>{_METHODS[method]}</th>{''.join(f'<td>{c}</td>' for c in cells)}</tr>"
    raised = alerts["raised"]
    plots = "".join(
        f"<figure><figcaption>{caption}</figcaption>{svg}</figure>"
        for caption, svg in (
            ("Alerts by week, and how many were right", _weeks(raised)),
            ("How many days before the fact the alert came", _leads(raised)),
        )
        if svg
    )
    return (
        "<section><h2>What would have been alerted?</h2><p>An alert is right if no order came "
        f"within {horizon_days} days after it, and vain if the customer was back as always, within "
        "a quarter more than their usual gap. A customer left if two horizons and twice their "
        "usual gap passed without an order; on the last of these days that is a fact, and an alert "
        "before it was so many days ahead.</p>"
        f'<div class="wide"><table><tr><th></th>{head}</tr>{rows}</table></div>'
        f'<div class="plots">{plots}</div></section>'
    )


def _weeks(judged: Alerted) -> str:
    if not len(judged.at_ms):
        return ""
    first = int(judged.at_ms[0])
    week = (judged.at_ms - first) // _WEEK_MS
    every = np.bincount(week)
    right = np.bincount(week[judged.right], minlength=len(every))
    step = max(1, len(every) // 5)
    return chart(
        [Series("alerts", list(enumerate(every.tolist())), "m-seen", "bars"),
         Series("right", list(enumerate(right.tolist())), "m-blend", "bars")],
        title="Alerts by week", x_label="week", y_label="alerts",
        x_range=(-0.5, len(every) - 0.5), y_range=(0.0, 1.1 * float(every.max())),
        x_names=[(i, day(first + i * _WEEK_MS)[5:]) for i in range(0, len(every), step)],
    )  # fmt: skip


def _leads(judged: Alerted) -> str:
    if not len(judged.lead_days):
        return ""
    bins = 12
    count, edges = np.histogram(judged.lead_days, bins=bins, range=(0.0, judged.lead_days.max()))
    return chart(
        [Series("customers", list(enumerate(count.tolist())), "m-blend", "bars")],
        title="Lead time", x_label="days ahead", y_label="customers",
        x_range=(-0.5, bins - 0.5), y_range=(0.0, 1.1 * float(count.max())),
        x_names=[(i, f"{edges[i]:.0f}") for i in range(0, bins, 2)],
    )  # fmt: skip
