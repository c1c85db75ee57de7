"""What to start once all is set up. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from shlex import quote
from typing import Final

__all__ = ["SERVICES", "what_to_start"]

SERVICES: Final = {
    "tideline worker": "one or more; they share the partitions",
    "tideline learner": "one",
    "tideline lag --serve": "one",
}


def what_to_start(
    target: Path, variables: Mapping[str, str], needed: frozenset[str], program: str
) -> str:
    """Lines to copy. `variables` are to be set besides TIDELINE_CONFIG, `needed` are set in this
    shell or must be set by hand; `program` is the path of `tideline`."""
    every = {"TIDELINE_CONFIG": str(target), **variables}
    exports = "\n".join(f"  export {name}={quote(value)}" for name, value in every.items())
    services = "\n".join(f"  {command:<20}  # {many}" for command, many in SERVICES.items())
    environment = " ".join(f"{name}={value}" for name, value in every.items())
    also = (
        f"\nThe processes also need, as they are not in the file: {', '.join(sorted(needed))}.\n"
        if needed
        else ""
    )
    return f"""\
Start these three, each in a terminal or as a service:

{exports}
{services}
{also}
systemd   [Service] Environment="{environment}"
          ExecStart={program} worker
compose   command: worker; environment: as above; mount {target.parent}

Then send your events: docs/events.md. `tideline doctor` checks all of it at any time.
"""
