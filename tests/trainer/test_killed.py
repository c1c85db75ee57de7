"""The process itself, killed at each point behind which something has become durable."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from models.artifact import current_version, versions
from models.places import LocalPlace
from streams.clickhouse.client import ClickHouseTarget, connect
from streams.settings import as_environ
from streams.trainer.store import ModelStore
from tests.trainer.shop import begin, examples, fill, settings_of

pytestmark = [pytest.mark.clickhouse, pytest.mark.full, pytest.mark.timeout(600)]

# Point, call, and what is there afterwards: challengers, decisions, promotions done, and whether
# the challenger is in use. Each process goes on where the one before was killed.
POINTS = (
    ("models.training.train:write_artifact", 1, (0, 0, 0, False)),
    ("pathlib:Path.rename", 1, (0, 0, 0, False)),  # all files are there, under another name
    ("streams.trainer.app:insert_block", 1, (1, 0, 0, False)),
    ("models.places:os.link", 1, (1, 0, 0, False)),  # compared, and not decided yet
    ("models.places:os.replace", 1, (1, 1, 0, False)),  # decided; CURRENT is the old one
    ("models.places:os.link", 1, (1, 1, 0, True)),  # CURRENT is the new one
    ("streams.trainer.app:insert_block", 1, (1, 1, 1, True)),
)


def test_killed_at_every_durable_point_the_next_process_goes_on(
    target: ClickHouseTarget, tmp_path: Path
) -> None:
    fill(target, examples(4_600, 0, 137))
    settings, root = settings_of(target, str(tmp_path)), LocalPlace(tmp_path)
    shipped = begin(root)

    def run(*program: str) -> int:
        argv = [sys.executable, "-m", *program, "trainer", "--once"]
        environ = {**os.environ, **as_environ(settings)}
        ended = subprocess.run(argv, env=environ, capture_output=True, check=False)
        assert b"Traceback" not in ended.stderr, ended.stderr.decode()
        return ended.returncode

    def left() -> tuple[int, int, int, bool]:
        store = ModelStore(root)
        store.look()
        made = [model.version for model in store.made]
        return len(made), len(store.decisions), len(store.completed), current_version(root) in made

    for point, nth, there in POINTS:
        assert run("tests.trainer.killed_at", point, str(nth)) == -signal.SIGKILL, point
        assert left() == there, point
    assert run("streams") == 0
    assert left() == (1, 1, 1, True)
    assert len(versions(root)) == 2
    with connect(target) as client:
        rows = client.execute("SELECT state, champion_version, judged_rows FROM challengers")
        assert client.execute("SELECT uniqExact(version, event) FROM trainer_log") == [(2,)]
    assert [row[:2] for row in rows] == [("promoted", shipped)]
