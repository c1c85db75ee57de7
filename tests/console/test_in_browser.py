"""The console in a real browser, over months of a made-up shop.

The short form looks at every page once wide and once on a phone; `make faults` has every look, a
ClickHouse that dies, and ten thousand alerts.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from selenium.webdriver.common.keys import Keys

from streams.clickhouse.client import connect
from streams.local.clickhouse import ChdbServer
from tests.console.browser import WIDTHS, Browser
from tests.console.look import looks
from tests.console.shop import HOSTILE
from tests.console.stand import Console, Stand

PAGES = (
    "/today", "/customers", "/customers/u-0010", "/segments", "/segments/leaving",
    "/segments/lifecycle/at_risk", "/segments/plan-preview",
    "/segments/event-funnel", "/segments/cohort-retention", "/campaigns", "/campaigns/win_back",
    "/models", "/pipeline", "/settings",
)  # fmt: skip
_LONG_ONLY = frozenset(("/customers", "/campaigns", "/segments/leaving"))


def wrong(browser: Browser, path: str) -> Iterator[str]:
    """What is wrong with the page that is open."""
    yield from (f"{path}: {each}" for each in browser.complaints())
    yield from (f"{path}: {each}" for each in browser.violations())
    if browser.overflow() > 0:
        yield f"{path}: {browser.overflow()} px wider than the window"
    if browser.run("return window.tideline_xss !== undefined"):
        yield f"{path}: what a user's id says was run"
    if not browser.all("h1"):
        yield f"{path}: no heading"


def a_batch_arrives(stand: Stand) -> None:
    """A row of the ledger: what tells the console that results have changed."""
    now_ms = time.time_ns() // 1_000_000
    with connect(stand.target()) as client:
        client.execute(
            "INSERT INTO batches (shard, seq, clock, clickstream_from, clickstream_to, accepted, "
            "scored) SELECT shard, max(seq) + 1, "
            "fromUnixTimestamp64Milli(toInt64(%(now)s), 'UTC'), max(clickstream_to), "
            "max(clickstream_to) + 1, 1, 1 FROM batches WHERE shard = 0 GROUP BY shard",
            {"now": now_ms},
        )


def test_every_page_is_clean_wide_and_on_a_phone(browser: Browser, console: Console) -> None:
    found: list[str] = []
    for path in PAGES:
        if path in _LONG_ONLY:
            continue
        browser.look(WIDTHS["wide"])
        browser.open(console.url + path)
        found += wrong(browser, path)
        browser.look(WIDTHS["phone"])
        if browser.overflow() > 0:
            found.append(f"{path}: {browser.overflow()} px wider than a phone")
    assert found == []


def test_live_updates_arrive_and_keep_the_focus(
    browser: Browser, console: Console, stand: Stand
) -> None:
    browser.open(f"{console.url}/pipeline")
    browser.run("document.querySelector('#ledger-1').focus()")
    before = browser.run("return document.querySelector('#part-ledger').innerText")
    a_batch_arrives(stand)
    browser.until(
        lambda: browser.run("return document.querySelector('#part-ledger').innerText") != before,
        "the ledger shows the new batch",
    )
    assert browser.run("return document.activeElement.id") == "ledger-1"
    assert browser.complaints() == []


def test_a_filter_is_in_the_url_and_needs_no_other_page(browser: Browser, console: Console) -> None:
    browser.open(f"{console.url}/models")
    browser.run("window.same = 1")
    browser.run(
        "const field = document.querySelector('#f-days'); field.value = '365';"
        "field.dispatchEvent(new Event('change', {bubbles: true}));"
    )
    browser.until(lambda: "days=365" in browser.driver.current_url, "the filter is in the URL")
    assert browser.run("return window.same") == 1
    browser.driver.back()
    browser.until(lambda: "days=" not in browser.driver.current_url, "back is without it")
    assert browser.complaints() == []


def test_palette_and_keys_lead_everywhere(browser: Browser, console: Console) -> None:
    browser.open(f"{console.url}/today")
    browser.chord(Keys.CONTROL, "k")
    browser.until(lambda: browser.all("dialog#palette[open]"), "the palette opens")
    browser.keys("pipel", Keys.ENTER)
    browser.until(lambda: browser.driver.current_url.endswith("/pipeline"), "Pipeline by palette")
    browser.keys("g", "m")
    browser.until(lambda: browser.driver.current_url.endswith("/models"), "Models by two keys")
    browser.keys("3")
    browser.until(lambda: browser.driver.current_url.endswith("/segments"), "Segments by its place")
    browser.keys("?")
    browser.until(lambda: browser.all("dialog#keys[open]"), "the keys are shown")
    assert browser.complaints() == []


def test_a_customer_is_found_by_the_palette(browser: Browser, console: Console) -> None:
    browser.open(f"{console.url}/segments")
    browser.chord(Keys.CONTROL, "k")
    browser.until(lambda: browser.all("dialog#palette[open]"), "the palette opens")
    browser.keys("u-0010", Keys.ENTER)
    browser.until(lambda: "/customers" in browser.driver.current_url, "Customers is asked")
    browser.until(lambda: "u-0010" in browser.text("main"), "the customer is there")


def test_hostile_ids_stay_text_and_have_a_profile(browser: Browser, console: Console) -> None:
    browser.open(f"{console.url}/segments/leaving")
    browser.open(f"{console.url}/customers?q=%3Cscript")
    links = [each for each in browser.all("main a.id") if HOSTILE[0] in each.text]
    assert links
    browser.open(links[0].get_attribute("href") or "")
    assert HOSTILE[0] in browser.text("main")
    assert list(wrong(browser, "profile")) == []


def test_an_edited_document_is_checked_and_compared(browser: Browser, console: Console) -> None:
    browser.open(f"{console.url}/segments/plan-preview")
    document = browser.one("#document").get_attribute("value") or ""
    edited = document.replace("lapsed_after: 90d", "lapsed_after: 60d")
    assert edited != document
    for text, words in ((edited, "60d"), (edited + "nonsense: 1\n", "nonsense")):
        browser.run("document.querySelector('#document').value = arguments[0]", text)
        browser.one("form#plan button").click()
        browser.until(
            lambda words=words: words in browser.text("main"),  # type: ignore[misc]
            "the answer is there",
        )
        assert browser.one("#document").get_attribute("value") == text
        assert list(wrong(browser, "preview")) == []


def test_what_can_not_be_applied_is_said_beside_the_document(
    browser: Browser, console: Console
) -> None:
    browser.open(f"{console.url}/segments/plan-preview")
    document = browser.one("#document").get_attribute("value") or ""
    text = document.replace("lapsed_after: 90d", "lapsed_after: 61d")
    browser.run("document.querySelector('#document').value = arguments[0]", text)
    browser.one("form#plan button").click()
    browser.until(lambda: browser.all("form#apply button"), "it can be applied")
    browser.one("form#apply button").click()  # there is no Kafka here
    browser.until(lambda: "Kafka" in browser.text("#said"), "why it was not applied", 40)
    assert browser.one("#document").get_attribute("value") == text
    browser.complaints()  # the answer was 503


def test_it_prints_without_navigation_and_in_the_width_of_paper(
    browser: Browser, console: Console
) -> None:
    browser.look(794, media="print")
    for path in ("/campaigns", "/pipeline"):
        browser.open(console.url + path)
        assert not browser.one("nav").is_displayed()
        assert browser.overflow() <= 0, path
    browser.look(scheme="dark")
    browser.open(f"{console.url}/campaigns")
    background = browser.run("return getComputedStyle(document.body).backgroundColor")
    assert max(int(each) for each in background[4:-1].split(",")) < 60


@pytest.mark.full
@pytest.mark.timeout(900)  # sixty runs of axe-core
def test_every_page_is_clean_in_every_look(browser: Browser, console: Console) -> None:
    found: list[str] = []
    for path in PAGES:
        browser.look()
        browser.open(console.url + path)
        for name, width, scheme, media in looks():
            browser.look(width, scheme=scheme, media=media)
            if media == "screen" and width != WIDTHS["tablet"]:
                found += wrong(browser, f"{path} {name}")
            elif browser.overflow() > 0:
                found.append(f"{path} {name}: {browser.overflow()} px too wide")
    assert found == []


@pytest.mark.full
def test_ten_thousand_alerts_are_paged(browser: Browser, stand: Stand) -> None:
    console = stand.console(stand.crowd())
    browser.open(f"{console.url}/today")
    assert "9,000" in browser.text("#summary")
    assert list(wrong(browser, "/today")) == []
    seen: set[str] = set()
    for _ in range(5):
        before = browser.driver.current_url
        seen |= set(
            browser.run(
                "return [...document.querySelectorAll('main .grid a.id')].map(e => e.textContent)"
            )
        )
        browser.run("document.querySelector('.more a').click()")
        _until_elsewhere(browser, before)
    assert len(seen) > 200


def _until_elsewhere(browser: Browser, before: str) -> None:
    browser.until(lambda: browser.driver.current_url != before, "another page")


@pytest.mark.full
def test_clickhouse_dies_and_comes_back(browser: Browser, stand: Stand) -> None:
    server = ChdbServer(stand.directory / "mortal")
    with server, Stand(stand.directory, server) as mortal:
        console = mortal.console()
        browser.open(f"{console.url}/segments")
        port = server.port
        server.stop()
        browser.until(
            lambda: "Not up to date" in browser.text("#stale"), "the page says it is stale", 40
        )
        browser.driver.refresh()
        assert "ClickHouse" in browser.text("main")
        browser.complaints()  # the request for a page that is 503
        server.start()
        assert server.port == port
        browser.until(lambda: _again(browser, console), "the page is back", 60)
        assert browser.complaints() == []


def _again(browser: Browser, console: Console) -> bool:
    browser.open(f"{console.url}/segments")
    back = bool(browser.all("#part-segments"))
    if not back:
        browser.complaints()
    return back
