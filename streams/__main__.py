"""Entry point of the `tideline` command, also as `python -m streams`."""
# ruff: noqa: PLC0415

from __future__ import annotations

from streams import stopping

__all__ = ["main"]


def main() -> None:
    """Run the command. Signals are held first: importing it takes long enough to be stopped in."""
    stopping.hold()
    from streams.cli import tideline

    tideline(prog_name="tideline")


if __name__ == "__main__":
    main()
