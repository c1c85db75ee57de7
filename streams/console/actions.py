"""What visitors do: each action is checked, written down, done, and its end written down.

contacted   customers of open alerts were contacted: a record in the clickstream for each
erase       somebody should be erased: written down for whoever may run `tideline erase`
apply       an edited document of definitions is put into force
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import msgspec

from schemas.errors import TidelineError
from schemas.events import Contact
from streams.console.access import Refused, Visitor
from streams.console.action_log import ActionLog
from streams.console.apply import put_into_force
from streams.console.reads import Reader, ReadFailed, Sealed
from streams.kafka.log import Log
from streams.settings import Settings

__all__ = ["ACTIONS", "CHANNELS", "MOST_ALERTS", "Doing", "Done", "Sender", "perform"]

CHANNELS: Final = ("call", "e-mail", "letter", "message", "other")
MOST_ALERTS: Final = 500
"""Alerts that one form may name."""

ALERTS: Final = """
SELECT alert_id, user_id, arm FROM open_alerts WHERE alert_id IN (%(alerts)s)
"""
SHARDS: Final = "SELECT user_id, shard FROM customers WHERE user_id IN (%(user_id)s)"


class Sender(Protocol):
    """Sends records to Kafka."""

    async def send(
        self, topic: str, records: Sequence[tuple[int, bytes, bytes]], stamp_ms: int
    ) -> None:
        """Partition, key and value of each; `stamp_ms`: the time of all, by the shop's clock, which
        in a replay goes by what records say. Raises BrokerUnavailable."""

    async def log(self) -> Log:
        """Kafka's topics as logs. Raises BrokerUnavailable."""


@dataclass(frozen=True)
class Doing:
    """Who does something, and with what."""

    visitor: Visitor
    reader: Reader
    """With user ids, whoever asks."""
    sealed: Sealed
    """As the visitor's pages read: it opens pseudonyms."""
    sender: Sender
    log: ActionLog
    settings: Settings
    now_ms: int


@dataclass(frozen=True)
class Done:
    """What is said in the end; it names nobody."""

    text: str


Form = Mapping[str, Sequence[str]]
"""The fields of a form; a name may come several times."""


async def perform(name: str, doing: Doing, form: Form) -> Done:
    """Raises Refused, and ReadFailed or TidelineError if it could not be done."""
    action = ACTIONS.get(name)
    if action is None:
        raise Refused(404, f"There is no such action. There are {', '.join(ACTIONS)}.")
    if not doing.visitor.may(name):
        entries = await doing.log.asked(doing.visitor, name, [("", "")])
        await doing.log.ended(entries, "refused", "the role may not")
        raise Refused(
            403, f"Your roles ({', '.join(sorted(doing.visitor.roles))}) may not do this."
        )
    return await action(doing, form)


async def contacted(doing: Doing, form: Form) -> Done:
    """Tell the shards that customers were contacted, each for an open alert.

    Nobody in the holdout: who was contacted could no longer be compared with.
    """
    wanted = sorted(set(form.get("alert", ())))
    channel, campaign = _one(form, "channel"), _one(form, "campaign")
    if not wanted:
        raise Refused(400, "Choose at least one alert.")
    if len(wanted) > MOST_ALERTS:
        raise Refused(400, f"Choose {MOST_ALERTS} alerts at most.")
    if channel not in CHANNELS:
        raise Refused(400, f"channel can be {', '.join(CHANNELS)}.")
    if doing.settings.privacy.pseudonym_key.reveal():
        raise Refused(
            409,
            "ClickHouse has pseudonyms here, so the console can't tell Kafka who was contacted. "
            "Send `contacted` events from the system that contacts (docs/events.md).",
        )
    found = list(await doing.reader.rows(ALERTS, alerts=wanted))
    free = [row for row in found if row["arm"] == "treat"]
    held, gone = len(found) - len(free), len(wanted) - len(found)
    about = [(str(row["user_id"]), str(row["alert_id"])) for row in found] or [
        ("", "no open alert")
    ]
    entries = await doing.log.asked(doing.visitor, "contacted", about)
    kept = {(row["user_id"], row["alert_id"]) for row in free}
    out = [entry for entry in entries if (entry.user_id, entry.what) not in kept]
    entries = [entry for entry in entries if entry not in out]
    if out:
        await doing.log.ended(out, "refused", "held out" if held else "no open alert")
    if entries:
        await _logged(doing, entries, _send_contacts(doing, free, channel, campaign))
    return Done(_contacts_text(len(free), held, gone))


async def _send_contacts(
    doing: Doing, alerts: Sequence[Mapping[str, Any]], channel: str, campaign: str
) -> None:
    users = [str(row["user_id"]) for row in alerts]
    found = await doing.reader.rows(SHARDS, user_id=users)
    shards = {row["user_id"]: int(row["shard"]) for row in found}
    records = []
    for row in alerts:
        record = Contact(
            # The same for a form that is sent twice, and another for another way or day.
            event_id=f"console-{row['alert_id']}-{channel}-{doing.now_ms // 86_400_000}",
            user_id=row["user_id"],
            type="contacted",
            ts=doing.now_ms,
            channel=channel,
            alert_id=row["alert_id"],
            campaign=campaign or None,
        )
        if row["user_id"] in shards:
            key = str(row["user_id"]).encode(errors="surrogateescape")
            records.append((shards[row["user_id"]], key, msgspec.json.encode(record)))
    if len(records) < len(alerts):
        raise Refused(409, "Some of these customers have no score any more. Load the page again.")
    await doing.sender.send(doing.settings.topic_names.clickstream, records, doing.now_ms)


def _contacts_text(sent: int, held: int, gone: int) -> str:
    parts = [f"{sent:,} marked as contacted" if sent else "Nobody was marked"]
    if held:
        parts.append(f"{held:,} held out, whom nobody should contact")
    if gone:
        parts.append(f"{gone:,} whose alert is closed by now")
    return "; ".join(parts) + "."


async def erase(doing: Doing, form: Form) -> Done:
    """Write down that somebody should be erased."""
    given = _one(form, "user_id")
    if _one(form, "sure") != "yes":
        raise Refused(400, "Tick that you are sure.")
    if not given or len(given) > 500:
        raise Refused(400, "Name one customer.")
    user_id = str(doing.sealed.person(given))
    entries = await doing.log.asked(doing.visitor, "erase", [(user_id, "request")])
    await doing.log.ended(entries, "asked", "waits for `tideline erase`")
    return Done(
        "The request is written down. Whoever may erase sees it in Settings, and runs "
        "`tideline erase`."
    )


async def apply(doing: Doing, form: Form) -> Done:
    """Put a document into force that was previewed against what is in force now."""
    document = "".join(form.get("document", ())[:1]).replace("\r\n", "\n")
    base, note = _one(form, "base"), _one(form, "note")
    if not document.strip():
        raise Refused(400, "Send the document.")
    if not base.isdecimal() or len(base) > 9:
        raise Refused(400, "base is the number of the definitions that were previewed against.")
    said: list[str] = []

    async def work() -> None:
        log = await doing.sender.log()
        said.append(
            await put_into_force(
                log, doing.settings.topic_names.definitions, document, int(base), note,
                doing.visitor.name, doing.settings.stream.currency, doing.now_ms,
            )
        )  # fmt: skip

    entries = await doing.log.asked(doing.visitor, "apply", [("", f"after number {base}")])
    await _logged(doing, entries, work())
    return Done(said[0])


async def _logged(doing: Doing, entries: list[Any], work: Awaitable[None]) -> None:
    """Do it, and write down what became of it."""
    try:
        await work
    except Refused as refused:
        await doing.log.ended(entries, "refused", refused.why)
        raise
    except (ReadFailed, TidelineError, OSError) as error:
        await doing.log.ended(entries, "failed", type(error).__name__)
        raise
    except BaseException as error:  # also a visitor who went away meanwhile
        await doing.log.ended(entries, "failed", type(error).__name__)
        raise
    await doing.log.ended(entries, "done", "")


def _one(form: Form, name: str) -> str:
    """One short text of a form."""
    values = form.get(name, ())
    text = values[0].strip() if len(values) == 1 else ""
    if len(text) > 500 or any(not (c.isprintable()) for c in text):
        raise Refused(400, f"{name} can have 500 printable characters.")
    return text


def new_id() -> str:
    """Names one action."""
    return secrets.token_hex(16)


ACTIONS: Final[Mapping[str, Callable[[Doing, Form], Awaitable[Done]]]] = {
    "contacted": contacted,
    "erase": erase,
    "apply": apply,
}
