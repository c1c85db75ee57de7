"""Of the learner's snapshots only those count that can be scored with."""

from __future__ import annotations

import logging

import msgspec
import pytest

from schemas.messages import LearnerSnapshot
from streams.learner.snapshots import newest_of
from tests.models.synthetic import snapshot


def packed(snapshot: LearnerSnapshot, **changes: object) -> bytes:
    return msgspec.msgpack.encode(msgspec.structs.replace(snapshot, **changes))


def test_the_newest_snapshot_that_can_be_used_counts(caplog: pytest.LogCaptureFixture) -> None:
    good = snapshot("2026-11-22-0e71a107")
    old, new = packed(good, version=1), packed(good, version=2)
    bad = [None, b"junk", new[:-9], packed(good, version=3, intercept=float("nan")),
           packed(good, version=4, weights=[0.1])]  # fmt: skip
    with caplog.at_level(logging.WARNING):
        found = newest_of([old, new, *bad], "snapshots")
    assert found is not None
    assert found.version == 2
    assert caplog.text.count("skipping a record") == len(bad)
    assert newest_of(bad, "snapshots") is None
    assert newest_of([], "snapshots") is None
