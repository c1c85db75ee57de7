"""The champion: one ONNX session that turns feature rows into churn probability and spend.

One thread and no spinning: shards share a process, and small batches lose more to a thread pool
than they gain. With one thread each row is also summed in one fixed order, so a row's scores do
not depend on which other rows are in its batch; replay relies on that.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from models.manifest import Manifest, TensorSpec
from schemas.errors import ArtifactError

__all__ = ["INPUT", "OUTPUTS", "Champion"]

INPUT: Final = "x"
OUTPUTS: Final = ("p_churn", "spend")

_DTYPES: Final = {"tensor(float)": "float32", "tensor(double)": "float64", "tensor(int64)": "int64"}


class Champion:
    """A loaded model. Build it with `models.artifact.load_artifact`, which checks it first.

    Raises `ArtifactError` when ONNX Runtime can't build a session from `onnx`.
    """

    def __init__(self, manifest: Manifest, onnx: bytes) -> None:
        self.manifest: Final = manifest
        self.onnx: Final = onnx
        self._features = len(manifest.features)
        try:
            # ONNX Runtime's exceptions share no root of their own.
            self._session = onnxruntime.InferenceSession(
                onnx, _session_options(), providers=["CPUExecutionProvider"]
            )
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
            bad = int(np.count_nonzero(~(np.isfinite(p_churn) & np.isfinite(spend))))
            raise ArtifactError(
                f"Artifact {self.version} gave {bad} of {len(x)} rows a score that is not a "
                "number. Point the settings at the previous artifact, and retrain."
            )
        return p_churn, spend

    def signature(self) -> tuple[list[TensorSpec], list[TensorSpec]]:
        """Inputs and outputs as the session itself reports them."""
        return (
            [_spec(node) for node in self._session.get_inputs()],
            [_spec(node) for node in self._session.get_outputs()],
        )


def _spec(node: onnxruntime.NodeArg) -> TensorSpec:
    shape = [dim if isinstance(dim, int) else str(dim) for dim in node.shape]
    return TensorSpec(node.name, _DTYPES.get(node.type, node.type), shape)


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
