"""The champion: an ONNX model that turns feature rows into churn probability and spend.

One thread and no spinning: shards share a process, and small batches lose more to a thread pool
than they gain. With one thread each row is also summed in one fixed order, so a row's scores do
not depend on which other rows are in its batch; replay relies on that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from models.manifest import Manifest, TensorSpec
from models.onnx.subgraph import makes, with_outputs
from models.timing import next_order_days
from schemas.errors import ArtifactError

__all__ = ["INPUT", "OUTLOOK", "OUTPUTS", "PARTIAL", "Champion", "Outlook", "base_output"]

INPUT: Final = "x"
OUTPUTS: Final = ("p_churn", "spend")
"""What every touched user is scored with, so what a batch pays for."""
OUTLOOK: Final = ("p_buy_7d", "p_buy_30d")
"""What else the champion says, computed when asked for (`Champion.outlook`)."""
PARTIAL: Final = "p_partial"
"""And what only reports ask for (`Champion.p_partial`)."""


def base_output(head: str) -> str:
    """The name, inside the graph, of what a head's curve (`models.curve`) comes to: for a
    probability its odds to the minus one, for an amount its mean."""
    return f"{head}_base"


_DTYPES: Final = {"tensor(float)": "float32", "tensor(double)": "float64", "tensor(int64)": "int64"}


@dataclass(frozen=True)
class Outlook:
    """Further predictions about k users, each [k].

    `p_buy_7d`, `p_buy_30d` float32: chance of an order within so many days; `next_order_days`
    float64: days until the next order, as likely as not (NaN: not within a year).
    """

    p_buy_7d: NDArray[np.float32]
    p_buy_30d: NDArray[np.float32]
    next_order_days: NDArray[np.float64]


class Champion:
    """A loaded model. Build it with `models.artifact.load_artifact`, which checks it first.

    Raises `ArtifactError` when ONNX Runtime can't build a session from `onnx`.
    """

    def __init__(self, manifest: Manifest, onnx: bytes) -> None:
        self.manifest: Final = manifest
        self.onnx: Final = onnx
        self._features = len(manifest.features)
        self._inner: dict[str, onnxruntime.InferenceSession] = {}
        try:
            # ONNX Runtime's exceptions share no root of their own.
            self._whole = _session(onnx)
            self._session = _session(with_outputs(onnx, OUTPUTS))
            self._ahead = _session(with_outputs(onnx, OUTLOOK)) if self.has_outlook else None
        except Exception as error:
            raise ArtifactError(
                f"Artifact {manifest.version}: ONNX Runtime {onnxruntime.__version__} can't load "
                f"the model ({error}). Restore the shipped artifact, or retrain with the "
                "installed versions."
            ) from error

    @property
    def version(self) -> str:
        """The artifact's version, as journals, examples and snapshots name it."""
        return self.manifest.version

    @property
    def horizon_days(self) -> int:
        """`p_churn` is the chance of no order, and `spend` the expected spend, in this time."""
        return self.manifest.horizon_days

    def score(self, x: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Scores rows: `x` float32 [n, F] (NaN = unknown) -> `p_churn`, `spend`, float32 [n].

        `p_churn` is in [1e-6, 1 - 1e-6] and `spend` is at least 0, in the shop's currency, so that
        log-odds and products of the two are always finite.

        Raises `ValueError` for another shape or dtype (a caller's mistake) and `ArtifactError` for
        outputs that aren't numbers (the model's).
        """
        p_churn, spend = self.score_or_nan(x)
        bad = int(np.count_nonzero(np.isnan(p_churn)))
        if bad:
            raise ArtifactError(
                f"Artifact {self.version} gave {bad} of {len(x)} rows a score that is not a "
                "number. Point the settings at the previous artifact, and retrain."
            )
        return p_churn, spend

    def score_or_nan(
        self, x: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """As `score`, but a row with an output that isn't a number has NaN in both, and that is no
        error. Raises `ValueError`."""
        if x.ndim != 2 or x.shape[1] != self._features or x.dtype != np.float32:
            raise ValueError(
                f"x must be float32 [n, {self._features}], got {x.dtype} {list(x.shape)}"
            )
        if len(x) == 0:
            return np.empty(0, np.float32), np.empty(0, np.float32)
        feed = {INPUT: np.ascontiguousarray(x)}
        p_churn, spend = self._session.run(list(OUTPUTS), feed)
        # A sum is finite only if all of its terms are, and costs less than isfinite().all().
        if not np.isfinite(p_churn.sum(dtype=np.float64) + spend.sum(dtype=np.float64)):
            bad = ~(np.isfinite(p_churn) & np.isfinite(spend))
            p_churn, spend = (np.where(bad, np.float32(np.nan), told) for told in (p_churn, spend))
        return p_churn, spend

    @property
    def has_outlook(self) -> bool:
        """Whether this artifact was trained for `outlook`; older ones were not."""
        return {*OUTLOOK, PARTIAL} <= {output.name for output in self.manifest.outputs}

    def outlook(self, x: NDArray[np.float32]) -> Outlook:
        """What `score` doesn't say, for rows `x` float32 [n, F] (NaN = unknown).

        Costs about as much as `score`, which pays nothing for it. Raises `ArtifactError` if the
        artifact was trained without these heads.
        """
        told = self.raw_outlook(x)
        p7 = told["p_buy_7d"]
        p30 = np.maximum(p7, told["p_buy_30d"])  # two models: they may differ about who surely buys
        return Outlook(p7, p30, next_order_days(p7, p30))

    def p_partial(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """For rows `x` float32 [n, F], the chance to spend, within the horizon, less than half of
        the user's own mean over the three horizons before: float32 [n]. Raises as `outlook`."""
        self._require_outlook()
        return self.inner(PARTIAL, np.ascontiguousarray(x))

    def raw_outlook(self, x: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """The graph's own outputs behind `outlook`, by name, each float32 [n]."""
        ahead = self._require_outlook()
        if len(x) == 0:
            return {name: np.empty(0, np.float32) for name in OUTLOOK}
        feed = {INPUT: np.ascontiguousarray(x)}
        outputs = ahead.run(list(OUTLOOK), feed)
        return dict(zip(OUTLOOK, outputs, strict=True))

    def _require_outlook(self) -> onnxruntime.InferenceSession:
        if self._ahead is None:
            raise ArtifactError(
                f"Artifact {self.version} only knows churn and spend. Train a newer one with "
                "`tideline train`."
            )
        return self._ahead

    def has_inner(self, name: str) -> bool:
        """Whether the graph computes a value of this name on its way."""
        return makes(self.onnx, name)

    def inner(self, name: str, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """A value inside the graph, float32 [n], for rows `x` float32 [n, F]; for explanations."""
        if name not in self._inner:
            self._inner[name] = _session(with_outputs(self.onnx, [name]))
        found: NDArray[np.float32] = self._inner[name].run([name], {INPUT: x})[0]
        return found

    def signature(self) -> tuple[list[TensorSpec], list[TensorSpec]]:
        """Inputs and outputs as the session itself reports them."""
        return (
            [_spec(node) for node in self._whole.get_inputs()],
            [_spec(node) for node in self._whole.get_outputs()],
        )


def _spec(node: onnxruntime.NodeArg) -> TensorSpec:
    shape = [dim if isinstance(dim, int) else str(dim) for dim in node.shape]
    return TensorSpec(node.name, _DTYPES.get(node.type, node.type), shape)


def _session(onnx: bytes) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(
        onnx, _session_options(), providers=["CPUExecutionProvider"]
    )


def _session_options() -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.use_deterministic_compute = True
    options.log_severity_level = 3  # errors only
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    return options
