"""Actions: what reaches Kafka, and what is written down, whatever goes wrong on the way."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from schemas.errors import BrokerUnavailable
from schemas.events import Contact
from tests.console.doubles import NOW_MS, Served, served
from tests.console.people import A1, HELD, everything


def csrf(console: Served) -> str:
    return console.get("/today").text.split('name="csrf" value="')[1].split('"')[0]


def post(console: Served, name: str, **fields: Any) -> Any:
    return console.post(f"/actions/{name}", {"csrf": csrf(console), **fields})


def told(console: Served) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = console.console.log.keeper.told  # type: ignore[attr-defined]
    return found


def sent(console: Served) -> list[Any]:
    found: list[Any] = console.console.sender.records  # type: ignore[attr-defined]
    return found


def test_a_contact_is_a_record_of_the_clickstream_in_the_customers_partition() -> None:
    with served(everything("x"), stream_clock="event") as console:
        answer = post(console, "contacted", alert=A1, channel="call", campaign="spring")
        assert "1 marked as contacted." in answer.text
        ((topic, partition, key, record),) = sent(console)
        assert (topic, partition, key) == ("clickstream", 3, b"ann")
        assert console.console.sender.stamps_ms == [NOW_MS]  # type: ignore[attr-defined]
        assert record == {
            "event_id": f"console-{A1}-call-{NOW_MS // 86_400_000}", "user_id": "ann",
            "type": "contacted", "ts": NOW_MS, "channel": "call", "alert_id": A1, "v": 1,
            "campaign": "spring",
        }  # fmt: skip
        assert told(console) == [
            ("local", "admin", "contacted", "ann", A1, "asked"),
            ("local", "admin", "contacted", "ann", A1, "done"),
        ]


def test_the_shards_read_such_a_record() -> None:
    with served(everything("x")) as console:
        post(console, "contacted", alert=A1, channel="call")
        record = json.dumps(sent(console)[0][3]).encode()
    assert msgspec.json.decode(record, type=Contact).alert_id == A1


def test_who_is_held_out_or_no_longer_alerted_is_left_out_and_said() -> None:
    with served(everything("x")) as console:
        console.client.session  # noqa: B018  (the session exists before the form)
        fields = [("csrf", csrf(console)), ("channel", "call")]
        fields += [("alert", each) for each in (A1, HELD, "gone")]
        answer = console.ask("POST", "/actions/contacted", data=fields)
        assert "1 marked as contacted; 1 held out, whom nobody should contact; 1 whose alert" in (
            answer.text
        )
        assert len(sent(console)) == 1
        assert ("local", "admin", "contacted", "bo", HELD, "refused") in told(console)


@pytest.mark.parametrize(
    "fields",
    [{}, {"alert": A1}, {"alert": A1, "channel": "pigeon"}, {"channel": "call"},
     {"alert": A1, "channel": "call", "campaign": "x" * 600},
     {"alert": A1, "channel": "call", "campaign": "a\x00b"}],
)  # fmt: skip
def test_a_form_that_is_not_whole_does_nothing(fields: dict[str, str]) -> None:
    with served(everything("x")) as console:
        assert post(console, "contacted", **fields).status == 400
        assert not sent(console)


def test_what_can_t_be_written_down_is_not_done() -> None:
    with served(everything("x")) as console:
        console.console.log.keeper.broken = True  # type: ignore[attr-defined]
        assert post(console, "contacted", alert=A1, channel="call").status == 503
        assert console.get("/today.csv").status == 503
        assert not sent(console)


def test_what_failed_is_written_down_as_failed() -> None:
    with served(everything("x")) as console:
        console.console.sender.error = BrokerUnavailable("no broker")  # type: ignore[attr-defined]
        answer = post(console, "contacted", alert=A1, channel="call")
        assert answer.status == 503
        assert "no broker" in answer.text
        assert [row[5] for row in told(console)] == ["asked", "failed"]


def test_where_clickhouse_has_pseudonyms_nobody_can_be_marked() -> None:
    with served(everything("x"), privacy_pseudonym_key="k" * 32) as console:
        answer = post(console, "contacted", alert=A1, channel="call")
        assert answer.status == 409
        assert "docs/events.md" in answer.text


def test_a_request_to_erase_is_written_down_and_waits() -> None:
    with served(everything("x")) as console:
        assert post(console, "erase", user_id="ann").status == 400
        assert "tideline erase" in post(console, "erase", user_id="ann", sure="yes").text
        assert told(console) == [("local", "admin", "erase", "ann", "request", "asked")] * 2


def test_an_export_says_who_took_what() -> None:
    with served(everything("x")) as console:
        console.get("/today.csv?tier=high")
        assert [(row[4], row[6], row[7]) for row in console.console.log.keeper.rows] == [  # type: ignore[attr-defined]
            ("export", "/today?tier=high", "asked"), ("export", "/today?tier=high", "done"),
        ]  # fmt: skip
        console.get("/customers/ann.csv")
        assert "ann" not in json.dumps(told(console)[-1])  # the row is about nobody


def test_there_is_no_other_action() -> None:
    with served(everything("x")) as console:
        answer = post(console, "drop")
        assert answer.status == 404
        assert "contacted" in answer.text
