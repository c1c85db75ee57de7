"""The horizon beside how often customers order: the check that `train` and `evaluate` share."""
# ruff: noqa: PLC0415  (heavy imports wait until the command runs)

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from schemas.errors import SettingsError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from streams.evaluation.rhythm import HorizonFit

__all__ = ["check_horizon", "horizon_anyway_option"]

horizon_anyway_option = click.option(
    "--horizon-anyway",
    is_flag=True,
    help="Use this horizon even if most customers usually pause for longer.",
)


def check_horizon(
    gap_days: NDArray[np.float64],
    *,
    customers: int,
    horizon_days: int,
    gone_after_days: int,
    longest_days: int,
    option: str,
    anyway: bool,
    quiet: bool,
) -> HorizonFit:
    """Compare a horizon with usual gaps (float64 [k], days) of some of `customers`.

    Says on the terminal what the horizon means for these customers (`quiet`: only if it may be
    wrong, on stderr). `option` is how the command's user writes a horizon, with {} for the days.

    Raises SettingsError if it is below the usual gap of most, unless `anyway`.
    """
    from streams.evaluation.rhythm import judge_horizon

    fit = judge_horizon(
        gap_days,
        customers=customers,
        horizon_days=horizon_days,
        gone_after_days=gone_after_days,
        longest_days=longest_days,
    )
    if fit.verdict == "too short" and not anyway:
        raise SettingsError(f"{fit.sentence()} {_remedy(fit, option)}")
    fine = fit.verdict in ("fits", "unknown")
    if not fine or not quiet:
        click.echo(fit.sentence() if fine else f"Warning: {fit.sentence()}", err=not fine)
    if fit.gone_sentence():
        click.echo(f"Warning: {fit.gone_sentence()}", err=True)
    return fit


def _remedy(fit: HorizonFit, option: str) -> str:
    if fit.fitting_days is None:
        return (
            f"Nor does the longest horizon that this history allows fit ({fit.longest_days} days). "
            "Use a longer history, or --horizon-anyway to see what comes out."
        )
    return (
        f"Use {option.format(fit.fitting_days)}, or --horizon-anyway to keep "
        f"{fit.horizon_days} days."
    )
