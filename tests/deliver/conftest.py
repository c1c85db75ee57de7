from __future__ import annotations

from tests.local_broker import broker, clean_environ, cli, dead_broker, same_logging, settings

__all__ = ["broker", "clean_environ", "cli", "dead_broker", "same_logging", "settings"]
