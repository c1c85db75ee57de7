"""Decides who a visitor is, what each role may see and do, and which requests are refused.

Pure: a request's headers and address go in, a visitor or the reason of a refusal comes out.
`rights` is the one table of who may do what; SECURITY.md shows it.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal
from urllib.parse import urlsplit

__all__ = [
    "ACTIONS",
    "IDS",
    "PAGES",
    "RIGHTS",
    "ROLES",
    "SCOPES",
    "Proxies",
    "Refused",
    "Token",
    "Visitor",
    "by_proxy",
    "by_token",
    "csrf_token",
    "forged",
    "host_is_known",
    "token_hash",
]

PAGES: Final = (
    "today", "customers", "segments", "campaigns", "models", "pipeline", "settings",
)  # fmt: skip
ACTIONS: Final = ("contacted", "export", "apply", "erase")
IDS: Final = "ids"
"""The right to see user ids, and to look for one; without it there are pseudonyms."""

SCOPES: Final = ("users", "alerts", "segments", "audiences", "stream", IDS)
"""What a program's token may ask of /v1; without `ids` it gets pseudonyms."""


def _v1(*scopes: str) -> frozenset[str]:
    """Scopes as rights: a page may have the same name."""
    return frozenset(scope if scope == IDS else f"v1:{scope}" for scope in scopes)


ROLES: Final = ("marketing", "campaigns", "sre", "admin")
RIGHTS: Final[Mapping[str, frozenset[str]]] = {
    "marketing": frozenset({"today", "customers", "models", IDS, "contacted", "export"})
    | _v1("users", "alerts", "stream"),
    "campaigns": frozenset({"customers", "segments", "campaigns", "models", IDS, "export", "apply"})
    | _v1("users", "segments", "audiences", "stream"),
    "sre": frozenset(PAGES),
    "admin": frozenset({*PAGES, *ACTIONS}) | _v1(*SCOPES),
}
"""Role -> pages it may open, actions it may take, and whether it sees ids."""


@dataclass(frozen=True)
class Visitor:
    """Who asks. `how`: local (loopback, nobody was asked), token, or proxy."""

    name: str
    roles: frozenset[str]
    how: Literal["local", "token", "proxy"] = "local"
    scopes: frozenset[str] = frozenset()
    """Of a program's token."""

    @cached_property
    def rights(self) -> frozenset[str]:
        """Those of all roles and scopes together."""
        return _v1(*self.scopes).union(*(RIGHTS[role] for role in self.roles))

    def may(self, right: str) -> bool:
        return right in self.rights

    @property
    def sees_ids(self) -> bool:
        return self.may(IDS)


LOCAL: Final = Visitor("local", frozenset({"admin"}))
"""Who sits at this machine, where neither tokens nor a proxy are set."""


@dataclass(frozen=True)
class Refused(Exception):
    """Why a request is not answered: HTTP status, and what whoever asked can do."""

    status: int
    why: str

    def __str__(self) -> str:
        return self.why


@dataclass(frozen=True)
class Token:
    """One entry of the file of tokens: a person or program, by the hash of a secret."""

    name: str
    sha256: str
    """Hex SHA-256 of the token: 256 random bits need no slow hash."""
    roles: frozenset[str]
    expires_ms: int = 0
    """When it stops working, Unix ms; 0: never."""
    scopes: frozenset[str] = frozenset()


def token_hash(token: str) -> str:
    """Hex SHA-256 of a token."""
    return hashlib.sha256(token.encode(errors="surrogateescape")).hexdigest()


def by_token(presented: str, tokens: Iterable[Token], now_ms: int) -> Token | None:
    """The entry whose token was presented. Takes as long whichever it is, and if it is none."""
    wanted = token_hash(presented)
    found = None
    for token in tokens:
        if hmac.compare_digest(wanted, token.sha256):
            found = token
    if found is None or (found.expires_ms and found.expires_ms <= now_ms):
        return None
    return found


@dataclass(frozen=True)
class Proxies:
    """The reverse proxy that names users. Without `user_header` there is none."""

    user_header: str = ""
    roles_header: str = ""
    networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = ()

    def trusts(self, peer: str) -> bool:
        """Whether a request from this address comes from the proxy."""
        try:
            address = ipaddress.ip_address(peer.partition("%")[0])
        except ValueError:
            return False
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        return any(address in network for network in self.networks)


_NAME: Final = re.compile(r"[^\x00-\x1f\x7f]{1,200}")


def forged(headers: Mapping[str, str], peer: str, proxies: Proxies) -> bool:
    """Whether somebody other than the proxy names a user."""
    if not proxies.user_header or proxies.trusts(peer):
        return False
    return proxies.user_header in headers or (
        bool(proxies.roles_header) and proxies.roles_header in headers
    )


def by_proxy(headers: Mapping[str, str], peer: str, proxies: Proxies) -> Visitor | None:
    """The visitor that the proxy names; None if it names none. Raises Refused.

    Roles are separated by commas, each by its name or as tideline-NAME; others are the shop's own.
    """
    if not proxies.user_header or not proxies.trusts(peer):
        return None
    name = headers.get(proxies.user_header, "").strip()
    if not name:
        return None
    if not _NAME.fullmatch(name):
        raise Refused(403, "The proxy's user header is not a name.")
    said = headers.get(proxies.roles_header, "") if proxies.roles_header else ""
    words = {word.strip().removeprefix("tideline-") for word in said.split(",")}
    roles = frozenset(words & set(ROLES))
    if not roles:
        raise Refused(
            403,
            f"You have no role here. The proxy must send one of {', '.join(ROLES)} in "
            f"{proxies.roles_header or 'the header that [console] roles_header names'}.",
        )
    return Visitor(name, roles, "proxy")


def host_is_known(host: str, allowed: Iterable[str]) -> bool:
    """Whether the Host header names this console.

    A page elsewhere can point a name of its own at this address, and would then read what we
    answer (DNS rebinding): so a name must be ours. The port does not matter to that.
    """
    try:
        name = urlsplit(f"//{host}").hostname
    except ValueError:
        return False
    return name is not None and name.lower() in {each.lower() for each in allowed}


def csrf_token(key: bytes, visitor: Visitor) -> str:
    """What a form of this visitor carries, and no other site can know."""
    about = f"csrf\0{visitor.how}\0{visitor.name}".encode()
    return hmac.new(key, about, hashlib.sha256).hexdigest()
