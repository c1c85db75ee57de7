"""What is to be reached, beside what was measured.

A ratio is missed only if every round misses it: by more than the spread. A figure (a rate, a time,
bytes) depends on the machine, so it is reported as missed but fails nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from tests.bench.contenders import BASE, CONTENDERS, WHOLE, WHOLE_UNIFORM
from tests.bench.figures import Figure, ratio

__all__ = [
    "TARGETS",
    "Parts",
    "Target",
    "Verdict",
    "half_rate",
    "judge",
    "latency_curve",
    "rates",
    "ratios",
]

_MANY_USERS: Final = 950_000  # some of a million are never drawn
Parts = Mapping[str, Mapping[str, Any]]
"""Part -> what it measured, as in the results file."""


@dataclass(frozen=True)
class Target:
    """One line of the table. `measure` gives None where its part was not run."""

    name: str
    label: str
    kind: Literal["ratio", "figure"]
    goal: float
    at_least: bool
    unit: str
    measure: Callable[[Parts], Figure | None]


@dataclass(frozen=True)
class Verdict:
    """A target and what was measured; `state` is met, missed, or not measured."""

    target: Target
    measured: Figure | None

    @property
    def state(self) -> str:
        if self.measured is None:
            return "not measured"
        return "met" if self._reaches(self.measured.median) else "missed"

    @property
    def fails(self) -> bool:
        """A ratio that not even the best round reached."""
        if self.target.kind != "ratio" or self.measured is None:
            return False
        best = self.measured.high if self.target.at_least else self.measured.low
        return not self._reaches(best)

    def _reaches(self, value: float) -> bool:
        return value >= self.target.goal if self.target.at_least else value <= self.target.goal


def rates(parts: Parts) -> dict[str, Figure]:
    """Contender -> events per second, round by round."""
    rounds = parts.get("contenders", {}).get("rounds", {})
    return {
        name: Figure(tuple(o["events"] / o["seconds"] for o in outcomes))
        for name, outcomes in rounds.items()
        if outcomes
    }


def ratios(parts: Parts) -> dict[str, Figure]:
    """The whole job's rate over others', and how costs grow; what was not measured is left out."""
    found = {
        target.name: measured
        for target in TARGETS
        if target.kind == "ratio" and (measured := target.measure(parts)) is not None
    }
    return found


def judge(parts: Parts) -> list[Verdict]:
    """Every target's verdict, in the table's order."""
    return [Verdict(target, target.measure(parts)) for target in TARGETS]


def _rate(name: str) -> Callable[[Parts], Figure | None]:
    return lambda parts: rates(parts).get(name)


def _over(numerator: str, denominator: str) -> Callable[[Parts], Figure | None]:
    def measure(parts: Parts) -> Figure | None:
        known = rates(parts)
        if numerator not in known or denominator not in known:
            return None
        rounds = min(len(known[numerator].values), len(known[denominator].values))
        return ratio(known[numerator].values[:rounds], known[denominator].values[:rounds])

    return measure


def _over_best_peer(parts: Parts) -> Figure | None:
    known = rates(parts)
    peers = [c.name for c in CONTENDERS if c.kind == "peer" and c.name in known]
    if not peers:
        return None
    best = max(peers, key=lambda name: known[name].median)
    return _over(WHOLE, best)(parts)


def _grown(what: str, least: str, most: str) -> Callable[[Parts], Figure | None]:
    def measure(parts: Parts) -> Figure | None:
        sizes = parts.get("growth", {}).get(what, {})
        if least not in sizes or most not in sizes:
            return None
        return ratio(sizes[most], sizes[least])

    return measure


def _value(part: str, *path: str | int) -> Callable[[Parts], Figure | None]:
    def measure(parts: Parts) -> Figure | None:
        found: Any = parts.get(part)
        for key in path:
            if found is None:
                return None
            found = found[key] if isinstance(key, int) else found.get(key)
        return None if found is None else Figure((float(found),))

    return measure


def _of_a_million(part: str, *path: str | int) -> Callable[[Parts], Figure | None]:
    """As `_value`, if it was measured with about as many users as the target names."""
    measure = _value(part, *path)
    return lambda parts: (
        measure(parts) if parts.get(part, {}).get("users", 0) >= _MANY_USERS else None
    )


def _with_segments(parts: Parts) -> Figure | None:
    rounds = parts.get("segments", {}).get("events_per_second")
    if not rounds:
        return None
    return ratio(tuple(rounds["with"]), tuple(rounds["without"]))


def latency_curve(parts: Parts, name: str) -> list[tuple[float, Figure]]:
    """Rate -> `name` ("p50_ms" or "p99_ms") of each turn; infinite where a probe was lost."""
    found: dict[float, list[float]] = {}
    for point in parts.get("latency", {}).get("curve", ()):
        value = point[name]
        found.setdefault(point["rate"], []).append(float("inf") if value is None else value)
    return [(rate, Figure(tuple(values))) for rate, values in found.items()]


def half_rate(parts: Parts) -> float | None:
    """Half of the full rate, in events/s, if latency was measured there."""
    curve = parts.get("latency", {}).get("curve", ())
    return next((point["rate"] for point in curve if point["fraction"] == 0.5), None)


def _at_half(name: str) -> Callable[[Parts], Figure | None]:
    return lambda parts: dict(latency_curve(parts, name)).get(half_rate(parts) or 0.0)


def _last_over_first(parts: Parts) -> Figure | None:
    hours = parts.get("hour", {}).get("us_per_event")
    return Figure(tuple(fifths[-1] / fifths[0] for fifths in hours)) if hours else None


TARGETS: Final[tuple[Target, ...]] = (
    Target("whole_job", "whole job, Zipf users in bursts", "figure", 200_000, True,
           "events/s", _rate(WHOLE)),
    Target("over_faust", "whole job over Faust's one counter", "ratio", 100, True, "x",
           _over(WHOLE, BASE)),
    Target("whole_job_uniform", "whole job, users drawn uniformly", "figure", 120_000, True,
           "events/s", _rate(WHOLE_UNIFORM)),
    Target("over_fetch_decode", "whole job over raw fetch + msgspec decode", "ratio", 0.5, True,
           "x", _over(WHOLE, "fetch_decode")),
    Target("over_own_decode", "whole job over Tideline's own transport + decode", "ratio", 0.5,
           True, "x", _over(WHOLE, "tideline_decode")),
    Target("segments", "whole job with 20 segments and an audience, over without", "ratio", 0.9,
           True, "x", _with_segments),
    Target("over_best_peer", "whole job over the best peer's one counter", "ratio", 10, True,
           "x", _over_best_peer),
    Target("alert_p50", "event to alert at half the rate, p50", "figure", 150, False, "ms",
           _at_half("p50_ms")),
    Target("alert_p99", "event to alert at half the rate, p99", "figure", 1_000, False, "ms",
           _at_half("p99_ms")),
    Target("active_bytes", "memory per active user of 1 M, counted", "figure", 1_500, False,
           "bytes", _of_a_million("memory", "active", "counted")),
    Target("active_resident", "memory per active user of 1 M, resident", "figure", 1_500, False,
           "bytes", _of_a_million("memory", "active", "resident")),
    Target("dormant_bytes", "memory per dormant user, counted", "figure", 200, False, "bytes",
           _of_a_million("memory", "dormant", "counted")),
    Target("event_bytes", "memory that each event adds, windows full (flat: 0)", "figure", 0.5,
           False, "bytes", _value("hour", "steady", "bytes_per_event")),
    Target("partitions", "cost per event, 64 partitions over 1", "ratio", 1.15, False, "x",
           _grown("partitions", "1", "64")),
    Target("hour", "cost per event, end of an hour over its start", "ratio", 1.15, False, "x",
           _last_over_first),
    Target("users", "cost per event, 2 M users over 10 k", "ratio", 1.5, False, "x",
           _grown("users", "10000", "2000000")),
    Target("windows", "cost per event, 20 windows over 5", "ratio", 1.3, False, "x",
           _grown("windows", "5", "20")),
    Target("sweep", "full sweep of 1 M silent users", "figure", 3.0, False, "s of a core",
           _of_a_million("memory", "sweep", "cpu_seconds")),
    Target("sweep_longest", "longest step of that sweep", "figure", 50, False, "ms",
           _of_a_million("memory", "sweep", "longest_ms")),
    Target("restart", "restart with 1 M users, under load", "figure", 30, False, "s",
           _of_a_million("recovery", "restart_seconds")),
    Target("start", "worker's start to first batch, empty state, Apache Kafka", "figure", 3.0,
           False, "s", _value("start", "kafka", "seconds")),
    Target("start_local", "the same, local broker", "figure", 3.0, False, "s",
           _value("start", "tansu", "seconds")),
)  # fmt: skip
