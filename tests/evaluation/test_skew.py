"""Live scores recomputed from the log are the same to the bit, and what differs is named."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schemas.errors import StateError
from schemas.features import FEATURE_NAMES, FEATURES_HASH
from streams.core import features as core_features
from streams.core import step as step_module
from streams.evaluation.skew import Sample, Skew, check_shard
from tests.core.driving import click, record
from tests.core.oracle import DAY_MS
from tests.shard.rig import SCORERS, SHARD, TOPICS, CrashAt, Crashed, Rig, quick_shards, script

__all__ = ["quick_shards"]

# Enumerations run a shard a hundred times, and the machine may be busy.
pytestmark = [pytest.mark.usefixtures("quick_shards"), pytest.mark.timeout(600)]


def loaded(share: float = 1.0) -> Rig:
    rig = Rig()
    rig.config = replace(rig.config, sample_share=share)
    rig.load(script())
    return rig


def samples(rig: Rig) -> list[Sample]:
    """What the sink holds, as `tideline skew` reads it."""
    found = []
    for row in rig.sink.rows["score_samples"].values():
        scores = [row[n] for n in ("p_churn", "p_champion", "p_learner", "expected_spend")]
        found.append(
            Sample(
                int(row["seq"]),
                row["user_id"],
                int(row["scored_at"]),
                np.frombuffer(b"".join(scores), np.float32).copy(),
                np.frombuffer(row["features"], np.float32).copy(),
                row["features_hash"],
            )
        )
    return found


async def check(rig: Rig, taken: list[Sample], keep: Path | None = None) -> Skew:
    return await check_shard(
        rig.log, TOPICS, SHARD, taken, rig.config, SCORERS.__getitem__, keep=keep
    )


def run_with_crashes(rig: Rig) -> None:
    async def go() -> None:
        for n in (40, 25, 60):
            try:
                await rig.process(f"crashes-{n}", CrashAt(n), fetch=17).run()
            except Crashed:
                continue
        await rig.process("last", fetch=17).run()

    asyncio.run(go())


def test_crashes_takeovers_and_a_promotion_make_no_difference() -> None:
    rig = loaded()
    run_with_crashes(rig)
    taken = samples(rig)
    found = asyncio.run(check(rig, taken))
    assert len(taken) > 30
    assert (found.sampled, found.checked, found.mismatched) == (len(taken), len(taken), 0)
    assert not found.by_column
    assert not found.unchecked
    versions = {row["champion_version"] for row in rig.sink.rows["score_samples"].values()}
    assert versions == {"fake-1", "fake-2"}


def test_what_is_kept_to_train_on_has_the_bits_that_were_served_and_recomputed() -> None:
    """With crashes: every example has the features of the sample of its time, and no sample of all
    differs from what the log gives."""
    rig = loaded()
    run_with_crashes(rig)
    taken = samples(rig)
    found = asyncio.run(check(rig, taken))
    assert (found.checked, found.mismatched) == (len(taken), 0)
    served = {(s.user_id, s.scored_at_ms): s.x.tobytes() for s in taken}
    kept = list(rig.sink.rows["examples"].values())
    assert len(kept) == 3
    for row in kept:
        assert row["features"] == served[row["user_id"], int(row["asked_at"])]


def test_users_who_were_parked_by_the_step_that_scored_them_are_checked_too() -> None:
    """Months without anybody but one customer; then two of the others come back. With crashes."""
    rig = loaded()
    end_ms = max(r.timestamp_ms for block in script() for r in block)
    for day, user in ((40, "x"), (98, "x"), (99, "u0"), (101, "u1")):
        key, value, at_ms = record(click(user, end_ms + day * DAY_MS))
        rig.log.put(TOPICS.clickstream, SHARD, key, value, at_ms)
    run_with_crashes(rig)
    oracle = asyncio.run(rig.check())
    assert len(oracle.state.parked) >= 3
    found = asyncio.run(check(rig, samples(rig)))
    assert (found.checked, found.mismatched) == (len(samples(rig)), 0)
    parked = set(oracle.state.parked.everyone(0)[0])
    last_ms = oracle.state.meta.clock_ms - 3 * DAY_MS
    assert parked & {s.user_id for s in samples(rig) if s.scored_at_ms > last_ms}


def test_the_sample_is_a_share_and_the_same_in_every_run() -> None:
    rigs = [loaded(0.5), loaded(0.5), loaded(), loaded(0.0)]
    for rig in rigs:
        asyncio.run(rig.process("clean").run())
    half, again, whole, nothing = (rig.sink.rows["score_samples"] for rig in rigs)
    assert half == again
    assert half.items() <= whole.items()
    assert 0.25 * len(whole) < len(half) < 0.75 * len(whole)
    assert not nothing


def test_a_feature_that_is_computed_otherwise_live_is_found_and_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The live path has a mistake in one feature: off by the last bit, for some users."""
    right = core_features.features
    index = FEATURE_NAMES.index("revenue_90d")

    def wrong(*args: Any) -> Any:
        x = right(*args)
        odd = np.arange(len(x)) % 2 == 1
        x[odd, index] = np.nextafter(x[odd, index], np.float32(np.inf))
        return x

    rig = loaded()
    with monkeypatch.context() as live:
        live.setattr(step_module, "features", wrong)
        run_with_crashes(rig)
    found = asyncio.run(check(rig, samples(rig)))
    assert 0 < found.mismatched < found.checked
    assert set(found.by_column) == {"revenue_90d", "expected_spend"}  # which is made of it
    assert {d.column for d in found.examples} <= {"revenue_90d", "expected_spend"}
    assert all(d.live != d.offline for d in found.examples)


def test_one_altered_value_is_found_wherever_it_is() -> None:
    rig = loaded()
    asyncio.run(rig.process("clean").run())
    taken = samples(rig)
    known = np.flatnonzero(~np.isnan(taken[3].x))
    for feature in (int(known[0]), int(known[-1])):
        before = taken[3].x[feature]
        taken[3].x[feature] = np.nextafter(before, np.float32(np.inf))
        found = asyncio.run(check(rig, taken))
        assert (found.mismatched, dict(found.by_column)) == (1, {FEATURE_NAMES[feature]: 1})
        assert found.examples[0].user_id == taken[3].user_id
        taken[3].x[feature] = before
    taken[5].scores[2] += np.float32(0.25)
    found = asyncio.run(check(rig, taken))
    assert (found.mismatched, dict(found.by_column)) == (1, {"p_learner": 1})


def test_users_may_have_other_names_in_the_samples() -> None:
    """As where pseudonyms replace user ids."""
    rig = loaded()
    asyncio.run(rig.process("clean").run())
    taken = [replace(s, user_id=f"hidden {s.user_id}") for s in samples(rig)]
    found = asyncio.run(
        check_shard(
            rig.log, TOPICS, SHARD, taken, rig.config, SCORERS.__getitem__,
            name_of=lambda user: f"hidden {user}",
        )
    )  # fmt: skip
    assert (found.checked, found.mismatched) == (len(taken), 0)
    assert asyncio.run(check(rig, taken)).by_column["user_id"] == len(taken)


def test_a_sample_of_an_unknown_user_or_step_is_reported() -> None:
    rig = loaded()
    asyncio.run(rig.process("clean").run())
    some = samples(rig)[0]
    stranger = Sample(some.seq, "stranger", some.scored_at_ms, some.scores, some.x, FEATURES_HASH)
    future = Sample(10**6, some.user_id, some.scored_at_ms, some.scores, some.x, FEATURES_HASH)
    other = Sample(some.seq, some.user_id, some.scored_at_ms, some.scores, some.x[:9], "other")
    found = asyncio.run(check(rig, [stranger, future, other]))
    assert (found.sampled, found.checked, found.mismatched) == (3, 1, 1)
    assert dict(found.by_column) == {"user_id": 1}
    assert sorted(found.unchecked.values()) == [1, 1]


async def crash_half_way(rig: Rig) -> None:
    with pytest.raises(Crashed):
        await rig.process("first", CrashAt(40), fetch=17).run()


def test_a_kept_state_that_the_journal_does_not_reach_any_more_is_an_error(tmp_path: Path) -> None:
    rig = loaded()
    asyncio.run(crash_half_way(rig))
    assert asyncio.run(check(rig, samples(rig), keep=tmp_path)).mismatched == 0
    asyncio.run(rig.process("second", fetch=17).run())
    rig.log.expire(TOPICS.journal, SHARD, rig.log.ends_now(TOPICS.journal, SHARD)[1] - 3)
    with pytest.raises(StateError, match="more often than the journal's retention"):
        asyncio.run(check(rig, samples(rig), keep=tmp_path))


def test_going_on_checks_the_rest_and_no_more(tmp_path: Path) -> None:
    rig = loaded()
    asyncio.run(crash_half_way(rig))
    early = asyncio.run(check(rig, samples(rig), keep=tmp_path))
    asyncio.run(rig.process("second", fetch=17).run())
    everything = samples(rig)
    late = asyncio.run(check(rig, everything, keep=tmp_path))
    assert (early.mismatched, late.mismatched) == (0, 0)
    assert early.checked > 0
    assert late.checked > 0
    assert early.checked + late.checked == len(everything)
    assert dict(late.unchecked) == {"before where this run begins": early.checked}
    # Once more, there is nothing new.
    assert asyncio.run(check(rig, everything, keep=tmp_path)).checked == 0


def test_a_damaged_kept_state_says_what_to_do(tmp_path: Path) -> None:
    rig = loaded()
    asyncio.run(rig.process("clean").run())
    asyncio.run(check(rig, samples(rig), keep=tmp_path))
    (tmp_path / f"shard-{SHARD}.state").write_bytes(b"damaged")
    with pytest.raises(StateError, match="Delete it"):
        asyncio.run(check(rig, samples(rig), keep=tmp_path))


def test_without_the_journals_beginning_the_newest_checkpoint_is_where_it_begins() -> None:
    rig = loaded()
    run_with_crashes(rig)
    taken = samples(rig)
    rig.log.expire(TOPICS.journal, SHARD, rig.log.ends_now(TOPICS.journal, SHARD)[1] - 1)
    found = asyncio.run(check(rig, taken))
    assert found.mismatched == 0
    assert found.checked + found.unchecked["before where this run begins"] == len(taken)
    assert found.unchecked["before where this run begins"] > 0
