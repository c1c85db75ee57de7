"""Counting who would enter and leave: a child that answers, fails, hangs, or says nonsense."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest

from streams.campaigns import differences, read_definitions, written
from streams.campaigns.plan_text import plan_document
from streams.campaigns.preview import Explained, Preview, SegmentPreview
from streams.console.access import LOCAL, Refused, token_hash
from streams.console.sizing import CountFailed, Sizes, Sizing
from streams.console.tokens import Tokens
from streams.core.rulebook import rulebook_of
from streams.settings import Settings, override
from tests.console.doubles import console_of, served
from tests.console.test_segments_page import NOW, shop

DOCUMENT = written(NOW, "USD")
NAMES = [each.name for each in NOW.segments]
ANSWER = {
    "users": 900, "as_of": "2026-01-01T00:00:00Z",
    "segments": {
        name: {"size_in_force": 100, "size": 130, "enters": 40, "leaves": 10,
               "overlap": {other: 65 for other in NAMES if other != name}}
        for name in NAMES
    },
}  # fmt: skip


def child(code: str, seconds: float = 20.0, settings: Settings | None = None) -> Sizing:
    """A count by a program of one line; the document's path is `sys.argv[1]`."""
    return Sizing(
        settings or Settings(), {"PATH": "/usr/bin", "TIDELINE_LOG_LEVEL": "error"},
        (sys.executable, "-c", f"import os, sys, time, pathlib\n{code}"), seconds,
    )  # fmt: skip


def test_what_the_command_says_is_what_is_read() -> None:
    new = read_definitions(DOCUMENT.encode(), file="s", currency="USD")
    sizes = Preview(users=9, as_of_ms=0, segments={
        name: SegmentPreview(
            size_in_force=3, size=4, enters=2, leaves=1, overlap=Counter({"x": 2}),
            examples=[Explained("ann", ["orders 3"])],
        ) for name in NAMES
    })  # fmt: skip
    said = plan_document(new, NOW, differences(NOW, new), rulebook_of(new, "USD"), sizes)
    found = msgspec.json.decode(json.dumps(said), type=Sizes)
    assert found.users == 9
    assert found.segments[NAMES[0]].leaves == 1
    assert "ann" not in msgspec.json.encode(found).decode(), "customers by name stay out"


def test_the_child_has_the_document_and_the_consoles_settings_and_no_others() -> None:
    code = f"""
assert pathlib.Path(sys.argv[1]).read_text() == {DOCUMENT!r}
assert os.environ["TIDELINE_KAFKA_APP_ID"] == "elsewhere"
assert os.environ["TIDELINE_LOG_LEVEL"] != "error"
print({json.dumps(ANSWER)!r})"""
    sizing = child(code, settings=override(Settings(), kafka_app_id="elsewhere"))
    assert asyncio.run(sizing.count(DOCUMENT)).segments[NAMES[0]].enters == 40


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("print('Kafka is away. Start it.', file=sys.stderr); sys.exit(1)", "Kafka is away"),
        ("sys.exit(3)", "no reason given"),
        ("print('nonsense')", "can't be read"),
        ("print('{}')", "can't be read"),
        ("os.kill(os.getpid(), 9)", "no reason given"),
    ],
)
def test_a_child_that_fails_says_why(code: str, words: str) -> None:
    with pytest.raises(CountFailed, match=words):
        asyncio.run(child(code).count(DOCUMENT))


def test_a_child_that_hangs_is_ended_and_the_next_count_goes_on(tmp_path: Path) -> None:
    mark = tmp_path / "pid"
    hangs = child(
        f"pathlib.Path({str(mark)!r}).write_text(str(os.getpid()))\ntime.sleep(600)", seconds=3.0
    )

    async def twice() -> None:
        with pytest.raises(CountFailed, match="more than 3 s"):
            await hangs.count(DOCUMENT)
        with pytest.raises(CountFailed, match="more than 3 s"):
            await hangs.count(DOCUMENT)

    asyncio.run(twice())
    if mark.exists():
        assert not Path(f"/proc/{mark.read_text()}").exists()


def test_one_document_is_counted_at_a_time(tmp_path: Path) -> None:
    go = tmp_path / "go"
    sizing = child(
        f"while not pathlib.Path({str(go)!r}).exists(): time.sleep(0.01)\n"
        f"print({json.dumps(ANSWER)!r})"
    )

    async def both() -> None:
        first = asyncio.create_task(sizing.count(DOCUMENT))
        await asyncio.sleep(0)
        with pytest.raises(Refused, match="Another document"):
            await sizing.count(DOCUMENT)
        go.touch()
        assert (await first).users == 900

    asyncio.run(both())


# -- on the page


async def _answer(document: str) -> Sizes:
    assert "\r" not in document
    return msgspec.convert(ANSWER, Sizes)


async def _fails(document: str) -> Sizes:
    raise CountFailed("Nobody was counted: Kafka is away. Start it.")


def asked(sizing: Any, tokens: Tokens | None = None, document: str = DOCUMENT) -> tuple[int, str]:
    console = console_of(shop(), tokens=tokens)
    console.sources = {"sizing": sizing}
    with served(shop(), console) as here:
        fields = {"document": document.replace("\n", "\r\n"), "count": "1"}
        if tokens is not None:
            bearer = {"Authorization": f"Bearer {'t' * 40}"}
            answer = here.post("/segments/plan-preview", fields, bearer)
        else:
            fields["csrf"] = console.guard.csrf(LOCAL)
            answer = here.post("/segments/plan-preview", fields)
        return answer.status, answer.text


def test_the_page_shows_who_would_enter_and_leave() -> None:
    status, text = asked(_answer)
    assert status == 200
    assert "Who would enter and leave" in text
    assert "900 customers" in text
    assert f"{NAMES[1]} 50%" in text
    assert "outside" in text, "130 members where 20 to 120 are expected"


def test_what_hinders_counting_stands_on_the_page() -> None:
    status, text = asked(_fails)
    assert status == 200
    assert "Kafka is away" in text


def test_a_wrong_document_is_not_counted() -> None:
    status, text = asked(_fails, document="nonsense: 1")
    assert status == 200
    assert "Kafka" not in text


def test_who_may_not_apply_may_not_have_it_counted(tmp_path: Path) -> None:
    file = tmp_path / "tokens.toml"
    file.write_text(f'[tokens.op]\nsha256 = "{token_hash("t" * 40)}"\nroles = ["sre"]\n')
    assert asked(_answer, Tokens(file))[0] == 403
