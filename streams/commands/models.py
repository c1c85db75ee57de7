"""`tideline models`: which models there are, which is in use, and whether one can be trusted."""
# ruff: noqa: PLC0415  (heavy imports wait until the command runs)

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from schemas.errors import ArtifactError
from streams.commands.support import (
    Invocation,
    json_option,
    pass_invocation,
    print_json,
    print_table,
)

if TYPE_CHECKING:
    from models.champion import Champion
    from models.places import Place

__all__ = ["models"]


@click.group()
def models() -> None:
    """Models: list them, look at one, check one, put one into use.

    They are in the directory that TIDELINE_MODEL_ARTIFACT names, on this machine or in an object
    store, or come with Tideline. Its file CURRENT names the one in use. Running workers and the
    learner follow it within seconds; no restart.
    """


def _root(invocation: Invocation) -> tuple[Place, str]:
    """The directory of models, and the version in use (empty if there is none)."""
    from models.artifact import CURRENT_FILE, MANIFEST_FILE, current_version
    from models.registry import artifact_place

    place = artifact_place(invocation.settings.model.artifact)
    if place.holds(CURRENT_FILE):
        return place, current_version(place)
    if place.holds(MANIFEST_FILE):
        return place.parent, place.name
    return place, ""


@models.command("list")
@json_option
@pass_invocation
def list_(invocation: Invocation, as_json: bool) -> None:
    """Every model there is, newest last; * marks the one in use."""
    from models.artifact import load_artifact, versions

    root, current = _root(invocation)
    rows: list[dict[str, Any]] = []
    for version in versions(root):
        row: dict[str, Any] = {"version": version, "current": version == current}
        try:
            manifest = load_artifact(root / version).manifest
        except ArtifactError as error:
            row["problem"] = str(error)
        else:
            row |= {
                "horizon_days": manifest.horizon_days,
                "source": manifest.training.get("source", ""),
                "metrics": manifest.metrics,
            }
        rows.append(row)
    if as_json:
        print_json({"directory": str(root), "models": rows})
        return
    if not rows:
        click.echo(f"There is no model in {root}. Train one with `tideline train --out {root}`.")
        return
    print_table(
        ("", "version", "horizon", "trained on", "AUC"),
        [
            (
                "*" if row["current"] else "",
                row["version"],
                f"{row['horizon_days']} days" if "horizon_days" in row else "",
                str(row.get("source", f"can't be used: {row.get('problem')}")),
                _auc(row.get("metrics", {})),
            )
            for row in rows
        ],
        title=str(root),
    )


def _auc(metrics: dict[str, float]) -> str:
    found = [value for name, value in metrics.items() if "auc" in name.lower()]
    return f"{found[0]:.4f}" if found else ""


@models.command()
@click.argument("version", default="")
@pass_invocation
def show(invocation: Invocation, version: str) -> None:
    """What a model says about itself, as JSON: data, features, metrics. Default: the one in use."""
    import msgspec

    champion = _load(invocation, version)
    fields = msgspec.to_builtins(champion.manifest)
    for long in ("golden", "typical", "importances", "features"):
        fields.pop(long, None)
    ranked = sorted(
        zip(champion.manifest.features, champion.manifest.importances, strict=True),
        key=lambda pair: -pair[1],
    )
    fields["top_features"] = {name: round(share, 4) for name, share in ranked[:10]}
    print_json(fields)


@models.command()
@pass_invocation
def init(invocation: Invocation) -> None:
    """Put the model that ships into the directory of models, unless a model is in use there.

    A trainer promotes in such a directory, and workers follow it. Safe to run again.
    """
    from models.artifact import CURRENT_FILE, MANIFEST_FILE, ship
    from models.registry import artifact_place
    from schemas.errors import SettingsError

    named = invocation.settings.model.artifact
    root = artifact_place(named)
    if not named or (root.holds(MANIFEST_FILE) and not root.holds(CURRENT_FILE)):
        raise SettingsError(
            "Name a directory for models with TIDELINE_MODEL_ARTIFACT: a path, or a URL such as "
            "s3://bucket/models. It may be new; it may not be the directory of one model."
        )
    if root.holds(CURRENT_FILE):
        _, current = _root(invocation)
        click.echo(f"{current} is in use in {root} already; nothing was changed.")
        return
    click.echo(f"{ship(root)}, the model that ships, is current in {root}.")


@models.command()
@click.argument("version")
@pass_invocation
def promote(invocation: Invocation, version: str) -> None:
    """Put VERSION into use: check it, then make CURRENT name it.

    Running workers use it from their next batch on. Keep the old model where it is: a worker that
    recovers scores again what the old one scored.
    """
    from models.artifact import CURRENT_FILE, MANIFEST_FILE
    from models.artifact import promote as put_into_use
    from models.registry import artifact_place
    from schemas.errors import SettingsError

    root = artifact_place(invocation.settings.model.artifact)
    if root.holds(MANIFEST_FILE) and not root.holds(CURRENT_FILE):
        raise SettingsError(
            f"TIDELINE_MODEL_ARTIFACT names one model, {root}, so that it stays in use. Name the "
            f"directory above it, {root.parent}, to follow its file CURRENT."
        )
    champion = put_into_use(root, version)
    click.echo(
        f"{version} is current in {root}: {champion.horizon_days} days ahead. "
        "Running workers take it up within seconds."
    )


@models.command()
@click.argument("version", default="")
@json_option
@pass_invocation
def check(invocation: Invocation, version: str, as_json: bool) -> None:
    """Check a model: golden vectors, and whether its reasons are right. Default: the one in use.

    Reasons are compared with exact Shapley values, computed by brute force on the golden vectors:
    the rank correlation of what each concept moved, how often the strongest reason is the same, and
    how many of the three strongest are named. Exit status 1 if the model can't be used.
    """
    import numpy as np

    from models.agreement import agreement
    from models.artifact import golden_error
    from models.explain import Explainer

    champion = _load(invocation, version)
    x = champion.manifest.golden.x_array()
    explainer = Explainer(champion, invocation.settings.stream.currency)
    seconds = []
    for _ in range(30):
        started = time.perf_counter()
        explainer.in_words(x, None)
        seconds.append(time.perf_counter() - started)
    found = agreement(champion, x)
    figures = {
        "version": champion.version,
        "golden_vectors": len(x),
        "golden_error": golden_error(champion),
        "reasons": {
            "rows": found.rows,
            "spearman": round(found.spearman, 4),
            "first_same": round(found.first, 4),
            "top3_named": round(found.top3, 4),
            "microseconds_per_alert": round(float(np.median(seconds)) / len(x) * 1e6, 1),
        },
    }
    if as_json:
        print_json(figures)
        return
    click.echo(
        f"{champion.version} reproduces {len(x)} golden vectors of the training library "
        f"(off by {figures['golden_error']:.1e} at most; 1e-05 is allowed).\n"
        f"Reasons against exact Shapley values on {found.rows} of them: rank correlation "
        f"{found.spearman:.3f}, the strongest is the same in {found.first:.0%}, "
        f"{found.top3:.0%} of the three strongest are named.\n"
        f"{figures['reasons']['microseconds_per_alert']:.0f} µs per alert."  # type: ignore[index]
    )


def _load(invocation: Invocation, version: str) -> Champion:
    from models.artifact import artifact_path, load_artifact

    root, current = _root(invocation)
    if not version and not current:
        raise ArtifactError(
            f"No model is in use: {root} has no file CURRENT. See `tideline models list`, and name "
            "one, or put one into use with `tideline models promote`."
        )
    return load_artifact(artifact_path(version or current, root))
