"""What is reported of the results: the JSON summary, the block of docs/benchmark.md, and charts.

The results file holds what each part measured, when, and on what: `{"parts": {name: {...}},
"when": {name: {...}}}`. Everything else here follows from it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from tests.bench import charts
from tests.bench.contenders import CONTENDERS, WHOLE, WHOLE_UNIFORM
from tests.bench.figures import Figure
from tests.bench.load import SHAPES
from tests.bench.targets import Verdict, half_rate, judge, latency_curve, rates, ratios

__all__ = ["CHARTS", "RESULTS", "capacity_figures", "conditions", "draw", "ladder", "load",
           "page", "rows", "shown", "summary"]  # fmt: skip

ROOT: Final = Path(__file__).parents[2]
RESULTS: Final = ROOT / "tests" / "bench" / "results.json"
"""What docs/benchmark.md shows; written by `make bench ARGS=--record`."""
CHARTS: Final = {"throughput": "docs/bench-throughput.svg", "latency": "docs/bench-latency.svg"}
_LEGEND: Final = (
    ("peer", "one counter, one window"),
    ("floor", "no work but fetching"),
    ("tideline", "Tideline, layer by layer"),
    ("whole", "Tideline, the whole job"),
)


def load(path: Path = RESULTS) -> dict[str, Any]:
    """The results file; an empty one if there is none yet."""
    if not path.exists():
        return {"parts": {}, "when": {}}
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def summary(results: Mapping[str, Any]) -> dict[str, Any]:
    """What `make bench ARGS=--json` prints: the medians, then everything that was measured."""
    parts = results["parts"]
    half = half_rate(parts)
    memory = parts.get("memory", {})
    return {
        "contenders": {
            name: {"events_per_second": round(rate.median), "spread": round(rate.spread, 3)}
            for name, rate in rates(parts).items()
        },
        "ratios": {
            name: {"value": round(found.median, 3), "spread": round(found.spread, 3)}
            for name, found in ratios(parts).items()
        },
        "latency_ms": {
            **{name: _finite(dict(latency_curve(parts, f"{name}_ms"))[half].median)
               for name in ("p50", "p99")},
            "events_per_second": half,
        } if half else {},
        "bytes_per_user": {
            kind: {way: round(value) for way, value in memory[kind].items()}
            for kind in ("active", "dormant")
            if kind in memory
        },
        "targets_missed": [v.target.name for v in judge(parts) if v.state == "missed"],
        "failed": [v.target.name for v in judge(parts) if v.fails],
        **results,
    }  # fmt: skip


def shown(value: float, unit: str) -> str:
    """A figure with its unit, to three digits or so."""
    number = f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{number}{unit}" if unit == "x" else f"{number} {unit}"


def rows(verdicts: list[Verdict]) -> list[tuple[str, str, str, str]]:
    """Of the table of targets: what, target, measured with its rounds, and the state."""
    found = []
    for verdict in verdicts:
        target, measured = verdict.target, verdict.measured
        goal = f"{'>=' if target.at_least else '<='} {shown(target.goal, target.unit)}"
        if measured is None:
            value = "-"
        elif measured.median == float("inf"):
            value = "not all arrived"
        else:
            value = shown(measured.median, target.unit)
            if len(measured.values) > 1:
                low, high = (shown(v, "").strip() for v in (measured.low, measured.high))
                value += f" ({low} to {high})"
        found.append((target.label, goal, value, verdict.state))
    return found


def ladder(parts: Mapping[str, Any]) -> list[tuple[str, float, float]]:
    """Tideline's layers: (label, CPU microseconds per event up to it, what it adds)."""
    rounds = parts.get("contenders", {}).get("rounds", {})
    found, before = [], 0.0
    for contender in CONTENDERS:
        outcomes = rounds.get(contender.name)
        if contender.kind != "tideline" or contender.name == WHOLE_UNIFORM or not outcomes:
            continue
        cost = Figure(tuple(o["cpu_seconds"] / o["events"] * 1e6 for o in outcomes)).median
        found.append((contender.label, cost, cost - before))
        before = cost
    return found


def conditions(results: Mapping[str, Any]) -> str:
    """When, on what, and with which versions, in one paragraph."""
    when = results.get("when", {})
    if not when:
        return "Nothing was measured yet."
    newest = max(when.values(), key=lambda w: w["at"])
    machine = newest["machine"]
    days = sorted({w["at"][:10] for w in when.values()})
    versions = dict(machine["versions"])
    for outcomes in results["parts"].get("contenders", {}).get("rounds", {}).values():
        for outcome in outcomes:
            versions |= outcome.get("versions", {})
    listed = ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))
    return (
        f"Measured {days[0]}{f' to {days[-1]}' if len(days) > 1 else ''} on {machine['cores']} "
        f"cores ({machine['processor']}, {machine['memory_gb']} GB), Python {machine['python']}, "
        f"broker {newest['broker']}. The contender has one core; broker, ClickHouse and the "
        f"benchmark share the other. Versions: {listed}."
    )


def draw(results: Mapping[str, Any]) -> dict[str, str]:
    """Chart -> its SVG, for those that there are figures for."""
    parts = results["parts"]
    drawn = {}
    known = rates(parts)
    bars = []
    for contender in CONTENDERS:
        if contender.name not in known:
            continue
        rate = known[contender.name]
        whole = contender.name in (WHOLE, WHOLE_UNIFORM)
        colour = "whole" if whole else contender.kind
        bars.append(charts.Bar(contender.label, rate.median, rate.low, rate.high, colour))
    if bars:
        drawn["throughput"] = charts.bars(
            "Events per second, one process on one core",
            "Peers count one thing in one window per user; Tideline's last two bars do the whole "
            "job.",
            bars, _LEGEND,
        )  # fmt: skip
    lines = []
    for name in ("p50", "p99"):
        medians = [(rate, turns.median) for rate, turns in latency_curve(parts, f"{name}_ms")]
        points = [(rate, ms) for rate, ms in medians if math.isfinite(ms)]
        lines.append(charts.Line(name, points, name))
    if any(line.points for line in lines):
        drawn["latency"] = charts.curve(
            "From an event being due to its alert being readable",
            "Open-loop load: events are sent on time, whatever became of the earlier ones. "
            "Medians of turns.",
            lines, "events per second", "milliseconds",
        )  # fmt: skip
    return drawn


def _finite(value: float) -> float | None:
    """JSON knows no infinity."""
    return value if math.isfinite(value) else None


def page(results: Mapping[str, Any]) -> str:
    """The block of docs/benchmark.md: charts, each contender's rates, targets beside results."""
    parts = results["parts"]
    known = rates(parts)
    charts_beside = {name: Path(chart).name for name, chart in CHARTS.items()}
    lines = [f"![Events per second of each contender]({charts_beside['throughput']})", ""]
    lines += [
        "| Contender | events/s | lowest to highest round | CPU µs/event |",
        "| --- | ---: | --- | ---: |",
    ]
    for contender in CONTENDERS:
        if contender.name not in known:
            continue
        rate, outcomes = known[contender.name], parts["contenders"]["rounds"][contender.name]
        cost = Figure(tuple(o["cpu_seconds"] / o["events"] * 1e6 for o in outcomes)).median
        spread = f"{rate.low:,.0f} to {rate.high:,.0f}" if len(outcomes) > 1 else ""
        lines.append(f"| {contender.label} | {rate.median:,.0f} | {spread} | {cost:.2f} |")
    for name, why in parts.get("contenders", {}).get("left_out", {}).items():
        lines.append(f"| {name} | left out: {why.splitlines()[0]} | | |")
    lines += ["", "| Target | | Measured | |", "| --- | --- | --- | --- |"]
    lines += [f"| {' | '.join(row)} |" for row in rows(judge(parts))]
    if parts.get("latency", {}).get("curve"):
        lines += ["", f"![Latency over rate]({charts_beside['latency']})"]
    if "two_workers" in parts:
        lines += ["", _two_workers(parts["two_workers"])]
    shapes = "; ".join(f"{shape.name}: {shape.label}" for shape in SHAPES.values())
    lines += ["", f"{conditions(results)} Loads: {shapes}; 5 % orders."]
    return "\n".join(lines)


def _two_workers(found: Mapping[str, Any]) -> str:
    return (
        f"Two workers, one on each core, which they share with broker and ClickHouse: "
        f"{found['events_per_second']:,.0f} events/s together, {found['speedup']:.2f} times one "
        f"worker that has a core for itself; {found['cpu_us_per_event']:.2f} µs of worker CPU per "
        f"event instead of {found['one_cpu_us_per_event']:.2f}."
    )


def capacity_figures(results: Mapping[str, Any]) -> dict[str, Any] | None:
    """`streams/ops/capacity_measured.json`; None while a part that it needs is missing."""
    parts = results["parts"]
    rounds = parts.get("contenders", {}).get("rounds", {})
    if not {WHOLE, WHOLE_UNIFORM} <= rounds.keys() or not {"memory", "hour", "recovery"} <= (
        parts.keys()
    ):
        return None

    def median_cost(name: str, key: str) -> float:
        return round(Figure(tuple(o["costs"][key] for o in rounds[name])).median, 4)

    keys = ("worker_cpu_us", "broker_cpu_us", "clickhouse_cpu_us", "fetch_bytes", "journal_bytes",
            "insert_rows")  # fmt: skip
    loads = {"realistic": WHOLE, "worst case": WHOLE_UNIFORM}
    machine = results["when"]["contenders"]["machine"]
    return {
        "date": results["when"]["contenders"]["at"][:10],
        "conditions": f"{machine['processor']}, one core per worker, Python {machine['python']}, "
        f"{results['when']['contenders']['broker']}, whole job, batches of a backlog",
        "loads": {
            load: {key: median_cost(name, key) for key in keys} for load, name in loads.items()
        },
        "row_bytes": median_cost(WHOLE, "row_bytes"),
        "user_bytes": round(parts["memory"]["active"]["resident"]),
        "user_day_bytes": round(parts["hour"]["user_day_bytes"]),
        "event_id_bytes": round(parts["hour"]["id_bytes"], 2),
        "checkpoint_user_bytes": parts["recovery"]["checkpoint_bytes_per_user"],
        "worker_base_bytes": round(parts["memory"]["base"]),
    }
