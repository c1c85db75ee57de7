"""The commands and services to start once all is set up. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from shlex import quote
from typing import Final

__all__ = ["SERVICES", "what_to_start"]

SERVICES: Final = {
    "worker": "one or more: they share the partitions",
    "learner": "one",
    "lag --serve": "one",
}
"""Arguments of `tideline` -> how many of them to run."""
TRAINER: Final = {"trainer": "one; needs the extra `train`"}
"""Where there is a model of one's own, which it can replace."""


def what_to_start(
    target: Path,
    variables: Mapping[str, str],
    needed: frozenset[str],
    program: str,
    *,
    model: bool,
) -> str:
    """Lines to copy. `variables` go with TIDELINE_CONFIG and are shown with their values. `needed`
    are only named: their values come from this shell or by hand. `program`: path of `tideline`.
    `model`: whether there is a directory of models."""
    every = {"TIDELINE_CONFIG": str(target), **variables}
    exports = "\n".join(f"  export {name}={quote(value)}" for name, value in every.items())
    run = SERVICES | TRAINER if model else SERVICES
    width = max(map(len, run)) + len("tideline ")
    services = "\n".join(f"  {f'tideline {name}':<{width}}  # {many}" for name, many in run.items())
    units = "\n".join(f'  Environment="{name}={value}"' for name, value in every.items())
    also = "".join(f"  {name}\n" for name in sorted(needed))
    if also:
        also = f"They also need these variables, which are not in the file:\n\n{also}\n"
    later = (
        ""
        if model
        else "\nTo train on what the stream sees, later: name a directory with\n"
        "TIDELINE_MODEL_ARTIFACT, run `tideline models init`, and start\n`tideline trainer`, too.\n"
    )
    return f"""\
Start these, each in a terminal or as a service:

{exports}
{services}

{also}For systemd, in [Service], one unit for each:

{units}
  ExecStart={program} worker

For compose: `command: worker`, the same environment, and {target.parent}
mounted at the same place. docs/start.md has both in full.
{later}
`tideline doctor` checks all of this at any time.
"""
