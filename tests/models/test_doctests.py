"""Docstring examples are true, and scoring imports nothing that only learning or training needs."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import subprocess
import sys

import pytest

import models

MODULES = [m.name for m in pkgutil.walk_packages(models.__path__, "models.")]


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_scoring_does_not_import_training_or_learning_libraries() -> None:
    code = (
        "import sys, models.artifact, models.blend, models.explain, models.training.train; "
        "print([m for m in ('lightgbm', 'onnx', 'river', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
