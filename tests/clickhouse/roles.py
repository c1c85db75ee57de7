"""Runs statements on chDB as one of the roles of deploy/clickhouse/, with ClickHouse's own checks.

chDB has no users but `default`, and nowhere to keep others. But it reads a `users.xml`, in which a
user's grants are GRANT statements. So each role runs in a process of its own, where `default` has
exactly the role's grants and the profile of its user; `tideline_views`, which the views read as,
is there beside it.

CREATE ROLE, CREATE USER and GRANT run too, as far as they can: `up_to_storing` gives ClickHouse a
`users.xml` in which all of them are, so that it checks every name, hash and setting that a
statement has and refuses only the last thing, to store the result (`STORED_NOWHERE`). What this
leaves out is the store itself, and logging in with a password: chDB reads `users_xml` and no other
of a server's user directories, whatever its configuration says.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from streams.clickhouse import migrations
from streams.clickhouse.migrations import split_statements

__all__ = [
    "ADMIN",
    "DEPLOY",
    "STORED_NOWHERE",
    "Grant",
    "all_migrations",
    "as_role",
    "deployed",
    "grants",
    "migrated",
    "profile_of",
    "up_to_storing",
]

DEPLOY = Path(__file__).parents[2] / "deploy" / "clickhouse"
ADMIN = "admin"
STORED_NOWHERE = "Code: 495."
"""ACCESS_STORAGE_READONLY: all is well but for where to put it."""
_GRANT = re.compile(r"GRANT (?P<rights>.+) ON tideline\.(?P<name>\w+|\*) TO (?P<role>\w+)")
_RIGHT = re.compile(r"(?P<right>[A-Z ]+[A-Z])(?:\((?P<columns>[^)]*)\))?(?:, |$)")

_RUN = """
import json, sys
import chdb
engine = chdb._chdb.connect(sys.argv[1])
for statement in json.load(sys.stdin):
    try:
        answer = engine.query(statement, "JSONCompactEachRow").bytes().decode()
        print(json.dumps({"rows": [json.loads(line) for line in answer.splitlines()]}))
    except RuntimeError as error:
        print(json.dumps({"error": str(error)}))
engine.close()
"""


@dataclass(frozen=True)
class Grant:
    """One right on one table or view, or on `*`; of the columns named, or all if none are."""

    role: str
    right: str
    name: str
    columns: tuple[str, ...] = ()


def deployed(file: str) -> list[str]:
    """The statements of a file in deploy/clickhouse/."""
    return list(split_statements((DEPLOY / file).read_text()))


def grants() -> Iterator[Grant]:
    """Every right that 1_roles.sql gives."""
    for statement in deployed("1_roles.sql"):
        if not statement.startswith("GRANT"):
            continue
        match = _GRANT.fullmatch(statement)
        assert match, statement
        for right in _RIGHT.finditer(match["rights"]):
            columns = tuple((right["columns"] or "").replace(" ", "").split(","))
            yield Grant(match["role"], right["right"], match["name"], tuple(filter(None, columns)))


def profile_of(role: str) -> dict[str, tuple[str, str]]:
    """Setting -> (value, limit) of the settings profile that the role's user has."""
    (user,) = (
        s for s in deployed("2_users.sql") if s.startswith(f"CREATE USER IF NOT EXISTS {role} ")
    )
    named = re.search(r"SETTINGS PROFILE '(\w+)'", user)
    if named is None:
        return {}
    (text,) = (s for s in deployed("1_roles.sql") if f"OR REPLACE {named[1]} SETTINGS" in s)
    found = {}
    for part in text.split("SETTINGS", 2)[2].split(","):
        match = re.fullmatch(r"\s*(\w+) = '?(\w+)'? (CONST|MIN 1 MAX \d+)\s*", part)
        assert match, part
        found[match[1]] = (match[2], match[3])
    return found


def _users_xml(role: str) -> str:
    profile = (
        ""
        if role == ADMIN
        else "".join(f"<{name}>{value}</{name}>" for name, (value, _) in profile_of(role).items())
    )
    limits = (
        ""
        if role == ADMIN
        else "".join(
            f"<{name}>"
            + ("<const/>" if limit == "CONST" else f"<min>1</min><max>{limit.split()[-1]}</max>")
            + f"</{name}>"
            for name, (_, limit) in profile_of(role).items()
        )
    )
    return (
        f"<clickhouse><profiles><default>{profile}<constraints>{limits}</constraints></default>"
        "<open></open></profiles><quotas><default/></quotas><users>"
        + _user("default", "default", role) + _user("tideline_views", "open", "tideline_views")
        + "</users></clickhouse>"
    )  # fmt: skip


def _user(name: str, profile: str, role: str) -> str:
    given = "" if role == ADMIN else "<grants>" + "".join(
        f"<query>{escape(statement.rsplit(' TO ', 1)[0])}</query>"
        for statement in deployed("1_roles.sql")
        if statement.startswith("GRANT") and statement.endswith(f" TO {role}")
    ) + "</grants>"  # fmt: skip
    manage = "<access_management>1</access_management>" if role == ADMIN else ""
    return (
        f"<{name}><no_password/><networks><ip>::/0</ip></networks><profile>{profile}</profile>"
        f"<quota>default</quota>{manage}{given}</{name}>"
    )


def as_role(role: str, database: Path, statements: Sequence[str]) -> list[Any]:
    """Run statements one after the other: rows of each, or ClickHouse's message as a str."""
    return _run(_users_xml(role), database, statements)


def all_migrations() -> list[str]:
    """What `tideline migrate` says to an empty ClickHouse."""
    statements = ["CREATE DATABASE IF NOT EXISTS `tideline`", "USE tideline",
                  migrations._WITH_ENGINE % {"database": "'tideline'", "engine": "'x'"},
                  migrations._RECORDS,
                  "SELECT version, sha256 FROM schema_migrations FINAL"]  # fmt: skip
    for migration in migrations.available():
        statements += split_statements(migration.sql)
        statements.append(
            "INSERT INTO schema_migrations (version, name, sha256) VALUES "
            f"({migration.version}, '{migration.name}', '{migration.sha256}')"
        )
    return statements


def migrated(database: Path) -> Path:
    """Makes the database by the migrator, with views as 3_views.sql leaves them."""
    statements = all_migrations()
    answers = as_role("tideline_migrator", database, statements)
    answers += as_role(ADMIN, database, ["USE tideline", *deployed("3_views.sql")])
    for statement, answer in zip([*statements, "USE tideline", *deployed("3_views.sql")], answers,
                                 strict=True):  # fmt: skip
        assert not isinstance(answer, str), f"{statement}\n{answer}"
    return database


def up_to_storing(database: Path, statements: Sequence[str]) -> list[Any]:
    """As `as_role` for an administrator of a server that has all roles, users and profiles of
    deploy/clickhouse/ already, in a file that it can't change."""
    made = re.findall(
        r"CREATE (ROLE|USER|SETTINGS PROFILE) (?:IF NOT EXISTS|OR REPLACE) (\w+)",
        "\n".join([*deployed("1_roles.sql"), *deployed("2_users.sql")]),
    )
    users = "".join(_user(name, "open", name) for kind, name in made if kind == "USER")
    roles = "".join(f"<{name}/>" for kind, name in made if kind == "ROLE")
    profiles = "".join(f"<{name}/>" for kind, name in made if kind == "SETTINGS PROFILE")
    there = (
        f"<clickhouse><profiles><default/><open/>{profiles}</profiles><quotas><default/></quotas>"
        f"<roles>{roles}</roles><users>{_user('default', 'default', ADMIN)}{users}</users>"
        "</clickhouse>"
    )
    return _run(there, database, statements)


def _run(users_xml: str, database: Path, statements: Sequence[str]) -> list[Any]:
    users, config = database.with_name("users.xml"), database.with_name("config.xml")
    users.write_text(users_xml)
    config.write_text(
        f"<clickhouse><user_directories><users_xml><path>{users}</path></users_xml>"
        "</user_directories></clickhouse>"
    )
    done = subprocess.run(
        [sys.executable, "-c", _RUN, f"{database}?config-file={config}"],
        input=json.dumps(list(statements)), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(statements), done.stderr
    return [answer.get("error", answer.get("rows")) for answer in answers]
