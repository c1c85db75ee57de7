"""The mutator itself: which faults it finds in a module, and that they take effect."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.mutation.__main__ import GUARDS, ROOT, sampled
from tests.mutation.mutants import Mutant, mutants, put_in

SOURCE = """\
import contextlib
import logging

LIMIT = 3
log = logging.getLogger(__name__)


class Till:
    def __init__(self, most: int = 9) -> None:
        self.coins: list[int] = []

    def put(self, coin: int) -> int:
        if coin > 5 and not self.coins:
            raise ValueError(f"{coin + 1} is too much")
        self.coins.append(coin)
        log.warning("%s", coin + 1)
        return sum(self.coins) * 2


@contextlib.contextmanager
def safe():
    try:
        yield LIMIT + 1
    except KeyError:
        pass


def outer(x):
    def inner():
        return x

    return inner()
"""


@pytest.fixture
def module(tmp_path: Path) -> Iterator[ModuleType]:
    path = tmp_path / "till_for_mutants.py"
    path.write_text(SOURCE)
    spec = importlib.util.spec_from_file_location("till_for_mutants", path)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = made
    spec.loader.exec_module(made)
    yield made
    del sys.modules[spec.name]


def found(module: ModuleType) -> list[Mutant]:
    assert module.__file__ is not None
    return mutants(SOURCE, module.__file__)


def put(module: ModuleType, what: str, text: str) -> None:
    (mutant,) = (m for m in found(module) if (m.what, m.text) == (what, text))
    assert put_in(mutant, SOURCE) == 1


def test_faults_are_found_in_functions_and_neither_in_signatures_nor_in_texts(
    module: ModuleType,
) -> None:
    shown = [(m.function, m.what, m.text) for m in found(module)]
    assert len(shown) == len(set(shown))
    assert {function for function, _, _ in shown} == {"Till.put", "safe", "outer"}
    assert {what for function, what, _ in shown if function == "Till.put"} == {
        "other comparison", "and for or, or for and", "not dropped", "constant + 1",
        "condition negated", "other operator", "None returned", "statement dropped",
        "swapped with the next statement",
    }  # fmt: skip
    swapped = [text for _, what, text in shown if what == "swapped with the next statement"]
    assert swapped == ["self.coins.append(coin)"]
    texts = {text for _, _, text in shown}
    assert "coin + 1" not in texts  # only logged
    assert "9" not in texts
    assert "3" not in texts


def test_a_mutant_takes_the_place_of_the_function_wherever_it_was_imported(
    module: ModuleType,
) -> None:
    till = module.Till()
    put_method = till.put
    assert put_method(4) == 8
    put(module, "statement dropped", "self.coins.append(coin)")
    assert put_method(4) == 8
    assert till.coins == [4]


@pytest.mark.parametrize(
    ("what", "text", "coins", "result"),
    [
        ("other comparison", "coin > 5", [5], ValueError),
        ("and for or, or for and", "coin > 5 and (not self.coins)", [3], ValueError),
        ("not dropped", "not self.coins", [6], 12),
        ("other operator", "sum(self.coins) * 2", [5], 2),
        ("constant + 1", "2", [5], 15),
        ("None returned", "return sum(self.coins) * 2", [5], None),
        ("statement dropped", "raise ValueError(f'{coin + 1} is too much')", [6], 12),
    ],
)
def test_each_kind_of_fault_changes_what_it_names(
    module: ModuleType, what: str, text: str, coins: list[int], result: object
) -> None:
    put(module, what, text)
    till = module.Till()
    if result is ValueError:
        with pytest.raises(ValueError, match="too much"):
            till.put(*coins)
    else:
        assert till.put(*coins) == result


def test_handlers_are_dropped_in_a_decorated_function_too(module: ModuleType) -> None:
    with module.safe() as limit:
        assert limit == 4
    handlers = next(m for m in found(module) if m.what == "handlers dropped")
    assert put_in(handlers, SOURCE) == 1
    with pytest.raises(KeyError), module.safe():
        raise KeyError


def test_a_fault_in_an_inner_function_is_put_into_the_outer_one(module: ModuleType) -> None:
    put(module, "None returned", "return x")
    assert module.outer(7) is None


def test_a_sample_is_the_same_for_the_same_seed(module: ModuleType) -> None:
    all_ = found(module)
    assert sampled(all_, 5, 1) == sampled(all_, 5, 1)
    assert sampled(all_, 5, 1) != sampled(all_, 5, 2)
    assert len(sampled(all_, 10**6, 1)) == len(all_)


def test_guards_name_places_that_exist() -> None:
    for place, tests in GUARDS.items():
        assert (ROOT / place).exists(), place
        for test in tests:
            assert (ROOT / test).exists(), test
