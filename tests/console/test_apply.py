"""An edited document is put into force, once, by who may, against what was previewed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from schemas.definitions import Definitions
from schemas.errors import BrokerUnavailable
from schemas.topics import TopicNames
from streams.campaigns import written
from streams.campaigns.published import all_published, publish
from streams.console.access import LOCAL, token_hash
from streams.console.tokens import Tokens
from tests.console.doubles import Served, console_of, served
from tests.console.test_segments_page import NOW, shop

TOPIC = TopicNames("clicks", "orders", "tideline").definitions
EDITED = written(NOW, "USD").replace("p_churn > 45%", "p_churn > 50%")


def sent(console: Served, document: str = EDITED, base: object = 1, **more: str) -> Any:
    csrf = console.console.guard.csrf(LOCAL)
    return console.post(
        "/actions/apply", {"csrf": csrf, "document": document, "base": str(base), **more}
    )


def applied(console: Served) -> list[Definitions]:
    sender: Any = console.console.sender
    found: list[Definitions] = console.run(all_published(sender.topics, TOPIC))
    return found


def with_number_one(console: Served) -> Served:
    sender: Any = console.console.sender
    console.run(publish(sender.topics, TOPIC, NOW))
    return console


def results(console: Served) -> list[str]:
    kept: Any = console.console.log.keeper
    return [row[-1] for row in kept.told if row[2] == "apply"]


def test_the_form_of_a_good_document_puts_it_into_force() -> None:
    with served(shop()) as plain:
        console = with_number_one(plain)
        csrf = console.console.guard.csrf(LOCAL)
        page = console.post("/segments/plan-preview", {"csrf": csrf, "document": EDITED})
        assert 'action="/actions/apply"' in page.text
        answer = sent(console, EDITED.replace("\n", "\r\n"), note="as reviewed")
        assert answer.status == 200
        assert "Number 2 is applied" in answer.text
        first, second = applied(console)
        assert first == NOW
        assert second.segments[0].when == "p_churn > 50% and orders >= 2"
        assert (second.applied_by, second.note) == ("local", "as reviewed")
        assert second.audiences == NOW.audiences
        assert results(console) == ["asked", "done"]


def test_nothing_is_lost_that_somebody_else_applied_meanwhile() -> None:
    with served(shop()) as plain:
        console = with_number_one(plain)
        answer = sent(console, base=0)
        assert answer.status == 409
        assert "Preview again" in answer.text
        assert len(applied(console)) == 1
        assert results(console) == ["asked", "refused"]


def test_the_same_again_is_nothing_to_do() -> None:
    with served(shop()) as plain:
        console = with_number_one(plain)
        assert "Nothing to do" in sent(console, written(NOW, "USD")).text
        assert len(applied(console)) == 1


@pytest.mark.parametrize(
    ("document", "base", "status"),
    [
        ("version: 1\nsegments: {x: {when: nonsense > 1}}\n", 1, 400), ("", 1, 400),
        (EDITED, "x", 400), (EDITED, -1, 400), (EDITED, 10**12, 400), ("\x00", 1, 400),
    ],
)  # fmt: skip
def test_what_is_wrong_changes_nothing(document: str, base: object, status: int) -> None:
    with served(shop()) as plain:
        console = with_number_one(plain)
        assert sent(console, document, base).status == status
        assert len(applied(console)) == 1


def test_kafka_away_is_said_and_written_down() -> None:
    with served(shop()) as console:
        sender: Any = console.console.sender
        sender.error = BrokerUnavailable("Kafka is away. Start it.")
        answer = sent(console, base=0)
        assert answer.status == 503
        assert "Kafka is away" in answer.text
        assert results(console) == ["asked", "failed"]


def test_who_may_not_apply_has_no_form_and_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "tokens.toml"
    file.write_text(f'[tokens.op]\nsha256 = "{token_hash("t" * 40)}"\nroles = ["sre"]\n')
    bearer = {"Authorization": f"Bearer {'t' * 40}"}
    with served(shop(), console_of(shop(), tokens=Tokens(file))) as plain:
        console = with_number_one(plain)
        page = console.post("/segments/plan-preview", {"document": EDITED}, bearer)
        assert page.status == 200
        assert "/actions/apply" not in page.text
        answer = console.post("/actions/apply", {"document": EDITED, "base": "1"}, bearer)
        assert answer.status == 403
        assert len(applied(console)) == 1
        assert results(console) == ["asked", "refused"]


def test_what_was_never_applied_begins_with_number_one() -> None:
    with served(shop(applied=None)) as console:
        assert "Number 1 is applied" in sent(console, base=0).text
        assert msgspec.structs.replace(applied(console)[0], version="").number == 1
