"""Debian's Chromium, driven by Selenium: pages at a width, a colour scheme and a medium; what the
browser complains about; and axe-core, which finds what people can't read or reach.

Chromium knows no host but loopback here, so that whatever asks for another one is seen to fail.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Literal

from selenium import webdriver
from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

__all__ = ["CHROMEDRIVER", "WIDTHS", "Browser", "axe_source", "missing"]

CHROMEDRIVER: Final = "/usr/bin/chromedriver"
WIDTHS: Final = {"wide": 1440, "tablet": 768, "phone": 390}
_VENDOR: Final = Path(__file__).parent / "vendor"
_ARGUMENTS: Final = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--no-first-run", "--force-prefers-reduced-motion", "--force-device-scale-factor=1",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1 , EXCLUDE localhost",
)  # fmt: skip
_TAGS: Final = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")


def missing() -> str:
    """Why no browser can be driven here; empty: one can."""
    if not Path(CHROMEDRIVER).exists() or shutil.which("chromium") is None:
        return "chromium and chromium-driver are not installed (apt-get install chromium-driver)"
    return ""


def axe_source() -> str:
    """axe-core's script, as its manifest says. It is MPL-2.0, unchanged, and in no package."""
    manifest = json.loads((_VENDOR / "manifest.json").read_text())
    source = gzip.decompress((_VENDOR / f"{manifest['file']}.gz").read_bytes())
    assert hashlib.sha256(source).hexdigest() == manifest["sha256"]
    return source.decode()


class Browser:
    """One window. Make it with `with`."""

    def __init__(self) -> None:
        options = Options()
        options.binary_location = shutil.which("chromium") or ""
        for argument in _ARGUMENTS:
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        # The service is named, or Selenium would look for a driver on the network.
        self.driver = webdriver.Chrome(options, Service(CHROMEDRIVER))
        self.driver.set_page_load_timeout(30)
        self.driver.set_script_timeout(60)

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        self.driver.quit()

    def look(
        self,
        width: int = 1440,
        height: int = 900,
        scheme: Literal["light", "dark"] = "light",
        media: Literal["screen", "print"] = "screen",
    ) -> None:
        """From now on pages are so wide, and so coloured."""
        self._cdp(
            "Emulation.setDeviceMetricsOverride", width=width, height=height,
            deviceScaleFactor=1, mobile=False,
        )  # fmt: skip
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self._cdp("Emulation.setEmulatedMedia", media=media, features=features)

    def open(self, url: str) -> None:
        self.driver.get(url)

    def run(self, script: str, *arguments: Any) -> Any:
        """What this script, a function's body, returns."""
        return self.driver.execute_script(script, *arguments)

    def all(self, selector: str) -> list[WebElement]:
        found: list[WebElement] = self.driver.find_elements(By.CSS_SELECTOR, selector)
        return found

    def one(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def text(self, selector: str) -> str:
        """What the first such element says, in one look: a page may be put in place meanwhile."""
        script = "return document.querySelector(arguments[0])?.innerText || ''"
        return str(self.run(script, selector))

    def keys(self, *keys: str) -> None:
        """Press these wherever the focus is."""
        webdriver.ActionChains(self.driver).send_keys(*keys).perform()

    def chord(self, modifier: str, key: str) -> None:
        """Press a key while another one is held."""
        chain = webdriver.ActionChains(self.driver)
        chain.key_down(modifier).send_keys(key).key_up(modifier).perform()

    def until(self, reached: Callable[[], Any], what: str, seconds: float = 20.0) -> Any:
        """Wait until this is true, and return it; says what was waited for, and what was there."""
        deadline = time.monotonic() + seconds
        while not (found := _unless_replaced(reached)):
            if time.monotonic() > deadline:
                text = self.run("return document.body.innerText")[:2_000]
                raise AssertionError(f"not within {seconds:g} s: {what}. The page:\n{text}")
            time.sleep(0.02)
        return found

    def complaints(self) -> list[str]:
        """What the browser has logged as an error since the last call: failed scripts and requests,
        and whatever the Content-Security-Policy forbade."""
        entries: Sequence[dict[str, Any]] = self.driver.get_log("browser")  # type: ignore[no-untyped-call]
        return [entry["message"] for entry in entries if entry["level"] in ("SEVERE", "WARNING")]

    def violations(self) -> list[str]:
        """What axe-core finds on this page, with the elements that are meant."""
        if not self.run("return typeof window.axe === 'object'"):
            self.run(axe_source())
        found = self.driver.execute_async_script(
            "const done = arguments[arguments.length - 1];"
            "axe.run(document, {runOnly: {type: 'tag', values: arguments[0]}})"
            ".then(r => done(r.violations), e => done([{id: String(e), nodes: []}]))",
            list(_TAGS),
        )
        return [
            f"{rule['id']} ({rule.get('help', '')}): {node['html'][:200]} {node['failureSummary']}"
            for rule in found
            for node in rule["nodes"] or [{"html": "", "failureSummary": ""}]
        ]

    def overflow(self) -> int:
        """By how many pixels the page is wider than the window."""
        return int(
            self.run(
                "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
            )
        )

    def screenshot(self, file: Path) -> None:
        """The whole page as a PNG, up to 8,000 pixels high."""
        size = self._cdp("Page.getLayoutMetrics")["cssContentSize"]
        height = min(size["height"], 8_000)
        clip = {"x": 0, "y": 0, "width": size["width"], "height": height, "scale": 1}
        shot = self._cdp("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        file.write_bytes(base64.b64decode(shot["data"]))

    def _cdp(self, command: str, **parameters: Any) -> dict[str, Any]:
        found: dict[str, Any] = self.driver.execute_cdp_cmd(command, parameters)
        return found


def _unless_replaced(reached: Callable[[], Any]) -> Any:
    """What it says; nothing while the page that it looked at is replaced by another."""
    try:
        return reached()
    except (NoSuchElementException, StaleElementReferenceException):
        return None
