"""Settings: what is in force and where it comes from; and who did what in this console."""

from __future__ import annotations

from typing import Final

from streams.console.access import ACTIONS, PAGES, RIGHTS, ROLES
from streams.console.page import Ask, Column, Fact, Page, Table
from streams.console.reads import Rows
from streams.settings import SettingRow, describe

__all__ = ["settings"]

LOG: Final = """
SELECT toUnixTimestamp64Milli(happened_at) AS happened_ms, who, role, action, user_id, what, result,
    detail
FROM console_log
WHERE %(action)s = '' OR action = %(action)s
ORDER BY happened_at DESC, action_id LIMIT %(limit)s
"""
COLUMNS: Final = (
    Column("name", "Setting", "code"),
    Column("value", "Value", "code"),
    Column("origin", "From", "text"),
    Column("help", "What", "prose", wide=True),
    Column("env", "Environment", "code", hidden=True),
    Column("default", "Default", "code", hidden=True),
)


async def settings(ask: Ask) -> Page:
    """Settings of this console's process, which has read them as the others do."""
    tables = tuple(dict.fromkeys(row.table for row in describe(ask.settings)))
    filters = (
        ask.choice("section", "Section", tables, "all sections"),
        ask.choice("from", "From", ("changed",), "any origin"),
        ask.text("q", "Name or help has"),
        ask.choice("action", "Log: action", ACTIONS, "all actions"),
    )
    section, changed, text, action = (each.value for each in filters)
    every = describe(ask.settings)
    rows = [
        row
        for row in every
        if section in ("", row.table)
        and (not changed or row.value != row.default)
        and text.lower() in f"{row.table}_{row.name} {row.help}".lower()
    ]
    log = await ask.reader.rows(LOG, action=action, limit=100 if action else 10)
    changed_count = sum(row.value != row.default for row in every)
    return Page(
        title="Settings",
        summary=f"{len(every)} settings, {changed_count} of them not the default.",
        facts=(
            Fact("settings", len(every)),
            Fact("not the default", changed_count),
            Fact("you are", ask.visitor.name, "text", note=", ".join(sorted(ask.visitor.roles))),
            Fact("let in", _way_in(ask), "text"),
        ),
        filters=filters,
        parts=(_log(log), _settings(rows), _roles()),
        file="settings",
    )


def _way_in(ask: Ask) -> str:
    ways = {
        "local": "whoever is at this machine", "token": "by token", "proxy": "by the reverse proxy",
    }  # fmt: skip
    return ways[ask.visitor.how]


def _settings(rows: list[SettingRow]) -> Table:
    return Table(
        "settings", "In force", COLUMNS,
        [[f"[{r.table}] {r.name}", r.value, r.origin, r.help, r.env, r.default] for r in rows],
        empty="No setting matches.",
        note="As this process has read them at its start. Secrets are masked.",
    )  # fmt: skip


def _log(found: Rows) -> Table:
    columns = (
        Column("happened_ms", "When", "time"),
        Column("who", "Who", "text"),
        Column("role", "Role", "tag"),
        Column("action", "Did", "tag"),
        Column("user_id", "Customer", "user"),
        Column("what", "What", "code"),
        Column("result", "Result", "tag"),
        Column("detail", "Detail", "text", wide=True),
    )
    rows = [[row[column.key] for column in columns] for row in found]
    return Table(
        "log", "Who did what", columns, rows, empty="Nobody has done anything here yet.",
        note="The newest ten; with an action, a hundred. A request to erase stays `asked` until "
        "`tideline erase` has run, which also takes it out of here.",
    )  # fmt: skip


def _roles() -> Table:
    columns = (
        Column("role", "Role", "tag"),
        Column("pages", "Pages", "words"),
        Column("actions", "Actions", "words"),
        Column("ids", "Customers are", "text", wide=True),
    )
    rows = [
        [
            role,
            [page for page in PAGES if page in RIGHTS[role]],
            [action for action in ACTIONS if action in RIGHTS[role]],
            "user ids" if "ids" in RIGHTS[role] else "pseudonyms of this console",
        ]
        for role in ROLES
    ]
    return Table("roles", "Who may what", columns, rows, folded=True)
