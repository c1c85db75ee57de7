"""The rules that single settings keep: each tests a value and says what is allowed."""

from __future__ import annotations

import ipaddress
import re
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from streams.settings.reader import Rule, Secret

__all__ = [
    "BROKERS",
    "CLUSTER",
    "COLLECTOR",
    "CURRENCY",
    "HEADER",
    "HOST",
    "IDENTIFIER",
    "INSTANCE",
    "KEY",
    "LISTEN_PORT",
    "NETWORKS",
    "NOT_NEGATIVE",
    "PORT",
    "POSITIVE",
    "PUBLIC_URL",
    "RATES",
    "REGEX",
    "SHARE",
    "TOPIC",
    "WEBHOOK",
    "ZONE",
    "between",
    "brokers",
    "networks",
    "rates",
]

_BROKER: Final = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):(\d{1,5})")
_RATE: Final = re.compile(r"([A-Z]{3})=(\d+(?:\.\d+)?)")


def brokers(text: str) -> tuple[str, ...]:
    """The brokers of a comma list.

    >>> brokers("one:9092, two:9092")
    ('one:9092', 'two:9092')
    """
    return tuple(part.strip() for part in text.split(","))


def rates(text: str) -> dict[str, float]:
    """What one unit of each listed currency is worth; ValueError where the text is malformed.

    >>> rates("EUR=1.08, GBP=1.27")
    {'EUR': 1.08, 'GBP': 1.27}
    """
    found: dict[str, float] = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        match = _RATE.fullmatch(part)
        if not match or match[1] in found or float(match[2]) <= 0:
            raise ValueError(f"{part!r} is not CODE=number, or repeats a code")
        found[match[1]] = float(match[2])
    return found


def networks(text: str) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    """The networks of a comma list; ValueError where one is none.

    >>> networks("10.0.0.0/8, ::1")
    (IPv4Network('10.0.0.0/8'), IPv6Network('::1/128'))
    """
    parts = filter(None, (part.strip() for part in text.split(",")))
    return tuple(map(ipaddress.ip_network, parts))


def between(low: float, high: float) -> Rule:
    """From `low` to `high`, both included; whole numbers or not as the setting's type says."""
    return Rule(f"a number from {low:,} to {high:,}", lambda value: low <= value <= high)


def _are_brokers(text: str) -> bool:
    matches = [_BROKER.fullmatch(part) for part in brokers(text)]
    return all(match and 0 < int(match[1]) < 65_536 for match in matches)


def _are_rates(text: str) -> bool:
    try:
        rates(text)
    except ValueError:
        return False
    return True


def _are_networks(text: str) -> bool:
    try:
        networks(text)
    except ValueError:
        return False
    return True


def _is_zone(text: str) -> bool:
    try:
        ZoneInfo(text or "UTC")
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return text in ("", "UTC")
    return True


def _is_regex(text: str) -> bool:
    try:
        re.compile(text)
    except re.error:
        return False
    return True


BROKERS: Final = Rule("host:port, several separated by commas, without kafka://", _are_brokers)
# Kafka allows 249 characters: there is room for the suffixes of Tideline's own topics.
TOPIC: Final = Rule(
    "1 to 200 letters, digits, '.', '_' or '-' (as in a Kafka topic name)",
    lambda text: bool(re.fullmatch(r"[A-Za-z0-9._-]{1,200}", text)) and text not in {".", ".."},
)
INSTANCE: Final = Rule(
    "up to 200 letters, digits, '.', '_' or '-', or nothing",
    lambda text: bool(re.fullmatch(r"[A-Za-z0-9._-]{0,200}", text)) and text not in {".", ".."},
)
HOST: Final = Rule(
    "a host name or address, without a port",
    lambda text: bool(re.fullmatch(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+", text)),
)
IDENTIFIER: Final = Rule(
    "letters, digits and '_', not starting with a digit",
    lambda text: bool(re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", text)),
)
CLUSTER: Final = Rule(
    "letters, digits, '_' and '-', or nothing",
    lambda text: bool(re.fullmatch(r"[A-Za-z0-9_-]*", text)),
)
PORT: Final = Rule("a port from 1 to 65535", lambda port: 1 <= port <= 65_535)
LISTEN_PORT: Final = Rule("a port from 1 to 65535, or 0 for off", lambda port: 0 <= port <= 65_535)
POSITIVE: Final = Rule("a number above 0", lambda number: number > 0)
NOT_NEGATIVE: Final = Rule("0 or a number above it", lambda number: number >= 0)
# HMAC is as strong as its key, and user ids are easy to guess: a short one could be searched for.
KEY: Final = Rule(
    "32 characters or more, such as `openssl rand -hex 32` prints, or nothing",
    lambda secret: isinstance(secret, Secret) and len(secret.reveal()) not in range(1, 32),
)
SHARE: Final = Rule("a number from 0 to 1", lambda number: 0 <= number <= 1)
CURRENCY: Final = Rule(
    "three capital letters such as USD", lambda text: bool(re.fullmatch(r"[A-Z]{3}", text))
)
RATES: Final = Rule("a list like EUR=1.08,GBP=1.27, or nothing", _are_rates)
REGEX: Final = Rule("a regular expression, such as shop-.*", _is_regex)
WEBHOOK: Final = Rule(
    "a URL that begins with http:// or https://, or nothing",
    lambda secret: (
        isinstance(secret, Secret)
        and bool(re.fullmatch(r"(https?://[^\s/]+\S*)?", secret.reveal()))
    ),
)
COLLECTOR: Final = Rule(
    "a URL that begins with http:// or https:// and holds no login, or nothing",
    lambda text: bool(re.fullmatch(r"(https?://[^\s/@]+(/[^\s@]*)?)?", text)),
)
HEADER: Final = Rule(
    "a header's name, such as X-Forwarded-User, or nothing",
    lambda text: bool(re.fullmatch(r"[A-Za-z0-9-]{0,100}", text)),
)
NETWORKS: Final = Rule("a list like 10.0.0.5,10.1.0.0/16, or nothing", _are_networks)
PUBLIC_URL: Final = Rule(
    "a URL of a host, such as https://tideline.example.com, without a path, or nothing",
    lambda text: bool(re.fullmatch(r"(https?://[A-Za-z0-9.-]+(:\d{1,5})?)?", text)),
)
ZONE: Final = Rule("a time zone's name, such as Europe/Berlin, or nothing", _is_zone)
