"""What each group of features gives a model, as the commands print it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from streams.commands.support import print_table

if TYPE_CHECKING:
    from models.manifest import GroupGain

__all__ = ["print_groups"]


def print_groups(groups: Sequence[GroupGain], title: str = "") -> None:
    """A table of the groups that the model uses; nothing if none is known."""
    if not groups:
        return
    print_table(
        ("without what this group says", "features", "log loss", "+/-", "AUC", "+/-"),
        [
            (
                g.group, str(g.features), f"{g.log_loss:+.4f}", f"{g.log_loss_spread:.4f}",
                f"{-g.auc:+.4f}", f"{g.auc_spread:.4f}",
            )
            for g in groups
        ],
        title=title,
    )  # fmt: skip
