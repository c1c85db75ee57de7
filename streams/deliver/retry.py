"""Decides what an answer means for a request, and how long to wait before the next try."""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from typing import Final, Literal

from streams.deliver.exchange import Answer

__all__ = ["LONGEST_WAIT_SECONDS", "backoff_seconds", "meaning", "told_to_wait_seconds"]

FIRST_WAIT_SECONDS: Final = 1.0
LONGEST_WAIT_SECONDS: Final = 300.0
_LONGEST_TOLD_SECONDS: Final = 3_600.0
"""A Retry-After of days is taken for a mistake: the next try shows."""

_OF_THE_DESTINATION: Final = frozenset({401, 405, 407, 408, 421, 425, 429})
"""Statuses below 500 that say nothing about the change: a key that is not valid, a method or proxy
that is not, a time-out, too many requests."""


def meaning(status: int) -> Literal["taken", "refused", "again"]:
    """`refused`: no later try of the same request will be taken. A redirect is not followed, since
    it would carry the key elsewhere: the URL is wrong, which is no fault of the change.

    >>> meaning(204), meaning(400), meaning(404), meaning(429), meaning(503), meaning(302)
    ('taken', 'refused', 'refused', 'again', 'again', 'again')
    """
    if 200 <= status < 300:
        return "taken"
    return "refused" if 400 <= status < 500 and status not in _OF_THE_DESTINATION else "again"


def told_to_wait_seconds(answer: Answer, now_seconds: float) -> float:
    """What the destination asks for: Retry-After (RFC 9110, 10.2.3: seconds, or a date), or
    X-RateLimit-Reset (Braze: seconds since 1970) with status 429. 0: nothing.

    >>> told_to_wait_seconds(Answer(503, {"retry-after": "7"}), 0.0)
    7.0
    >>> told_to_wait_seconds(Answer(429, {"x-ratelimit-reset": "1030"}), 1000.0)
    30.0
    >>> told_to_wait_seconds(Answer(503, {"retry-after": "Thu, 01 Jan 1970 00:01:00 GMT"}), 10.0)
    50.0
    """
    wait = _seconds(answer.headers.get("retry-after", ""), now_seconds)
    if not wait and answer.status == 429:
        reset = answer.headers.get("x-ratelimit-reset", "").strip()
        wait = float(reset) - now_seconds if reset.isascii() and reset.isdigit() else 0.0
    return min(max(0.0, wait), _LONGEST_TOLD_SECONDS)


def _seconds(text: str, now_seconds: float) -> float:
    text = text.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        return parsedate_to_datetime(text).timestamp() - now_seconds
    except (ValueError, TypeError, OverflowError):
        return 0.0


def backoff_seconds(tries: int, draw: float) -> float:
    """How long to wait after so many tries failed, from 1: twice as long each time, of which a
    random half (`draw`: 0 to 1) parts those that failed together.

    >>> [backoff_seconds(tries, 1.0) for tries in (1, 2, 3, 99)]
    [1.0, 2.0, 4.0, 300.0]
    >>> backoff_seconds(3, 0.0)
    2.0
    """
    longest = min(FIRST_WAIT_SECONDS * 2.0 ** min(tries - 1, 30), LONGEST_WAIT_SECONDS)
    return longest * (0.5 + draw / 2)
