from __future__ import annotations

from tests.integration.conftest import world

__all__ = ["world"]
