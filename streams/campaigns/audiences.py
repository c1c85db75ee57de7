"""The audiences of a file: those with a name of their own, and those that a segment makes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from schemas.definitions import MAX_AUDIENCES, Audience
from streams.campaigns.fields import Fields
from streams.campaigns.nodes import Node, Scalar
from streams.campaigns.salts import Salts
from streams.rules.problems import quoted, similar

__all__ = ["ALERTS", "AUDIENCE_KEYS", "Audiences"]

ALERTS: Final = "alerts"
"""An audience's segment that is no segment: the customers in an open churn alert."""
AUDIENCE_KEYS: Final = ("holdout", "priority", "list", "salt", "horizon")
_DEFAULT_LIST: Final = "default"
_MOST_HELD_OUT: Final = 0.99
_MOST_HELD_OUT_OF_ALL: Final = 0.2


class Audiences:
    """What the file says of audiences and holdouts; faults go to its fields."""

    def __init__(self, fields: Fields, salts: Salts) -> None:
        self._fields, self._salts = fields, salts
        self._found: dict[str, Audience] = {}
        self._places: dict[str, Node] = {}
        self._too_many = False

    def read(self, node: Node) -> None:
        """What is below `audiences:`."""
        fields = self._fields
        for key, entry in fields.named(node, "`audiences`"):
            what = f"the audience `{key.value}`"
            record = fields.record(entry, what, ("segment", "title", "owner", *AUDIENCE_KEYS))
            if record is None:
                continue
            at = fields.needed(key, record, what, "segment")
            segment = (fields.name_of(at, "the segment") or "") if at is not None else ""
            if key.value in self._found:
                made = f"the segment `{key.value}` makes an audience of this name already"
                fields.fail(key, made, "delete this one, or its keys for an audience there")
            else:
                self.add(key, record, segment)

    def add(self, key: Scalar, record: Mapping[str, Node], segment: str) -> None:
        """One audience, by its key and what is below that."""
        fields, name = self._fields, key.value
        if len(self._found) == MAX_AUDIENCES:
            if not self._too_many:
                fields.too_many(key, MAX_AUDIENCES, "audiences")
            self._too_many = True
            return
        share, priority = None, None
        if "holdout" in record:
            share = fields.share(record["holdout"], "`holdout`", _MOST_HELD_OUT)
        if "priority" in record:
            priority = fields.whole(record["priority"], "`priority`", 1_000)
        listed = _DEFAULT_LIST if "priority" in record else ""
        if "list" in record:
            listed = fields.name_of(record["list"], "`list`") or ""
            if "priority" not in record:
                what = f"the audience `{name}` is in a list and has no `priority`"
                fields.fail(record["list"], what, "add `priority: 10`; the lowest number wins")
        self._places[name] = record.get("segment", key)
        if priority is not None:
            self._check_priority(record["priority"], priority, listed)
        self._found[name] = Audience(
            name=name,
            segment=segment,
            salt=self.salt(record, "salt"),
            holdout_share=share or 0.0,
            priority=priority or 0,
            priority_list=listed,
            title=fields.optional_text(record, "title"),
            owner=fields.optional_text(record, "owner"),
            horizon_ms=fields.optional_ms(record, "horizon", least_ms=1, instead=28 * 86_400_000),
        )

    def _check_priority(self, node: Node, priority: int, listed: str) -> None:
        for other in self._found.values():
            if (other.priority_list, other.priority) == (listed, priority):
                what = f"`{other.name}` has the priority {priority} in the list `{listed}` too"
                self._fields.fail(node, what, "give each one of its own")

    def salt(self, record: Mapping[str, Node], key: str) -> str:
        """The salt that the file gives; empty if none."""
        if key not in record:
            return ""
        salt = self._fields.salt(record[key]) or ""
        if salt:
            self._salts.given(salt, record[key])
        return salt

    def share_of_all(self, top: Mapping[str, Node]) -> float:
        """How many are held out from everything."""
        if "global_holdout" not in top:
            return 0.0
        node = top["global_holdout"]
        return self._fields.share(node, "`global_holdout`", _MOST_HELD_OUT_OF_ALL) or 0.0

    def salted(self, segments: Sequence[str]) -> tuple[Audience, ...]:
        """All of them, each with its salt; notes those whose segment is none of these."""
        known = (*segments, ALERTS)
        for name, audience in self._found.items():
            if audience.segment and audience.segment not in known:
                near = similar(audience.segment, known) or f"define it, or write `{ALERTS}`"
                what = f"there is no segment {quoted(audience.segment)}"
                self._fields.fail(self._places[name], what, near)
        return tuple(
            msgspec.structs.replace(audience, salt=self._salts.of(name, audience.salt))
            for name, audience in self._found.items()
        )
