"""Definitions as a file: what `read_definitions` makes the same definitions of again. Pure.

What is in force was read from a file, but the file is not kept. So comments and layout are gone,
and salts, which a file may leave out, are written.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from schemas.definitions import (
    AlertRules,
    Audience,
    Case,
    ContactCap,
    Definitions,
    PolicyRow,
    SegmentDefinition,
)

__all__ = ["duration", "written"]

_UNITS_MS: Final = (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000))
# Plain in YAML, whatever follows: it begins with a letter or digit, and has neither `: ` nor ` #`.
_PLAIN: Final = re.compile(r"[A-Za-z0-9](?:(?!: | #)[ -~])*(?<![: ])")


def written(definitions: Definitions, currency: str) -> str:
    """The file's text. `currency` is the shop's, in which costs are."""
    return "\n".join(_lines(definitions, currency)) + "\n"


def duration(ms: int) -> str:
    """Milliseconds as the file has them.

    >>> duration(5_400_000), duration(1_500), duration(0)
    ('1h30m', '1.5s', '0s')
    """
    found = ""
    for unit, of in _UNITS_MS[:-1]:
        if ms >= of:
            found += f"{ms // of}{unit}"
            ms %= of
    return found + f"{_decimal(ms / 1000)}s" if ms or not found else found


def _lines(of: Definitions, currency: str) -> Iterator[str]:
    yield "version: 1"
    yield f"lapsed_after: {duration(of.lapsed_after_ms)}"
    if of.global_holdout_share:
        yield f"global_holdout: {_share(of.global_holdout_share)}"
        yield f"global_salt: {_text(of.global_salt)}"
    if of.values:
        yield "values:"
        yield from (f"  {name}: {_text(expression)}" for name, expression in of.values)
    if of.segments:
        yield "segments:"
        for segment in of.segments:
            yield from _segment(segment)
    for key, cases in (("tiers", of.value_tier), ("lifecycle", of.lifecycle)):
        yield from _cases(key, cases)
    if of.audiences:
        yield "audiences:"
        for audience in of.audiences:
            yield from _audience(audience)
    yield from _alerts(of.alerts, of.caps)
    if of.suppress:
        yield f"suppress: {_text(of.suppress)}"
    if of.rfm:
        yield "rfm: on"
    if of.policy:
        yield "policy:"
        for row in of.policy:
            yield from _policy(row, currency)


def _segment(of: SegmentDefinition) -> Iterator[str]:
    yield f"  {of.name}:"
    yield from _texts("    ", title=of.title, owner=of.owner, when=of.when, leave=of.leave)
    if of.hold_ms:
        yield f"    hold: {duration(of.hold_ms)}"
    spans = {"size": of.expect.size, "per_day": of.expect.per_day}
    known = [f"{name}: {span[0]}..{span[1]}" for name, span in spans.items() if span is not None]
    if known:
        yield f"    expect: {{{', '.join(known)}}}"


def _cases(key: str, cases: tuple[Case, ...]) -> Iterator[str]:
    if cases:
        yield f"{key}:"
        yield from (f"  {case.name}: {_text(case.when)}" for case in cases)


def _audience(of: Audience) -> Iterator[str]:
    yield f"  {of.name}:"
    yield from _texts("    ", segment=of.segment, title=of.title, owner=of.owner, salt=of.salt)
    if of.holdout_share:
        yield f"    holdout: {_share(of.holdout_share)}"
    if of.priority_list:
        yield f"    priority: {of.priority}"
        yield f"    list: {of.priority_list}"
    yield f"    horizon: {duration(of.horizon_ms)}"


def _alerts(of: AlertRules, caps: ContactCap | None) -> Iterator[str]:
    lines = []
    for key, share in (("enter", of.enter), ("leave", of.leave)):
        if share is not None:
            lines.append(f"  {key}: {_share(share)}")
    if of.cooldown_ms is not None:
        lines.append(f"  cooldown: {duration(of.cooldown_ms)}")
    if of.per_day:
        lines.append(f"  per_day: {of.per_day}")
    if of.zone != "UTC":
        lines.append(f"  zone: {_text(of.zone)}")
    if of.quiet is not None:
        start, end = (f'"{minute // 60:02}:{minute % 60:02}"' for minute in of.quiet)
        lines.append(f"  quiet: {{from: {start}, to: {end}}}")
    if lines:
        yield "alerts:"
        yield from lines
    if caps is not None:
        yield f"caps: {{contacts: {caps.contacts}, per: {duration(caps.per_ms)}}}"


def _policy(of: PolicyRow, currency: str) -> Iterator[str]:
    yield f"  - when: {_text(of.when)}"
    yield f"    action: {_text(of.action)}"
    if of.cost:
        yield f"    cost: {_decimal(of.cost)} {currency}"
    if of.uplift is not None:
        yield f"    uplift: {_share(of.uplift)}"


def _texts(indent: str, **texts: str) -> Iterator[str]:
    yield from (f"{indent}{key}: {_text(text)}" for key, text in texts.items() if text)


def _text(text: str) -> str:
    """A scalar of YAML, in quotes where it must have them."""
    return text if _PLAIN.fullmatch(text) else "'" + text.replace("'", "''") + "'"


def _share(share: float) -> str:
    """Per cent if that is exact, else the number itself.

    >>> _share(0.1), _share(0.29), _share(0.015)
    ('10%', '29%', '1.5%')
    """
    percent = _decimal(share * 100)
    return f"{percent}%" if float(percent) / 100 == share else _decimal(share)


def _decimal(value: float) -> str:
    """At most six places, which is what the file may have."""
    return f"{value:.6f}".rstrip("0").rstrip(".")
