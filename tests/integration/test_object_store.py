"""Worker, learner and commands whose models are in an S3, which goes away and comes back."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from models.artifact import promote
from streams.local.process import wait_until
from tests.integration.test_champion import metric, run, versions
from tests.integration.test_pipeline import shop
from tests.integration.world import World
from tests.models.s3 import serving, shipped_version
from tests.models.test_places import NEW, fill

pytestmark = [pytest.mark.kafka, pytest.mark.clickhouse, pytest.mark.timeout(600)]

Worlds = Callable[..., World]


@pytest.mark.slow
def test_workers_follow_models_in_an_object_store(world: Worlds, tansu: Any) -> None:
    with serving() as s3:
        root, first = s3.bucket(f"bucket-{uuid.uuid4().hex}"), shipped_version()
        fill(root)
        fill(root, NEW)
        promote(root, first)
        here = world(
            broker=tansu,
            model_artifact=root,
            model_score_sample_share=0.2,
            stream_checkpoint_interval_seconds=60,
        )
        worker, learner = here.worker("first"), here.learner()
        sent = here.produce(shop(800, span_days=30.0)).records
        here.wait_accepted(sent)
        assert versions(here) == {first}

        with s3.away():
            here.wait(
                "a worker that says that the store is away",
                lambda: "nothing else can be promoted for now" in worker.log,
            )
            sent += here.produce(shop(300, span_days=30.0, seed=12)).records
            here.wait_accepted(sent)  # it goes on meanwhile
            late = here.worker("late")
            assert wait_until(lambda: late.exit_status is not None, 60)
            assert late.exit_status == 1
            assert f"The models in {root} can't be reached" in late.log
            assert "AWS_ENDPOINT_URL" in late.log
        promoted = run(here, "models", "promote", NEW)
        assert promoted.exit_code == 0, promoted.output
        here.wait(
            "the other champion", lambda: metric(worker, "tideline_champion_info") == {NEW: 1.0}
        )
        assert worker.log.count("nothing else can be promoted for now") == 1
        sent += here.produce(shop(300, span_days=30.0, seed=13)).records
        here.wait_accepted(sent)
        assert versions(here) == {first, NEW}

        worker.kill()
        worker = here.worker("second")
        here.wait("all shards", lambda: len(worker.shards) == 2)
        assert worker.stop()[0] == 0
        used = {plan.champion for oracle in here.check_oracle().values() for plan in oracle.plans}
        assert used == {first, NEW}
        skew = json.loads(run(here, "skew", "--json").stdout)
        assert skew["checked"] == skew["sampled"] > 50
        assert skew["mismatched"] == 0
        assert learner.running
        learner.stop()

        listed = json.loads(run(here, "models", "list", "--json").stdout)
        assert listed["directory"] == str(root)
        assert [(m["version"], m["current"]) for m in listed["models"]] == sorted(
            [(first, False), (NEW, True)]
        )
        assert run(here, "models", "check").exit_code == 0
        shown = run(here, "doctor").output
        assert re.search(rf"ok +model +{NEW} loads", shown), shown
