"""Parts start in order and stop in reverse, whatever fails, is cancelled or asks to stop."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from streams import process
from streams.process import (
    Failed,
    Part,
    Parts,
    at_once,
    background_part,
    in_thread,
    run_parts,
    thread_part,
)
from streams.stopping import StopRequests
from tests.awaiting import turns


class Bug(Exception):
    pass


class Diary:
    """Makes parts that write down what happens to them."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def part(
        self,
        name: str,
        on_start: Callable[[], Coroutine[Any, Any, object]] | None = None,
        stop_error: Exception | None = None,
    ) -> Part:
        async def start() -> None:
            self.lines.append(f"start {name}")
            if on_start is not None:
                await on_start()

        async def stop() -> None:
            self.lines.append(f"stop {name}")
            if stop_error is not None:
                raise stop_error

        return Part(name, start, stop)


@pytest.fixture
def diary() -> Diary:
    return Diary()


async def fails() -> None:
    raise Bug("no start")


async def waits() -> None:
    await asyncio.Event().wait()


def test_parts_start_in_order_and_stop_in_reverse_once(diary: Diary) -> None:
    async def go() -> None:
        parts = Parts([diary.part("a"), diary.part("b"), diary.part("c")])
        await parts.start()
        await parts.stop()
        await parts.stop()

    asyncio.run(go())
    assert diary.lines == ["start a", "start b", "start c", "stop c", "stop b", "stop a"]


def test_a_start_that_fails_stops_that_part_and_those_before_it(diary: Diary) -> None:
    async def go() -> None:
        parts = Parts([diary.part("a"), diary.part("b", fails), diary.part("c")])
        with pytest.raises(Bug, match="no start"):
            await parts.start()
        await parts.stop()

    asyncio.run(go())
    assert diary.lines == ["start a", "start b", "stop b", "stop a"]


def test_the_error_of_the_start_is_raised_though_a_stop_fails_too(diary: Diary) -> None:
    async def go() -> None:
        broken = diary.part("a", stop_error=OSError("no stop"))
        with pytest.raises(Bug, match="no start"):
            await Parts([broken, diary.part("b", fails)]).start()

    asyncio.run(go())
    assert diary.lines[-2:] == ["stop b", "stop a"]


def test_a_start_that_is_cancelled_stops_what_has_begun(diary: Diary) -> None:
    async def go() -> None:
        parts = Parts([diary.part("a"), diary.part("b", waits), diary.part("c")])
        starting = asyncio.create_task(parts.start())
        await turns(3)
        starting.cancel()
        await asyncio.wait([starting])
        assert starting.cancelled()

    asyncio.run(go())
    assert diary.lines == ["start a", "start b", "stop b", "stop a"]


def test_a_stop_that_fails_is_logged_and_the_others_stop(
    diary: Diary, caplog: pytest.LogCaptureFixture
) -> None:
    async def go() -> None:
        parts = Parts(
            [diary.part("a"), diary.part("b", stop_error=Bug("one")),
             diary.part("c", stop_error=Bug("other"))]
        )  # fmt: skip
        await parts.start()
        with pytest.raises(Bug, match="other"):
            await parts.stop()

    asyncio.run(go())
    assert diary.lines[-3:] == ["stop c", "stop b", "stop a"]
    assert "b could not be stopped" in caplog.text
    assert "c could not be stopped" in caplog.text


def test_plain_functions_can_be_parts() -> None:
    done: list[str] = []

    async def go() -> None:
        parts = Parts(
            [Part("p", at_once(lambda: done.append("on")), in_thread(lambda: done.append("off")))]
        )
        await parts.start()
        await parts.stop()

    asyncio.run(go())
    assert done == ["on", "off"]


def test_a_background_part_is_cancelled_and_awaited_when_it_stops() -> None:
    ends: list[str] = []

    async def work() -> None:
        try:
            await waits()
        finally:
            await turns(3)
            ends.append("closed")

    async def go() -> None:
        part = background_part("work", work, lambda error: ends.append(repr(error)))
        await part.start()
        await turns(2)
        await part.stop()
        assert ends == ["closed"]

    asyncio.run(go())


# -- a whole process


class Asked:
    """Stop requests that a test makes itself."""

    def __init__(self) -> None:
        self.left: list[int] = []
        """The statuses that the process was left with."""
        self.requests = StopRequests(self.left.append)

    async def stop(self) -> None:
        await asyncio.get_running_loop().run_in_executor(None, self.requests.receive, "SIGTERM")


def test_a_process_runs_until_it_is_asked_to_stop(diary: Diary) -> None:
    asked = Asked()

    def parts(failed: Failed) -> list[Part]:
        return [
            diary.part("a"),
            background_part("asks", asked.stop, failed),
            diary.part("b"),
        ]

    run_parts(parts, asked.requests)
    assert diary.lines == ["start a", "start b", "stop b", "stop a"]
    assert not asked.left


def test_what_a_process_started_with_is_not_looked_through_for_garbage_again() -> None:
    asked = Asked()
    made: list[list[object]] = []
    before = gc.get_freeze_count()

    async def look() -> None:
        async with asyncio.timeout(30):
            while gc.get_freeze_count() < before + len(made):
                await asyncio.sleep(0.001)
        await asked.stop()

    def parts(failed: Failed) -> list[Part]:
        made.extend([[object()] for _ in range(1_000)])
        return [background_part("looks", look, failed)]

    run_parts(parts, asked.requests)


def test_a_process_that_is_asked_to_stop_during_its_start_stops_what_has_begun(
    diary: Diary,
) -> None:
    asked = Asked()

    async def asks_and_waits() -> None:
        await asked.stop()
        await waits()

    run_parts(lambda _: [diary.part("a", asks_and_waits), diary.part("b")], asked.requests)
    assert diary.lines == ["start a", "stop a"]


def test_a_process_whose_part_does_not_start_raises_its_error(diary: Diary) -> None:
    with pytest.raises(Bug, match="no start"):
        run_parts(lambda _: [diary.part("a"), diary.part("b", fails)], Asked().requests)
    assert diary.lines == ["start a", "start b", "stop b", "stop a"]


@pytest.mark.parametrize("start", [None, waits], ids=["running", "starting"])
def test_a_background_task_that_ends_on_an_error_stops_the_process(
    diary: Diary, start: Callable[[], Coroutine[Any, Any, object]] | None
) -> None:
    with pytest.raises(Bug, match="no start"):
        run_parts(
            lambda failed: [
                diary.part("a"),
                background_part("work", fails, failed),
                diary.part("b", start),
            ],
            Asked().requests,
        )
    assert diary.lines == ["start a", "start b", "stop b", "stop a"]


def test_a_process_that_has_ended_takes_no_more_requests(diary: Diary) -> None:
    asked = Asked()
    with pytest.raises(Bug):
        run_parts(lambda _: [diary.part("a", fails)], asked.requests)
    asked.requests.receive("SIGTERM")
    assert diary.lines == ["start a", "stop a"]


# -- threads


def test_a_thread_part_runs_until_it_is_asked_to_stop(diary: Diary) -> None:
    asked, stopping = Asked(), threading.Event()

    def work() -> None:
        diary.lines.append("work")
        stopping.wait()
        diary.lines.append("worked")

    run_parts(
        lambda failed: [
            diary.part("a"),
            thread_part("b", work, stopping.set, failed),
            background_part("asks", asked.stop, failed),
        ],
        asked.requests,
    )
    assert diary.lines == ["start a", "work", "worked", "stop a"]
    assert not asked.left


@pytest.mark.parametrize(("ends", "status"), [("asked", 0), ("fails", 1), ("does not stop", 1)])
def test_a_process_is_left_with_its_status_while_a_thread_goes_on(
    diary: Diary,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    ends: str,
    status: int,
) -> None:
    """An error beside a thread that hangs once ended the process with status 0."""
    monkeypatch.setattr(process, "THREAD_SECONDS", 0.01)
    asked, hangs = Asked(), threading.Event()

    # As far as a test can: the thread ends with the process.
    def leave(status: int) -> None:
        asked.left.append(status)
        hangs.set()

    asked.requests = StopRequests(leave)

    def parts(failed: Failed) -> list[Part]:
        return [
            diary.part("a", stop_error=Bug("no stop") if ends == "does not stop" else None),
            thread_part("hangs", hangs.wait, lambda: None, failed),  # type: ignore[arg-type]
            background_part("ends", fails if ends == "fails" else asked.stop, failed),
        ]

    try:
        run_parts(parts, asked.requests)
    except Bug:
        assert status
    assert asked.left == [status]
    assert diary.lines == ["start a", "stop a"]  # the others are stopped before
    assert "hangs did not end within" in caplog.text
    assert ("because of an error" in caplog.text) == bool(status)
