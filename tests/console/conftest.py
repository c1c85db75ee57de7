"""One filled ClickHouse, one console and one browser for all tests of a process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from streams.local.clickhouse import ChdbServer
from tests.console import browser as browsers
from tests.console.browser import Browser
from tests.console.stand import Console, Stand


@pytest.fixture(scope="session")
def stand(clickhouse: ChdbServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """The made-up shop's results in a database of their own, and a lag monitor."""
    with Stand(tmp_path_factory.mktemp("console"), clickhouse) as running:
        yield running


@pytest.fixture(scope="session")
def console(stand: Stand) -> Console:
    """`tideline console` over it, for whoever is at this machine: everybody may do everything."""
    return stand.console()


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """One browser. Skips where there is none, and says what to install."""
    if browsers.missing():
        pytest.skip(browsers.missing())
    with Browser() as running:
        yield running


@pytest.fixture
def browser(chromium: Browser) -> Browser:
    """The browser, wide and light, with nothing left of the last test's page."""
    chromium.look()
    chromium.open("about:blank")
    chromium.complaints()
    return chromium
