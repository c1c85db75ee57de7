"""Runs the demo: start everything, replay, show, wait until all is processed, sum up, stay up."""

from __future__ import annotations

import contextlib
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final

from clickhouse_driver import Client

from schemas.errors import FatalError
from streams.clickhouse.client import clickhouse_target, connect
from streams.clickhouse.errors import sink_error
from streams.demo.backstage import Backstage
from streams.demo.completion import waiting_for
from streams.demo.directory import DemoDirectory
from streams.demo.figures import Figures, read_figures
from streams.demo.guide import where_to_look
from streams.demo.interrupts import Interrupted, Interrupts
from streams.demo.options import BROKER_NAMES, Options
from streams.demo.screens import LineScreen, LiveScreen, Screen
from streams.demo.source import NOTICE, DemoSource, demo_source
from streams.demo.summary import Summary, summarise
from streams.demo.system import System, broker_version
from streams.demo.view import View
from streams.settings import Settings

__all__ = ["run"]

_LOOK_SECONDS: Final = 1.0  # a look costs ClickHouse 70 ms of a core, which the worker needs too
_LAST_LOOK_SECONDS: Final = 0.2  # once all is accepted: `seconds` ends with the look that sees it
_RATE_SECONDS: Final = 3.0
_HELD_MS: Final = 7 * 86_400_000
"""Of event time, sent when the trainer is done with all before: a training takes as long as the
replay of months, and what it promotes should still score something."""
_DONE: Final = "done"


def run(
    options: Options,
    settings: Settings,
    interrupts: Interrupts,
    report: Callable[[Summary], None],
) -> int:
    """Returns the exit status: 0 if the ledger balances. `report` prints the summary once all is
    processed. Raises Interrupted, TidelineError."""
    live = sys.stdout.isatty() and not options.as_json
    screen: Screen = LiveScreen() if live else LineScreen()
    source = demo_source(options.days)
    with DemoDirectory(options.directory) as directory:
        directory.keep = True  # what went wrong is in there
        try:
            summary = _show(options, settings, source, screen, interrupts, report)
        except Interrupted:
            directory.keep = options.keep
            raise
        directory.keep = options.keep or bool(summary.problem)
    return 1 if summary.problem else 0


def _show(
    options: Options,
    settings: Settings,
    source: DemoSource,
    screen: Screen,
    interrupts: Interrupts,
    report: Callable[[Summary], None],
) -> Summary:
    with contextlib.ExitStack() as stack:
        system = stack.enter_context(System(options.broker, options.directory, settings))
        system.start(screen.say)
        holds = options.until_done or not options.speed  # at a speed it would look like a fault
        hold_at_ms = source.stop_ms - _HELD_MS if holds else None
        backstage = Backstage(system.settings, source.records, options.speed, hold_at_ms)
        stack.callback(backstage.stop)
        stack.callback(screen.say, "Stopping")
        stack.callback(screen.close)
        client = stack.enter_context(connect(clickhouse_target(system.settings)))
        backstage.start()
        watch = _Watch(options, source, system, backstage, client, screen, interrupts)
        summary = watch.until_processed()
        screen.close()
        report(summary)
        if not options.until_done:
            screen.say(
                where_to_look(
                    system.settings, options.directory, options.broker, system.console_url
                )
            )
            _stay_up(system, interrupts)
    return summary


def _stay_up(system: System, interrupts: Interrupts) -> None:
    """Until Ctrl-C, which is then the way it should end."""
    try:
        while True:
            interrupts.raise_if_interrupted()
            system.check()
            time.sleep(0.5)
    except Interrupted:
        return


class _Watch:
    """Looks at the results again and again, shows them, and sees when all is processed."""

    def __init__(
        self,
        options: Options,
        source: DemoSource,
        system: System,
        backstage: Backstage,
        client: Client,
        screen: Screen,
        interrupts: Interrupts,
    ) -> None:
        self._options = options
        self._source = source
        self._system = system
        self._backstage = backstage
        self._client = client
        self._screen = screen
        self._interrupts = interrupts
        self._started_at = time.monotonic()
        self._looks: deque[tuple[float, int]] = deque()
        self._held_at: float | None = None
        self._held_seconds = 0.0
        self._trainer_looks: int | None = None

    def until_processed(self) -> Summary:
        """Raises FatalError past the deadline, and whatever stopped a part of the system."""
        for figures, state in self._states():
            self._screen.show(self._view(figures, state or _DONE))
            if not state:
                return self._summary(figures)
            limit = self._options.deadline_seconds
            if limit and time.monotonic() - self._started_at > limit:
                raise FatalError(
                    f"The demo did not finish in {limit:g} s: {state}. Its logs are in "
                    f"{self._options.directory}. Allow more with --deadline, or replay fewer days."
                )
        raise AssertionError("states go on until one is empty")

    def _states(self) -> Iterator[tuple[Figures, str]]:
        """What there is, and what is still to come in words, '' at last."""
        state = "replaying"
        while state:
            self._interrupts.raise_if_interrupted()
            self._system.check()
            self._backstage.check()
            done, held = self._backstage.done, self._backstage.held
            sent = self._backstage.sent if done or held else None
            figures = self._look()
            if sent is not None:
                learner = self._backstage.learner
                state = waiting_for(
                    figures,
                    sent,
                    learner.version if learner else 0,
                    self._system.settings.topic_names,
                )
            if held and not state:
                state = self._trainer(figures) or self._go_on()
            yield figures, state
            almost = done and figures.ledger.accepted == sent
            time.sleep(_LAST_LOOK_SECONDS if almost else _LOOK_SECONDS)

    def _trainer(self, figures: Figures) -> str:
        """What the trainer still has to do with what was processed, in words; '' if nothing."""
        self._held_at = self._held_at or time.monotonic()
        looks = self._system.trainer_looks()
        if looks is None:
            return ""
        if looks < 0:
            return "the trainer is at work"
        if self._trainer_looks is None:
            self._trainer_looks = looks
        if looks < self._trainer_looks + 2:  # the first may have begun before
            return "waiting for the trainer"
        promoted = figures.promotions
        if promoted and self._system.champion() != promoted[-1].version:
            return "the worker takes the new champion"
        return ""

    def _go_on(self) -> str:
        self._held_seconds = time.monotonic() - (self._held_at or time.monotonic())
        self._backstage.go_on()
        return "replaying"

    def _look(self) -> Figures:
        try:
            return read_figures(self._client, self._screen.newest)
        except Exception as error:
            time.sleep(0.2)  # if ClickHouse has died, that is the better message
            self._system.check()
            target = clickhouse_target(self._system.settings)
            raise sink_error(error, "reading the results", target) from error

    @property
    def _elapsed_seconds(self) -> float:
        started = self._backstage.started_at
        if started is None:
            return 0.0
        return time.monotonic() - started - self._held_seconds

    def _view(self, figures: Figures, state: str) -> View:
        start, stop = self._source.start_ms, self._source.stop_ms
        clock = figures.ledger.clock
        reached = clock.timestamp() * 1000 - start if clock else 0.0
        group = figures.lag.get(self._system.settings.kafka.app_id)
        name = BROKER_NAMES[self._options.broker]
        return View(
            title=f"Tideline on {name} {broker_version(self._options.broker)} and ClickHouse",
            notice=NOTICE,
            console_url=self._system.console_url,
            elapsed_seconds=self._elapsed_seconds,
            done_share=1.0 if state == _DONE else reached / max(1, stop - start),
            sent=self._backstage.sent,
            events_per_second=self._rate(figures.ledger.scored, done=state == _DONE),
            lag_records=group.lag_records if group and not group.unknown else None,
            figures=figures,
            learner=self._backstage.learner,
            state=state,
        )

    def _rate(self, scored: int, *, done: bool) -> float:
        """Events scored per second: lately, or in all when all is done."""
        if done:
            return scored / self._elapsed_seconds
        now = time.monotonic()
        self._looks.append((now, scored))
        while now - self._looks[0][0] > _RATE_SECONDS and len(self._looks) > 2:
            self._looks.popleft()
        then, before = self._looks[0]
        return (scored - before) / (now - then) if now > then else 0.0

    def _summary(self, figures: Figures) -> Summary:
        learner = self._backstage.learner
        return summarise(
            figures,
            sent=self._backstage.sent,
            labels=learner.version if learner else 0,  # with every champion
            seconds=self._elapsed_seconds,
            broker=BROKER_NAMES[self._options.broker],
            broker_version=broker_version(self._options.broker),
        )
