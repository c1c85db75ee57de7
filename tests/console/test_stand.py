"""The made-up shop has something for every page; its browser sees what is wrong with one."""

from __future__ import annotations

from pathlib import Path

from streams.clickhouse.client import connect
from tests.console.browser import Browser, axe_source
from tests.console.stand import Stand

_FILLED = (
    "scores_live", "churn_alerts_live", "alert_episodes", "segment_sizes", "segment_flow",
    "segment_members", "rfm_cells", "audience_members", "audience_arms", "campaign_results",
    "model_quality", "quality_by_evidence", "drift_alerts", "challengers", "ledger",
    "recent_ledger", "consumer_lag_live", "worker_clocks",
)  # fmt: skip


def test_every_view_of_the_made_up_shop_has_rows(stand: Stand) -> None:
    with connect(stand.target()) as client:
        counts = {name: client.execute(f"SELECT count() FROM {name}")[0][0] for name in _FILLED}
        balanced = client.execute("SELECT min(balanced) FROM ledger")[0][0]
    assert [name for name, count in counts.items() if not count] == []
    assert balanced


def test_the_browser_tells_what_is_wrong_with_a_page(browser: Browser, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(
        "<!doctype html><title>x</title><meta http-equiv=content-security-policy "
        "content=\"script-src 'none'\"><h1 style='width: 2000px; color: #eee'>low contrast</h1>"
        "<script>1</script><img src=https://example.com/x.png>"
    )
    browser.open(page.as_uri())
    complaints = "\n".join(browser.complaints())
    assert "Content Security Policy" in complaints
    assert "example.com" in complaints
    assert browser.overflow() > 500
    assert any(each.startswith("color-contrast") for each in browser.violations())


def test_axe_is_the_one_of_its_manifest() -> None:
    assert "axe v4" in axe_source()[:20]
