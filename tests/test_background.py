"""What runs beside its maker: no task, thread or executor's job of ours ends in silence."""

from __future__ import annotations

import ast
import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from models.registry import watch
from streams import background, worker
from streams.faust_app import Failure
from streams.kafka.log import KafkaLog
from streams.learner import app as learner_app
from streams.learner.service import LearnerService
from streams.learner.snapshots import SnapshotFollower
from streams.local import chdb_server
from streams.privacy.erasure_board import ErasureBoard
from streams.settings import Settings
from tests.awaiting import close_unused_loop, turns
from tests.shard.memory import MemoryLog

ROOT = Path(__file__).parents[1]

THREADS = {
    "streams.clickhouse.sink": "an error fails what was submitted, and refuses what comes later",
    "streams.local.chdb_server": "ends the process if it can accept no more; logs a client's error",
    "streams.local.process": "a job's error goes to the one who gave the job",
    "streams.stopping": "does nothing that fails: it waits for signals and passes them on",
    "streams.demo.backstage": "keeps its error, which the demo's next look raises",
    "streams.telemetry.otlp": "logs any error, counts the spans as dropped, and goes on",
}
"""Where threads are made, and how an error in one shows."""


class Bug(Exception):
    pass


def outcome_of(work: Any, *, cancel: bool = False) -> list[BaseException]:
    """What `failed` hears of a task that has ended."""
    heard: list[BaseException] = []

    async def go() -> None:
        task = background.start(work, "some work", heard.append)
        if cancel:
            await asyncio.sleep(0)
            task.cancel()
        await asyncio.wait([task])
        await turns(2)

    asyncio.run(go())
    return heard


async def well() -> None:
    await asyncio.sleep(0)


async def badly() -> None:
    await asyncio.sleep(0)
    raise Bug


async def waits() -> None:
    await asyncio.Event().wait()


async def awaits_what_was_cancelled() -> None:
    future = asyncio.get_running_loop().create_future()
    future.cancel()
    await future


def test_start_reports_the_error_that_ended_the_work(caplog: pytest.LogCaptureFixture) -> None:
    (error,) = outcome_of(badly())
    assert isinstance(error, Bug)
    assert "some work has ended: Bug()" in caplog.text


def test_start_is_silent_about_work_that_ends_well_or_was_cancelled(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert outcome_of(well()) == []
    assert outcome_of(waits(), cancel=True) == []
    assert caplog.text == ""


def test_start_reports_a_cancellation_that_nobody_asked_for() -> None:
    """As from a client library that cancels its own futures: the task looks cancelled."""
    (error,) = outcome_of(awaits_what_was_cancelled())
    assert "nobody asked" in str(error)


def test_start_awaited_leaves_the_error_to_who_awaits() -> None:
    async def go() -> None:
        with pytest.raises(Bug):
            await background.start_awaited(badly(), "some work")
        assert not background._running

    asyncio.run(go())


async def broken(*_: Any) -> None:
    raise Bug


async def nothing(_: Any) -> None: ...


async def stops(create_app: Callable[[Settings, Failure], Any]) -> None:
    """Start an app, one of whose parts fails at once."""
    failure = Failure()
    app = create_app(Settings(), failure)
    await app.on_start()
    await turns(5)
    assert isinstance(failure.error, Bug)
    assert app.crashed
    await app.on_stop()
    close_unused_loop(app)


@pytest.mark.parametrize("part", ["snapshots", "champions", "erasures"])
def test_a_part_of_the_worker_that_ends_stops_the_worker(
    part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(KafkaLog, "start", nothing)
    # What is not broken waits for ever.
    for name, owner, attribute in (
        ("snapshots", SnapshotFollower, "run"),
        ("champions", worker, "watch"),
        ("erasures", ErasureBoard, "run"),
    ):
        monkeypatch.setattr(owner, attribute, broken if name == part else lambda *_: waits())

    asyncio.run(stops(worker.create_app))


def test_a_part_of_the_learner_that_ends_stops_the_learner(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(KafkaLog, "start", nothing)
    monkeypatch.setattr(LearnerService, "restore", nothing)
    monkeypatch.setattr(learner_app, "watch", broken)

    asyncio.run(stops(learner_app.create_app))


def test_an_erasure_board_that_is_followed_passes_on_what_it_does_not_know(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("streams.privacy.erasure_board.POLL_SECONDS", 0.0)
    monkeypatch.setattr(ErasureBoard, "refresh", broken)
    with pytest.raises(Bug):
        asyncio.run(ErasureBoard(MemoryLog(), "erasures").run())


def test_watching_champions_passes_on_what_it_does_not_know() -> None:
    class Store:
        followed = True

        def refresh(self) -> None:
            raise Bug

    with pytest.raises(Bug):
        asyncio.run(watch(Store(), lambda _: None, seconds=0.0))  # type: ignore[arg-type]


def test_an_app_that_can_not_even_crash_is_stopped_by_a_signal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sent = []
    monkeypatch.setattr("os.kill", lambda _pid, number: sent.append(number.name))

    class Stuck:
        crash = broken

    async def go() -> None:
        failure = Failure()
        failure.watch(Stuck())
        failure(Bug())
        await turns(5)

    asyncio.run(go())
    assert sent == ["SIGTERM"]


def test_the_local_clickhouse_ends_when_it_can_accept_no_more(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Full:
        def serve(self) -> None:
            raise OSError(24, "Too many open files")

    ended: list[int] = []
    monkeypatch.setattr("os._exit", ended.append)
    monkeypatch.setattr("logging.shutdown", lambda: None)
    chdb_server._serve(Full())  # type: ignore[arg-type]
    assert ended == [1]
    assert "no more clients are accepted" in caplog.text


# -- where they are made


def sources(*names: str) -> Iterator[tuple[str, ast.Module]]:
    """The modules in whose text one of these names is; the others have no call of it."""
    for package in ("schemas", "models", "streams"):
        for path in sorted((ROOT / package).rglob("*.py")):
            text = path.read_text()
            if any(name in text for name in names):
                yield ".".join(path.relative_to(ROOT).with_suffix("").parts), ast.parse(text)


def name_of(call: ast.Call) -> str:
    """The last part of what is called."""
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def calls(tree: ast.AST) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def test_tasks_are_made_in_background_only() -> None:
    makers = ("create_task", "ensure_future", "TaskGroup", "call_soon", "call_later")
    made = {
        (module, name_of(call))
        for module, tree in sources(*makers)
        for call in calls(tree)
        if name_of(call) in makers
    }
    # A group raises the errors of its tasks where it is awaited, in a task of `background`.
    group = {("streams.watch", "TaskGroup"), ("streams.watch", "create_task")}
    assert made == {("streams.background", "create_task"), *group}


def test_a_task_that_is_to_be_awaited_is_kept() -> None:
    for module, tree in sources("start_awaited"):
        for node in ast.walk(tree):
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
                assert name_of(node.value) != "start_awaited", f"{module}:{node.lineno}"


def test_threads_are_made_where_their_errors_show() -> None:
    makers = ("Thread", "start_new_thread", "Timer")
    made = {
        module
        for module, tree in sources(*makers)
        for call in calls(tree)
        if name_of(call) in makers
    }
    assert made == set(THREADS)


def test_what_an_executor_or_a_thread_computes_is_awaited() -> None:
    """`run_in_executor` and `to_thread` right behind an `await`, or in a name that is awaited."""
    sent = ("run_in_executor", "to_thread")
    for module, tree in sources(*sent):
        awaited = [node.value for node in ast.walk(tree) if isinstance(node, ast.Await)]
        names = {value.id for value in awaited if isinstance(value, ast.Name)}
        kept = {
            node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign)
            and any(isinstance(target, ast.Name) and target.id in names for target in node.targets)
        }
        for call in calls(tree):
            if name_of(call) in sent:
                assert call in awaited or call in kept, f"{module}:{call.lineno}"
