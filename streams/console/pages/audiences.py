"""Audiences and what followed, as rows: for the page Campaigns, and for one audience. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from schemas.definitions import ALERTS, Audience, Definitions
from streams.console.page import Column

__all__ = ["ARM_NAMES", "AUDIENCES", "BY_ARM", "NO_EFFECT", "audience_rows", "result_rows"]

AUDIENCES: Final = (
    Column("audience", "Audience", "link"),
    Column("title", "Title"),
    Column("segment", "Made of", "link"),
    Column("treat", "May be contacted", "count"),
    Column("holdout", "Held out", "count"),
    Column("global_holdout", "Held out of all", "count"),
    Column("held_share", "Held out now", "share"),
    Column("planned_share", "As defined", "share"),
    Column("expected_spend", "Their expected spend", "money"),
    Column("newest_ms", "Newest change", "date"),
)
BY_ARM: Final = (
    Column("audience", "Audience", "link"),
    Column("arm", "Arm", "tag"),
    Column("exposed", "Entered", "count"),
    Column("answered", "Horizon over", "count"),
    Column("buyers", "Ordered", "count"),
    Column("buyer_share", "Ordered", "share", "of horizon over"),
    Column("orders", "Orders", "count"),
    Column("spend_mean", "Spend each", "money"),
    Column("spend_before", "Spend before", "money"),
    Column("effect", "Effect", "money"),
    Column("interval", "95 % interval"),
    Column("horizon_days", "Horizon", "number", "days"),
)
ARM_NAMES: Final = ("treat", "holdout", "global_holdout")
NO_EFFECT: Final = (
    "These are plain rates with their counts. Effect and interval are empty until Tideline "
    "computes them: do not read a difference between two rates as an effect. Spend before should "
    "be alike in all arms of an audience."
)


def audience_rows(now: Definitions, arms: Iterable[Mapping[str, Any]]) -> list[tuple[Any, ...]]:
    """`AUDIENCES`: those that are defined, then those that are no more, while somebody is in."""
    found: dict[str, dict[str, Mapping[str, Any]]] = {}
    for row in arms:
        found.setdefault(row["audience"], {})[row["arm"]] = row
    defined = {each.name: each for each in now.audiences}
    gone = sorted(
        name for name, of in found.items()
        if name not in defined and any(row["users"] for row in of.values())
    )  # fmt: skip
    rows = []
    for name in (*defined, *gone):
        of, here = defined.get(name), found.get(name, {})
        counts = [int(here[arm]["users"]) if arm in here else 0 for arm in ARM_NAMES]
        whole = sum(counts)
        rows.append((
            [name, f"/campaigns/{name}"], of.title if of else "no longer defined",
            _made_of(of), *counts,
            counts[1] / (counts[0] + counts[1]) if counts[0] + counts[1] else None,
            of.holdout_share if of else None,
            sum(row["expected_spend"] for row in here.values()) if whole else None,
            max((row["newest_ms"] for row in here.values()), default=None),
        ))  # fmt: skip
    return rows


def _made_of(of: Audience | None) -> list[str]:
    if of is None:
        return ["", ""]
    if of.segment == ALERTS:
        return ["open alerts", ""]
    return [of.segment, f"/segments/{of.segment}"]


def result_rows(
    results: Iterable[Mapping[str, Any]], names: Sequence[str] = ()
) -> list[tuple[Any, ...]]:
    """`BY_ARM`: each campaign's arms below one another, audiences in the order of `names`. A share
    of nobody is none."""
    place = {name: at for at, name in enumerate(names)}
    order = {arm: at for at, arm in enumerate(ARM_NAMES)}
    found = sorted(
        results,
        key=lambda row: (
            place.get(row["audience"], len(place)), row["audience"], row["salt"], order[row["arm"]]
        ),
    )  # fmt: skip
    return [
        (
            [row["audience"], f"/campaigns/{row['audience']}"], row["arm"], row["exposed"],
            row["answered"], row["buyers"],
            row["buyers"] / row["answered"] if row["answered"] else None, row["orders"],
            row["spend_mean"] if row["answered"] else None,
            row["spend_before"] if row["answered"] else None, None, "", row["horizon_days"],
        )
        for row in found
        if row["exposed"]
    ]  # fmt: skip
