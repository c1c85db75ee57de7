"""What the file says of alerts, and of whom to leave alone: `alerts`, `caps` and `suppress`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from schemas.definitions import MAX_CONTACT_DAYS, MAX_CONTACTS, AlertRules, ContactCap
from schemas.errors import SettingsError
from schemas.zones import YEARS_AHEAD, utc_offsets
from streams.campaigns.fields import Fields
from streams.campaigns.nodes import Node
from streams.rules.problems import quoted

__all__ = ["read_alerts", "read_caps"]

_KEYS: Final = ("enter", "leave", "cooldown", "per_day", "zone", "quiet")
_MOST_PER_DAY: Final = 1_000_000
_YEAR_MS: Final = 365 * 86_400_000
_TIME: Final = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])")


def read_alerts(fields: Fields, node: Node, now_ms: int) -> AlertRules:
    """What is below `alerts:`; faults go to `fields`. The zone's offsets are those from `now_ms`
    on, for ten years."""
    record = fields.record(node, "`alerts`", _KEYS) or {}
    enter, leave = (_probability(fields, record, key) for key in ("enter", "leave"))
    if enter is not None and leave is not None and leave > enter:
        fields.fail(record["leave"], "`leave` is above `enter`",
                    "set it lower, so that alerts do not flicker")  # fmt: skip
    per_day = 0
    if "per_day" in record:
        per_day = fields.whole(record["per_day"], "`per_day`", _MOST_PER_DAY) or 0
    cooldown_ms = fields.optional_ms(record, "cooldown", instead=-1)
    zone = fields.optional_text(record, "zone") or "UTC"
    offsets: tuple[tuple[int, int], ...] = ()
    if zone != "UTC":
        try:
            offsets = utc_offsets(zone, now_ms, now_ms + YEARS_AHEAD * _YEAR_MS)
        except SettingsError:
            known = "name one as in `Europe/Berlin`; if it is one: pip install tzdata"
            fields.fail(record["zone"], f"no time zone {quoted(zone)} is known here", known)
    return AlertRules(
        enter=enter,
        leave=leave,
        cooldown_ms=cooldown_ms if cooldown_ms >= 0 else None,
        per_day=per_day,
        quiet=_quiet(fields, record["quiet"]) if "quiet" in record else None,
        zone=zone,
        utc_offsets=offsets,
    )


def _probability(fields: Fields, record: Mapping[str, Node], key: str) -> float | None:
    if key not in record:
        return None
    found = fields.share(record[key], f"`{key}`")
    if found is not None and not 0 < found < 1:
        fields.fail(record[key], f"`{key}` is true for everybody or nobody",
                    "write a probability between 0% and 100%")  # fmt: skip
        return None
    return found


def _quiet(fields: Fields, node: Node) -> tuple[int, int] | None:
    record = fields.record(node, "`quiet`", ("from", "to"))
    if record is None:
        return None
    minutes = []
    for key in ("from", "to"):
        at = fields.needed(node, record, "`quiet`", key)
        found = None if at is None else fields.scalar(at, f"`{key}`", 'a time such as "21:00"')
        if at is None or found is None:
            return None
        match = _TIME.fullmatch(found.value.strip())
        if match is None:
            fields.fail(at, f"{quoted(found.value)} is no time of the day", 'write it as "21:00"')
            return None
        minutes.append(60 * int(match[1]) + int(match[2]))
    if minutes[0] == minutes[1]:
        fields.fail(node, "quiet hours end when they begin", "write two different times")
        return None
    return minutes[0], minutes[1]


def read_caps(fields: Fields, node: Node) -> ContactCap | None:
    """What is below `caps:`; faults go to `fields`."""
    record = fields.record(node, "`caps`", ("contacts", "per"))
    if record is None:
        return None
    contacts = fields.needed(node, record, "`caps`", "contacts")
    per = fields.needed(node, record, "`caps`", "per")
    if contacts is None or per is None:
        return None
    count = fields.whole(contacts, "`contacts`", MAX_CONTACTS)
    per_ms = fields.duration_ms(per, "`per`", MAX_CONTACT_DAYS)
    if count == 0 or per_ms == 0:
        fields.fail(node, "nobody could ever be contacted", "write 1 contact at least, and a time")
        return None
    return None if count is None or per_ms is None else ContactCap(count, per_ms)
