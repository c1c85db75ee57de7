"""The rules of deploy/prometheus: they parse, fire when they should, and name what exists."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.deploy import files
from tests.deploy.files import PROMETHEUS, ROOT, RULES, alerts, records
from tests.deploy.promql import problems, selectors
from tests.deploy.scenarios import SCENARIOS, document
from tests.docs.pages import Page

ALERTS = alerts()
RUNBOOKS = ROOT / "deploy" / "runbooks"
INDEX = RUNBOOKS / "README.md"
PAGES = sorted(set(RUNBOOKS.glob("*.md")) - {INDEX})
each_alert = pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
each_page = pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is missing; install Debian's package prometheus")
    return subprocess.run(
        ["promtool", *map(str, arguments)], capture_output=True, text=True, check=False
    )


def test_promtool_takes_the_rules_and_the_configuration() -> None:
    config = PROMETHEUS / "prometheus.yml"
    for done in (promtool("check", "rules", *RULES), promtool("check", "config", config)):
        assert done.returncode == 0, done.stdout + done.stderr


def test_in_every_scenario_the_alerts_fire_that_should_and_no_others(tmp_path: Path) -> None:
    file = tmp_path / "scenarios.yml"
    file.write_text(yaml.safe_dump(document(RULES), sort_keys=False))
    done = promtool("test", "rules", file)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_fires_in_some_scenario_and_is_silent_in_another() -> None:
    fired = {alert for each in SCENARIOS for firing in each.expected.values() for alert in firing}
    assert fired == {alert.name for alert in ALERTS} - {"TidelineWatchdog"}
    assert SCENARIOS[0].series == {}, "the healthy shop, in which all are silent"


@each_alert
def test_an_alert_names_metrics_labels_and_values_that_exist(alert: files.Alert) -> None:
    assert list(selectors(alert.expression)) or alert.name == "TidelineWatchdog"
    assert problems(alert.expression, set(records())) == []


@pytest.mark.parametrize("name", records())
def test_a_recording_rule_names_metrics_labels_and_values_that_exist(name: str) -> None:
    assert problems(records()[name], set(records())) == []
    assert name.count(":") == 2, "level:metric:operation"


@pytest.mark.parametrize(
    ("expression", "wrong"),
    [
        ("tideline_no_such > 1", ["no metric tideline_no_such"]),
        ('tideline_shard_state{stat="running"}', ["tideline_shard_state has no label stat"]),
        ('tideline_shard_state{state=~"running|gone"}',
         ["tideline_shard_state: state is never running|gone"]),
        ("sum by (shards) (tideline_users)", ["no label shards"]),
        ("rate(tideline_users_total[5m])", ["no metric tideline_users_total"]),
    ],
)  # fmt: skip
def test_a_wrong_name_is_found(expression: str, wrong: list[str]) -> None:
    assert problems(expression, set()) == wrong


@each_alert
def test_an_alert_says_how_urgent_it_is_what_is_wrong_and_where_to_read_on(
    alert: files.Alert,
) -> None:
    assert alert.severity in {"page", "ticket", "none"}
    assert alert.summary
    runbook = ROOT / alert.runbook
    assert runbook in PAGES
    first_lines = runbook.read_text().split("\n## ")[0]
    assert f"`{alert.name}`" in first_lines
    line = f"| `{alert.name}` | {alert.severity} | [{runbook.read_text().splitlines()[0][2:]}]"
    assert f"{line}({runbook.name}) |" in INDEX.read_text()


def test_only_what_somebody_can_mend_at_night_wakes_somebody() -> None:
    paging = {alert.name for alert in ALERTS if alert.severity == "page"}
    assert paging == {
        "TidelineFreshnessBurnsFast", "TidelineFreshnessBurns", "TidelineConsumerStopped",
        "TidelineConsumerStalled", "TidelineDataLossNear", "TidelineMonitorBlind",
        "TidelineNoWorker", "TidelineCanaryLost",
    }  # fmt: skip


@each_page
def test_a_runbook_has_its_four_parts_and_names_alerts_that_exist(path: Path) -> None:
    text = path.read_text()
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == [
        "Meaning", "First look", "Fix", "Verify",
    ]  # fmt: skip
    named = set(re.findall(r"`(Tideline[A-Z]\w+)`", text))
    assert named
    assert named <= {alert.name for alert in ALERTS}
    assert any(f"`{alert.name}`" in text and alert.runbook.endswith(path.name) for alert in ALERTS)


@each_page
def test_a_runbook_names_metrics_and_rules_that_exist(path: Path) -> None:
    for span in Page(path.relative_to(ROOT).as_posix()).spans:
        if re.match(r"(up|tideline_\w+)\{|tideline:", span):
            assert problems(span, set(records())) == [], span
            used = {each.name for each in selectors(span) if ":" in each.name}
            assert used <= set(records()), span


def test_jobs_in_the_rules_are_those_of_the_configuration() -> None:
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    jobs = {each["job_name"] for each in config["scrape_configs"]}
    for alert in ALERTS:
        for selector in selectors(alert.expression):
            for label, operator, value in selector.matchers:
                if label == "job":
                    pattern = value if "~" in operator else re.escape(value)
                    assert any(re.fullmatch(pattern, job) for job in jobs), value
