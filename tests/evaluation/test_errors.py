"""What can't be evaluated is refused with what to do about it, and exit status 2."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.evaluation.conftest import run

HEAD = "customer_id,timestamp,amount\n"


def days(count: int, line: str) -> str:
    return "".join(
        line.format(day=f"2024-{1 + d // 28:02}-{1 + d % 28:02}", d=d) + "\n" for d in range(count)
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("who,when,amount\nc1,2024-01-01,5\n", "No column looks like user or timestamp"),
        ("customer_id,timestamp\nc1,2024-01-01\n", "No column looks like amount"),
        (HEAD + days(300, "c1,{day},{d}"), "All 300 orders are of one user"),
        (HEAD + days(299, "c{d},{day},20") + "c1,2024-12-01,20", "Every order has the same amount"),
        (HEAD + days(40, "c{d},{day},{d}") + "c1,2024-02-09,7", "fewer weekly cuts than a horizon"),
        (HEAD, "there are no rows below the header"),
        (HEAD + days(50, ",{day},5"), "50 rows: no user (guest)"),
        (HEAD + days(50, "c1,yesterday,5"), "50 of 50 rows can't be used"),
        (HEAD + days(50, "c{d},{day},{d}"), "nobody has two. Is customer_id the customer?"),
    ],
    ids=["columns", "no amount", "one user", "constant", "short", "empty", "guests", "times",
         "one order each"],
)  # fmt: skip
def test_it_says_what_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "orders.csv"
    path.write_text(text)
    result = run("--orders", str(path))

    assert result.exit_code == 2, result.output
    assert message in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr


def test_a_file_with_the_newest_first_is_sorted(tmp_path: Path) -> None:
    path = tmp_path / "orders.csv"
    path.write_text(HEAD + "a,2024-03-01,5\nb,2024-01-01,6\n")
    result = run("--orders", str(path))

    assert "runs backwards" not in result.stderr
    assert "fewer weekly cuts" in result.stderr  # the next thing that is wrong with it


def test_customers_too_few_for_a_champion_say_so(tmp_path: Path) -> None:
    path = tmp_path / "orders.csv"
    lines = days(330, "c1,{day},{d}").splitlines()
    lines[100::100] = [line.replace("c1", "c2") for line in lines[100::100]]
    path.write_text(HEAD + "\n".join(lines) + "\n")
    result = run("--orders", str(path))

    assert result.exit_code == 2, result.output
    assert "No champion could be trained before the test begins" in result.stderr


@pytest.mark.parametrize("horizon", ["0d", "four", "400d", "-3d"])
def test_a_horizon_is_whole_days(horizon: str) -> None:
    result = run("--dataset", "completejourney", "--horizon", horizon)
    assert result.exit_code == 2
    assert "such as 28d" in result.stderr


def test_it_wants_one_source() -> None:
    assert "Name either --orders FILE or --dataset" in run().stderr
    assert run("--dataset", "completejourney", "--orders", "x.csv").exit_code == 2


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    result = run("--orders", str(tmp_path / "nothing.csv"))
    assert result.exit_code == 2
    assert "No such file" in result.stderr
