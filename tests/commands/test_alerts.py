"""`tideline alerts`: the report's table, and that both names explain an alert."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner

from streams.cli import tideline
from streams.commands.alerts import alert_table
from streams.evaluation.alerted import Alerted
from tests.evaluation.shops import weekly, write


def test_table_has_a_dash_where_there_is_nothing_to_share() -> None:
    nothing = Alerted(np.empty(0, np.int64), np.empty(0, np.bool_), 0, 0, 0, np.empty(0))
    some = Alerted(
        np.arange(4), np.array([True, True, False, True]), 1, 2, 8, np.array([3.0, 5.0]),
        np.array([-4.0, 6.0]),
    )  # fmt: skip
    empty, full = alert_table({"raised": nothing, "weekly_threshold": some})
    assert empty == ("as live", "0", "0", "-", "-", "-", "0", "-", "-", "-", "-")
    assert full == (
        "a threshold each week", "4", "2", "2.00", "75.0%", "25.0%", "8", "25.0%",
        "4 (3.2 to 4.8)", "12.5%", "1 (-3 to 5)",
    )  # fmt: skip


@pytest.mark.parametrize("args", [["alert", "explain"], ["alerts", "explain"]])
def test_both_names_explain_an_alert(args: list[str]) -> None:
    shown = CliRunner().invoke(tideline, [*args, "--help"], prog_name="tideline")
    assert shown.exit_code == 0
    assert "Where an alert comes from" in shown.output


@pytest.mark.parametrize("args", [[], ["--orders", "x.csv", "--dataset", "completejourney"]])
def test_report_asks_for_one_history(args: list[str]) -> None:
    shown = CliRunner().invoke(tideline, ["alerts", "report", *args], prog_name="tideline")
    assert shown.exit_code == 2
    assert "Name either --orders FILE or --dataset completejourney" in shown.output


@pytest.mark.full
def test_report_is_of_the_alerts_that_evaluate_counts(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    orders = write(tmp_path_factory.mktemp("report") / "regulars.csv", weekly())
    given = ["--orders", str(orders), "--horizon", "14d", "--json"]
    shown = [
        CliRunner().invoke(tideline, [*command, *given], prog_name="tideline")
        for command in (["alerts", "report"], ["evaluate"])
    ]
    assert [each.exit_code for each in shown] == [0, 0], shown[0].output
    report, whole = (json.loads(each.stdout) for each in shown)
    assert report["alerts"] == whole["about"]["alerts"]
    assert report["alerts"]["raised"]["alerts"] > 0
