"""`tideline pseudonyms`: which pseudonym belongs to which user, for who may know."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from typing import TextIO

import click

from schemas.errors import SettingsError
from streams.commands.support import Invocation, pass_invocation

__all__ = ["pseudonyms"]


@click.command()
@click.argument("users", type=click.File("r", encoding="utf-8"), default="-")
@pass_invocation
def pseudonyms(invocation: Invocation, users: TextIO) -> None:
    """Print the pseudonym of each user: CSV with user_id and pseudonym.

    USERS is a file with one user id per line; without it they are read from standard input. Needs
    TIDELINE_PRIVACY_PSEUDONYM_KEY, so run it where that key may be, and join its output with what
    ClickHouse says.
    """
    key = invocation.settings.privacy.pseudonym_key
    if not key.reveal():
        raise SettingsError(
            "TIDELINE_PRIVACY_PSEUDONYM_KEY is not set: results hold user ids as they are. Set it, "
            "or TIDELINE_PRIVACY_PSEUDONYM_KEY_FILE, to the key that the workers have."
        )
    from streams.privacy.pseudonyms import Pseudonyms  # noqa: PLC0415  (loads numpy)

    known = Pseudonyms(key)
    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow(("user_id", "pseudonym"))
    out.writerows((user, known.user(user)) for user in _ids(users))


def _ids(users: TextIO) -> Iterator[str]:
    return filter(None, (line.rstrip("\r\n") for line in users))
