"""A trainer that is killed at any write, or has company, loses nothing and promotes once."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest

from models.artifact import current_version, versions
from schemas.errors import ArtifactError, ModelsUnavailable
from schemas.tables import TABLES
from streams.clickhouse.blocks import Block
from streams.trainer.plan import Complete, Decision, Judge, Train, Wait
from streams.trainer.rows import columns
from streams.trainer.store import DIRECTORY, ModelStore
from tests.trainer.worlds import Killed, Numbers, World, copy, day


def decisions(world: World) -> list[Decision]:
    store = ModelStore(world.root)
    store.look()
    return store.decisions


def told(world: World) -> set[tuple[str, str]]:
    return {(row["version"], row["event"]) for row in world.rows}


def settled(world: World) -> dict[str, Any]:
    """Everything that a history leaves."""
    return {
        "current": current_version(world.root),
        "models": versions(world.root),
        "decisions": [(d.number, d.version, d.champion, d.promote) for d in decisions(world)],
        "told": told(world),
    }


def history(world: World) -> int:
    """A hundred days of labels: a challenger that wins, and two that lose, one of which is removed.
    Returns how often the process was killed; another one went on, with the same labels."""
    world.rules = replace(world.rules, keep=1)
    world.labels.wins = lambda version: version == "cut-28"
    killed = 0
    for known in (29.0, 43.0, 57.0, 71.0, 85.0, 99.0):
        world.labels.known_day = known
        try:
            world.run(world.trainer())
        except Killed:
            killed += 1
            world.run(world.trainer())
    return killed


def test_a_challenger_is_trained_waits_is_judged_and_promoted() -> None:
    world = World()
    trainer = world.trainer()
    world.labels.known_day = 27
    assert isinstance(trainer.turn(), Wait)
    world.labels.known_day = 29
    assert world.run(trainer) == [Train(day(28), "schedule")]
    assert current_version(world.root) == world.champion
    world.labels.known_day = 43
    (judged,) = world.run(trainer)
    assert isinstance(judged, Judge)
    assert (judged.after_ms, judged.until_ms) == (day(28), day(43))
    assert current_version(world.root) == "cut-28"
    (decision,) = decisions(world)
    assert (decision.champion, decision.log_loss, decision.rows) == (
        world.champion, (0.5, 0.4), 500
    )  # fmt: skip
    assert told(world) == {("cut-28", "trained"), ("cut-28", "promoted")}
    assert world.labels.judged == [(world.champion, "cut-28")]


def test_its_rows_fit_the_table() -> None:
    world = World()
    history(world)
    world.labels.too_few = "all alike"
    world.labels.known_day = 113.0
    world.labels.wins = lambda _version: False
    world.run(world.trainer())
    table = TABLES["trainer_log"]
    block = Block(table, [columns(world.rows, table.columns)])
    assert block.rows == len(world.rows)
    for name, kind in table.columns.items():
        assert block.packed(name, kind)
    assert ("", "too_few") in told(world)


def test_killed_at_any_write_it_loses_nothing() -> None:
    """Every write of the history, those within an artifact among them: the process ends right
    before it, and another one goes on with the same labels."""
    whole = World()
    history(whole)
    wanted = settled(whole)
    assert wanted["current"] == "cut-28"
    assert [d[3] for d in wanted["decisions"]] == [True, False, False]
    assert wanted["models"] == sorted([whole.champion, "cut-28", "cut-84"])
    for number, path in enumerate(whole.disk.writes, 1):
        if ("/cut-56/" in path or "/cut-84/" in path) and not path.startswith("remove"):
            continue  # written as the first one was
        world = World()

        def end(nth: int, _path: str, number: int = number) -> None:
            if nth == number:
                raise Killed

        world.disk.before = end
        assert history(world) == 1
        assert settled(world) == wanted, path


@pytest.mark.parametrize("wins", [True, False])
def test_killed_before_its_rows_arrive_it_tells_them_later(wins: bool) -> None:
    world = World()
    world.labels.wins = lambda _version: wins

    def die(_rows: object) -> bool:
        raise Killed

    for known, event in ((29.0, "trained"), (43.0, "promoted" if wins else "rejected")):
        world.labels.known_day = known
        trainer = world.trainer()
        trainer._write = die
        with pytest.raises(Killed):
            trainer.turn()
        assert isinstance(world.trainer().turn(), Wait)
        assert ("cut-28", event) in told(world)


def test_rows_that_clickhouse_does_not_take_are_told_again() -> None:
    world, takes = World(), False
    world.labels.known_day = 29

    def write(rows: Any) -> bool:
        return takes and world.write(rows)

    trainer = world.trainer()
    trainer._write = write
    trainer.turn()
    assert world.rows == []
    takes = True
    trainer.turn()
    trainer.turn()
    assert [(row["version"], row["event"]) for row in world.rows] == [("cut-28", "trained")]


def chain(world: World) -> list[str]:
    """The champions in turn. Every promotion replaces the one before it: no two side by side."""
    found = [world.champion]
    for decision in decisions(world):
        if decision.promote:
            assert decision.champion == found[-1]
            found.append(decision.version)
    return found


@pytest.mark.parametrize("later_day", [43.0, 71.0])
def test_two_trainers_never_promote_side_by_side(later_day: float) -> None:
    """One is halted before any of its writes, while the other does everything that is due, perhaps
    until weeks later; then the first goes on, and both look again."""
    probe = World()
    probe.labels.known_day = 43.0
    probe.run(probe.trainer())
    for number in range(1, len(probe.disk.writes) + 1):
        world = World()
        world.labels.known_day = 43.0
        other, first = Numbers(known_day=43.0), world.trainer()
        second = world.trainer(other)

        def meanwhile(
            nth: int, path: str, number: int = number, world: World = world,
            other: Numbers = other, second: Any = second,
        ) -> None:  # fmt: skip
            if nth != number:
                return
            for known in itertools.takewhile(lambda known: known <= later_day, (43.0, 71.0)):
                other.known_day = known
                world.run(second)

        world.disk.before = meanwhile
        world.run(first)
        world.labels.known_day = other.known_day = later_day
        for trainer in (second, first, second):
            world.run(trainer)
        champions = chain(world)
        assert len(champions) > 1
        assert current_version(world.root) == champions[-1], probe.disk.writes[number - 1]


def test_a_person_who_promotes_meanwhile_is_not_overruled() -> None:
    world = World()
    copy(world.root, "by-hand", labels_until_ms=day(0))
    world.labels.known_day = 29
    world.run(world.trainer())

    def person(_nth: int, path: str) -> None:
        if path.endswith(f"{DIRECTORY}/000001.json"):
            world.disk.before = lambda _nth, _path: None
            world.root.replace("CURRENT", b"by-hand\n")

    world.disk.before = person
    world.labels.known_day = 43
    world.run(world.trainer())
    assert current_version(world.root) == "by-hand"
    assert [d.promote for d in decisions(world)] == [True], "the verdict stands, and is done"


def test_going_back_by_hand_stays() -> None:
    world = World()
    for known in (29.0, 43.0):
        world.labels.known_day = known
        world.run(world.trainer())
    assert current_version(world.root) == "cut-28"
    world.root.replace("CURRENT", f"{world.champion}\n".encode())
    world.run(world.trainer())
    assert current_version(world.root) == world.champion


def test_a_winner_whose_files_are_spoiled_is_not_put_into_use_nor_tried_for_ever() -> None:
    world = World()
    world.labels.known_day = 29
    world.run(world.trainer())

    def spoil(_nth: int, path: str) -> None:
        if path.endswith(f"{DIRECTORY}/000001.json"):
            world.disk.before = lambda _nth, _path: None
            (world.root / "cut-28").replace("scores.onnx", b"spoiled")

    world.disk.before = spoil
    world.labels.known_day = 43
    world.run(world.trainer())
    assert current_version(world.root) == world.champion
    assert not [a for a in world.run(world.trainer()) if isinstance(a, Complete)]


def test_a_training_that_is_not_possible_is_tried_again_a_week_later() -> None:
    world = World()
    world.labels.too_few, trainer = "all alike", world.trainer()
    for known in (28.0, 30.0, 34.0, 36.0):
        world.labels.known_day = known
        world.run(trainer)
    assert world.labels.trained == [day(28), day(35)]
    world.labels.too_few = ""
    world.labels.known_day = 42
    assert world.run(trainer) == [Train(day(42), "schedule")]


def test_old_challengers_are_removed_and_people_s_models_stay() -> None:
    world = World()
    copy(world.root, "by-hand", labels_until_ms=day(0))
    world.labels.wins = lambda _version: False
    for known in range(28, 300, 14):
        world.labels.known_day = float(known)
        world.run(world.trainer())
    cuts = [f"cut-{28 * n}" for n in range(1, 11)]
    assert versions(world.root) == sorted(["by-hand", world.champion, *cuts[-2:]])
    assert len(decisions(world)) == 10


def test_an_unreadable_decision_stops_it_with_the_fix_and_a_strange_model_does_not() -> None:
    world = World()
    copy(world.root, "strange", labels_until_ms=day(0))
    (world.root / "strange").replace("manifest.json", b"{")
    world.labels.known_day = 29
    world.run(world.trainer())
    (world.root / DIRECTORY).create("000001.json", b"{")
    with pytest.raises(ArtifactError, match="Restore it from a backup"):
        world.trainer().turn()


def test_a_store_that_is_away_is_met_again() -> None:
    world = World()

    def away(_nth: int, _path: str) -> None:
        raise ConnectionResetError("cut off")

    world.labels.known_day = 29
    trainer = world.trainer()
    world.disk.before = away
    with pytest.raises(ModelsUnavailable):
        trainer.turn()
    world.disk.before = lambda _nth, _path: None
    world.run(trainer)
    world.labels.known_day = 43
    world.disk.before = away
    with pytest.raises(ModelsUnavailable):
        trainer.turn()
    world.disk.before = lambda _nth, _path: None
    world.run(trainer)
    assert current_version(world.root) == "cut-28"
