"""The champion: an ONNX model that turns feature rows into churn probability and spend.

One thread and no spinning: shards share a process, and small batches lose more to a thread pool
than they gain. With one thread each row is also summed in one fixed order, so a row's scores do
not depend on which other rows are in its batch; replay relies on that.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from models.bands import CUSTOMERS, OTHERS
from models.manifest import Manifest, TensorSpec
from models.timing import next_order_days
from schemas.errors import ArtifactError
from schemas.features import columns_by_name

__all__ = [
    "CURVE",
    "CURVE_FILE",
    "FORECAST_FILE",
    "INPUT",
    "LONG",
    "LONG_FILE",
    "MODEL_FILES",
    "OUTLOOK",
    "OUTPUTS",
    "PARTIAL",
    "PARTIAL_FILE",
    "SCORES_FILE",
    "Champion",
    "Outlook",
    "band_file",
    "band_output",
    "open_session",
]

INPUT: Final = "x"
OUTPUTS: Final = ("p_churn", "spend")
"""The heads that score every touched user, so the only ones that a batch pays for."""
OUTLOOK: Final = ("p_buy_7d", "p_buy_30d")
"""Forecasts of the next order, computed on request (`Champion.outlook`)."""
PARTIAL: Final = "p_partial"
"""Partial defection, which only reports need (`Champion.p_partial`)."""
CURVE: Final = "p_churn_curve"
"""The curve's part of `p_churn`, which only explanations need (`Champion.curve`)."""

LONG: Final = ("p_idle_365d", "value_365d")
"""Chance of no order, and expected spend, within 365 days (`Champion.long`)."""

SCORES_FILE: Final = "scores.onnx"
FORECAST_FILE: Final = "forecast.onnx"
PARTIAL_FILE: Final = "partial.onnx"
CURVE_FILE: Final = "curve.onnx"
LONG_FILE: Final = "long.onnx"


def band_file(band: str, file: str) -> str:
    """The file of one of `models.bands.OTHERS` that does what `file` does for customers."""
    return f"{band}_{file}"


def band_output(band: str, output: str) -> str:
    """An output of such a file, which does what `output` does for customers."""
    return f"{band}_{output}"


_OF_CUSTOMERS: Final = {
    SCORES_FILE: OUTPUTS, FORECAST_FILE: OUTLOOK, PARTIAL_FILE: (PARTIAL,), CURVE_FILE: (CURVE,)
}  # fmt: skip
MODEL_FILES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    _OF_CUSTOMERS
    | {
        band_file(band, file): tuple(band_output(band, output) for output in _OF_CUSTOMERS[file])
        for band in OTHERS
        for file in (SCORES_FILE, FORECAST_FILE)
    }
    | {LONG_FILE: LONG}
)
"""What each file of an artifact computes; all but the first may be missing.

ONNX Runtime computes every output of a graph, also those that a run does not ask for, so what is
not needed together is not in one file: with all heads in one, a batch would cost 10 in place of 4
µs per row. (`only_execute_path_to_fetches` of its run options does not help; tried 2026-11-22.)
"""


_DTYPES: Final = {"tensor(float)": "float32", "tensor(double)": "float64", "tensor(int64)": "int64"}


@dataclass(frozen=True)
class Outlook:
    """Forecasts of the next order of k users, each [k].

    `p_buy_7d`, `p_buy_30d` float32: chance of an order within so many days; `next_order_days`
    float64: median days until the next order (NaN: not within a year).
    """

    p_buy_7d: NDArray[np.float32]
    p_buy_30d: NDArray[np.float32]
    next_order_days: NDArray[np.float64]


class Champion:
    """A loaded model. Build it with `models.artifact.load_artifact`, which checks it first.

    Rows `x` have the columns `manifest.features`: the features that it was trained on, or those
    given to `serving`.

    `files`: the content of each ONNX file by its name, `SCORES_FILE` among them. Raises
    `ArtifactError` when ONNX Runtime can't build a session from one of them.
    """

    def __init__(self, manifest: Manifest, files: Mapping[str, bytes]) -> None:
        self.manifest = manifest
        self.files: Final = files
        self.trained: Final = manifest
        """The manifest as written; `manifest` is the same for the features that are served."""
        self._columns: NDArray[np.intp] | None = None  # None: as they come
        self._sessions = {
            name: open_session(content, f"Artifact {manifest.version}: {name}")
            for name, content in files.items()
        }
        self._scores = self._sessions[SCORES_FILE]

    def serving(self, features: Sequence[str]) -> Champion:
        """This model for rows with the columns `features`. It takes the features that it was
        trained on by name; a missing one is unknown. Returns itself if the columns are the same."""
        if self.manifest.features == list(features):
            return self
        other = copy.copy(self)
        other.manifest = self.trained.by_name(features)
        same = other.manifest is self.trained
        columns = np.array(columns_by_name(features, self.trained.features), np.intp)
        other._columns = None if same else columns  # noqa: SLF001  (one of us)
        return other

    def _input(self, x: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        if self._columns is None:
            return {INPUT: np.ascontiguousarray(x)}
        picked = x[:, self._columns]
        picked[:, self._columns < 0] = np.nan
        return {INPUT: np.ascontiguousarray(picked)}

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
        self, x: NDArray[np.float32], band: str = CUSTOMERS
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """As `score`, but a row with an output that isn't a number has NaN in both, and that is no
        error. By the model of another band, if it is one of `bands`. Raises `ValueError`."""
        features = len(self.manifest.features)
        if x.ndim != 2 or x.shape[1] != features or x.dtype != np.float32:
            raise ValueError(f"x must be float32 [n, {features}], got {x.dtype} {list(x.shape)}")
        if len(x) == 0:
            return np.empty(0, np.float32), np.empty(0, np.float32)
        if band == CUSTOMERS:
            p_churn, spend = self._scores.run(list(OUTPUTS), self._input(x))
        else:
            p_churn, spend = self.outputs(band_file(band, SCORES_FILE), x).values()
        # A sum is finite only if all of its terms are, and costs less than isfinite().all().
        if not np.isfinite(p_churn.sum(dtype=np.float64) + spend.sum(dtype=np.float64)):
            bad = ~(np.isfinite(p_churn) & np.isfinite(spend))
            p_churn, spend = (
                np.where(bad, np.float32(np.nan), values) for values in (p_churn, spend)
            )
        return p_churn, spend

    @property
    def bands(self) -> frozenset[str]:
        """The bands of users that it has a model for (`models.bands`): customers, and others."""
        others = (band for band in OTHERS if band_file(band, SCORES_FILE) in self.files)
        return frozenset({CUSTOMERS, *others})

    @property
    def has_outlook(self) -> bool:
        """Whether this artifact was trained for `outlook`; older ones were not."""
        return self.has_outlook_of(CUSTOMERS)

    def has_outlook_of(self, band: str) -> bool:
        """Whether it was trained for the `outlook` of a band."""
        return _outlook_file(band) in self.files

    def outlook(self, x: NDArray[np.float32], band: str = CUSTOMERS) -> Outlook:
        """Forecasts of the next order for rows `x` float32 [n, F] (NaN = unknown) of one band.

        Costs about as much as `score`, which pays nothing for it. Raises `ArtifactError` if the
        artifact was trained without these heads.
        """
        p7, p30 = self.outputs(_outlook_file(band), x).values()
        p30 = np.maximum(p7, p30)  # two heads, fitted apart: they may disagree
        return Outlook(p7, p30, next_order_days(p7, p30))

    def p_partial(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """For rows `x` float32 [n, F], the chance to spend, within the horizon, less than half of
        the user's own mean over the three horizons before: float32 [n]. Raises as `outlook`."""
        return self.outputs(PARTIAL_FILE, x)[PARTIAL]

    @property
    def has_long(self) -> bool:
        """Whether it was trained for `long`; older artifacts were not, nor those of short
        histories."""
        return LONG_FILE in self.files and self.manifest.long_horizon is not None

    def long(self, x: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """For rows `x` float32 [n, F] of users with an order: the chance of none, and the expected
        spend in currency, within 365 days, float32 [n] each. Raises as `outlook`."""
        idle, value = self.outputs(LONG_FILE, x).values()
        return idle, value

    @property
    def has_curve(self) -> bool:
        """Whether a curve has a part in `p_churn` (`models.curve`)."""
        return CURVE_FILE in self.files

    def curve(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """For rows `x` float32 [n, F], the curve's part of the odds against churn, by which the
        trees' part is multiplied: float32 [n]. Raises as `outlook`."""
        return self.outputs(CURVE_FILE, x)[CURVE]

    def outputs(self, file: str, x: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """What one of `MODEL_FILES` computes for rows `x` float32 [n, F]: float32 [n] by output.

        Raises `ArtifactError` if the artifact has no such file.
        """
        session, names = self._sessions.get(file), MODEL_FILES[file]
        if session is None:
            raise ArtifactError(
                f"Artifact {self.version} has no {file}, so it doesn't know {' and '.join(names)}. "
                "Train a newer one with `tideline train`."
            )
        if len(x) == 0:
            return {name: np.empty(0, np.float32) for name in names}
        found = session.run(list(names), self._input(x))
        return dict(zip(names, found, strict=True))

    def signature(self, file: str) -> tuple[list[TensorSpec], list[TensorSpec]]:
        """Inputs and outputs of one of `files`, as its session reports them."""
        session = self._sessions[file]
        return (
            [_spec(node) for node in session.get_inputs()],
            [_spec(node) for node in session.get_outputs()],
        )


def _outlook_file(band: str) -> str:
    return FORECAST_FILE if band == CUSTOMERS else band_file(band, FORECAST_FILE)


def _spec(node: onnxruntime.NodeArg) -> TensorSpec:
    shape = [dim if isinstance(dim, int) else str(dim) for dim in node.shape]
    return TensorSpec(node.name, _DTYPES.get(node.type, node.type), shape)


def open_session(onnx: bytes, where: str) -> onnxruntime.InferenceSession:
    """A session of one thread, built from the bytes of a file; `where` is for messages. Raises
    `ArtifactError`."""
    try:
        return onnxruntime.InferenceSession(
            onnx, _session_options(), providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # ONNX Runtime's exceptions share no root of their own
        raise ArtifactError(
            f"{where}: ONNX Runtime {onnxruntime.__version__} can't load the model ({error}). "
            "Restore the shipped artifact, or retrain with the installed versions."
        ) from error


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
