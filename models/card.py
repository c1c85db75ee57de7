"""The model card: what an artifact is, in a page that people read (Mitchell et al. 2019)."""

from __future__ import annotations

from models.bands import FEW_ORDERS, VISITORS
from models.champion import band_output
from models.long import LONG_DAYS
from models.manifest import Manifest

__all__ = ["model_card"]

_METRICS = (
    ("auc", "churn AUC"),
    ("average_precision", "churn average precision"),
    ("log_loss", "churn log loss"),
    ("brier", "churn Brier score"),
    ("ece", "churn calibration error, 10 bins"),
    ("spend_gini", "spend normalised Gini"),
    ("spend_spearman", "spend Spearman"),
    ("spend_mae", "spend mean absolute error"),
    ("spend_bias", "spend predicted / actual"),
    ("p_buy_7d_auc", "order within 7 days AUC"),
    ("p_buy_30d_auc", "order within 30 days AUC"),
    ("p_partial_auc", "partial defection AUC"),
)


def model_card(
    manifest: Manifest, comparison: str = "", history: str = "", horizon: str = ""
) -> str:
    """Markdown. `comparison` is a table of champion and baselines on the same rows, if there is
    one; `history` a list of how the orders were read and what was left out of them; `horizon` a
    sentence on how the horizon compares with the customers' usual gaps."""
    training = manifest.training
    eligible = manifest.eligibility
    ranked = sorted(zip(manifest.features, manifest.importances, strict=True), key=lambda f: -f[1])
    top = "\n".join(f"- `{name}`: {share:.1%}" for name, share in ranked[:15] if share > 0)
    metrics = "\n".join(
        f"| {words} | {manifest.metrics[name]:.4f} |"
        for name, words in _METRICS
        if name in manifest.metrics
    )
    outputs = {
        "p_churn": f"probability of no order within {manifest.horizon_days} days",
        "spend": f"mean spend within {manifest.horizon_days} days, in the shop's currency",
        "p_buy_7d": "probability of an order within 7 days",
        "p_buy_30d": "probability of an order within 30 days",
        "p_partial": f"probability to spend within {manifest.horizon_days} days less than half of "
        "the customer's own mean over the three horizons before",
        "p_idle_365d": "probability of no order within 365 days",
        "value_365d": "mean spend within 365 days, in the shop's currency",
    }
    computed = {output.name for file in manifest.files.values() for output in file.outputs}
    listed = "\n".join(f"- `{o}`: {meaning}" for o, meaning in outputs.items() if o in computed)
    compared = (
        f"\nOn the same rows, champion and baselines:\n\n{comparison}\n" if comparison else ""
    )
    fits = f"\n- Horizon: {horizon}" if horizon else ""
    read = f"\n### How the orders were read\n\n{history}\n" if history else ""
    return f"""# Champion {manifest.version}

Gradient-boosted trees (LightGBM {training.get("lightgbm", "")}), as ONNX files. They predict, for a
customer as of now:

{listed}

The median date of the next order follows from its probabilities within 7 and 30 days.
{_pooled(manifest)}{_long(manifest)}
## Data

- Orders: {training.get("source", "unknown")}; rows as of {training.get("first_as_of", "?")} to
  {training.get("last_as_of", "?")}, one per eligible user and week,
  {training.get("users", "?")} users.
- Eligible: at least {eligible.min_orders} orders, the last one within
  {eligible.active_within_days} days.{fits}
- Rehearsal: {training.get("rows_train", "?")} rows to fit, {training.get("rows_tune", "?")} to stop
  by, {training.get("rows_test", "?")} to measure; tuning and testing rows are one horizon later
  than the fitting rows, and of different users. The model in these files was then fitted to all
  rows.
{read}
## Metrics, on users and weeks held back

| metric | value |
| --- | --- |
{metrics}
{compared}{_bands(manifest)}
## Features

{len(manifest.features)}, computed by the code that scores live (hash
`{manifest.features_hash[:12]}`). Largest shares of the churn trees' gain:

{top}
{_gains(manifest)}
## Limits

- It was trained on one shop. For another shop, train it on that shop's orders first.
- {_season(training)}
- Users who have been silent for longer than {eligible.active_within_days} days are outside the
  training data.
- A probability is calibrated over many customers, not for each single one. Calibration was
  checked overall, not by group of people: no attribute of persons is among the features.
- Spend is net of cancellations and returns within the horizon; later ones are not taken off.
"""


_BAND_METRICS = (
    ("auc", "AUC of no order"),
    ("ece", "calibration error"),
    ("spend_gini", "spend normalised Gini"),
    ("spend_bias", "spend predicted / actual"),
)


def _bands(manifest: Manifest) -> str:
    """The models of users with few orders and of visitors; empty in a manifest of before."""
    least = max(1, manifest.eligibility.min_orders)
    lines = []
    for band, who in (
        (FEW_ORDERS, "One order" if least == 2 else f"1 to {least - 1} orders"),
        (VISITORS, "Visitors, no order"),
    ):
        rows = manifest.training.get(f"rows_{band}")
        if rows is None or (band == FEW_ORDERS and least < 2):
            continue
        figures = ", ".join(
            f"{words} {manifest.metrics[name]:.3f}"
            for name, words in ((band_output(band, m), words) for m, words in _BAND_METRICS)
            if name in manifest.metrics
        )
        why = str(manifest.training.get(f"no_{band}", ""))
        said = f"no model. {why[:1].upper()}{why[1:]}" if why else f"{rows} rows; {figures}"
        lines.append(f"- {who}: {said}{'' if said.endswith('.') else '.'}")
    if not lines:
        return ""
    listed = "\n".join(lines)
    return f"""
## Users with few orders, and visitors

They have models of their own, with the same outputs. Measured on users and weeks held back:

{listed}
"""


def _season(training: dict[str, str | int | float]) -> str:
    season = training.get("season")
    if not season:
        return (
            "It has no season: estimating one takes a full year of orders and a horizon more (see\n"
            "  `models/training/season_fit.py`)."
        )
    return (
        f"It has the shop's season: orders per customer are {season}.\n  What happened in one "
        "year only, such as a single big sale, is expected again."
    )


def _long(manifest: Manifest) -> str:
    """How far ahead the value within a year was known, or why there is none; empty for a manifest
    from before there was one."""
    training, horizon = manifest.training, manifest.long_horizon
    if horizon is None:
        why = training.get("no_value_365d")
        return f"\nIt does not know the value within 365 days: {why}.\n" if why else ""
    of = training.get("value_365d_of")
    taken = f" It was taken over from {of}." if of else ""
    beyond = "" if horizon.seen_days >= LONG_DAYS else " The rest of the year is extrapolated."
    return (
        f"\nThe value within 365 days (`models/long.py`) was learned from what customers spent "
        f"within\n{horizon.seen_days} days.{beyond}{taken}\n"
    )


def _gains(manifest: Manifest) -> str:
    """What each group of features gives; an empty text for a manifest without that."""
    if not manifest.feature_groups:
        return ""
    lines = "\n".join(
        f"| {g.group} | {g.features} | {g.log_loss:+.4f} ({g.log_loss_spread:.4f}) "
        f"| {-g.auc:+.4f} ({g.auc_spread:.4f}) |"
        for g in manifest.feature_groups
    )
    return f"""
What each group of features gives: so much worse is churn on the held-back rows if the group's
values are shuffled among customers (mean of several shuffles; in brackets the deviation between
them). What two groups say alike is in neither's figure. The model uses nothing of other groups.

| group | features used | log loss | AUC |
| --- | --- | --- | --- |
{lines}
"""


def _pooled(manifest: Manifest) -> str:
    """The blend weight of the curve in each head; an empty text if all are 0."""
    suffix = "_curve_weight"
    shares = {
        name.removesuffix(suffix): weight
        for name, weight in manifest.metrics.items()
        if name.endswith(suffix) and weight
    }
    if not shares:
        return ""
    listed = ", ".join(f"`{head}` {weight:.0%}" for head, weight in shares.items())
    return (
        "\nTrees are blended with a BG/NBD-like curve (`models/curve.py`). The curve's weight:\n"
        f"{listed}.\n"
    )
