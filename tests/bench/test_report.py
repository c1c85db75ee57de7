"""The summary, the benchmark page's block and the charts follow from the results file."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET

import msgspec
import pytest

from streams.ops.capacity import Measured
from tests.bench import charts, report
from tests.bench.contenders import CONTENDERS, WHOLE
from tests.bench.run import PARTS
from tests.bench.targets import TARGETS

RESULTS = report.load()


def test_the_summary_has_what_it_promises() -> None:
    found = report.summary(RESULTS)
    assert found["contenders"].keys() == RESULTS["parts"]["contenders"]["rounds"].keys()
    for contender in found["contenders"].values():
        assert contender.keys() == {"events_per_second", "spread"}
        assert contender["events_per_second"] > 0
    assert {"p50", "p99"} <= found["latency_ms"].keys()
    assert found["bytes_per_user"].keys() == {"active", "dormant"}
    assert set(found["targets_missed"]) <= {target.name for target in TARGETS}
    assert set(found["failed"]) <= set(found["targets_missed"])
    json.dumps(found)


def test_an_empty_results_file_makes_a_summary_too() -> None:
    found = report.summary({"parts": {}, "when": {}})
    assert found["contenders"] == found["ratios"] == found["latency_ms"] == {}
    assert report.draw({"parts": {}, "when": {}}) == {}


def test_the_recorded_results_are_complete() -> None:
    """The page shows every contender that was not left out, and of every part."""
    assert set(RESULTS["parts"]) == set(PARTS) == set(RESULTS["when"])
    known = set(RESULTS["parts"]["contenders"]["rounds"])
    left_out = set(RESULTS["parts"]["contenders"]["left_out"])
    assert known | left_out == {c.name for c in CONTENDERS}


@pytest.mark.parametrize("name", report.CHARTS)
def test_the_committed_charts_are_of_the_recorded_results(name: str) -> None:
    committed = (report.ROOT / report.CHARTS[name]).read_text()
    assert committed == report.draw(RESULTS)[name], "run: make bench ARGS=--record"


def test_the_capacity_figures_are_of_the_recorded_results() -> None:
    committed = json.loads((report.ROOT / "streams" / "ops" / "capacity_measured.json").read_text())
    assert committed == report.capacity_figures(RESULTS), "run: make bench ARGS=--record"
    msgspec.convert(committed, Measured)


def test_the_page_names_each_contender_and_target() -> None:
    block = report.page(RESULTS)
    for contender in CONTENDERS:
        if contender.name in RESULTS["parts"]["contenders"]["rounds"]:
            assert contender.label in block
    for target in TARGETS:
        assert f"| {target.label} |" in block
    assert "Versions: " in block


def test_the_ladder_adds_up() -> None:
    steps = report.ladder(RESULTS["parts"])
    whole = report.ladder({"contenders": {"rounds": {WHOLE: [
        {"events": 10, "seconds": 1.0, "cpu_seconds": 1e-5}]}}})  # fmt: skip
    ((label, cost, added),) = whole
    assert label == "+ ClickHouse: the whole job"
    assert cost == added == pytest.approx(1.0)
    assert sum(added for *_, added in steps) == pytest.approx(steps[-1][1])


def numbers(svg: str, tag: str, name: str) -> list[float]:
    found = ET.fromstring(svg).iter(f"{{http://www.w3.org/2000/svg}}{tag}")  # noqa: S314
    return [float(element.attrib[name]) for element in found]


def test_bars_are_as_long_as_the_logarithm_of_their_rates() -> None:
    made = [charts.Bar(str(v), v, v, v, "peer") for v in (10.0, 100.0, 1_000.0)]
    svg = charts.bars("t", "s", made, ())
    widths = numbers(svg, "rect", "width")[1:]
    assert widths[0] == 0.0
    assert widths[2] == pytest.approx(2 * widths[1], abs=0.2)


def test_a_curve_shows_every_point_where_it_belongs() -> None:
    line = charts.Line("p50", [(100.0, 10.0), (200.0, 100.0), (400.0, 1_000.0)], "p50")
    svg = charts.curve("t", "s", [line], "x", "y")
    xs, ys = numbers(svg, "circle", "cx"), numbers(svg, "circle", "cy")
    assert xs[2] - xs[1] == pytest.approx(2 * (xs[1] - xs[0]), abs=0.2)
    assert ys[0] - ys[1] == pytest.approx(ys[1] - ys[2], abs=0.2)
    assert ys == sorted(ys, reverse=True)


def test_words_in_a_chart_can_be_anything() -> None:
    svg = charts.bars('a < b & "c"', "", [charts.Bar("<&>", 1.0, 1.0, 2.0, "peer")], ())
    assert ET.fromstring(svg).attrib["aria-label"] == 'a < b & "c"'  # noqa: S314


def test_a_chart_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        charts.bars("t", "s", (), ())
    with pytest.raises(ValueError, match="at least one"):
        charts.curve("t", "s", [charts.Line("p50", (), "p50")], "x", "y")
