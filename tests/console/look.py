"""Takes pictures of the console's pages, to be looked at.

    python -m tests.console.look [--to DIRECTORY] [PATH ...]
    python -m tests.console.look --stay         # starts everything, prints the address, waits
    python -m tests.console.look --url URL      # of a console that runs already

Each page at 1440, 768 and 390 pixels, light and dark, and as it prints, of a shop of four months
that ends now (`tests.console.shop`). Says what the browser complained about, what axe-core found,
and which pages are wider than the window. A PATH is such as /segments or /campaigns/win_back.
"""

from __future__ import annotations

import argparse
import signal
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, Literal

from tests.console.browser import WIDTHS, Browser, missing
from tests.console.stand import Stand

__all__ = ["looks", "pictures"]

PATHS: Final = (
    "/today", "/customers", "/customers/u-0010", "/segments", "/segments/leaving",
    "/segments/plan-preview", "/segments/event-funnel", "/segments/cohort-retention",
    "/campaigns", "/campaigns/win_back", "/models", "/pipeline", "/settings",
)  # fmt: skip
_PRINT_WIDTH: Final = 794
"""A4 at 96 dots per inch."""

_Look = tuple[str, int, Literal["light", "dark"], Literal["screen", "print"]]


def looks() -> Iterator[_Look]:
    """Name, width, colour scheme and medium of each look."""
    for name, width in WIDTHS.items():
        yield name, width, "light", "screen"
    yield "dark", WIDTHS["wide"], "dark", "screen"
    yield "phone-dark", WIDTHS["phone"], "dark", "screen"
    yield "print", _PRINT_WIDTH, "light", "print"


def pictures(browser: Browser, url: str, paths: Sequence[str], to: Path) -> Iterator[str]:
    """Write DIRECTORY/PAGE-LOOK.png for each; gives what is wrong, in words."""
    to.mkdir(parents=True, exist_ok=True)
    for path in paths:
        name = path.strip("/").replace("/", "-") or "home"
        for look, width, scheme, media in looks():
            browser.look(width, scheme=scheme, media=media)
            browser.open(url + path)
            browser.run("window.dispatchEvent(new Event('resize'))")
            browser.screenshot(to / f"{name}-{look}.png")
            yield from (f"{path} {look}: {each}" for each in browser.complaints())
            if media == "screen":
                yield from (f"{path} {look}: {each}" for each in browser.violations())
                over = browser.overflow()
                if over > 0:
                    yield f"{path} {look}: {over} px wider than the window"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("paths", nargs="*", default=PATHS)
    parser.add_argument("--to", type=Path, default=Path(tempfile.gettempdir()) / "console-pictures")
    parser.add_argument("--stay", action="store_true", help="take none; wait for Ctrl-C")
    parser.add_argument("--url", help="of a console that runs already")
    given = parser.parse_args()
    if missing():
        parser.exit(2, f"{missing()}\n")
    if given.url:
        with Browser() as browser:
            _take(browser, given.url, given)
        return
    with tempfile.TemporaryDirectory() as directory, Stand(Path(directory)) as stand:
        console = stand.console()
        if given.stay:
            print(f"{console.url}  (log: {console.log_path}). Ctrl-C ends it.")
            print("To start another on the same results, with these variables:")
            print(
                "\n".join(f"{name}={value}" for name, value in console.environ.items()), flush=True
            )
            signal.sigwait({signal.SIGINT, signal.SIGTERM})
            return
        with Browser() as browser:
            _take(browser, console.url, given)


def _take(browser: Browser, url: str, given: argparse.Namespace) -> None:
    for problem in pictures(browser, url, given.paths, given.to):
        print(problem)
    print(f"pictures are in {given.to}")


if __name__ == "__main__":
    main()
