"""One audience: what defines it, what followed, and who is in it now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from schemas.definitions import Audience, Definitions
from streams.campaigns.written import duration
from streams.console.access import Refused
from streams.console.definitions import segment_of
from streams.console.page import Ask, Column, Fact, Note, Page, Table
from streams.console.pages.audiences import ARM_NAMES, BY_ARM, NO_EFFECT, audience_rows, result_rows

__all__ = ["audience_page"]

PEOPLE: Final = """
SELECT user_id, toString(arm) AS arm, fed, toUnixTimestamp64Milli(entered_at) AS entered_ms,
    p_churn, expected_spend, value_tier, lifecycle
FROM audience_people
WHERE audience = %(audience)s AND (%(arm)s = '' OR arm = %(arm)s)
    AND (%(is_first)s = 1 OR user_id > %(after_user_id)s)
ORDER BY user_id LIMIT %(limit)s
"""

MEMBERS: Final = (
    Column("user_id", "Customer", "user"),
    Column("arm", "Arm", "tag"),
    Column("fed", "In the feed", "tag"),
    Column("entered_ms", "Entered", "time"),
    Column("p_churn", "Leaves, then", "share"),
    Column("expected_spend", "Expected spend, then", "money"),
    Column("value_tier", "Value, then", "tag"),
    Column("lifecycle", "Stage, then", "tag"),
)
DEFINITION: Final = (Column("what", "What"), Column("value", "Value", "code", wide=True))
_ROWS: Final = 50


async def audience_page(
    ask: Ask,
    now: Definitions,
    arms: Sequence[Mapping[str, Any]],
    results: Sequence[Mapping[str, Any]],
) -> Page:
    """/campaigns/NAME. Raises Refused (404)."""
    name = ask.path
    of = next((each for each in now.audiences if each.name == name), None)
    own = [row for row in arms if row["audience"] == name]
    if of is None and not any(row["users"] for row in own):
        names = ", ".join(each.name for each in now.audiences) or "none"
        raise Refused(404, f"There is no audience {name[:40]!r}. Defined are: {names}.")
    arm = ask.choice("arm", "Arm", ARM_NAMES, "all arms")
    place = ask.cursor(str)
    found = [
        *await ask.reader.rows(
            PEOPLE, audience=name, arm=arm.value, limit=ask.limit(_ROWS) + 1,
            is_first=int(place is None), after_user_id=place[0] if place else "",
        )
    ]  # fmt: skip
    shown = found[: ask.limit(_ROWS)]
    only = Definitions(0, "", audiences=(of,) if of else ())
    ((*_, treat, held, never, _share, planned, spend, _newest),) = audience_rows(only, own)
    currency = ask.settings.stream.currency
    return Page(
        title=f"Audience {name.replace('_', ' ')}",
        summary=f"{treat:,} may be contacted, {held + never:,} are held out"
        + (f": {of.title}." if of and of.title else "."),
        as_of_ms=ask.as_of_ms,
        facts=(
            Fact("may be contacted", treat),
            Fact("held out", held, note=f"{planned:.0%} are defined" if planned else ""),
            Fact("held out of all", never),
            Fact("expected spend", spend, "money", currency, note="when they entered"),
        ),
        filters=(arm,),
        parts=(
            *_definition(now, of),
            Table(
                "results", "What followed, by arm", BY_ARM,
                result_rows(row for row in results if row["audience"] == name),
                empty="Nobody has entered it yet.", note=NO_EFFECT,
            ),
            Table(
                "members", "Who is in it now", MEMBERS,
                [_member(row) for row in shown],
                empty="Nobody is in it now.",
                next=ask.after(shown[-1]["user_id"]) if len(found) > ask.limit(_ROWS) else "",
            ),
        ),
        up=("Campaigns", "/campaigns"),
        file="members",
    )  # fmt: skip


def _member(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(
        ("yes" if row["fed"] else "no") if column.key == "fed" else row[column.key]
        for column in MEMBERS
    )


def _definition(now: Definitions, of: Audience | None) -> Iterable[Any]:
    """What the audience is, and why somebody is in it."""
    if of is None:
        yield Note("This audience is no longer defined: who is in it leaves with the next look.")
        return
    segment = segment_of(now, of.segment)
    lines = {
        "made of": "customers in an open churn alert" if segment is None else of.segment,
        "enters when": "" if segment is None else segment.when,
        "leaves when": "" if segment is None else segment.leave,
        "priority": f"{of.priority} in the list {of.priority_list}" if of.priority_list else "",
        "responses count for": duration(of.horizon_ms),
        "owner": of.owner,
        "salt": of.salt,
    }
    rows = [(what, value) for what, value in lines.items() if value]
    yield Table("definition", "What defines it", DEFINITION, rows, half=True)
    if segment is None:
        yield Note(
            "Why somebody is in it: the reasons of the alert, on Today and on the profile.",
            half=True,
        )
    else:
        yield Note(
            "Why somebody is in it, each condition with the value that it saw: "
            f"`tideline segments explain {segment.name} USER`.",
            half=True,
        )
