"""The HTML report: one file, no script and nothing to fetch, so that it opens anywhere."""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from models.baselines.metrics import auc, normalised_gini
from streams.evaluation import curves
from streams.evaluation.alerted import Alerted
from streams.evaluation.measure import CHALLENGERS, PROBABILITIES, Task, day
from streams.evaluation.plots import Series, chart
from streams.evaluation.report_customers import alert_section, by_group_section

__all__ = ["render"]

_NAMES: Final = {
    "blend": "live (blend)", "champion": "champion", "learner": "learner", "bgnbd": "BG/NBD",
    "bgnbd_gg": "BG/NBD × Gamma-Gamma", "rfm": "RFM", "gap": "silence / own gap",
    "recency": "recency", "past_spend": "own past spend", "live": "live", "sequence": "sequence",
    "pooled": "champion and sequence, pooled",
}  # fmt: skip
_HEADINGS: Final = {
    "auc": "AUC", "average_precision": "avg. precision", "lift_10": "lift, top 10 %",
    "log_loss": "log loss", "brier": "Brier", "ece": "ECE",
    "normalized_gini": "norm. Gini", "spearman": "Spearman", "mae": "MAE",
    "bias": "predicted / spent", "decile_mape": "decile MAPE",
    "coverage_80": "in 80 % interval",
}  # fmt: skip
_QUESTIONS: Final = {
    "churn": "Who will not order within {h} days?",
    "partial": "Who will spend less than half of their own mean over {h} days?",
    "next_visit": "Who will order within 7 days?",
    "value": "How much will each customer spend in {h} days, net of returns?",
}
_LONG_GROUPS: Final = {
    "customers": "Customers with two orders or more", "one_order": "Customers with one order"
}  # fmt: skip
_OURS: Final = ("blend", "champion", "learner", *CHALLENGERS)
_UNIT: Final = (0.0, 1.0)
_COMPARED: Final = ("blend", "bgnbd", "bgnbd_gg", "rfm", "recency", "past_spend")
_HIGHER_IS_BETTER: Final = {"auc", "average_precision", "lift_10", "normalized_gini", "spearman"}


def render(
    found: dict[str, Task],
    measured: dict[str, Any],
    about: dict[str, Any],
    alerts: dict[str, Alerted],
    one_order: dict[str, Any],
    long: dict[str, Any],
) -> str:
    """The whole page. `measured`, `about`, `one_order` and `long` are what `--json` prints."""
    sections = [_section(task, measured[task.key], about) for task in found.values()]
    title = f"How good the scores are: {about['orders_from']}"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{_CSS}</style></head><body><main>"
        f"<h1>{html.escape(title)}</h1>{_intro(about)}{_tiles(found, measured)}"
        f"{''.join(sections)}{_one_order(one_order, about)}{_long(long)}"
        f"{by_group_section(about['groups'])}"
        f"{alert_section(alerts, about['horizon_days'])}{_champions(about)}</main></body></html>\n"
    )


def _intro(about: dict[str, Any]) -> str:
    eligible, tested = about["eligible"], about["test_cuts"]
    return (
        f"<p>{about['orders']:,} orders of {about['users']:,} customers, {about['from']} to "
        f"{about['to']}, replayed in the order of time through the code that scores live. At "
        f"{len(tested)} weekly cuts, {tested[0]} to {tested[-1]}, everybody with at least "
        f"{eligible['min_orders']} orders, the last one within "
        f"{eligible['active_within_days']} days, was scored with what was known by then, and "
        "compared with what came. No label taught anything before its horizon had passed.</p>"
        f"<p>{html.escape(about['rhythm']['says'])}</p>"
    )


def _tiles(found: dict[str, Task], measured: dict[str, Any]) -> str:
    tiles = []
    for name, task in found.items():
        metric = "normalized_gini" if name == "value" else "auc"
        ours = measured[task.key]["blend"][metric]
        others = {
            method: values[metric]
            for method, values in measured[task.key].items()
            if method not in _OURS and values[metric] is not None
        }
        if ours is None or not others:
            continue
        best = max(others, key=lambda method: others[method])
        tiles.append(
            f'<div class="tile"><b>{ours:.3f}</b><span>{html.escape(task.key)}: '
            f"{_HEADINGS[metric]}</span><span>best baseline {others[best]:.3f} "
            f"({_NAMES[best]})</span></div>"
        )
    return f'<div class="tiles">{"".join(tiles)}</div>'


def _section(task: Task, values: dict[str, Any], about: dict[str, Any]) -> str:
    question = _QUESTIONS[task.name].format(h=about["horizon_days"])
    plots = _value_plots(task) if task.name == "value" else _event_plots(task)
    figures = "".join(
        f"<figure><figcaption>{html.escape(caption)}</figcaption>{svg}</figure>"
        for caption, svg in plots
    )
    rate = "" if task.name == "value" else f" It happened in {task.truth.mean():.1%} of them."
    return (
        f"<section><h2>{html.escape(question)}</h2><p>{len(task.truth):,} rows of "
        f"{len(np.unique(task.user)):,} customers.{rate}</p>{_table(values)}"
        f'<div class="plots">{figures}</div></section>'
    )


def _one_order(measured: dict[str, Any], about: dict[str, Any]) -> str:
    """The figures of customers with one order, or why there are none."""
    said = about["one_order"]["why"] or (
        "They have no gap of their own to compare silence to, so less can be known of them: "
        "their model is another one, and they get no alerts."
    )
    tables = "".join(
        f"<h3>{html.escape(_QUESTIONS[key.rsplit('_', 1)[0]].format(h=about['horizon_days']))}</h3>"
        f"<p>{next(iter(values.values()))['n']:,} rows.</p>{_table(values)}"
        for key, values in measured.items()
    )
    said = said[0].upper() + said[1:]
    return f"<section><h2>Customers with one order</h2><p>{html.escape(said)}</p>{tables}</section>"


def _long(long: dict[str, Any]) -> str:
    """The figures of the long horizon, or why there are none."""
    days, seen = long["days"], long["seen_days"]
    said = f"Asked once, on {long['as_of']}, with what was known by then: spend within {seen} days"
    said += "." if seen >= days else ". What comes later is extrapolated."
    tables = "".join(
        f"<h3>{words}</h3><p>{long[group]['live']['n']:,} rows.</p>{_table(long[group])}"
        for group, words in _LONG_GROUPS.items()
        if long[group] is not None
    )
    return (
        f"<section><h2>How much will each customer spend in {days} days?</h2>"
        f"<p>{html.escape(long['why'] or said)}</p>{tables}</section>"
    )


def _table(values: dict[str, Any]) -> str:
    first = next(iter(values.values()))
    columns = [c for c in _HEADINGS if c in first]
    best = {c: _best(values, c) for c in columns}
    rows = []
    for method, figures in values.items():
        cells = []
        for column in columns:
            value = figures[column]
            text = "–" if value is None else f"{value:.4f}" if column != "mae" else f"{value:.2f}"
            if column == "auc" and figures.get("auc_low") is not None:
                text += f" <small>{figures['auc_low']:.3f}–{figures['auc_high']:.3f}</small>"
            css = ' class="best"' if value is not None and value == best[column] else ""
            cells.append(f"<td{css}>{text}</td>")
        rows.append(f"<tr><th>{_NAMES[method]}</th>{''.join(cells)}</tr>")
    head = "".join(f"<th>{_HEADINGS[c]}</th>" for c in columns)
    return f'<div class="wide"><table><tr><th></th>{head}</tr>{"".join(rows)}</table></div>'


def _best(values: dict[str, Any], column: str) -> float | None:
    known = [figures[column] for figures in values.values() if figures[column] is not None]
    if not known:
        return None
    if column == "bias":
        return float(min(known, key=lambda v: abs(v - 1.0)))
    return float(max(known) if column in _HIGHER_IS_BETTER else min(known))


def _methods(task: Task) -> list[str]:
    return [method for method in task.scores if method in _COMPARED]


def _lines(task: Task, points: Callable[[Any, Any], Any], methods: list[str]) -> list[Series]:
    return [Series(_NAMES[m], points(task.truth, task.scores[m]), f"m-{m}") for m in methods]


def _event_plots(task: Task) -> list[tuple[str, str]]:
    methods = _methods(task)
    diagonal = Series("", [(0, 0), (1, 1)], "", "guide")
    rate = float(task.truth.mean())
    probable = [m for m in methods if m in PROBABILITIES[task.name]]
    dots = [
        Series(_NAMES[m], curves.calibration(task.truth, task.scores[m]), f"m-{m}", kind)
        for m in probable
        for kind in ("dots",)
    ]
    top = min(1.0, 1.08 * max((max(a, b) for s in dots for a, b in s.points), default=1.0))
    deciles = curves.decile_means(task.truth.astype(np.float64), task.scores["blend"])
    high = 1.1 * max(max(a, b) for a, b in deciles)
    return [
        ("ROC: churners found against false alarms" if task.name == "churn" else "ROC",
         chart([diagonal, *_lines(task, curves.roc_curve, methods)], title="ROC",
               x_label="false positive rate", y_label="true positive rate",
               x_range=_UNIT, y_range=_UNIT)),
        ("Precision and recall",
         chart([Series("", [(0, rate), (1, rate)], "", "guide"),
                *_lines(task, curves.pr_curve, methods)], title="Precision and recall",
               x_label="recall", y_label="precision", x_range=_UNIT, y_range=_UNIT)),
        ("Calibration: does 30 % mean 30 %? (tenths of the rows)",
         chart([Series("", [(0, 0), (top, top)], "", "guide"), *dots], title="Calibration",
               x_label="predicted", y_label="observed", x_range=(0, top), y_range=(0, top))),
        ("Gains: share found when contacting so many",
         chart([diagonal, *_lines(task, curves.gains, methods)], title="Gains",
               x_label="share of customers, highest scores first", y_label="share found",
               x_range=_UNIT, y_range=_UNIT)),
        ("By tenth of the live score: predicted and observed",
         _deciles(deciles, high, "rate")),
        ("AUC by week", _over_time(task, methods, auc, "AUC")),
    ]  # fmt: skip


def _value_plots(task: Task) -> list[tuple[str, str]]:
    methods = _methods(task)
    predicted, spent = task.scores["blend"], task.truth
    deciles = curves.decile_means(spent, predicted)
    fine = [(max(a, 1.0), max(b, 1.0)) for a, b in curves.decile_means(spent, predicted, 50)]
    low = min(min(p) for p in fine) * 0.8
    high = max(max(p) for p in fine) * 1.25
    diagonal = Series("", [(0, 0), (1, 1)], "", "guide")
    perfect = Series("perfect order", curves.value_gains(spent, spent), "m-perfect")
    return [
        ("Value predicted against actual (50 groups of customers)",
         chart([Series("", [(low, low), (high, high)], "", "guide"),
                Series("", fine, "m-blend", "dots")], title="Predicted against actual",
               x_label="mean predicted (log)", y_label="mean actual (log)",
               x_range=(low, high), y_range=(low, high), logarithmic=True)),
        ("By tenth of the prediction: predicted and actual mean",
         _deciles(deciles, 1.1 * max(max(a, b) for a, b in deciles), "mean spend")),
        ("Gains: share of all spend held by so many",
         chart([diagonal, *_lines(task, curves.value_gains, methods), perfect], title="Gains",
               x_label="share of customers, highest predictions first", y_label="share of spend",
               x_range=(0, 1), y_range=(0, 1))),
        ("Normalised Gini by week", _over_time(task, methods, normalised_gini, "norm. Gini")),
    ]  # fmt: skip


def _deciles(deciles: list[tuple[float, float]], high: float, what: str) -> str:
    return chart(
        [
            Series("predicted", [(i, a) for i, (a, _) in enumerate(deciles)], "m-blend", "bars"),
            Series("observed", [(i, b) for i, (_, b) in enumerate(deciles)], "m-seen", "bars"),
        ],
        title="Deciles", x_label="tenth, lowest first", y_label=what,
        x_range=(-0.5, len(deciles) - 0.5), y_range=(0.0, high),
        x_names=[(i, str(i + 1)) for i in range(len(deciles))],
    )  # fmt: skip


def _over_time(
    task: Task, methods: list[str], metric: Callable[[Any, Any], float], name: str
) -> str:
    cuts = np.unique(task.cut_ms)
    lines = []
    for method in methods:
        points = []
        for i, cut in enumerate(cuts):
            at = task.cut_ms == cut
            value = metric(task.truth[at], task.scores[method][at])
            if np.isfinite(value):
                points.append((float(i), float(value)))
        lines.append(Series(_NAMES[method], points, f"m-{method}"))
    values = [v for line in lines for _, v in line.points] or [0.0, 1.0]
    margin = 0.1 * (max(values) - min(values)) or 0.05
    step = max(1, len(cuts) // 5)
    return chart(
        lines, title=f"{name} by week", x_label="week of the cut", y_label=name,
        x_range=(0.0, max(len(cuts) - 1.0, 1.0)),
        y_range=(min(values) - margin, max(values) + margin),
        x_names=[(i, day(int(cuts[i]))[5:]) for i in range(0, len(cuts), step)],
    )  # fmt: skip


def _drifts(about: dict[str, Any]) -> str:
    if not about["drifts"]:
        return "<p>No change of customers was noticed (Page-Hinkley tests on matured labels).</p>"
    rows = "".join(
        f'<tr><td>{d["detected"]}</td><td>{d["since"]}</td><td class="prose">'
        f"{html.escape(d['reason'])}</td></tr>"
        for d in about["drifts"]
    )
    return (
        "<p>Changes of customers that the learner noticed (Page-Hinkley tests on matured labels, "
        "so a horizon after the fact):</p>"
        '<div class="wide"><table class="left"><tr><th>noticed</th><th>since about</th>'
        f"<th>what</th></tr>{rows}</table></div>"
    )


def _dates(about: dict[str, Any]) -> str:
    dates = about["next_order_date"]
    if not dates["n"]:
        return ""
    return (
        f"<p>Of {dates['n']:,} expected dates of a next order, {dates['ordered_by_then']:.0%} saw "
        "it come by then; half of them should.</p>"
    )


def _champions(about: dict[str, Any]) -> str:
    rows = "".join(
        f"<tr><td>{c['date']}</td><td>{html.escape(c['version'])}</td><td>{_rows(c)}</td>"
        f"<td>{'promoted' if c['promoted'] else 'refused'}</td>"
        f"<td>{html.escape(c['why'])}</td></tr>"
        for c in about["champions"]
    )
    return (
        "<section><h2>Champions along the way</h2><p>Every four weeks a challenger was trained on "
        "what had matured two weeks before, and promoted only if it did better on what had matured "
        f"since. The online learner took in {about['labels_learned']:,} labels; its share of the "
        f"blend was {about['learner_share_of_blend']:.0%} on average.</p>"
        '<div class="wide"><table class="left"><tr><th>date</th><th>champion</th>'
        f"<th>rows</th><th></th><th>on later rows, champion → challenger</th></tr>{rows}"
        f"</table></div>{_drifts(about)}{_dates(about)}"
        "<p><small>BG/NBD and Gamma-Gamma are fitted to all "
        "customers at the same "
        "times as the champions. Intervals are 95 %, from 200 draws of customers. ECE: ten bins "
        "of equal mass. Partial defection, the next visit and value have no online learner: "
        "there the live score is the champion’s.</small></p></section>"
    )


def _rows(champion: dict[str, Any]) -> str:
    rows, there = champion["rows"], champion["of_rows"]
    return f"{rows:,}" if rows == there else f"{rows:,}, a sample of {there:,}"


_CSS: Final = """
:root{--ink:#1c2430;--soft:#5d6878;--line:#dde3ea;--paper:#fff;--tile:#f4f7fa;--blend:#0b5fc0;
--seen:#e08214;--other:#8a95a5;--third:#2a9d7c;--fourth:#b0468c}
@media (prefers-color-scheme:dark){:root{--ink:#e6ebf2;--soft:#9aa6b6;--line:#303a47;
--paper:#141a22;--tile:#1c242f;--blend:#5aa2f5;--seen:#f0a04b;--other:#7f8b9b;--third:#4fc3a1;
--fourth:#d67ab8}}
*{box-sizing:border-box}body{margin:0;background:var(--paper);color:var(--ink);
font:16px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif}
main{max-width:1340px;margin:0 auto;padding:24px 20px 60px}
h1{font-size:28px;margin:0 0 8px}h2{font-size:21px;margin:44px 0 4px}p{margin:6px 0 14px;
max-width:78ch}small{color:var(--soft);font-weight:400}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(220px,1fr));gap:12px;
margin-top:18px}
.tile{background:var(--tile);border-radius:8px;padding:12px 16px}
.tile b{display:block;font-size:30px;line-height:1.2}.tile span{display:block;font-size:14px;
color:var(--soft)}
.wide{overflow-x:auto}table{border-collapse:collapse;font-size:14px;
font-variant-numeric:tabular-nums}
th,td{padding:5px 12px;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}
td.prose{white-space:normal;min-width:40ch;max-width:90ch}
tr>th:first-child,.left th,.left td{text-align:left}th{font-weight:600}td.best{font-weight:700}
.plots{display:grid;grid-template-columns:repeat(auto-fill,minmax(340px,1fr));gap:22px;
margin-top:20px}
figure{margin:0}figcaption{font-size:14px;font-weight:600;margin-bottom:4px}svg{width:100%;
height:auto;display:block}
.grid{stroke:var(--line)}.axis{stroke:var(--soft)}.tick{font-size:11px;fill:var(--soft)}
.label{font-size:12px;fill:var(--soft)}
.line{fill:none;stroke-width:1.7}.guide{fill:none;stroke:var(--soft);stroke-dasharray:4 4}
.legend{display:flex;flex-wrap:wrap;gap:4px 14px;font-size:13px;color:var(--soft);
padding-left:52px}
.key{display:inline-block;width:14px;height:4px;border-radius:2px;margin-right:6px;
vertical-align:middle}
.line.m-blend{stroke:var(--blend);stroke-width:2.6}.dot.m-blend,.bar.m-blend{fill:var(--blend)}
.key.m-blend{background:var(--blend)}
.bar.m-seen{fill:var(--seen)}.key.m-seen{background:var(--seen)}
.line.m-bgnbd,.line.m-bgnbd_gg{stroke:var(--seen)}.dot.m-bgnbd{fill:var(--seen)}
.key.m-bgnbd,.key.m-bgnbd_gg{background:var(--seen)}
.line.m-rfm{stroke:var(--third)}.key.m-rfm{background:var(--third)}
.line.m-recency,.line.m-past_spend{stroke:var(--fourth)}
.key.m-recency,.key.m-past_spend{background:var(--fourth)}
.line.m-perfect{stroke:var(--other);stroke-dasharray:2 3}.key.m-perfect{background:var(--other)}
@media print{section{break-inside:avoid}}
"""
