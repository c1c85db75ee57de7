"""Who is measured: peers, floors and Tideline, each layer by layer; and how they take turns.

Peers do one counter in one window per user; Tideline up to its last layer does the whole job. All
read the same topic, and run alone on the first core; broker and ClickHouse have the last one.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

import click

from schemas.errors import LocalStackError
from streams.local.process import ChildProcess, tail, wait_until
from tests.bench import environments, whole_job
from tests.bench.layers import LAYERS
from tests.bench.load import UNIFORM, ZIPF
from tests.bench.machine import FIRST_CORE, pin
from tests.bench.peers.meter import RESULT
from tests.bench.stage import Filled, Stage
from tests.bench.whole_job import Outcome

__all__ = ["BASE", "CONTENDERS", "WHOLE", "WHOLE_UNIFORM", "Contender", "chosen", "take_turns"]

WHOLE: Final = "whole_job"
WHOLE_UNIFORM: Final = "whole_job_uniform"
BASE: Final = "faust_table"
_ROOT: Final = Path(__file__).parents[2]
_START_SECONDS: Final = 90.0  # beyond the measured time: imports, the group's join, the warm-up


@dataclass(frozen=True)
class Contender:
    """One of those who take turns.

    `environment` and `program` are of a peer, `module` and `layer` of what runs in ours; the whole
    job has none of them. `seconds` bounds what is measured, where the topic would last too long.
    """

    name: str
    label: str
    kind: str
    """peer | floor | tideline"""
    shape: str = ZIPF.name
    environment: str = ""
    program: str = ""
    module: str = ""
    layer: str = ""
    seconds: float = 6.0
    warm_seconds: float = 1.0
    from_start: bool = False
    """The clock starts with the first batch, history included: for those so fast that whatever was
    fetched ahead while they warmed up would flatter them."""

    def argv(self, tell: Callable[[str], None]) -> list[str]:
        """The program, without its argument. Raises LocalStackError if it can't be installed."""
        if self.environment:
            program = environments.PEERS / self.program
            return [str(environments.python_of(self.environment, tell)), str(program)]
        return [sys.executable, "-m", self.module]


_RUNGS: Final = {
    "transport": "Tideline: transport",
    "decode": "+ decode",
    "windows": "+ windows and features",
    "champion": "+ champion (ONNX)",
    "learner": "+ learner snapshot",
    "decisions": "+ decisions",
}

CONTENDERS: Final[tuple[Contender, ...]] = (
    Contender(BASE, "Faust, hopping table", "peer", environment="faust",
              program="faust_table.py", warm_seconds=3.0),
    Contender("faust_take", "Faust, take(2000)", "peer", environment="faust",
              program="faust_take.py", warm_seconds=2.0),
    Contender("quix_hopping", "Quix Streams, hopping", "peer", environment="quix",
              program="quix_hopping.py", warm_seconds=2.0),
    Contender("bytewax_sliding", "Bytewax, sliding", "peer", environment="bytewax",
              program="bytewax_sliding.py", warm_seconds=2.0),
    Contender("pathway_sliding", "Pathway, sliding", "peer", environment="pathway",
              program="pathway_sliding.py", warm_seconds=3.0),
    Contender("fetch", "aiokafka, fetch", "floor", module="tests.bench.floor", layer="fetch",
              warm_seconds=0.0, from_start=True),
    Contender("fetch_decode", "aiokafka, fetch + decode", "floor", module="tests.bench.floor",
              layer="decode", warm_seconds=0.0, from_start=True),
    *(
        Contender(f"tideline_{layer}", _RUNGS[layer], "tideline", module="tests.bench.ladder",
                  layer=layer, warm_seconds=0.0, from_start=layer in ("transport", "decode"))
        for layer in LAYERS
    ),
    Contender(WHOLE, "+ ClickHouse: the whole job", "tideline"),
    Contender(WHOLE_UNIFORM, "whole job, uniform users", "tideline", shape=UNIFORM.name),
)  # fmt: skip


def take_turns(
    stage: Stage,
    filled: Callable[[str], Filled],
    contenders: Sequence[Contender],
    rounds: int,
    *,
    tell: Callable[[str], None],
    done: Callable[[Contender, Outcome], None],
) -> tuple[dict[str, list[Outcome]], dict[str, str]]:
    """A B C A B C ...: every contender's outcome of every round, and why some have none.

    A peer that can't be installed, or fails in its first round, is left out of the others.
    """
    outcomes: dict[str, list[Outcome]] = {c.name: [] for c in contenders}
    failed: dict[str, str] = {}
    for number in range(rounds):
        for contender in contenders:
            if contender.name in failed:
                continue
            tell(f"round {number + 1} of {rounds}: {contender.label}")
            try:
                outcome = run(stage, filled(contender.shape), contender, tell)
            except (LocalStackError, click.ClickException) as error:
                if contender.kind == "tideline":
                    raise
                failed[contender.name] = str(error)
                outcomes.pop(contender.name)
                tell(f"{contender.label} is left out: {error}")
            else:
                outcomes[contender.name].append(outcome)
                done(contender, outcome)
    return outcomes, failed


def run(stage: Stage, filled: Filled, contender: Contender, tell: Callable[[str], None]) -> Outcome:
    """One contender's turn. Raises LocalStackError or ClickException that says what went wrong."""
    if not (contender.environment or contender.module):
        return whole_job.run(stage, filled)
    spec = stage.spec(
        filled, contender.name, warm_seconds=contender.warm_seconds, seconds=contender.seconds,
        layer=contender.layer,
    )  # fmt: skip
    if contender.from_start:
        spec = replace(spec, history_events=0, warm_events=0)
    directory = Path(spec.directory)
    argv = [*contender.argv(tell), json.dumps(asdict(spec))]
    path = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")]))
    environ = {"PYTHONPATH": path} if contender.module else {}
    log = directory / "output.log"
    process = ChildProcess(contender.label, argv, log, env=environ)
    process.start()
    pin(process.pid, {FIRST_CORE})
    limit = _START_SECONDS + contender.warm_seconds + contender.seconds
    try:
        wait_until(lambda: not process.running, limit, 0.1)
    finally:
        process.stop()
    result = directory / RESULT
    if not result.exists():
        raise LocalStackError(
            f"{contender.label} has no result after {limit:.0f} s. The end of its log, {log}:\n"
            f"{tail(log)}\nLeave it out with --without {contender.name}, or fix what the log names."
        )
    fields = json.loads(result.read_text())
    return Outcome(fields["events"], fields["seconds"], fields["cpu_seconds"], fields["versions"])


def chosen(only: Collection[str], without: Collection[str]) -> list[Contender]:
    """The contenders whose name or kind, or whose environment, is asked for and not left out."""

    def named(contender: Contender, names: Collection[str]) -> bool:
        return bool({contender.name, contender.kind, contender.environment} & set(names))

    return [c for c in CONTENDERS if (not only or named(c, only)) and not named(c, without)]
