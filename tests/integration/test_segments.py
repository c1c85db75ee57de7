"""Segments on running workers: planned, applied, explained, and a file that is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.test_champion import metric
from tests.integration.test_pipeline import shop
from tests.integration.world import World

pytestmark = [pytest.mark.kafka, pytest.mark.clickhouse, pytest.mark.timeout(300)]

Worlds = Callable[..., World]
FILE = """
version: 1
segments:
  buyers:
    when: orders > 0
    holdout: 20%
  loyal:
    when: segment.buyers and orders >= 5
"""


def test_a_file_is_planned_applied_and_explained_beside_a_running_worker(
    world: Worlds, tmp_path: Path
) -> None:
    here = world(
        stream_checkpoint_interval_seconds=0.5, stream_clock="wall", stream_sweep_interval_seconds=2
    )
    file = tmp_path / "segments.yaml"
    file.write_text(FILE)
    assert "Nothing was applied yet" in here.command("segments", "history").output
    assert "no sizes" in here.command("segments", "plan", str(file)).output
    worker = here.worker()
    sent = here.produce(shop(3_000, seed=5)).records
    here.wait_accepted(sent)

    def planned() -> dict[str, object]:
        found: dict[str, object] = json.loads(
            here.command("segments", "plan", str(file), "--json").stdout
        )
        return found

    here.wait("a checkpoint has customers", lambda: _size(planned(), "buyers") > 0)
    plan = planned()
    assert _size(plan, "buyers") > _size(plan, "loyal") > 0
    assert plan["in_force"] == 0

    applied = here.command("segments", "apply", str(file), "--yes", "--note", "first")
    assert applied.exit_code == 0, applied.output
    numbers = "tideline_definitions"
    here.wait("every shard has them", lambda: set(metric(worker, numbers).values()) == {1.0})
    again = here.command("segments", "apply", str(file), "--yes")
    assert "Nothing to do: number 1" in again.output

    file.write_text(FILE.replace("orders > 0", "orderz > 0"))
    wrong = here.command("segments", "apply", str(file), "--yes")
    assert wrong.exit_code == 1
    assert "did you mean `orders`" in wrong.output
    assert json.loads(here.command("segments", "history", "--json").stdout)[-1]["number"] == 1

    # without any record: the sweep that looks at everybody begins at once
    def arms() -> dict[str, int]:
        return dict(here.sql("SELECT arm, users FROM audience_arms WHERE audience = 'buyers'"))

    buyers = here.one("SELECT count() FROM customers WHERE lifetime_orders > 0")
    here.wait("all buyers are in", lambda: sum(arms().values()) == buyers)
    assert 0 < arms()["holdout"] < arms()["treat"]
    loyal = "SELECT sum(users) FROM segment_sizes WHERE dimension = 'loyal'"
    here.wait("members are there", lambda: here.one(loyal) > 0)
    ((user,),) = here.sql(
        "SELECT user_id FROM segment_members WHERE dimension = 'loyal' ORDER BY since LIMIT 1"
    )

    def explained() -> str:
        return here.command("segments", "explain", "loyal", user).output

    here.wait("a checkpoint has the member", lambda: f"{user} is in loyal" in explained())
    assert "orders >= 5" in explained()
    unknown = here.command("segments", "explain", "loyall", user)
    assert "Did you mean loyal?" in unknown.output
    assert worker.stop()[0] == 0


def _size(plan: dict[str, object], segment: str) -> int:
    segments = plan.get("segments")
    if not isinstance(segments, dict):
        return 0
    return int(segments[segment]["size"])
