"""Models: how good the scores were, which model made them, what changed, what they rest on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from schemas.errors import TidelineError
from streams.console.page import Ask, Chart, Column, Fact, Note, Page, Part, Series, Table

if TYPE_CHECKING:
    from models.manifest import Manifest

__all__ = ["models"]

BINS: Final = """
SELECT bin, sum(n) AS judged, sum(churned) AS left_users, sum(p_churn_sum) AS p_sum
FROM quality_days WHERE day >= toDate(%(since)s) GROUP BY bin ORDER BY bin
"""
WEEKS: Final = """
SELECT toUnixTimestamp(toDateTime(toMonday(day), 'UTC')) AS week_s, sum(n) AS judged,
    sum(churned) AS left_users, sum(p_churn_sum) AS p_sum, sum(loss_blend_sum) AS blend,
    sum(loss_champion_sum) AS champion, sum(loss_learner_sum) AS learner
FROM quality_days WHERE day >= toDate(%(since)s) GROUP BY week_s ORDER BY week_s
"""
EVIDENCE: Final = """
SELECT evidence, sum(asked) AS all_asked, sum(q.scored) AS all_scored,
    sumIf(q.churn_rate * q.scored, q.scored > 0) AS left_users,
    sumIf(q.p_churn_mean * q.scored, q.scored > 0) AS p_sum,
    sumIf(q.log_loss * q.scored, q.scored > 0) AS loss
FROM quality_by_evidence AS q WHERE day >= toDate(%(since)s) GROUP BY evidence
"""
DRIFT: Final = """
SELECT toUnixTimestamp64Milli(detected_at) AS detected_ms,
    toUnixTimestamp64Milli(since) AS since_ms, toString(kind) AS kind, toString(stream) AS stream,
    mean_before, mean_since, labels_since, reason
FROM drift_alerts LIMIT 50
"""
CHALLENGERS: Final = """
SELECT version, state, toUnixTimestamp64Milli(ifNull(trained_at, labels_until)) AS trained_ms,
    trained_rows, trained_why, toUnixTimestamp64Milli(decided_at) AS decided_ms, judged_rows,
    log_loss_champion, log_loss_challenger, why
FROM challengers LIMIT 50
"""
VERSIONS: Final = """
SELECT toString(champion_version) AS version, count() AS users, max(learner_version) AS learner
FROM customers GROUP BY version ORDER BY users DESC LIMIT 10
"""

DRIFT_COLUMNS: Final = (
    Column("detected_ms", "Noticed", "date"),
    Column("since_ms", "Since", "date"),
    Column("kind", "Of", "tag"),
    Column("stream", "What"),
    Column("mean_before", "Before", "number"),
    Column("mean_since", "Since then", "number"),
    Column("labels_since", "Labels", "count"),
    Column("reason", "In words", "prose", wide=True),
)
CHALLENGER_COLUMNS: Final = (
    Column("version", "Model", "code"),
    Column("state", "State", "tag"),
    Column("trained_ms", "Trained", "date"),
    Column("trained_rows", "Learned from", "count", "labels"),
    Column("trained_why", "Because of", "tag"),
    Column("decided_ms", "Decided", "date"),
    Column("judged_rows", "Judged by", "count", "labels"),
    Column("log_loss_champion", "Champion", "number", "log loss"),
    Column("log_loss_challenger", "This model", "number", "log loss"),
    Column("why", "Why", wide=True),
)
EVIDENCE_COLUMNS: Final = (
    Column("evidence", "Customers with"),
    Column("asked", "Asked about", "count"),
    Column("scored", "Scored", "count"),
    Column("predicted", "Predicted to leave", "share"),
    Column("left_share", "Left", "share"),
    Column("log_loss", "Log loss", "number", "nats"),
)
GROUP_COLUMNS: Final = (
    Column("group", "Group of features", wide=True),
    Column("features", "Features in use", "count"),
    Column("log_loss", "Log loss without it", "number", "more nats"),
    Column("spread", "±", "number"),
    Column("auc", "AUC without it", "number", "less"),
)
GAIN_COLUMNS: Final = (
    Column("group", "Group of features", wide=True),
    Column("features", "Features in use", "count"),
    Column("share", "Of the trees' gain", "share"),
)
BIN_COLUMNS: Final = (
    Column("span", "Twentieth of the scale"),
    Column("judged", "Predictions", "count"),
    Column("predicted", "Predicted to leave", "share"),
    Column("left_share", "Left", "share"),
)
VERSION_COLUMNS: Final = (
    Column("version", "Model", "code"),
    Column("users", "Users scored by it", "count"),
    Column("learner", "Learner's version", "count"),
)
_LEAST_JUDGED: Final = 20
_ORDER: Final = ("no order", "one order", "few orders", "many orders")


async def models(ask: Ask) -> Page:
    """Everything about the models, of the last weeks."""
    days = ask.choice("days", "Of the last", ("28", "91", "182", "365"), "91 days")
    since = ask.day_before(int(days.value or 91))
    bins, weeks, evidence, drift, made, versions = await ask.together(
        (BINS, {"since": since}), (WEEKS, {"since": since}), (EVIDENCE, {"since": since}),
        (DRIFT, {}), (CHALLENGERS, {}), (VERSIONS, {}),
    )  # fmt: skip
    quality = Quality.of(weeks)
    return Page(
        title="Models",
        summary=summary(quality, drift, since),
        as_of_ms=ask.as_of_ms,
        facts=_facts(quality, versions, drift, made, calibration_error(bins)),
        filters=(days,),
        parts=(
            _calibration(bins, quality, since),
            _losses(weeks),
            Table(
                "bins", "The numbers behind the calibration", BIN_COLUMNS, bin_rows(bins),
                empty=_NO_LABELS, folded=True,
            ),
            Table(
                "drift", "What changed about customers", DRIFT_COLUMNS,
                _rows(drift, DRIFT_COLUMNS),
                empty="Nothing was noticed. The learner looks at every matured label.",
            ),
            Table(
                "challengers", "Trained, promoted and rejected", CHALLENGER_COLUMNS,
                _rows(made, CHALLENGER_COLUMNS),
                empty="The trainer has made no model yet: `tideline trainer` trains once labels "
                "suffice, and promotes what does better on labels that neither model knew.",
            ),
            Table(
                "evidence", "By how much is known about a customer", EVIDENCE_COLUMNS,
                evidence_rows(evidence), empty=_NO_LABELS, half=True,
            ),
            await asyncio.to_thread(_importance, ask.settings.model.artifact),
            Table(
                "versions", "Which model scored whom", VERSION_COLUMNS,
                _rows(versions, VERSION_COLUMNS), empty="Nobody was scored yet.", folded=True,
            ),
        ),
    )  # fmt: skip


_NO_LABELS: Final = (
    "No prediction has met its truth yet: that takes one horizon (28 days, unless the model says "
    "otherwise) from the first score on."
)


@dataclass(frozen=True)
class Quality:
    """Sums over matured predictions."""

    judged: int = 0
    left: int = 0
    p_sum: float = 0.0
    blend: float = 0.0
    champion: float = 0.0
    learner: float = 0.0

    @classmethod
    def of(cls, rows: Iterable[Mapping[str, Any]]) -> Quality:
        """Of all these rows of `WEEKS` together."""
        found = [*rows]
        return cls(*(
            sum(row[key] for row in found)
            for key in ("judged", "left_users", "p_sum", "blend", "champion", "learner")
        ))  # fmt: skip

    def mean(self, name: str) -> float | None:
        """A sum per prediction; None without any."""
        return getattr(self, name) / self.judged if self.judged else None


def summary(quality: Quality, drift: Sequence[Mapping[str, Any]], since: str) -> str:
    """Whether the probabilities can be believed, in one sentence."""
    if not quality.judged:
        return "No prediction has met its truth yet."
    predicted, left = quality.p_sum / quality.judged, quality.left / quality.judged
    alarms = f" {len(drift)} drift alarm{'s' if len(drift) != 1 else ''} so far." if drift else ""
    return (
        f"Of {quality.judged:,} predictions judged since {since}, {predicted:.0%} were expected to "
        f"leave and {left:.0%} did.{alarms}"
    )


def _facts(
    quality: Quality,
    versions: Sequence[Mapping[str, Any]],
    drift: Sequence[Mapping[str, Any]],
    made: Sequence[Mapping[str, Any]],
    error: float | None,
) -> tuple[Fact, ...]:
    blend, champion = quality.mean("blend"), quality.mean("champion")
    worse = blend is not None and champion is not None and blend > champion
    promoted = [row for row in made if row["state"] == "promoted"]
    newest = max((row["decided_ms"] for row in promoted), default=None)
    return (
        Fact("judged", quality.judged, note="predictions that met their truth"),
        Fact("log loss", blend, "number", "nats",
             note="worse than the champion alone" if worse else "of what was acted on",
             state="warn" if worse else ""),
        Fact("champion alone", champion, "number", "nats"),
        Fact("learner alone", quality.mean("learner"), "number", "nats"),
        Fact("calibration error", error, "share", note="mean distance from the line"),
        Fact("champion", versions[0]["version"] if versions else None, "code"),
        Fact("promoted", newest, "date", note=f"of {len(made)} that were trained" if made else ""),
        Fact("newest drift", drift[0]["detected_ms"] if drift else None, "date"),
    )  # fmt: skip


def calibration_error(bins: Sequence[Mapping[str, Any]]) -> float | None:
    """Mean distance of predicted and observed shares over bins, by how many are in each (Guo et al.
    2017, "On Calibration of Modern Neural Networks", section 2); None without predictions."""
    judged = sum(row["judged"] for row in bins)
    return sum(abs(row["p_sum"] - row["left_users"]) for row in bins) / judged if judged else None


def _calibration(bins: Sequence[Mapping[str, Any]], quality: Quality, since: str) -> Chart:
    """A point for each twentieth of the scale that has enough predictions."""
    kept = [row for row in bins if row["judged"] >= _LEAST_JUDGED]
    hidden = quality.judged - sum(row["judged"] for row in kept)
    note = f"Since {since}. On the dotted line, as many leave as were predicted to."
    if hidden:
        note += (
            f" {hidden:,} predictions are in twentieths of the scale with fewer than "
            f"{_LEAST_JUDGED}, which have no point."
        )
    return Chart(
        "calibration", "Calibration: predicted and observed", [_mean(row, "p_sum") for row in kept],
        (Series("left", [_mean(row, "left_users") for row in kept], "dots"),),
        x_label="predicted to leave (share)", x_kind="number", y_label="left (share)",
        empty=_NO_LABELS, note=note, diagonal=True, half=True,
    )  # fmt: skip


def bin_rows(bins: Iterable[Mapping[str, Any]]) -> list[tuple[Any, ...]]:
    """`BIN_COLUMNS`, also of twentieths with few predictions."""
    return [
        (
            f"{row['bin'] * 5} to {row['bin'] * 5 + 5} %", row["judged"], _mean(row, "p_sum"),
            _mean(row, "left_users"),
        )
        for row in bins
    ]  # fmt: skip


def _losses(weeks: Sequence[Mapping[str, Any]]) -> Chart:
    names = {"champion": "champion", "learner": "learner", "blend": "blend (acted on)"}
    return Chart(
        "log_loss", "Log loss by week", [row["week_s"] for row in weeks],
        tuple(
            Series(shown, [_mean(row, name) for row in weeks]) for name, shown in names.items()
        ),
        x_label="week (UTC)", y_label="log loss (nats)", empty=_NO_LABELS, y_from_zero=False,
        half=True,
        note="Lower is better. A week counts by when the truth was known.",
    )  # fmt: skip


def _mean(row: Mapping[str, Any], name: str) -> float:
    return float(row[name] / row["judged"])


def _rows(rows: Iterable[Mapping[str, Any]], columns: Sequence[Column]) -> list[tuple[Any, ...]]:
    return [tuple(row[column.key] for column in columns) for row in rows]


def evidence_rows(rows: Iterable[Mapping[str, Any]]) -> list[tuple[Any, ...]]:
    """`EVIDENCE_COLUMNS`, from few orders to many."""
    found = {row["evidence"]: row for row in rows}
    shown = []
    for name in _ORDER:
        if (row := found.get(name)) is not None:
            scored = row["all_scored"]
            sums = (row["p_sum"], row["left_users"], row["loss"])
            means = (each / scored if scored else None for each in sums)
            shown.append((name, row["all_asked"], scored, *means))
    return shown


def _importance(artifact: str) -> Part:
    """What each group of features gives the champion, from its own manifest."""
    # The loader of models brings ONNX Runtime, 20 MB that no other page needs.
    from models.artifact import read_manifest  # noqa: PLC0415
    from models.registry import artifact_directory  # noqa: PLC0415

    try:
        manifest = read_manifest(artifact_directory(artifact))
    except TidelineError as error:
        return Note(f"What the model rests on is not known here: {error}", "warn")
    return importance(manifest)


def importance(manifest: Manifest) -> Table:
    """Losses without each group where training measured them, else shares of the trees' gain."""
    if manifest.feature_groups:
        rows = [
            (each.group, each.features, each.log_loss, each.log_loss_spread, each.auc)
            for each in manifest.feature_groups
        ]
        return Table(
            "importance", f"What model {manifest.version} rests on", GROUP_COLUMNS, rows,
            half=True,
            note="How much worse it is with the group's values shuffled, on rows it did not learn.",
        )  # fmt: skip
    from models.concepts import concept_of  # noqa: PLC0415

    gains: dict[str, list[float]] = {}
    for feature, share in zip(manifest.features, manifest.importances, strict=True):
        gains.setdefault(concept_of(feature), []).append(share)
    of_gain = [
        (concept, sum(share > 0 for share in shares), sum(shares))
        for concept, shares in sorted(gains.items(), key=lambda pair: -sum(pair[1]))
        if sum(shares) > 0
    ]
    return Table(
        "importance", f"What model {manifest.version} rests on", GAIN_COLUMNS, of_gain,
        half=True,
        note="Shares of the gain of its churn trees: it was trained before groups were measured.",
    )  # fmt: skip
