"""Sends live events as JSON to the topics, each at its time."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterable
from typing import Any

from kafka import KafkaProducer
from kafka.errors import KafkaError

from tests.shop.facts import Click, Fact, Placed, Returned
from tests.shop.truth import Saying

__all__ = ["LiveTraffic", "message"]

_LONGEST_NAP_SECONDS = 0.05


def message(fact: Fact, event_id: str) -> dict[str, Any]:
    """The event of this fact, as in docs/events.md; fields without a value are left out."""
    found: dict[str, Any] = {"event_id": event_id, "user_id": fact.user, "ts": fact.ts_ms}
    if isinstance(fact, Click):
        found |= {
            "type": fact.type, "session_id": fact.session, "item_id": fact.item,
            "category": fact.category, "rating": fact.rating_tenths / 10 or None,
        }  # fmt: skip
    elif isinstance(fact, Placed):
        found |= {
            "type": "placed", "order_id": fact.order, "amount": fact.cents / 100,
            "discount": fact.discount_cents / 100, "coupon": fact.coupon,
            "lines": [
                {"item_id": line.item, "amount": line.cents / 100, "quantity": line.quantity}
                | ({"category": line.category} if line.category else {})
                for line in fact.lines
            ],
        }  # fmt: skip
    else:
        kind = "returned" if isinstance(fact, Returned) else "cancelled"
        found |= {"type": kind, "order_id": fact.order, "amount": fact.cents / 100}
    return {name: value for name, value in found.items() if value is not None}


class LiveTraffic:
    """A shop's producer: sends each event at its time, events of the past at once.

    It is kafka-python's producer, as a shop might use it, without code of Tideline.
    """

    def __init__(self, brokers: str, clicks_topic: str, orders_topic: str) -> None:
        self._topics = (clicks_topic, orders_topic)
        self._producer = KafkaProducer(
            bootstrap_servers=brokers.split(","), acks="all", enable_idempotence=True, linger_ms=5
        )
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._sent: list[tuple[Saying, Any]] = []

    def say(self, sayings: Iterable[Saying]) -> None:
        """Send these events now, and wait until the broker has them."""
        mine = [(saying, self._send(saying)) for saying in sayings]
        for _, sending in mine:
            sending.get(timeout=60)
        self._sent += mine

    def begin(self, sayings: Iterable[Saying]) -> None:
        """Send each event at its time, in a thread, until `stop`."""
        self._thread = threading.Thread(target=self._run, args=(list(sayings),), daemon=True)
        self._thread.start()

    def stop(self) -> list[Saying]:
        """Stop, wait until the broker has everything, and return all that was ever sent.

        Raises what kept it from sending."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(60)
        if self._error is not None:
            raise self._error
        for _, sending in self._sent:
            sending.get(timeout=60)
        return [saying for saying, _ in self._sent]

    def close(self) -> None:
        """Stop without sending the rest. Safe to call twice."""
        self._stopping.set()
        with contextlib.suppress(KafkaError):
            self._producer.close(timeout=1)

    @property
    def count(self) -> int:
        """How many were sent so far."""
        return len(self._sent)

    def _run(self, sayings: list[Saying]) -> None:
        try:
            for saying in sayings:
                while (wait_seconds := saying.at_ms / 1000 - time.time()) > 0:
                    if self._stopping.wait(min(wait_seconds, _LONGEST_NAP_SECONDS)):
                        return
                if self._stopping.is_set():
                    return
                self._sent.append((saying, self._send(saying)))
        except BaseException as error:
            self._error = error

    def _send(self, saying: Saying) -> Any:
        fact = saying.fact
        topic = self._topics[0 if isinstance(fact, Click) else 1]
        value = json.dumps(message(fact, saying.event_id)).encode()
        # stamped with the time of sending, as a producer does by itself
        return self._producer.send(topic, key=fact.user.encode(), value=value)
