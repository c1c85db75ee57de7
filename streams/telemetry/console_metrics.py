"""The metrics of `tideline console`."""

from __future__ import annotations

from typing import Final

from streams.telemetry.registry import Registry

__all__ = ["QUERY_RESULTS", "ConsoleMetrics"]

QUERY_RESULTS: Final = ("ok", "failed")


class ConsoleMetrics(Registry):
    """Pages and forms are small sets of names; no path of a person is among them."""

    def _declare_console(self) -> None:
        self.console_answers = self._counter(
            "console_answers",
            "Answers of the console by page, form (html, json, csv, live) and status (2xx, ...)",
            "page",
            "form",
            "status",
        )
        self.console_query_seconds = self._histogram(
            "console_query_seconds",
            f"Time of one query of the console in ClickHouse, in seconds, by result: "
            f"{', '.join(QUERY_RESULTS)}",
            "result",
        )
        for result in QUERY_RESULTS:
            self.console_query_seconds.labels(result)  # a rate needs a 0 to begin with
        self.console_streams = self._gauge(
            "console_streams", "Browsers that listen to a live page now"
        )
        self.console_actions = self._counter(
            "console_actions",
            "What visitors did, by action and result: done, refused, failed",
            "action",
            "result",
        )
