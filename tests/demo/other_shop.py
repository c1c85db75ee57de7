"""Trains the model that the demo begins with: that of another shop, a made-up gift shop of 2015.

    python -m tests.demo.other_shop

The model that ships was trained on the very households of the demo, later weeks included. Who
installs Tideline has no such model, but one of another shop; and so has the demo.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Final

from streams.cli import tideline
from streams.demo.system import OTHER_SHOP
from tests.evaluation.shops import DAY_MS, gifts, write

__all__ = ["main"]

_EARLIER_MS: Final = 1_826 * DAY_MS  # five years: before the demo's, whose labels it can't know


def main() -> None:
    """Replace it."""
    shutil.rmtree(OTHER_SHOP, ignore_errors=True)
    with tempfile.TemporaryDirectory() as directory:
        user, times_ms, amounts = gifts(users=1_000, days=500)
        orders = write(Path(directory) / "gifts.csv", (user, times_ms - _EARLIER_MS, amounts))
        tideline.main(
            ["train", "--orders", str(orders), "--horizon-days", "28", "--horizon-anyway",
             "--out", str(OTHER_SHOP)],
            prog_name="tideline", standalone_mode=False,
        )  # fmt: skip


if __name__ == "__main__":
    main()
