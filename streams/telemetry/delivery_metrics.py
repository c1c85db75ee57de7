"""The metrics of `tideline deliver`."""

from __future__ import annotations

from typing import Final

from streams.telemetry.registry import Registry

__all__ = ["DELIVERY_RESULTS", "TRY_RESULTS", "DeliveryMetrics"]

DELIVERY_RESULTS: Final = ("delivered", "undelivered", "skipped")
TRY_RESULTS: Final = ("taken", "refused", "limited", "failed")


class DeliveryMetrics(Registry):
    """Metrics by destination, whose names are those of the file of destinations."""

    def _declare_deliveries(self) -> None:
        self.deliveries = self._counter(
            "deliveries",
            "Changes of audiences by destination and result: delivered; undelivered, with the "
            "reason in a topic; skipped, as the destination does not get that audience",
            "destination",
            "result",
        )
        self.delivery_tries = self._counter(
            "delivery_tries",
            f"Requests to a destination by result: {', '.join(TRY_RESULTS)}; limited and failed "
            "ones are sent again",
            "destination",
            "result",
        )
        self.delivery_try_seconds = self._histogram(
            "delivery_try_seconds", "Time of one request to a destination, in seconds",
            "destination",
        )  # fmt: skip
        self.delivery_failing_seconds = self._sampled(
            "delivery_failing_seconds",
            "For how long no request has succeeded in the partition that waits longest; 0: all do",
            "destination",
        )
        self.deliveries_lost = self._counter(
            "deliveries_lost",
            "Changes that Kafka deleted before they were delivered: the topic's retention was over",
            "destination",
        )

    def declare_destination(self, name: str) -> None:
        """A rate needs a 0 to begin with."""
        for result in DELIVERY_RESULTS:
            self.deliveries.labels(name, result)
        for result in TRY_RESULTS:
            self.delivery_tries.labels(name, result)
        self.deliveries_lost.labels(name)
        self.delivery_try_seconds.labels(name)
