"""The sequence model learns from order, hides what is missing, and is the same in ONNX."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from models.baselines.metrics import auc, log_loss
from models.sequence import network, steps
from models.sequence.export import export
from models.sequence.fit import Course, Fitted, fit, training
from models.sequence.model import DESCRIPTION_FILE, ONNX_FILE, SequenceModel
from models.sequence.train import model_of, train_sequence
from models.training.dataset import DAY_MS, Dataset
from schemas.errors import ArtifactError
from schemas.features import FEATURE_NAMES
from schemas.tails import EVENT_KINDS, TAIL_CHANNELS, TAIL_EVENTS

SEARCH, SUPPORT, VIEW = (1 + EVENT_KINDS.index(kind) for kind in ("search", "support", "view"))
F = len(FEATURE_NAMES)


def planted(n: int, seed: int) -> Dataset:
    """Churn depends on whether support follows a search at once, or comes before it: both kinds
    are equally often there. Features say nothing."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, F)).astype(np.float32)
    x[rng.random(x.shape) < 0.3] = np.nan
    events = np.zeros((n, TAIL_EVENTS, len(TAIL_CHANNELS)), np.float32)
    length = rng.integers(2, 12, n)
    at = (rng.random(n) * (length - 1)).astype(np.int64)
    bad = rng.random(n) < 0.5
    for i in range(n):
        k = length[i]
        events[i, :k, 0] = VIEW
        events[i, at[i] : at[i] + 2, 0] = (SEARCH, SUPPORT) if bad[i] else (SUPPORT, SEARCH)
        events[i, :k, 1] = np.concatenate([[np.nan], rng.exponential(2.0, k - 1)])
        events[i, :k, 2] = np.cumsum(rng.exponential(2.0, k))[::-1]
        events[i, :k, 3] = np.where(rng.random(k) < 0.5, np.nan, rng.lognormal(3.0, 0.5, k))
        events[i, :k, 4] = rng.integers(0, 256, k)
        events[i, :k, 5] = np.where(rng.random(k) < 0.5, np.nan, 1.0)
    churned = rng.random(n) < np.where(bad, 0.9, 0.1)
    return Dataset(
        x, churned, np.where(churned, 0.0, rng.gamma(2.0, 10.0, n)).astype(np.float32),
        DAY_MS * np.sort(rng.integers(0, 140, n)), rng.integers(0, n // 3, n),
        {"p_buy_7d": np.where(rng.random(n) < 0.3, np.nan, churned).astype(np.float32)}, events,
    )  # fmt: skip


@pytest.fixture(scope="module")
def data() -> Dataset:
    return planted(2_000, 1)


@pytest.fixture(scope="module")
def fitted(data: Dataset) -> Fitted:
    return fit(data, 28, seed=3, course=Course(batch=64, epochs=3, steps=90))


@pytest.fixture(scope="module")
def model(data: Dataset, fitted: Fitted) -> SequenceModel:
    return model_of(fitted, data, 28)


def events_of(data: Dataset) -> NDArray[np.float32]:
    assert data.events is not None
    return data.events


def test_it_learns_what_only_the_order_says(model: SequenceModel) -> None:
    later = planted(1_000, 2)
    p_churn, spend = model.score(later.x[:], events_of(later))
    assert auc(later.churned, p_churn) > 0.8  # features alone: 0.5
    assert log_loss(later.churned, p_churn) < 0.6  # of 0.69, and 0.33 is the law's own
    assert 0.6 < spend.mean() / later.spend.mean() < 1.6


def test_onnx_computes_what_jax_does(model: SequenceModel, fitted: Fitted) -> None:
    later = planted(600, 3)
    events = events_of(later)
    events[:5] = 0.0
    later.x[:][5:10] = np.nan
    want, got = fitted.predict(later.x[:], events), model.outputs(later.x[:], events)
    assert list(got) == ["p_churn", "spend", "p_buy_7d"]
    for head, values in want.items():
        off = np.abs(got[head] - values) / np.maximum(1.0, np.abs(values))
        assert off.max() < 1e-5, head


def test_the_same_rows_and_seed_give_the_same_bytes(data: Dataset) -> None:
    course = Course(batch=64, epochs=1, steps=2)
    some = data.take(np.arange(0, 2_000, 10))
    one, again, other = (export(fit(some, 28, seed=seed, course=course)) for seed in (3, 3, 4))
    assert one == again
    assert one != other


def test_gradients_are_those_of_the_loss(data: Dataset) -> None:
    n = 6
    weights = network.initial(F, 2, 5)
    rng = np.random.default_rng(5)
    weights |= {"heads_w": rng.normal(0.0, 0.3, weights["heads_w"].shape).astype(np.float32)}
    scale = network.Scale(
        np.zeros(F, np.float32), np.ones(F, np.float32), np.array([3.0, 0.5], np.float32),
        np.array([-0.5, 2.0], np.float32),
    )  # fmt: skip
    x, events = data.x[:n], events_of(data)[:n]
    labels = np.stack([data.churned[:n], data.spend[:n]], axis=1).astype(np.float32)
    found = steps.gradient(weights, scale, x, events, labels, ())

    def loss(moved: dict[str, NDArray[np.float32]]) -> float:
        return float(steps.loss(steps.predict(moved, scale, x, events), labels, scale.level))

    for name in ("gru_r", "kind", "ask_w", "gate_w", "windows_w1"):
        along = rng.normal(size=weights[name].shape).astype(np.float32)
        along /= np.linalg.norm(along)
        step = 2e-2
        up, down = (weights | {name: weights[name] + s * along} for s in (step, -step))
        slope = (loss(up) - loss(down)) / (2 * step)
        assert float((np.asarray(found[name]) * along).sum()) == pytest.approx(
            slope, rel=0.03, abs=3e-4
        ), name


def test_what_is_missing_changes_nothing(model: SequenceModel, data: Dataset) -> None:
    x, events = data.x[:50], events_of(data)[:50].copy()
    before = model.score(x, events)
    empty = events[..., 0] == 0
    events[empty] = [0.0, 7.0, 7.0, 7.0, 7.0, 1.0]  # places without an event
    for old, new in zip(before, model.score(x, events), strict=True):
        assert np.allclose(old, new, rtol=1e-5)


def test_who_has_no_events_is_scored_by_the_windows_alone(
    model: SequenceModel, data: Dataset
) -> None:
    nothing = np.zeros_like(events_of(data)[:50])
    first = model.score(data.x[:50], nothing)
    nothing[..., 1:] = 3.0
    assert np.array_equal(first[0], model.score(data.x[:50], nothing)[0])
    assert len(np.unique(first[0])) > 40
    unknown = np.full((2, F), np.nan, np.float32)
    assert all(np.isfinite(part).all() for part in model.score(unknown, nothing[:2]))


def test_it_takes_no_rows_and_no_other_shapes(model: SequenceModel, data: Dataset) -> None:
    assert len(model.score(data.x[:0], events_of(data)[:0])[0]) == 0
    with pytest.raises(ValueError, match="shape"):
        model.score(data.x[:2], events_of(data)[:2, :5])


def test_it_is_written_and_read_again(model: SequenceModel, data: Dataset, tmp_path: Path) -> None:
    model.write(tmp_path / "kept")
    other = SequenceModel.load(tmp_path / "kept")
    x, events = data.x[:9], events_of(data)[:9]
    assert np.array_equal(model.score(x, events)[0], other.score(x, events)[0])


@pytest.mark.parametrize("what", ["bytes", "golden", "hash", "cut", "none"])
def test_one_that_is_not_what_it_says_is_refused(
    model: SequenceModel, tmp_path: Path, what: str
) -> None:
    model.write(tmp_path)
    onnx, text = tmp_path / ONNX_FILE, tmp_path / DESCRIPTION_FILE
    if what == "bytes":
        onnx.write_bytes(onnx.read_bytes()[:-1] + b"?")
    elif what == "golden":
        outputs = {"p_churn": [0.5] * 16}
        changed = msgspec.structs.replace(
            model.description, golden_outputs=model.description.golden_outputs | outputs
        )
        text.write_bytes(msgspec.json.encode(changed))
    elif what == "hash":
        changed = msgspec.structs.replace(model.description, features_hash="of another release")
        text.write_bytes(msgspec.json.encode(changed))
    elif what == "cut":
        text.write_bytes(text.read_bytes()[:100])
    else:
        onnx.unlink()
    with pytest.raises(ArtifactError, match=r"again|Train one"):
        SequenceModel.load(tmp_path)


def test_rows_without_events_are_told(data: Dataset) -> None:
    bare = Dataset(data.x, data.churned, data.spend, data.as_of_ms, data.user)
    with pytest.raises(ArtifactError, match="have no events"):
        train_sequence(bare, 28, seed=1)


def test_without_jax_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "models.sequence.network")
    monkeypatch.setitem(sys.modules, "jax", None)
    with pytest.raises(ArtifactError, match=r"pip install 'tideline\[train,sequence\]'"):
        training("network")
