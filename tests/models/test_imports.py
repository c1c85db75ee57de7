"""Scoring imports nothing that only learning or training needs."""

from __future__ import annotations

import subprocess
import sys


def test_scoring_does_not_import_training_or_learning_libraries() -> None:
    code = (
        "import sys, models.artifact, models.blend, models.explain, models.training.train; "
        "print([m for m in ('lightgbm', 'onnx', 'river', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
