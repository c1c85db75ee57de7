"""What the local stack's tests need from pytest."""

from __future__ import annotations

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """kafka-python 3.0 reads its message schemas with a call that Python 3.11 deprecates."""
    config.addinivalue_line(
        "filterwarnings", "ignore:(read|open)_text is deprecated:DeprecationWarning"
    )
