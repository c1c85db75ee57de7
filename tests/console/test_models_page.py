"""Models: sums become means, few predictions make no point, a model's manifest may be missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from models.artifact import default_artifact_path, read_manifest
from models.manifest import GroupGain
from streams.console.pages.models import calibration_error, evidence_rows, importance
from tests.console.doubles import NOW_MS, Answers, rows, served

BINS = ("bin", "judged", "left_users", "p_sum")
WEEKS = ("week_s", "judged", "left_users", "p_sum", "blend", "champion", "learner")
DRIFT = (
    "detected_ms", "since_ms", "kind", "stream", "mean_before", "mean_since", "labels_since",
    "reason",
)  # fmt: skip
MADE = (
    "version", "state", "trained_ms", "trained_rows", "trained_why", "decided_ms", "judged_rows",
    "log_loss_champion", "log_loss_challenger", "why",
)  # fmt: skip
EVIDENCE = ("evidence", "all_asked", "all_scored", "left_users", "p_sum", "loss")


def shop(judged: bool = True) -> Answers:
    found: dict[str, Any] = {
        "GROUP BY bin": rows(BINS, [(2, 100, 20, 12.5), (9, 5, 1, 2.4)]),
        "GROUP BY week_s": rows(WEEKS, [(NOW_MS // 1000, 105, 21, 14.9, 42.0, 31.5, 43.0)]),
        "quality_by_evidence": rows(EVIDENCE, [("no order", 9, 0, 0, 0, 0),
                                               ("few orders", 50, 40, 10, 8.0, 12.0)]),
        "drift_alerts": rows(DRIFT, [(NOW_MS, NOW_MS, "rate", "churn", 0.1, 0.2, 99,
                                      "train a challenger with `tideline train`")]),
        "FROM challengers": rows(
            MADE, [("v2", "promoted", 1, 50, "drift", NOW_MS, 9, 0.4, 0.3, "")]
        ),
        "champion_version": rows(["version", "users", "learner"], [("v2", 400, 17)]),
    }  # fmt: skip
    return Answers(found if judged else {name: rows(BINS) for name in found})


def test_means_are_over_the_predictions_that_met_their_truth() -> None:
    with served(shop()) as console:
        found = console.get("/models.json").json
        facts = {fact["name"]: fact for fact in found["facts"]}
        assert facts["judged"]["value"] == 105
        assert facts["log loss"]["value"] == pytest.approx(0.4)
        assert (facts["log loss"]["state"], facts["champion alone"]["value"]) == ("warn", 0.3)
        assert facts["calibration error"]["value"] == pytest.approx((7.5 + 1.4) / 105)
        curve = found["charts"]["calibration"]
        assert (curve["x"], curve["series"]["left"]) == ([0.125], [0.2])
        assert len(found["tables"]["bins"]["rows"]) == 2
        page = console.get("/models").text
        assert "5 predictions are in twentieths" in page
        assert "<code>tideline train</code>" in page
        assert "Of 105 predictions judged since" in page


def test_without_labels_it_says_when_there_will_be_some() -> None:
    with served(shop(judged=False)) as console:
        page = console.get("/models").text
        assert "No prediction has met its truth yet" in page
        assert "tideline trainer" in page
    assert calibration_error([]) is None


def test_what_a_model_rests_on_comes_from_its_manifest(tmp_path: Path) -> None:
    manifest = read_manifest(default_artifact_path())
    gains = importance(manifest)
    assert sum(row[2] for row in gains.rows) == pytest.approx(1.0)
    measured = msgspec.structs.replace(
        manifest, feature_groups=[GroupGain("orders", 3, 0.02, 0.001, 0.01, 0.001)]
    )
    assert importance(measured).rows[0][:3] == ("orders", 3, 0.02)
    with served(shop(), model_artifact=str(tmp_path / "none")) as console:
        page = console.get("/models")
        assert page.status == 200
        assert "is not known here" in page.text


def test_customers_of_whom_little_is_known_have_no_loss() -> None:
    none = dict(zip(EVIDENCE, ("no order", 9, 0, 0, 0, 0), strict=True))
    assert evidence_rows([none]) == [("no order", 9, 0, None, None, None)]
