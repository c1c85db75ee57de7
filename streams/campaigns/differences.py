"""What changes between two sets of definitions: which are added, removed and changed, and how."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from schemas.definitions import Definitions

__all__ = ["Difference", "differences"]


@dataclass(frozen=True)
class Difference:
    """One definition that is not as it was."""

    kind: str
    """`segment`, `value`, `tier`, `lifecycle`, `audience`, `alerts`, `policy` or `setting`."""
    name: str
    change: str
    """`added`, `removed` or `changed`."""
    fields: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    """Field -> before and after; of what was added or removed, None on one side."""


def differences(old: Definitions, new: Definitions) -> list[Difference]:
    """All differences, by kind, in the order of `new`; what was removed comes last in its kind.

    Segments, values and audiences go by their names, cases by dimension and name, and rows of the
    policy by their places, since the first that is true applies. Who applied what and when is none.
    """
    before, after = _by_kind(old), _by_kind(new)
    return [found for kind in before for found in _compared(kind, before[kind], after[kind])]


def _by_kind(of: Definitions) -> dict[str, dict[str, dict[str, Any]]]:
    def named(structs: tuple[Any, ...]) -> dict[str, dict[str, Any]]:
        return {struct.name: _fields(struct) for struct in structs}

    return {
        "segment": named(of.segments),
        "value": {name: {"expression": text} for name, text in of.values},
        "tier": _cases(of.value_tier),
        "lifecycle": _cases(of.lifecycle),
        "audience": named(of.audiences),
        "alerts": _alerts(of),
        "policy": {str(at): _fields(row) for at, row in enumerate(of.policy, 1)},
        "setting": {
            name: {"value": getattr(of, name)}
            for name in ("lapsed_after_ms", "global_holdout_share", "global_salt", "rfm")
        },
    }


def _alerts(of: Definitions) -> dict[str, dict[str, Any]]:
    """Rules of alerts, caps and suppression, without what follows from the zone."""
    rules = {k: v for k, v in _fields(of.alerts).items() if k != "utc_offsets"}
    found = {"rules": rules}
    if of.caps is not None:
        found["caps"] = _fields(of.caps)
    if of.suppress:
        found["suppress"] = {"when": of.suppress}
    return found


def _cases(cases: tuple[Any, ...]) -> dict[str, dict[str, Any]]:
    """Cases by name, a name's second one with a number; their order is part of each."""
    found: dict[str, dict[str, Any]] = {}
    for place, case in enumerate(cases, 1):
        name = case.name if case.name not in found else f"{case.name} ({place})"
        found[name] = {"place": place, "when": case.when}
    return found


def _fields(struct: Any) -> dict[str, Any]:
    fields = {k: v for k, v in msgspec.structs.asdict(struct).items() if k != "name"}
    expect = fields.pop("expect", None)
    if expect is not None:
        fields |= {f"expect.{k}": v for k, v in msgspec.structs.asdict(expect).items()}
    return fields


def _compared(
    kind: str, before: dict[str, dict[str, Any]], after: dict[str, dict[str, Any]]
) -> Iterator[Difference]:
    for name, fields in after.items():
        if name not in before:
            yield Difference(kind, name, "added", {k: (None, v) for k, v in fields.items()})
            continue
        changed = {k: (before[name][k], v) for k, v in fields.items() if before[name][k] != v}
        if changed:
            yield Difference(kind, name, "changed", changed)
    for name, fields in before.items():
        if name not in after:
            yield Difference(kind, name, "removed", {k: (v, None) for k, v in fields.items()})
